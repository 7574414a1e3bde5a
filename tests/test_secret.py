"""Settings and secrets as a user meets them: the command `secret`, and what a module gets of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slight_py import slightfile
from slight_py.errors import UsageError
from tests.azapp_server import AzappServer
from tests.command import ROOT, Done, slight_py
from tests.guests import example
from tests.redis_server import RedisServer

FOLDER = ROOT / "examples" / "configs-demo-c"

SLIGHTFILE = """\
specversion = "0.2"

# Where the values are.
[[capability]]
resource = "keyvalue.redis"
name = "*"  # any
    [capability.configs]
    REDIS_ADDRESS = "${usersecrets.ADDRESS}"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # for what is loaded in this process
    path = tmp_path / "slightfile.toml"
    path.write_text(SLIGHTFILE)
    return path


def secret(path: Path, *arguments: str, stdin: str = "") -> Done:
    env = {"XDG_CONFIG_HOME": str(path.parent / "config")}
    return slight_py("secret", "-c", path, *arguments, stdin=stdin, env=env)


def run(slightfile: Path, **env: str) -> Done:
    return slight_py("run", "-c", slightfile, example("configs-demo-c"), env=env)


# The command.


def test_a_secret_is_what_a_config_value_refers_to(path: Path) -> None:
    assert secret(path, "-k", "ADDRESS", "-v", "redis://:hush@127.0.0.1:1") == Done(0, "", "")
    (grant,) = slightfile.load(path).grants
    assert grant.configs == {"REDIS_ADDRESS": "redis://:hush@127.0.0.1:1"}
    assert "hush" not in path.read_text()


def test_the_file_stays_what_it_was_but_for_the_secrets(path: Path) -> None:
    path.chmod(0o640)
    secret(path, "-k", "ADDRESS", "-v", "redis://one")
    secret(path, "-k", "other", "-v", "two")
    assert path.read_text().startswith(SLIGHTFILE)
    assert path.stat().st_mode & 0o777 == 0o640
    assert {each.name for each in path.parent.iterdir()} == {"config", path.name}
    for name in ("ADDRESS", "other"):
        assert secret(path, "remove", "-k", name) == Done(0, "", "")
    assert path.read_text().rstrip() == SLIGHTFILE.rstrip()


def test_the_command_line_of_slight_is_understood(path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(path.parent / "config")}
    assert slight_py("-c", path, "secret", "-k", "ADDRESS", "-v", "redis://one", env=env).code == 0
    assert slightfile.load(path).grants[0].configs == {"REDIS_ADDRESS": "redis://one"}


@pytest.mark.parametrize("option", [(), ("-v", "-")])
@pytest.mark.parametrize(("typed", "value"), [("redis://a b\n", "redis://a b"), ("redis://a\n\n", "redis://a\n")])
def test_a_secret_may_come_on_standard_input(path: Path, option: tuple[str, ...], typed: str, value: str) -> None:
    assert secret(path, "-k", "ADDRESS", *option, stdin=typed).code == 0
    assert slightfile.load(path).grants[0].configs == {"REDIS_ADDRESS": value}


def test_a_secret_that_is_set_again_takes_the_place_of_the_old_one(path: Path) -> None:
    for value in ("redis://one", "redis://two"):
        secret(path, "-k", "ADDRESS", "-v", value)
    assert path.read_text().count("[[secret_settings]]") == 1
    assert slightfile.load(path).grants[0].configs == {"REDIS_ADDRESS": "redis://two"}


def test_secrets_are_listed_without_their_values(path: Path) -> None:
    assert secret(path, "list") == Done(0, "", "")
    secret(path, "-k", "ADDRESS", "-v", "redis://one")
    secret(path, "-k", "ü 'b'", "-v", "two")
    assert secret(path, "list").out.splitlines() == ["ADDRESS", "ü 'b'"]


def test_a_secret_of_slights_is_recognised(path: Path) -> None:
    path.write_text(SLIGHTFILE + '[[secret_settings]]\nname = "ADDRESS"\nvalue = "TGzUcpXc"\n')
    assert secret(path, "list").out == "ADDRESS  (written by slight, to be set again)\n"
    (error,) = slight_py("run", "-c", path, example("keyvalue-demo-c")).errors
    assert "set it again: slight-py secret" in error
    done = secret(path, "-k", "other", "-v", "x")
    assert done.code == 0
    assert "'ADDRESS' was written by slight" in done.err
    assert secret(path, "-k", "ADDRESS", "-v", "redis://one") == Done(0, "", "")
    assert slightfile.load(path).grants[0].configs == {"REDIS_ADDRESS": "redis://one"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-v", "x"], "secret set needs the secret's name; give it with -k"),
        (["-k", "a"], "the value is empty; give it with -v, or on standard input"),
        (["-k", "", "-v", "x"], "-k: the name of a secret is 1 to 4096 bytes of printable text"),
        (["-k", "a\nb", "-v", "x"], "-k: the name of a secret is 1 to 4096 bytes of printable text"),
        (["remove"], "secret remove needs the secret's name; give it with -k"),
        (["remove", "-k", "a"], "{path}: there is no secret 'a'; the file has none"),
    ],
)
def test_a_mistake_is_said_and_changes_nothing(path: Path, arguments: list[str], error: str) -> None:
    assert secret(path, *arguments) == Done(2, "", f"slight-py: error: {error.format(path=path)}\n")
    assert path.read_text() == SLIGHTFILE


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"specversion = ", "not TOML"),
        (b"\xff", "not UTF-8"),
        (b'secret_settings = "x"', "secret_settings must be an array of tables"),
    ],
)
def test_a_file_that_is_no_slightfile_is_refused(path: Path, text: bytes, error: str) -> None:
    path.write_bytes(text)
    done = secret(path, "-k", "a", "-v", "x")
    assert (done.code, len(done.errors)) == (2, 1)
    assert error in done.err
    assert path.read_bytes() == text


