"""`slight-py run` of modules that begin, do their work, and end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import wasmtime

from tests.azurite_server import AzuriteServer
from tests.command import Done, at_once, build_guest, guest, running, scratch, slight_py
from tests.dapr_server import DaprServer
from tests.guests import example, slightfile
from tests.moto_server import MotoServer
from tests.redis_server import RedisServer

DEMO_OUTPUT = """\
key: key
key: key
The value for keyvalue1 is: spiderlightning, keyvalue2 is spiderlightning
"""
"""What Spiderlightning's keyvalue-demo prints."""

KV_OUTPUT = "key: key\nThe value for kv is: spiderlightning\n"

KEYVALUE_EXAMPLES = {
    "keyvalue-demo-c": DEMO_OUTPUT,
    "keyvalue-demo-rust": DEMO_OUTPUT,
    "kv-2022-c": KV_OUTPUT,
    "bare-c": "",
}
"""The examples that put values into stores, and what each prints."""

PROBE = guest("probe")


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_guest("probe")


def wat(text: str, name: str) -> Path:
    """The module of a text."""
    module = scratch() / f"{name}.wasm"
    module.write_bytes(wasmtime.wat2wasm(text))
    return module


def sets(redis: RedisServer) -> int:
    """How many values Redis was given so far."""
    for line in redis.cli("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_set:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


# The examples, on every backend.


def run_examples(backend: str | None, env: Callable[[str], Mapping[str, str]] = lambda name: {}) -> dict[str, Done]:
    """Runs all of them with their slightfiles for a backend, or without; `env` gives the variables of each."""

    def run(name: str) -> Done:
        grants: list[str | Path] = ["-c", slightfile(name, backend)] if backend else []
        return slight_py("run", example(name), *grants, env=env(name))

    return dict(zip(KEYVALUE_EXAMPLES, at_once(run, KEYVALUE_EXAMPLES), strict=True))


ALL_WELL = {name: Done(0, output, "") for name, output in KEYVALUE_EXAMPLES.items()}


@pytest.mark.parametrize("backend", [None, "memory"])
def test_modules_keep_their_values_in_memory_with_a_slightfile_and_without(backend: str | None) -> None:
    assert run_examples(backend) == ALL_WELL


def test_modules_keep_their_values_in_files(tmp_path: Path) -> None:
    for name in KEYVALUE_EXAMPLES:
        (tmp_path / name).mkdir()
    assert run_examples("filesystem", lambda name: {"TMPDIR": str(tmp_path / name)}) == ALL_WELL
    for name in KEYVALUE_EXAMPLES:
        stores = {"my-container", "my-container2"} if "demo" in name else {"my-container"}
        assert {each.name for each in (tmp_path / name).iterdir()} == stores


def test_modules_keep_their_values_in_redis(shared_redis: RedisServer) -> None:
    """Each in a database of its own: their keys are the same."""
    databases = {name: number for number, name in enumerate(KEYVALUE_EXAMPLES, 1)}
    before = sets(shared_redis)
    assert (
        run_examples("redis", lambda name: {"REDIS_ADDRESS": f"{shared_redis.address}/{databases[name]}"}) == ALL_WELL
    )
    assert sets(shared_redis) - before == 2 + 2 + 1 + 1


def test_a_module_that_finds_no_redis_is_told_so() -> None:
    """It ends with its own exit code."""
    env = {"REDIS_ADDRESS": "redis://127.0.0.1:1"}
    done = slight_py("run", example("keyvalue-demo-c"), "-c", slightfile("keyvalue-demo-c", "redis"), env=env)
    guest, notice = done.err.splitlines()[-1], done.err.splitlines()[0]
    assert (done.code, done.out) == (1, "")
    assert guest == "set: Redis can't be reached: Connection refused"
    assert notice.endswith(
        "redis 127.0.0.1:1: connection refused; start it, or correct REDIS_ADDRESS in the slightfile"
    )


DEMOS = [name for name in KEYVALUE_EXAMPLES if name.startswith("keyvalue-demo")]


def run_demos(backend: str, env: Mapping[str, str]) -> None:
    for name in DEMOS:  # one after the other: their keys are the same
        assert slight_py("run", example(name), "-c", slightfile(name, backend), env=env) == (0, DEMO_OUTPUT, "")


def test_modules_keep_their_values_in_dynamodb() -> None:
    with MotoServer() as moto:
        for table in ("my-container", "my-container2"):
            moto.create_table(table)
        run_demos("dynamodb", moto.configs())


def test_modules_keep_their_values_in_azure() -> None:
    with AzuriteServer() as azurite:
        for container in ("my-container", "my-container2"):
            azurite.create_container(container)
        run_demos("azblob", azurite.configs())


def test_modules_keep_their_values_in_dapr() -> None:
    with DaprServer("my-container", "my-container2") as dapr:
        run_demos("dapr", dapr.configs())
        assert dapr.violations == []


# Where the slightfile comes from.


def test_the_slightfile_may_come_before_the_command_and_after_the_module(tmp_path: Path) -> None:
    nothing = tmp_path / "slightfile.toml"
    nothing.write_text('specversion = "0.2"\n')
    app = example("bare-c")
    c: list[str | Path] = ["-c", nothing]
    before, *after = at_once(lambda words: slight_py(*words), [[*c, "run", app], ["run", app, *c], ["run", *c, app]])
    assert before.code == 2
    assert after == [before, before]


@pytest.mark.parametrize("flag", ["-l", "--link-all-capabilities"])
def test_what_the_slightfile_does_not_grant_can_be_linked_all_the_same(flag: str, tmp_path: Path) -> None:
    nothing = tmp_path / "slightfile.toml"
    nothing.write_text('specversion = "0.2"\n')
    assert slight_py("run", example("keyvalue-demo-c"), "-c", nothing, flag) == (0, DEMO_OUTPUT, "")


# What a module sees.


def test_a_module_gets_the_arguments_after_two_dashes() -> None:
    done = slight_py("run", PROBE, "--", "arguments", "--verbose", "", "two words", "--", "ü")
    assert done == (0, "probe.wasm\narguments\n--verbose\n\ntwo words\n--\nü\n", "")


def test_a_module_sees_the_variables_that_it_is_given_and_no_others() -> None:
    done = slight_py("run", PROBE, "--env", "ONE=1", "--env", "TWO=a=b", "--env", "NONE=", "--", "environment")
    assert done == (0, "ONE=1\nTWO=a=b\nNONE=\n", "")


def test_a_module_reads_standard_input() -> None:
    assert slight_py("run", PROBE, "--", "input", stdin="a line\nand more") == (0, "a line\nand more", "")


def test_a_module_reads_and_writes_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("hello\n")
    assert slight_py("run", PROBE, "--", "read", "letter", cwd=tmp_path) == (0, "hello\n", "")
    assert slight_py("run", PROBE, "--", "write", "answer", cwd=tmp_path).code == 0
    assert (tmp_path / "answer").read_text() == "from the guest\n"


def test_a_module_does_not_leave_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("hello\n")
    inside = tmp_path / "inside"
    (inside / "inner").mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path / "letter")
    paths = ["../letter", "inner/../../letter", "link", "/etc/passwd"]
    for done in at_once(lambda path: slight_py("run", PROBE, "--", "read", path, cwd=inside), paths):
        assert (done.code, done.out) == (9, "")


