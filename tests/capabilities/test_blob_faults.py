"""Containers behind a network that fails: what a caller is told, and that everything goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from capabilities import aws, azure
from capabilities.blob import (
    Backend,
    Busy,
    Container,
    ContainerNotFound,
    InvalidName,
    NotPermitted,
    TooLarge,
    Unavailable,
    aws_s3,
    azblob,
    transfer,
)
from capabilities.errors import ConfigError
from tests.azurite_server import ACCOUNT, AzuriteServer
from tests.line import Line
from tests.moto_server import MotoServer

_numbers = itertools.count()

SECRETS = ("anything", "AAECAwQF")
"""How the secrets begin that the tests' servers know."""


@pytest.fixture(params=["aws_s3", "azblob"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("shared_moto" if kind == "aws_s3" else "shared_azurite")


@pytest.fixture
def name(kind: str, server: Any) -> str:
    """An empty container."""
    name = f"faults-{os.getpid()}-{next(_numbers)}"
    if kind == "aws_s3":
        server.create_bucket(name)
    else:
        server.create_container(name)
    return name


def make(kind: str, configs: Mapping[str, str], port: int | None = None) -> Backend:
    """A backend, which reaches its server at another port than the server's own where one is given."""
    key = "AWS_ENDPOINT_URL" if kind == "aws_s3" else "AZURE_STORAGE_BLOB_ENDPOINT"
    if port is not None:
        configs = {**configs, key: f"http://127.0.0.1:{port}" + (f"/{ACCOUNT}" if kind == "azblob" else "")}
    return aws_s3.S3Backend(configs) if kind == "aws_s3" else azblob.AzureBackend(configs)


@pytest.fixture
def run(kind: str, server: Any, name: str) -> Callable[[Callable[[Line, Container], Coroutine[Any, Any, None]]], None]:
    """Runs a coroutine function with a container, and the line that leads to it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Line, Container]]:
        async with Line(server.port) as line:
            backend = make(kind, server.configs(), line.port)
            try:
                yield line, await backend.open(name)
            finally:
                await backend.close()

    def run(function: Callable[[Line, Container], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), opened() as (line, container):
                await function(line, container)

        asyncio.run(main())

    return run


async def put(container: Container, name: str, data: bytes) -> None:
    writer = await container.write(name)
    await writer.write(data)
    await writer.commit()


async def check_told(call: Coroutine[Any, Any, Any], case: type[Exception], *notice: str) -> None:
    """The caller is told nothing of where it is; whoever runs slight-py is, but no secret."""
    with pytest.raises(case) as caught:
        await call
    error: Any = caught.value
    assert "127.0.0.1" not in str(error)
    for part in notice:
        assert part in error.notice
    assert not any(secret in str(error) + error.notice for secret in SECRETS)


def test_a_server_that_is_away_at_the_start_is_used_once_it_is_there(run: Any) -> None:
    async def check(line: Line, container: Container) -> None:
        await line.cut()
        reached = f"127.0.0.1:{line.port} can't be reached: connection refused; start it, or correct "
        await check_told(container.has("object"), Unavailable, reached)
        await line.mend()
        await put(container, "object", b"x")
        assert await container.has("object")

    run(check)


def test_a_reader_goes_on_after_an_outage(run: Any) -> None:
    async def check(line: Line, container: Container) -> None:
        data = bytes(range(256)) * 4096
        await put(container, "object", data)
        reader = await container.read("object")
        assert await reader.read(1000) == data[:1000]
        await line.cut()
        await check_told(reader.read(len(data)), Unavailable, "connection refused")
        assert reader.left == len(data) - 1000
        await line.mend()
        assert await reader.read(len(data)) == data[1000:]

    run(check)


def test_a_writer_whose_connection_breaks_tries_again(run: Any) -> None:
    async def check(line: Line, container: Container) -> None:
        writer = await container.write("object")
        await writer.write(bytes(transfer.PART_BYTES + 5))
        line.cut_after(0)
        commit = asyncio.create_task(writer.commit())
        await line.broken()
        await line.mend()
        await commit
        assert (await container.object_info("object")).size == transfer.PART_BYTES + 5

    run(check)


def test_a_writer_whose_server_dies_leaves_the_old_object(run: Any, kind: str, server: Any, name: str) -> None:
    async def check(line: Line, container: Container) -> None:
        await put(container, "object", b"old")
        writer = await container.write("object")
        await writer.write(bytes(transfer.PART_BYTES))
        line.cut_after(100_000)
        await check_told(writer.write(bytes(transfer.PART_BYTES)), Unavailable, "can't be reached")
        await line.mend()
        await writer.abort()
        assert (await container.object_info("object")).size == 3
        if kind == "aws_s3":  # nothing is left that would be paid for
            assert "Uploads" not in server.client("s3").list_multipart_uploads(Bucket=name)

    run(check)


def test_a_server_that_does_not_answer_is_not_waited_for_any_longer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(line: Line, container: Container) -> None:
        await put(container, "object", b"x")
        line.hold()
        monkeypatch.setattr(aws_s3, "REQUEST_SECONDS", 0.3)
        monkeypatch.setattr(azblob, "REQUEST_SECONDS", 0.3)
        await check_told(container.has("object"), Unavailable, "it does not answer in time")
        monkeypatch.undo()
        line.release()
        assert await container.has("object")

    run(check)


def test_an_answer_that_stops_is_not_waited_for_any_longer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "READ_SECONDS", 0.8)
    monkeypatch.setattr(azure, "READ_SECONDS", 0.8)

    async def check(line: Line, container: Container) -> None:
        await put(container, "object", b"x")
        line.hold()
        await check_told(container.has("object"), Unavailable, "can't be reached")
        line.release()
        assert await container.has("object")

    run(check)


def test_a_container_that_is_not_there_is_named(kind: str, server: Any) -> None:
    async def main() -> None:
        backend = make(kind, server.configs())
        container = await backend.open("no-such-container")
        writer = await container.write("object")
        calls = [
            container.info(), container.has("object"), container.read("object"), container.object_info("object"),
            container.delete("object"), writer.commit(), anext(container.pages()),
        ]  # fmt: skip
        for call in calls:
            await check_told(call, ContainerNotFound, "'no-such-container'; create it, or correct the name")
        await backend.close()

    asyncio.run(main())


@pytest.mark.parametrize("user", ["unknown", "of another secret", "without rights"])
def test_s3_checks_credentials(user: str) -> None:
    async def main(server: MotoServer) -> None:
        server.create_bucket("bucket")
        known, other = server.create_user("s3:*"), server.create_user("dynamodb:*")
        credentials = {
            "unknown": {**known, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"},
            "of another secret": {**known, "AWS_SECRET_ACCESS_KEY": "anything-else"},
            "without rights": other,
        }[user]
        good, bad = (make("aws_s3", server.configs(each)) for each in (known, credentials))
        await put(await good.open("bucket"), "object", b"x")
        container = await bad.open("bucket")
        writer = await container.write("object")
        calls = [container.has("object"), container.info(), writer.commit(), anext(container.pages())]
        for call in [*calls, container.delete_all(["object"])]:
            await check_told(call, NotPermitted, "refuses access to the bucket 'bucket' (", "AWS_SECRET_ACCESS_KEY")
        assert await (await good.open("bucket")).has("object")
        await good.close()
        await bad.close()

    with MotoServer() as server:
        asyncio.run(main(server))


def test_azure_checks_the_key(shared_azurite: AzuriteServer) -> None:
    async def main() -> None:
        backend = make("azblob", {**shared_azurite.configs(), "AZURE_STORAGE_KEY": "AAAA"})
        container = await backend.open("container")
        writer = await container.write("object")
        for call in (container.has("object"), container.info(), writer.commit(), anext(container.pages())):
            await check_told(call, NotPermitted, "refuses access to the container 'container' (", "AZURE_STORAGE_KEY")
        await backend.close()

    asyncio.run(main())


def test_an_object_of_too_many_parts_is_refused_and_leaves_nothing(
    run: Any, kind: str, server: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(line: Line, container: Container) -> None:
        monkeypatch.setattr(aws_s3._Upload, "part_limit", 1)
        monkeypatch.setattr(azblob._Upload, "part_limit", 1)
        writer = await container.write("object")
        await writer.write(bytes(transfer.PART_BYTES))
        with pytest.raises(TooLarge, match=f"may have {transfer.PART_BYTES} bytes"):
            await writer.write(bytes(transfer.PART_BYTES))
        await writer.abort()
        assert not await container.has("object")
        if kind == "aws_s3":
            assert "Uploads" not in server.client("s3").list_multipart_uploads(Bucket=name)

    run(check)


def test_what_streams_hold_in_memory_is_bounded_for_all_of_them(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_s3, "ROOM_BYTES", 100)
    monkeypatch.setattr(azblob, "ROOM_BYTES", 100)

    async def check(line: Line, container: Container) -> None:
        one, other = await container.write("one"), await container.write("other")
        await one.write(bytes(60))
        with monkeypatch.context() as patch:
            patch.setattr(transfer, "ROOM_SECONDS", 0.1)
            with pytest.raises(Busy, match="too many streams"):
                await other.write(bytes(60))
        await other.abort()
        third = await container.write("third")
        waiting = asyncio.create_task(third.write(bytes(60)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await one.commit()
        await waiting
        await third.commit()
        reader = await container.read("third")
        assert await reader.read(60) == bytes(60)

    run(check)


def test_requests_that_are_cancelled_harm_no_others(run: Any) -> None:
    async def check(line: Line, container: Container) -> None:
        line.hold()
        calls = [asyncio.create_task(container.has("object")) for _ in range(5)]
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        line.release()
        assert not await container.has("object")

    run(check)


# Names of containers, and configurations.


@pytest.mark.parametrize(
    "name",
    ["", "ab", "x" * 64, "Upper", "a_b", "../x", "a/b", "a..b", "-ab", "ab-", "a\nb", "abc\n", "192.168.0.1", "é" * 5,
     "arn:aws:s3:::bucket", "xn--abc"],
)  # fmt: skip
def test_a_name_that_no_bucket_can_have_is_refused(name: str) -> None:
    backend = make("aws_s3", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"})
    with pytest.raises(InvalidName, match="no bucket of S3 can be called"):
        asyncio.run(backend.open(name))


@pytest.mark.parametrize(
    "name", ["", "ab", "x" * 64, "Upper", "a--b", "a.b", "../x", "a/b", "-ab", "ab-", "abc\n", "$x"]
)
def test_a_name_that_no_container_of_azure_can_have_is_refused(name: str) -> None:
    backend = make("azblob", {"AZURE_STORAGE_ACCOUNT": "abc", "AZURE_STORAGE_KEY": "AAAA"})
    with pytest.raises(InvalidName, match="no container of Azure can be called"):
        asyncio.run(backend.open(name))


GOOD = {
    "aws_s3": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"},
    "azblob": {"AZURE_STORAGE_ACCOUNT": "abc", "AZURE_STORAGE_KEY": "AAAA"},
}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *(("aws_s3", key, value) for key in aws.KEYS for value in ("", "a b", "a\n", "é")),
        *(("aws_s3", "AWS_REGION", value) for value in ("", "eu central", "eu/../x", "-")),
        *(
            ("aws_s3", "AWS_ENDPOINT_URL", value)
            for value in (
                "",
                "localhost:9000",
                "ftp://x",
                "http://",
                "http://user@host",
                "http://x:99999",
                "http://x?y",
                "http://my_host",
                "http://a..b",
                "http://-a",
                "http://é",
            )
        ),
        *(("azblob", "AZURE_STORAGE_ACCOUNT", value) for value in ("", "ab", "a.b", "Abc", "evil.example/abc")),
        *(("azblob", "AZURE_STORAGE_KEY", value) for value in ("", "not base64!", "AAA")),
        ("azblob", "AZURE_STORAGE_BLOB_ENDPOINT", "localhost"),
    ],
)
def test_a_configuration_that_is_no_good_is_refused_by_key_without_its_value(kind: str, key: str, value: str) -> None:
    make(kind, GOOD[kind])
    with pytest.raises(ConfigError) as caught:
        make(kind, {**GOOD[kind], key: value})
    assert caught.value.key == key
    assert key in str(caught.value)
    assert len(value) < 4 or value not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("aws_s3", "aiobotocore", "aws"), ("azblob", "azure.storage.blob", "azure"), ("azblob", "azure", "azure")],
)
def test_a_package_that_is_missing_is_named(
    kind: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # which Python takes for missing
    for name in [each for each in sys.modules if each.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=rf"is missing: pip install 'slight-py\[{extra}\]'"):
        make(kind, GOOD[kind])


def test_a_region_is_needed_under_either_name() -> None:
    configs = {key: value for key, value in GOOD["aws_s3"].items() if key != "AWS_REGION"}
    make("aws_s3", {**configs, "AWS_DEFAULT_REGION": "eu-central-1"})
    with pytest.raises(ConfigError, match="AWS_REGION is missing"):
        make("aws_s3", configs)


@pytest.mark.parametrize(
    "address", ["http://localhost:9000", "https://a-b.example/", "http://[::1]:9000", "http://10.0.0.1"]
)
def test_an_endpoint_that_is_an_address_is_used(address: str) -> None:
    async def main() -> None:
        backend = make("aws_s3", {**GOOD["aws_s3"], "AWS_ENDPOINT_URL": address})
        assert isinstance(backend, aws_s3.S3Backend)
        client = await backend._client.get()
        assert client.meta.endpoint_url == address.rstrip("/")
        await backend.close()

    asyncio.run(main())


def test_the_users_own_settings_for_aws_change_nothing(
    shared_moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_moto.create_bucket("own-settings")
    aws._session.cache_clear()
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/full")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "somebody-elses")

    async def main() -> None:
        backend = make("aws_s3", shared_moto.configs())
        await put(await backend.open("own-settings"), "object", b"x")
        await backend.close()

    asyncio.run(main())