def test_without_a_slightfile_there_is_nowhere_to_keep_a_secret(tmp_path: Path) -> None:
    assert "needs a slightfile" in slight_py("secret", "-k", "a", "-v", "x").err
    assert "no such file" in slight_py("secret", "-c", tmp_path / "none.toml", "-k", "a", "-v", "x").err


def test_a_module_runs_with_an_address_that_is_a_secret(path: Path) -> None:
    with RedisServer(password="pass word") as redis:
        address = f"redis://:pass%20word@127.0.0.1:{redis.port}"
        secret(path, "-k", "ADDRESS", "-v", address)
        env = {"XDG_CONFIG_HOME": str(path.parent / "config")}
        done = slight_py("run", "-c", path, example("keyvalue-demo-c"), env=env)
    assert done.code == 0, done.err


# What a module gets.


@pytest.fixture(scope="module")
def azapp() -> Iterator[AzappServer]:
    with AzappServer() as server:
        yield server


SET = "GREETING is good morning\n"


def test_a_module_has_settings_without_a_slightfile() -> None:
    assert slight_py("run", example("configs-demo-c")).out == "COLOR is not set\n" + SET
    assert run(FOLDER / "slightfile.toml") == Done(0, "COLOR is not set\n" + SET, "")


def test_a_module_reads_the_environment() -> None:
    assert run(FOLDER / "slightfile-envvars.toml", COLOR="red") == Done(0, "COLOR is red\n" + SET, "")


def test_a_module_reads_the_users_secrets_and_sets_none(path: Path) -> None:
    shutil.copy(FOLDER / "slightfile-usersecrets.toml", path)
    assert secret(path, "-k", "COLOR", "-v", "blue").code == 0
    done = run(path, XDG_CONFIG_HOME=str(path.parent / "config"))
    assert (done.code, done.out) == (0, "COLOR is blue\nGREETING can't be set\n")
    (warning,) = done.errors
    assert "slight-py secret" in warning


def test_a_module_reads_app_configuration(azapp: AzappServer) -> None:
    assert run(FOLDER / "slightfile-azapp.toml", **azapp.configs) == Done(0, "COLOR is not set\n" + SET, "")


@pytest.mark.parametrize("specversion", ["0.1", "0.2"])
def test_a_config_value_may_be_in_app_configuration(azapp: AzappServer, tmp_path: Path, specversion: str) -> None:
    with RedisServer() as redis:
        write_setting(azapp, "REDIS_ADDRESS", redis.address)
        path = tmp_path / "slightfile.toml"
        path.write_text(
            'specversion = "0.1"\nsecret_store = "configs.azapp"\n[[capability]]\nname = "keyvalue.redis"\n'
            if specversion == "0.1"
            else SLIGHTFILE.replace("usersecrets.ADDRESS", "azapp.REDIS_ADDRESS")
        )
        done = slight_py("run", "-c", path, example("keyvalue-demo-c"), env=azapp.configs)
    assert done.code == 0, done.err


def write_setting(server: AzappServer, key: str, value: str) -> None:
    import asyncio

    from capabilities.configs.azapp import AppConfiguration

    async def write() -> None:
        store = AppConfiguration(server.configs)
        await store.set("", key, value.encode())
        await store.close()

    asyncio.run(write())


def test_the_package_that_app_configuration_needs_is_named(
    path: Path, azapp: AzappServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(SLIGHTFILE.replace("usersecrets.ADDRESS", "azapp.ADDRESS"))
    for key, value in azapp.configs.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setitem(sys.modules, "azure.appconfiguration", None)  # which Python takes for missing
    with pytest.raises(UsageError) as caught:
        slightfile.load(path)
    assert "looked up: the Python package azure.appconfiguration is missing: pip install" in str(caught.value)


def test_an_app_configuration_that_is_away_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "slightfile.toml"
    path.write_text(SLIGHTFILE.replace("usersecrets.ADDRESS", "azapp.ADDRESS"))
    configs = {
        "AZAPPCONFIG_ENDPOINT": "http://127.0.0.1:9",
        "AZAPPCONFIG_KEYID": "id",
        "AZAPPCONFIG_KEYSECRET": "aHVzaA==",
    }
    done = slight_py("run", "-c", path, example("keyvalue-demo-c"), env=configs)
    assert (done.code, len(done.errors)) == (2, 1)
    assert (
        f"{path}:8: the setting 'ADDRESS' of Azure App Configuration, the value of REDIS_ADDRESS, can't be" in done.err
    )


@pytest.mark.parametrize("name", ["envvars", "usersecrets"])
def test_what_is_of_this_machine_alone_is_refused_for_an_image(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"slightfile-{name}.toml"
    done = slight_py("image", "build", example("configs-demo-c"), "-c", path, "-o", tmp_path / "app.img")
    assert (done.code, len(done.errors)) == (2, 1)
    assert f"{path}:3: configs.{name} " in done.err
