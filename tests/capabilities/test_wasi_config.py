"""`wasi:config`, in every form that is in use, over every backend that keeps settings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities import configs, notices, registry
from capabilities.bindings.wasi_config_0_2_0_draft import runtime
from capabilities.bindings.wasi_config_0_2_0_rc_1 import store
from capabilities.configs import vault
from capabilities.configs.azapp import AppConfiguration
from capabilities.configs.envvars import EnvironmentConfigs
from capabilities.configs.host import hosts
from capabilities.configs.memory import MemoryConfigs
from capabilities.configs.usersecrets import UserSecrets
from capabilities.wasi.config import INTERFACES, Settings
from tests.azapp_server import AzappServer

RC1 = "wasi:config/store@0.2.0-rc.1"
RUNTIME = "wasi:config/runtime@0.2.0-draft"


@pytest.fixture(scope="module")
def server() -> Iterator[AzappServer]:
    with AzappServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh_notices() -> None:
    notices.forget()


@pytest.fixture(params=["memory", "envvars", "azapp"])
def backend(request: pytest.FixtureRequest, server: AzappServer) -> Any:
    made: dict[str, Callable[[], Any]] = {
        "memory": lambda: MemoryConfigs({}).connect(),
        "envvars": lambda: EnvironmentConfigs({"VARIABLES": "APP_*"}).connect(),
        "azapp": lambda: AppConfiguration(server.configs),
    }
    return made[request.param]()


def host_of(grants: Mapping[str, Any], interface: str = RC1) -> Settings:
    host = hosts(grants)[interface]
    assert isinstance(host, Settings)
    return host


def failure(call: Awaitable[Any]) -> Any:
    async def main() -> Any:
        with pytest.raises(Err) as caught:
            await call
        return caught.value.value

    return asyncio.run(main())


def test_settings_are_got_one_by_one_and_all_together(backend: Any) -> None:
    expected = {f"APP_{number}": f"wert {number} ü" for number in range(7)}

    async def main() -> None:
        for key, value in expected.items():
            await backend.set("default", key, value.encode())
        host = host_of({"*": backend})
        assert await host.get("APP_3") == "wert 3 ü"
        assert await host.get("APP_none") is None
        assert dict(await host.get_all()) == expected
        await backend.close()

    asyncio.run(main())


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_form_is_registered_and_answers(interface: str) -> None:
    family = registry.family("configs")
    assert family is not None
    assert registry.family_of(interface) is family
    assert interface == registry.load_bindings(family, interface).INTERFACE

    async def main() -> None:
        backend = MemoryConfigs({})
        await backend.set("default", "key", b"value")
        assert await host_of({"default": backend}, interface).get("key") == "value"

    asyncio.run(main())


def test_the_settings_are_those_named_default_or_the_only_ones(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        backend = MemoryConfigs({})
        await backend.set("default", "key", b"of default")
        await backend.set("app", "key", b"of app")
        assert await host_of({"default": backend, "app": backend}).get("key") == "of default"
        assert await host_of({"app": backend}).get("key") == "of app"
        assert await host_of({"*": backend}).get("key") == "of default"
        assert await host_of({"*": backend}).get_all() == [("key", "of default")]

    asyncio.run(main())
    two = {"one": MemoryConfigs({}), "two": MemoryConfigs({})}
    assert failure(host_of(two).get("key")) == store.ErrorUpstream("no settings 'default' are granted")
    assert failure(host_of(two, RUNTIME).get_all()) == runtime.ConfigErrorUpstream("no settings 'default' are granted")
    assert 'grant those that it is to have as "default"' in caplog.text


def test_a_value_that_is_no_text_is_an_error_and_not_among_all() -> None:
    backend = MemoryConfigs({})

    async def main() -> list[tuple[str, str]]:
        await backend.set("default", "bytes", b"\xff")
        await backend.set("default", "text", "\ufffd".encode())
        return await host_of({"*": backend}).get_all()

    assert asyncio.run(main()) == [("text", "\ufffd")]
    assert failure(host_of({"*": backend}).get("bytes")) == store.ErrorUpstream(
        "the setting is no text: it isn't UTF-8"
    )


def test_variables_that_are_not_granted_are_refused_and_not_listed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("APP_MODE", "test")
    monkeypatch.setenv("OTHER", "hidden")
    monkeypatch.setitem(os.environb, b"APP_\xff", b"no name for it")
    host = host_of({"*": EnvironmentConfigs({"VARIABLES": "APP_*"})})
    assert asyncio.run(host.get("APP_MODE")) == "test"
    assert asyncio.run(host.get_all()) == [("APP_MODE", "test")]
    assert failure(host.get("OTHER")) == store.ErrorUpstream("the environment variable 'OTHER' is not granted")
    assert "add it there" in caplog.text


def test_secrets_are_got_and_one_that_cannot_be_read_is_an_io_error(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    encrypted = {"one": vault.encrypt("one", "first"), "two": vault.encrypt("two", "second")}
    host = host_of({"default": UserSecrets(encrypted)})
    assert asyncio.run(host.get("one")) == "first"
    assert dict(asyncio.run(host.get_all())) == {"one": "first", "two": "second"}
    broken = host_of({"default": UserSecrets({"one": encrypted["two"]})})
    assert failure(broken.get("one")) == store.ErrorIo("the secret can't be read")
    assert failure(broken.get_all()) == store.ErrorIo("the secret can't be read")


def test_too_many_settings_are_not_given_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_LONG", "x" * 100)
    monkeypatch.setattr(configs, "ALL_LIMIT", len("APP_LONG") + 99)
    host = host_of({"*": EnvironmentConfigs({"VARIABLES": "APP_LONG"})})
    assert failure(host.get_all()) == store.ErrorUpstream("the settings have more than 107 bytes in all")
    monkeypatch.setattr(configs, "ALL_LIMIT", len("APP_LONG") + 100)
    assert asyncio.run(host.get_all()) == [("APP_LONG", "x" * 100)]


def test_a_backend_that_cannot_list_its_settings_says_so() -> None:
    class Single:
        async def get(self, name: str, key: str) -> bytes:
            return b""

    assert failure(host_of({"*": Single()}).get_all()) == store.ErrorUpstream(
        "these settings can't be listed: what keeps them has no such operation"
    )


def test_a_service_that_cannot_be_reached_is_an_io_error(server: AzappServer) -> None:
    unreachable = {**server.configs, "AZAPPCONFIG_ENDPOINT": "http://127.0.0.1:9"}
    calls: list[Callable[[Settings], Awaitable[Any]]] = [lambda host: host.get("key"), lambda host: host.get_all()]
    for call in calls:
        assert failure(call(host_of({"*": AppConfiguration(unreachable)}))) == store.ErrorIo(
            "App Configuration can't be reached"
        )


def _is_what_the_bindings_ask(host: Settings) -> None:
    """For the type checker."""
    _store: store.StoreHost = host
    _runtime: runtime.RuntimeHost = host
