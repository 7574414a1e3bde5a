"""Key/value stores in DynamoDB, Azure Blob Storage and Dapr: what is kept there, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import aws, azure, keyvalue
from capabilities.errors import ConfigError
from capabilities.keyvalue import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    KeyNotFound,
    NoSuchStore,
    StoreError,
    TimedOut,
    azblob,
    dapr,
    dynamodb,
)
from capabilities.keyvalue.azblob import AzureBlobBackend
from capabilities.keyvalue.dapr import DaprBackend
from capabilities.keyvalue.dynamodb import DynamoDbBackend
from tests.azurite_server import AzuriteServer
from tests.dapr_server import DaprServer
from tests.moto_server import MotoServer
from tests.servers import HOST, free_port

SECRET = "s3cr3t/k3y+"

AWS = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"}
AZURE = {"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_KEY": "c2VjcmV0"}


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def azurite() -> Iterator[AzuriteServer]:
    with AzuriteServer() as server:
        yield server


@asynccontextmanager
async def opened(backend: Any, name: str) -> AsyncIterator[Any]:
    yield await backend.open(name)
    await backend.close()


async def check_fails(call: Awaitable[Any], case: type[StoreError], *notices: str) -> str:
    """The text of the error that the call ends with. `notices` are parts of what the user is told."""
    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(call, 30)
    error = caught.value
    assert type(error) is case, (error, error.notice)
    for part in notices:
        assert part in (error.notice or ""), error.notice
    for secret in (SECRET, "c2VjcmV0", "127.0.0.1"):
        assert secret not in str(error)
    assert SECRET not in (error.notice or "")
    return str(error)


def calls(store: Any) -> list[Awaitable[Any]]:
    return [store.get("key"), store.set("key", b"value"), store.keys(), store.delete("key")]


# Services that are away, slow, or something else.


@dataclass(frozen=True)
class Service:
    """A kind of backend at an address, and the status and the body with which it's told that there is too much."""

    make: Callable[[str], Any]
    name: str
    module: Any
    seconds: str
    """What bounds a call."""
    busy: tuple[int, str, bytes]


SERVICES = {
    "dynamodb": Service(
        lambda address: DynamoDbBackend({**AWS, "AWS_ENDPOINT_URL": address}),
        *("orders", dynamodb, "CALL_SECONDS"),
        (400, "application/x-amz-json-1.0", b'{"__type": "x#ProvisionedThroughputExceededException", "message": "m"}'),
    ),
    "azblob": Service(
        lambda address: AzureBlobBackend({**AZURE, "AZURE_STORAGE_BLOB_ENDPOINT": f"{address}/account"}),
        *("orders", azblob, "CALL_SECONDS"),
        (503, "application/xml", b"<Error><Code>ServerBusy</Code><Message>m</Message></Error>"),
    ),
    "dapr": Service(
        lambda address: DaprBackend({"DAPR_HTTP_ENDPOINT": address}),
        *("orders", dapr, "CALL_SECONDS"),
        (429, "application/json", b'{"errorCode": "ERR_TOO_MANY", "message": "m"}'),
    ),
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers each request with bytes and closes the connection; with None, it says nothing. Yields its
    address."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    await reader.readexactly(int(line.split(b":")[1]))
            if answer is not None:
                writer.write(answer)
                writer.close()

    listener = await asyncio.start_server(serve, HOST, 0)
    yield f"http://{HOST}:{listener.sockets[0].getsockname()[1]}"
    listener.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0.01)


