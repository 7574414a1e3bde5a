"""Settings: what all backends have in common, and what each does alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import configs as wit
from capabilities.configs import KEY_LIMIT, VALUE_LIMIT, azapp, vault
from capabilities.configs.azapp import AppConfiguration
from capabilities.configs.envvars import EnvironmentConfigs
from capabilities.configs.host import ConfigsHost
from capabilities.configs.memory import LIMIT, MemoryConfigs
from capabilities.configs.usersecrets import UserSecrets
from capabilities.errors import ConfigError
from tests.azapp_server import ID, AzappServer
from tests.servers import HOST

T = TypeVar("T")

KEYS = ["plain", "with space", "a/b?c#d&e=f", "ünï", "日本語", "line\nbreak", "+", "a:b", "'\"", "x" * 300]


@pytest.fixture(scope="module")
def server() -> Iterator[AzappServer]:
    with AzappServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh_notices() -> None:
    notices.forget()


@pytest.fixture(params=["memory", "envvars", "azapp"])
def backend(request: pytest.FixtureRequest, server: AzappServer) -> Callable[[], Any]:
    made: dict[str, Callable[[], Any]] = {
        "memory": lambda: MemoryConfigs({}).connect(),
        "envvars": lambda: EnvironmentConfigs({}).connect(),
        "azapp": lambda: AppConfiguration(server.configs),
    }
    return made[request.param]


def ask(backend: Any, use: Callable[[wit.Configs], Awaitable[T]], name: str = "*") -> T:
    """What a guest gets that opens the settings and uses them."""

    async def run() -> T:
        try:
            return await use(await ConfigsHost({name: backend}).configs_open("app"))
        finally:
            await backend.close()

    return asyncio.run(run())


def refused(backend: Any, use: Callable[[wit.Configs], Awaitable[Any]], case: type) -> str:
    """The text of the error that a guest gets, which is of that case."""
    with pytest.raises(Err) as caught:
        ask(backend, use)
    assert type(caught.value.value) is case
    return str(caught.value.value.value)


# All of them.


@pytest.mark.parametrize("key", KEYS)
def test_what_is_set_is_got(backend: Callable[[], Any], key: str) -> None:
    key = key.replace("=", "-") if backend().__class__ is EnvironmentConfigs else key

    async def use(settings: wit.Configs) -> bytes:
        await settings.set(key, b"one")
        await settings.set(key, "zwei ü".encode())
        return await settings.get(key)

    assert ask(backend(), use).decode() == "zwei ü"


def test_a_setting_that_is_not_there_is_not_found(backend: Callable[[], Any]) -> None:
    assert "'nowhere'" in refused(backend(), lambda it: it.get("nowhere"), wit.ConfigsErrorNotFound)


def test_an_empty_value_is_a_value(backend: Callable[[], Any]) -> None:
    async def use(settings: wit.Configs) -> bytes:
        await settings.set("empty", b"")
        return await settings.get("empty")

    assert ask(backend(), use) == b""


def test_a_key_and_a_value_that_are_too_long_are_refused(backend: Callable[[], Any]) -> None:
    refused(backend(), lambda it: it.get("k" * (KEY_LIMIT + 1)), wit.ConfigsErrorInvalidValue)
    refused(backend(), lambda it: it.set("key", bytes(VALUE_LIMIT + 1)), wit.ConfigsErrorInvalidValue)


def test_a_name_that_is_not_granted_is_refused_and_told_once(
    backend: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(Err) as caught:
            ask(backend(), lambda it: it.get("key"), name="other")
        assert type(caught.value.value) is wit.ConfigsErrorUnexpectedError
    (line,) = caplog.messages
    assert "'app'" in line
    assert "'other'" in line
    assert "[[capability]]" in line


# Memory.


def test_settings_of_two_names_are_apart() -> None:
    async def run() -> None:
        backend = MemoryConfigs({})
        await backend.set("a", "key", b"1")
        await backend.set("b", "key", b"2")
        assert [await backend.get(name, "key") for name in "ab"] == [b"1", b"2"]

    asyncio.run(run())


def test_settings_in_memory_are_bounded() -> None:
    async def fill(settings: wit.Configs) -> None:
        for number in range(LIMIT // VALUE_LIMIT + 1):
            await settings.set(str(number), bytes(VALUE_LIMIT))

    backend = MemoryConfigs({})
    assert "full" in refused(backend, fill, wit.ConfigsErrorUnexpectedError)

    async def shrink_and_go_on(settings: wit.Configs) -> None:
        await settings.set("0", b"")
        await settings.set("new", bytes(VALUE_LIMIT // 2))

    ask(backend, shrink_and_go_on)


# The environment.


def test_a_variable_of_the_environment_is_read_with_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"SLIGHT_TEST", b"\xff bytes")
    assert ask(EnvironmentConfigs({}), lambda it: it.get("SLIGHT_TEST")) == b"\xff bytes"


def test_what_a_guest_sets_changes_nothing_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIGHT_TEST", "ours")

    async def use(settings: wit.Configs) -> bytes:
        await settings.set("SLIGHT_TEST", b"theirs")
        return await settings.get("SLIGHT_TEST")

    assert ask(EnvironmentConfigs({}), use) == b"theirs"
    assert os.environ["SLIGHT_TEST"] == "ours"


@pytest.mark.parametrize("key", ["", "A=B", "A\0B"])
def test_what_names_no_variable_is_refused(key: str) -> None:
    refused(EnvironmentConfigs({}), lambda it: it.get(key), wit.ConfigsErrorInvalidValue)
    refused(EnvironmentConfigs({}), lambda it: it.set(key, b"x"), wit.ConfigsErrorInvalidValue)


def test_a_value_with_a_nul_is_refused() -> None:
    refused(EnvironmentConfigs({}), lambda it: it.set("A", b"x\0"), wit.ConfigsErrorInvalidValue)


def test_variables_that_are_not_named_are_kept_from_a_guest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("APP_COLOR", "red")
    monkeypatch.setenv("CLOUD_SECRET", "hidden")
    configs = {"VARIABLES": "APP_*, LANG"}
    assert ask(EnvironmentConfigs(configs), lambda it: it.get("APP_COLOR")) == b"red"
    text = refused(EnvironmentConfigs(configs), lambda it: it.get("CLOUD_SECRET"), wit.ConfigsErrorPermissionDenied)
    assert "hidden" not in text
    refused(EnvironmentConfigs(configs), lambda it: it.set("CLOUD_SECRET", b"x"), wit.ConfigsErrorPermissionDenied)
    (line,) = caplog.messages
    assert "'CLOUD_SECRET'" in line
    assert "VARIABLES" in line


def test_variables_with_an_empty_name_are_a_mistake() -> None:
    with pytest.raises(ConfigError):
        EnvironmentConfigs({"VARIABLES": "A,,B"})


# The user's secrets.


@pytest.fixture
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@given(st.text(min_size=1), st.text())
def test_what_is_encrypted_is_decrypted(name: str, value: str) -> None:
    with own_home():
        assert vault.decrypt(name, vault.encrypt(name, value)) == value


@contextmanager
def own_home() -> Iterator[None]:
    from tests.command import scratch

    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(scratch() / "config")
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CONFIG_HOME"]
        else:
            os.environ["XDG_CONFIG_HOME"] = before


@pytest.mark.usefixtures("_home")
def test_a_secret_that_was_changed_or_moved_to_another_name_is_refused() -> None:
    text = vault.encrypt("a", "value")
    at = len(text) // 2
    changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    for name, broken in [("a", changed), ("b", text), ("a", text[:-4]), ("a", vault.PREFIX), ("a", vault.PREFIX + "?")]:
        with pytest.raises(vault.VaultError, match="set it again"):
            vault.decrypt(name, broken)


@pytest.mark.usefixtures("_home")
def test_the_same_secret_is_never_encrypted_to_the_same_text() -> None:
    assert vault.encrypt("a", "value") != vault.encrypt("a", "value")


@pytest.mark.usefixtures("_home")
def test_the_key_is_the_users_alone() -> None:
    text = vault.encrypt("a", "value")
    assert vault.key_path().stat().st_mode & 0o777 == 0o600
    assert vault.key_path().parent.stat().st_mode & 0o777 == 0o700
    vault.key_path().chmod(0o640)
    with pytest.raises(vault.VaultError, match="chmod 600"):
        vault.decrypt("a", text)


@pytest.mark.usefixtures("_home")
def test_without_the_key_a_secret_is_not_read_and_no_key_is_made() -> None:
    text = vault.encrypt("a", "value")
    vault.key_path().unlink()
    with pytest.raises(vault.VaultError, match="there is no key"):
        vault.decrypt("a", text)
    assert not vault.key_path().exists()


@pytest.mark.usefixtures("_home")
def test_a_key_that_is_none_is_refused() -> None:
    vault.encrypt("a", "value")
    vault.key_path().write_bytes(b"short")
    with pytest.raises(vault.VaultError, match="not a key"):
        vault.encrypt("a", "value")


@pytest.mark.usefixtures("_home")
def test_a_key_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    vault.encrypt("a", "value")
    vault.key_path().rename(tmp_path / "elsewhere")
    vault.key_path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(vault.VaultError, match="can't be used"):
        vault.encrypt("a", "value")


@pytest.mark.usefixtures("_home")
def test_a_guest_reads_a_secret_and_sets_none() -> None:
    secrets = {"key": vault.encrypt("key", "hush"), "slights": "bXkgc2VjcmV0"}
    assert ask(UserSecrets(secrets), lambda it: it.get("key")) == b"hush"
    refused(UserSecrets(secrets), lambda it: it.get("other"), wit.ConfigsErrorNotFound)
    refused(UserSecrets(secrets), lambda it: it.set("key", b"x"), wit.ConfigsErrorPermissionDenied)
    refused(UserSecrets(secrets), lambda it: it.get("slights"), wit.ConfigsErrorIoError)


# Azure App Configuration.


def test_a_value_that_is_no_text_is_refused(server: AzappServer) -> None:
    refused(AppConfiguration(server.configs), lambda it: it.set("key", b"\xff"), wit.ConfigsErrorInvalidValue)


@pytest.mark.parametrize("key", ["", ".", "..", "100%"])
def test_a_key_that_app_configuration_has_not_is_refused(server: AzappServer, key: str) -> None:
    refused(AppConfiguration(server.configs), lambda it: it.set(key, b"x"), wit.ConfigsErrorInvalidValue)


def test_a_value_that_app_configuration_finds_too_large_is_refused(server: AzappServer) -> None:
    refused(AppConfiguration(server.configs), lambda it: it.set("key", b"x" * 20_000), wit.ConfigsErrorInvalidValue)


def wrong(configs: Mapping[str, str], **changes: str) -> AppConfiguration:
    return AppConfiguration({**configs, **changes})


@pytest.mark.parametrize("change", [{"AZAPPCONFIG_KEYID": "other"}, {"AZAPPCONFIG_KEYSECRET": "b3RoZXI="}])
def test_a_key_that_is_refused_is_told(
    server: AzappServer, change: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    text = refused(wrong(server.configs, **change), lambda it: it.get("key"), wit.ConfigsErrorPermissionDenied)
    assert HOST not in text
    (line,) = caplog.messages
    assert f"configs.azapp {HOST}" in line
    assert "AZAPPCONFIG_KEYSECRET" in line
    assert not any(secret in line for secret in (ID, server.configs["AZAPPCONFIG_KEYSECRET"]))


def test_a_service_that_is_away_is_told_and_used_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with AzappServer() as server:
        backend = AppConfiguration(server.configs)

        async def run() -> None:
            settings = await ConfigsHost({"*": backend}).configs_open("app")
            await settings.set("key", b"1")
            server.kill()
            for _ in range(2):
                with pytest.raises(Err) as caught:
                    await settings.get("key")
                assert type(caught.value.value) is wit.ConfigsErrorIoError
            server.start()
            await settings.set("key", b"2")
            assert await settings.get("key") == b"2"
            await backend.close()

        asyncio.run(run())
    assert len(caplog.messages) == 1
    assert "can't be reached" in caplog.messages[0]


def test_a_service_that_is_slow_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azapp, "SECONDS", 0.3)
    with AzappServer(slow=5) as server:
        text = refused(AppConfiguration(server.configs), lambda it: it.get("key"), wit.ConfigsErrorIoError)
    assert "in time" in text


def test_configs_that_the_slightfile_has_not_come_from_the_environment(
    server: AzappServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in server.configs.items():
        monkeypatch.setenv(key, value)
    refused(AppConfiguration({}), lambda it: it.get("nowhere"), wit.ConfigsErrorNotFound)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"AZAPPCONFIG_ENDPOINT": ""}, "AZAPPCONFIG_ENDPOINT"),
        ({"AZAPPCONFIG_ENDPOINT": "name.azconfig.io"}, "AZAPPCONFIG_ENDPOINT"),
        ({"AZAPPCONFIG_ENDPOINT": "https://user@name.azconfig.io"}, "AZAPPCONFIG_ENDPOINT"),
        ({"AZAPPCONFIG_ENDPOINT": "https://name.azconfig.io:0"}, "AZAPPCONFIG_ENDPOINT"),
        ({"AZAPPCONFIG_KEYID": ""}, "AZAPPCONFIG_KEYID"),
        ({"AZAPPCONFIG_KEYID": "id\r\nX: y"}, "AZAPPCONFIG_KEYID"),
        ({"AZAPPCONFIG_KEYSECRET": "not base64"}, "AZAPPCONFIG_KEYSECRET"),
    ],
)
def test_configs_that_can_not_be_right_are_a_mistake(server: AzappServer, change: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wrong(server.configs, **change)
    assert caught.value.key == key
    assert "not base64" not in str(caught.value)