def test_a_module_without_directories_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("hello\n")
    done = slight_py("run", PROBE, "--no-dir", "--", "read", "letter", cwd=tmp_path)
    assert (done.code, done.out) == (9, "")


def test_directories_take_the_place_of_the_current_one(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for directory in (data, other):
        directory.mkdir()
        (directory / "letter").write_text(f"in {directory.name}\n")
    grants = ("--dir", f"{data}::/mail", "--dir", "other::.")

    def probe(words: tuple[str, str]) -> Done:
        return slight_py("run", PROBE, *grants, "--", *words, cwd=tmp_path)

    done = at_once(probe, [("read", "/mail/letter"), ("read", "letter"), ("write", "/mail/answer")])
    assert done == [(0, "in data\n", ""), (0, "in other\n", ""), (0, "", "")]
    assert (data / "answer").read_text() == "from the guest\n"


def test_a_directory_for_reading_alone_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("hello\n")

    def probe(words: tuple[str, str]) -> Done:
        return slight_py("run", PROBE, "--dir", f"{tmp_path}::/mail:ro", "--", *words)

    read, *written = at_once(probe, [("read", "/mail/letter"), ("write", "/mail/letter"), ("write", "/mail/answer")])
    assert read == (0, "hello\n", "")
    assert [done.code for done in written] == [9, 9]
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"letter": "hello\n"}