def http(status: int, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts, the libraries wait."""
    monkeypatch.setattr(aws, "ATTEMPTS", 1)
    monkeypatch.setattr(azure, "RETRIES", 0)


def test_a_service_that_is_away_is_a_connection_error(service: Service, one_attempt: None) -> None:
    async def scenario() -> None:
        port = free_port()
        async with opened(service.make(f"http://{HOST}:{port}"), service.name) as store:
            for call in calls(store):
                await check_fails(call, ConnectionFailed, f"{HOST}:{port}", "correct ")

    asyncio.run(scenario())


def test_a_service_that_says_nothing_is_a_timeout(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.module, service.seconds, 0.3)

    async def scenario() -> None:
        async with answering(None) as address, opened(service.make(address), service.name) as store:
            for call in calls(store):
                await check_fails(call, TimedOut, "no answer in time")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["dynamodb", "azblob"])
def test_an_attempt_is_given_up_before_the_call_is(
    kind: str, one_attempt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SERVICES[kind]
    monkeypatch.setattr(service.module, "READ_SECONDS", 0.3)
    monkeypatch.setattr(service.module, "CALL_SECONDS", 60.0)

    async def scenario() -> None:
        async with answering(None) as address, opened(service.make(address), service.name) as store:
            async with asyncio.timeout(5):
                for call in calls(store):
                    await check_fails(call, TimedOut, "no answer in time")

    asyncio.run(scenario())


def test_a_connection_that_breaks_is_a_connection_error(service: Service, one_attempt: None) -> None:
    async def scenario() -> None:
        async with answering(b"") as address, opened(service.make(address), service.name) as store:
            for call in calls(store):
                await check_fails(call, ConnectionFailed)

    asyncio.run(scenario())


def test_a_service_that_has_too_many_requests_is_a_timeout(service: Service, one_attempt: None) -> None:
    async def scenario() -> None:
        async with answering(http(*service.busy)) as address, opened(service.make(address), service.name) as store:
            for call in calls(store):
                assert "too many requests" in await check_fails(call, TimedOut, "too many requests")

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", http(200, "text/html", b"<html>"), http(500, "x", b"\xff")])
def test_something_else_that_answers_is_an_error(service: Service, answer: bytes, one_attempt: None) -> None:
    async def scenario() -> None:
        async with answering(answer) as address, opened(service.make(address), service.name) as store:
            with pytest.raises(StoreError):
                await asyncio.wait_for(store.keys(), 30)
            if service.module is dynamodb:
                for call in (store.get("key"), store.set("key", b""), store.delete("key")):
                    with pytest.raises(StoreError):
                        await asyncio.wait_for(call, 30)

    asyncio.run(scenario())


def test_an_awkward_name_is_refused_and_nothing_is_asked(service: Service) -> None:
    async def scenario() -> None:
        backend = service.make(f"http://{HOST}:{free_port()}")
        for name in ("", "..", "../orders", "or ders", "orders/x", "orders?x", "ördersß", "\0rders", "o" * 300):
            with pytest.raises(InvalidKey):
                await backend.open(name)
        await backend.close()

    asyncio.run(scenario())


# Keys.

ESCAPINGS = {"dynamodb": dynamodb._KEYS, "azblob": azblob._KEYS, "dapr": dapr._KEYS}


@pytest.mark.parametrize("kind", ESCAPINGS)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("~/.%\\ a7E", max_size=20))
def test_an_escaped_key_is_read_back_and_taken_for_no_other(kind: str, key: str) -> None:
    escaping = replace(ESCAPINGS[kind], limit=100_000)
    stored = escaping.escape(key)
    assert escaping.unescape(stored) == key
    assert stored == key or (stored.startswith("~~") and escaping.escape(stored) != stored)


def test_plain_keys_are_stored_as_they_are() -> None:
    for key in ("a", "invoice-7.json", "a:b"):
        assert {escaping.escape(key) for escaping in ESCAPINGS.values()} == {key}
    for key in ("a/b", "50%", "käse", "~", "a b"):
        assert dynamodb._KEYS.escape(key) == azblob._KEYS.escape(key) == key
    assert dapr._KEYS.escape("a/b") == "~~a~2Fb"
    assert {escaping.escape("") for escaping in ESCAPINGS.values()} == {"~~"}


def test_what_others_stored_under_an_escaped_key_that_is_none_is_no_key() -> None:
    for escaping in ESCAPINGS.values():
        for stored in ("~~a", "~~~zz", "~~~61", "~~~FF", "~~~2f"):
            assert escaping.unescape(stored) is None


# Configurations.


@pytest.mark.parametrize(
    ("make", "configs", "key"),
    [
        (DynamoDbBackend, {}, "AWS_ACCESS_KEY_ID"),
        (DynamoDbBackend, {"AWS_ACCESS_KEY_ID": "user"}, "AWS_SECRET_ACCESS_KEY"),
        (DynamoDbBackend, {**AWS, "AWS_REGION": ""}, "AWS_REGION"),
        (DynamoDbBackend, {**AWS, "AWS_REGION": "eu.example/x"}, "AWS_REGION"),
        (DynamoDbBackend, {**AWS, "AWS_ENDPOINT_URL": "127.0.0.1:8000"}, "AWS_ENDPOINT_URL"),
        (DynamoDbBackend, {**AWS, "AWS_ENDPOINT_URL": f"http://user:{SECRET}@x"}, "AWS_ENDPOINT_URL"),
        (AzureBlobBackend, {}, "AZURE_STORAGE_ACCOUNT"),
        (AzureBlobBackend, {**AZURE, "AZURE_STORAGE_ACCOUNT": "x.example/"}, "AZURE_STORAGE_ACCOUNT"),
        (AzureBlobBackend, {**AZURE, "AZURE_STORAGE_KEY": f"{SECRET}!"}, "AZURE_STORAGE_KEY"),
        (AzureBlobBackend, {**AZURE, "AZURE_STORAGE_BLOB_ENDPOINT": "x"}, "AZURE_STORAGE_BLOB_ENDPOINT"),
        (AzureBlobBackend, {**AZURE, "AZURE_STORAGE_BLOB_ENDPOINT": "http://x/?y"}, "AZURE_STORAGE_BLOB_ENDPOINT"),
        (DaprBackend, {"DAPR_ADDRESS": "http://x:99999"}, "DAPR_ADDRESS"),
        (DaprBackend, {"DAPR_HTTP_ENDPOINT": f"http://user:{SECRET}@x"}, "DAPR_HTTP_ENDPOINT"),
        (DaprBackend, {"DAPR_HTTP_ENDPOINT": "http://a", "DAPR_ADDRESS": "http://b"}, "DAPR_ADDRESS"),
        (DaprBackend, {"DAPR_API_TOKEN": f"{SECRET}\r\nX: y"}, "DAPR_API_TOKEN"),
    ],
)
def test_a_configuration_that_cannot_be_worked_with_names_its_key(make: Any, configs: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(configs)
    assert caught.value.key == key
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("host", ["azurite_1:10000", "azurite.example", "[::1]:10000"])
def test_the_address_of_azures_blobs_may_be_a_private_one(host: str) -> None:
    backend = AzureBlobBackend({**AZURE, "AZURE_STORAGE_BLOB_ENDPOINT": f"http://{host}/account"})
    assert backend.place == f"azure blob storage {host}"


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (lambda: DynamoDbBackend(AWS), "aiobotocore", "aws"),
        (lambda: AzureBlobBackend(AZURE), "azure.storage.blob", "azure"),
    ],
)
def test_a_package_that_is_missing_is_named(
    make: Callable[[], Any], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # which Python takes for missing
    with pytest.raises(ConfigError, match=rf"{package} is missing: pip install 'slight-py\[{extra}\]'"):
        make()


# DynamoDB.


def test_in_dynamodb_the_layout_is_upstreams(moto: MotoServer) -> None:
    moto.create_table("layout")
    client = moto.client("dynamodb")
    client.put_item(TableName="layout", Item={"key": {"S": "theirs"}, "value": {"S": "väl\0ue"}})
    client.put_item(TableName="layout", Item={"key": {"S": "odd"}, "value": {"N": "7"}})
    client.put_item(TableName="layout", Item={"key": {"S": "none"}})

    async def scenario() -> None:
        async with opened(DynamoDbBackend(moto.configs()), "layout") as store:
            assert await store.get("theirs") == "väl\0ue".encode()
            for key in ("odd", "none"):
                await check_fails(store.get(key), InvalidValue, "the table layout")
            await store.set("text", "tëxt\n".encode())
            await store.set("bytes", b"\xff\0")
            await store.set("", b"empty key")
            assert sorted(await store.keys()) == ["", "bytes", "none", "odd", "text", "theirs"]

    asyncio.run(scenario())
    items = {item["key"]["S"]: item.get("value") for item in client.scan(TableName="layout")["Items"]}
    assert items["text"] == {"S": "tëxt\n"}
    assert items["bytes"] == {"B": b"\xff\0"}
    assert items["~~"] == {"S": "empty key"}


def test_in_dynamodb_a_value_that_fits_into_no_item_is_invalid(moto: MotoServer) -> None:
    moto.create_table("large")

    async def scenario() -> None:
        async with opened(DynamoDbBackend(moto.configs()), "large") as store:
            most = 400 * 1024 - len("key") - len("value") - len("k")
            await check_fails(store.set("k", b"\xff" * (most + 1)), InvalidValue)
            # moto takes less than DynamoDB: this one goes out, and comes back refused.
            await check_fails(store.set("k", b"\xff" * most), InvalidValue)
            await check_fails(store.set("k" * 2049, b""), InvalidKey)
            assert await store.keys() == []

    asyncio.run(scenario())


def test_a_table_that_is_not_there_or_has_another_key_is_named_to_the_user(moto: MotoServer) -> None:
    moto.client("dynamodb").create_table(
        TableName="otherkey",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )

    async def scenario() -> None:
        async with opened(DynamoDbBackend(moto.configs()), "nowhere") as store:
            for call in calls(store):
                await check_fails(call, NoSuchStore, "there is no table nowhere; create it")
        async with opened(DynamoDbBackend(moto.configs()), "otherkey") as store:
            for call in (store.get("key"), store.set("key", b"value")):
                await check_fails(call, StoreError, "its partition key must be the string 'key'")

    asyncio.run(scenario())


def test_credentials_that_dynamodb_refuses_are_an_authentication_error() -> None:
    async def scenario(moto: MotoServer) -> None:
        good = moto.create_user("dynamodb:GetItem", "dynamodb:PutItem")
        async with opened(DynamoDbBackend(moto.configs(good)), "orders") as store:
            await store.set("key", b"value")
            assert await store.get("key") == b"value"
            await check_fails(store.keys(), AuthenticationFailed, "let that user")
        for bad in ({**good, "AWS_SECRET_ACCESS_KEY": SECRET}, {**good, "AWS_ACCESS_KEY_ID": "nobody"}):
            async with opened(DynamoDbBackend(moto.configs(bad)), "orders") as store:
                for call in calls(store):
                    await check_fails(call, AuthenticationFailed, "correct AWS_ACCESS_KEY_ID")

    with MotoServer() as server:
        server.create_table("orders")
        asyncio.run(scenario(server))


def test_the_users_own_settings_for_aws_change_nothing(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.create_table("own-settings")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\n")
    aws._session.cache_clear()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "somebody-elses")

    async def scenario() -> None:
        async with opened(DynamoDbBackend(moto.configs()), "own-settings") as store:
            await store.set("key", b"value")
            assert await store.get("key") == b"value"

    asyncio.run(scenario())


def test_dynamodb_is_used_again_when_it_is_back(one_attempt: None) -> None:
    async def scenario(moto: MotoServer) -> None:
        async with opened(DynamoDbBackend(moto.configs()), "orders") as store:
            await store.set("key", b"value")
            moto.kill()
            await check_fails(store.get("key"), ConnectionFailed)
            moto.start()
            moto.create_table("orders")
            await store.set("key", b"again")
            assert await store.get("key") == b"again"

    with MotoServer() as server:
        server.create_table("orders")
        asyncio.run(scenario(server))


# Azure.


def test_in_azure_the_layout_is_upstreams(azurite: AzuriteServer) -> None:
    from azure.storage.blob import BlobServiceClient

    azurite.create_container("layout")

    async def scenario() -> None:
        async with opened(AzureBlobBackend(azurite.configs()), "layout") as store:
            await store.set("a/b", b"\xff\0")
            await store.set("", b"empty key")
            assert await store.get("theirs 50%") == b"value"
            assert sorted(await store.keys()) == ["", "a/b", "theirs 50%"]

    with BlobServiceClient(azurite.endpoint, azurite.configs()["AZURE_STORAGE_KEY"]) as client:
        container = client.get_container_client("layout")
        container.upload_blob("theirs 50%", b"value")
        container.upload_blob("~~a", b"no key of ours")
        asyncio.run(scenario())
        assert set(container.list_blob_names()) == {"a/b", "theirs 50%", "~~", "~~a"}
        assert container.download_blob("a/b").readall() == b"\xff\0"


def test_a_container_that_is_not_there_is_named_to_the_user(azurite: AzuriteServer) -> None:
    async def scenario() -> None:
        async with opened(AzureBlobBackend(azurite.configs()), "nowhere") as store:
            for call in calls(store):
                await check_fails(call, NoSuchStore, "there is no container nowhere; create it")

    asyncio.run(scenario())


def test_a_key_that_azure_refuses_is_an_authentication_error(azurite: AzuriteServer) -> None:
    azurite.create_container("refused")

    async def scenario() -> None:
        configs = {**azurite.configs(), "AZURE_STORAGE_KEY": "c2VjcmV0"}
        async with opened(AzureBlobBackend(configs), "refused") as store:
            for call in calls(store):
                await check_fails(call, AuthenticationFailed, "correct AZURE_STORAGE_ACCOUNT")

    asyncio.run(scenario())


def test_a_name_that_is_too_long_for_a_blob_is_an_invalid_key(azurite: AzuriteServer) -> None:
    azurite.create_container("long")

    async def scenario() -> None:
        async with opened(AzureBlobBackend(azurite.configs()), "long") as store:
            await store.set("é" * 1024, b"value")
            assert await store.keys() == ["é" * 1024]
            await check_fails(store.set("é" * 1025, b"value"), InvalidKey)

    asyncio.run(scenario())


def test_azure_is_used_again_when_it_is_back(one_attempt: None) -> None:
    from azure.core.exceptions import ResourceExistsError

    async def scenario(azurite: AzuriteServer) -> None:
        async with opened(AzureBlobBackend(azurite.configs()), "orders") as store:
            await store.set("key", b"value")
            azurite.kill()
            await check_fails(store.get("key"), ConnectionFailed)
            azurite.start()
            with contextlib.suppress(ResourceExistsError):  # it may have kept it
                azurite.create_container("orders")
            await store.set("key", b"again")
            assert await store.get("key") == b"again"

    with AzuriteServer() as server:
        server.create_container("orders")
        asyncio.run(scenario(server))


def test_azures_client_is_made_again_where_that_failed(azurite: AzuriteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    azurite.create_container("again")

    def fail(client: azure.Client) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scenario() -> None:
        async with opened(AzureBlobBackend(azurite.configs()), "again") as store:
            with monkeypatch.context() as patch:
                patch.setattr(azure.Client, "_make", fail)
                for call in calls(store):
                    await check_fails(call, ConnectionFailed)
                # A client that could not be made is closed without an error.
                await store._backend.close()
            await store.set("key", b"value")
            assert await store.get("key") == b"value"

    asyncio.run(scenario())


# Dapr, of which there is a stand-in alone.


def test_in_dapr_text_is_a_string_and_bytes_are_an_object() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            values = {"text": 'tëxt <&> "\\ \u2028'.encode(), "empty": b"", "nul": b"a\0b", "bytes": b"\xff\xfe"}
            for key, value in values.items():
                await store.set(key, value)
                assert await store.get(key) == value
            await store.set("a/b", b"value")
        assert server.states("orders") == {
            "text": 'tëxt <&> "\\ \u2028',
            "empty": "",
            "nul": {"slight-py-base64": "YQBi"},
            "bytes": {"slight-py-base64": "//4="},
            "~~a~2Fb": "value",
        }
        assert server.violations == []

    with DaprServer() as server:
        asyncio.run(scenario(server))


@pytest.mark.parametrize(
    ("state", "value"),
    [
        (b'"text"', b"text"),
        (b'{"total": 7}', b'{"total": 7}'),
        (b"[1, 2]", b"[1, 2]"),
        (b"null", b"null"),
        (b"\xff not JSON", b"\xff not JSON"),
        (b'{"slight-py-base64": 7}', b'{"slight-py-base64": 7}'),
        (b'{"slight-py-base64": "!"}', b'{"slight-py-base64": "!"}'),
        (b'{"slight-py-base64": "YQ==", "x": 1}', b'{"slight-py-base64": "YQ==", "x": 1}'),
        (b'{"slight-py-base64": "YQ=="}', b"a"),
        (b'"\\ud800"', b'"\\ud800"'),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
def test_what_others_keep_in_dapr_is_read_as_it_is(state: bytes, value: bytes) -> None:
    async def scenario() -> None:
        async with (
            answering(http(200, "application/json", state)) as address,
            opened(DaprBackend({"DAPR_ADDRESS": address}), "orders") as store,
        ):
            assert await store.get("key") == value

    asyncio.run(scenario())


def test_a_state_store_that_is_not_there_is_named_to_the_user() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "nowhere") as store:
            for call in calls(store):
                await check_fails(call, NoSuchStore, "there is no state store nowhere; add a component")

    with DaprServer("orders") as server:
        asyncio.run(scenario(server))


def test_a_state_store_that_cannot_be_queried_says_that_it_cannot_list() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            await store.set("key", b"value")
            assert "can't list its keys" in await check_fails(store.keys(), StoreError, "query API")
            assert await store.get("key") == b"value"

    with DaprServer(queries=False) as server:
        asyncio.run(scenario(server))


def test_a_token_is_sent_and_a_wrong_one_is_an_authentication_error() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            await store.set("key", b"value")
        for token in ({}, {"DAPR_API_TOKEN": "other"}):
            configs = {"DAPR_HTTP_ENDPOINT": server.address, **token}
            async with opened(DaprBackend(configs), "orders") as store:
                for call in calls(store):
                    await check_fails(call, AuthenticationFailed, "correct DAPR_API_TOKEN")

    with DaprServer(token=SECRET) as server:
        asyncio.run(scenario(server))


@pytest.mark.parametrize("old", [False, True])
def test_of_many_deletes_one_finds_the_key_by_its_etag(old: bool) -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            await store.set("key", b"value")
            answers = await asyncio.gather(*(store.delete("key") for _ in range(20)), return_exceptions=True)
            assert answers.count(None) == 1
            assert {type(answer) for answer in answers} == {type(None), KeyNotFound}

    with DaprServer(old_etags=old) as server:
        asyncio.run(scenario(server))


def test_without_etags_a_key_is_deleted_all_the_same() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            await store.set("key", b"value")
            await store.delete("key")
            await check_fails(store.get("key"), KeyNotFound)
            await check_fails(store.delete("key"), KeyNotFound)

    with DaprServer(etags=False) as server:
        asyncio.run(scenario(server))


def test_a_value_that_a_sidecar_does_not_take_is_invalid() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            notice = "--dapr-http-max-request-size"
            await check_fails(store.set("key", b"\xff" * 100_000), InvalidValue, notice)
            await store.set("key", b"\xff" * 1_000)
            assert await store.get("key") == b"\xff" * 1_000

    with DaprServer(max_body=50_000) as server:
        asyncio.run(scenario(server))


def test_dapr_is_used_again_when_it_is_back() -> None:
    async def scenario(server: DaprServer) -> None:
        async with opened(DaprBackend(server.configs()), "orders") as store:
            await store.set("key", b"value")
            server.kill()
            await check_fails(store.get("key"), ConnectionFailed)
            server.start()
            await store.set("key", b"again")
            assert await store.get("key") == b"again"

    with DaprServer() as server:
        asyncio.run(scenario(server))


def test_a_listing_past_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyvalue, "LISTING_LIMIT", 100)
    listing = keyvalue.Listing()
    listing.add(["a", None, "b"])
    assert listing.keys == ["a", "b"]
    with pytest.raises(StoreError, match="more keys than can be listed"):
        listing.add(["x" * 10])