# How a module ends.


def test_the_exit_code_is_the_one_of_the_module() -> None:
    codes = [0, 1, 2, 125]
    done = at_once(lambda code: slight_py("run", PROBE, "--", "exit", str(code)), codes)
    silence = "slight-py: probe.wasm ended with code {} and said nothing\n"
    assert done == [(code, "", silence.format(code) if code else "") for code in codes]


def test_what_main_returns_is_the_exit_code() -> None:
    text = '(module (memory (export "memory") 1) (func (export "main") (param i32 i32) (result i32) (i32.const 7)))'
    assert slight_py("run", wat(text, "seven")) == (7, "", "slight-py: seven.wasm ended with code 7 and said nothing\n")


def test_a_module_without_wasi_is_called_without_arguments() -> None:
    text = """
    (module (memory (export "memory") 1)
      (func (export "main") (param $argc i32) (param $argv i32) (result i32)
        (i32.or (local.get $argc) (local.get $argv))))
    """
    assert slight_py("run", wat(text, "no-arguments"), "--", "one", "two") == (0, "", "")


def test_a_trap_is_one_line_and_exit_code_1() -> None:
    done = slight_py("run", PROBE, "--", "trap")
    reason = "wasm trap: wasm `unreachable` instruction executed"
    assert done == (1, "", f"slight-py: {PROBE}: the guest trapped: {reason}\n")


def test_with_verbose_a_trap_shows_where_it_happened() -> None:
    text = '(module (memory (export "memory") 1) (func $culprit unreachable) (func (export "_start") (call $culprit)))'
    assert "culprit" in slight_py("--verbose", "run", wat(text, "culprit")).err


def test_an_on_server_init_that_fails_is_one_line_and_exit_code_1() -> None:
    text = r"""
    (module (memory (export "memory") 1)
      (data (i32.const 16) "\01\00\00\00\20\00\00\00\0d\00\00\00")
      (data (i32.const 32) "no\0aslight-py:")
      (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
      (func (export "canonical_abi_free") (param i32 i32 i32))
      (func (export "on-server-init") (result i32) (i32.const 16)))
    """
    module = wat(text, "no-server")
    assert slight_py("run", module) == (1, "", f"slight-py: {module}: on-server-init failed: no\\nslight-py:\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("what", ["sleep", "wait"])
def test_a_signal_ends_a_module_that_waits(what: str, number: signal.Signals, code: int) -> None:
    """For a time, or for its standard input."""
    with running("run", PROBE, "--", what) as command:
        command.wait_for(f"^{what}$")
        assert command.stop(number) == code
        assert command.err == f"{what}\n"


# The cache of compiled modules.


def cached(home: Path) -> list[str]:
    return [name for _, _, names in os.walk(home) for name in names]


def run_with_cache(home: Path, *flags: str) -> Mapping[str, int]:
    assert slight_py("run", example("bare-c"), *flags, env={"XDG_CACHE_HOME": str(home)}) == (0, "", "")
    return {name: (home / "slight-py" / "modules" / name).stat().st_ino for name in cached(home)}


def test_the_second_start_compiles_nothing(tmp_path: Path) -> None:
    first = run_with_cache(tmp_path)
    assert len(first) == 1
    assert run_with_cache(tmp_path) == first


def test_without_cache_nothing_is_kept(tmp_path: Path) -> None:
    assert run_with_cache(tmp_path, "--no-cache") == {}
