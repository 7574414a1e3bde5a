"""Module files: what is refused and why, and the compiled modules that are kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from slight_py import modules
from slight_py.engine import Engine, Limits, Program, describe
from slight_py.errors import UsageError
from slight_py.handlers import Handlers
from slight_py.linker import check
from slight_py.slightfile import embedded
from slight_py.wasi import WasiSettings
from tests import wat
from tests.command import at_once, slight_py

MODULE = wat.module()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own: the directory that its modules are kept in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slight-py" / "modules"


def written(path: Path, content: bytes = MODULE) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    """Why a file is not loaded: one line that begins with its name."""
    with pytest.raises(UsageError) as error:
        modules.load(wat.engine(), path, cache=False)
    (line,) = error.value.lines
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


# What is not a module.


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "app.wasm") == "there is no such file"
    assert refused(tmp_path / ("x" * 300)) == "it can't be read: File name too long"
    assert refused(written(tmp_path / "file") / "app.wasm") == "it can't be read: Not a directory"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path) == "this is a directory; name the .wasm file in it"


WRONG = {
    "empty": (b"", "the file is empty; build the module again"),
    "one-byte": (b"\0", "this is not a WebAssembly module"),
    "other": (b"\x7fELF\2\1\1\0", "this is not a WebAssembly module"),
    "text": (
        b"\n (module)",
        "this is not a WebAssembly module; this looks like its text format, which `wat2wasm` turns into a module",
    ),
    "text-with-comment": (
        b";; a module\n(module)",
        "this is not a WebAssembly module; this looks like its text format, which `wat2wasm` turns into a module",
    ),
    "component": (
        b"\0asm\x0d\0\1\0",
        "this is a component; only `slight-py run` takes components",
    ),
    "component-of-the-future": (
        b"\0asm\x0e\0\1\0",
        "a component of the binary format's version 0xe, not 0xd, can't be run; build it with current tools",
    ),
    "magic-alone": (b"\0asm", "the file is cut short; copy or build it again"),
    "half-a-version": (b"\0asm\1\0\0", "the file is cut short; copy or build it again"),
    "version-0": (b"\0asm\0\0\0\0", "WebAssembly of version 0, not 1, can't be run"),
    "version-2": (b"\0asm\2\0\0\0", "WebAssembly of version 2, not 1, can't be run"),
    "version-of-the-future": (b"\0asm\xff\xff\xff\xff", "WebAssembly of version 4294967295, not 1, can't be run"),
}


@pytest.mark.parametrize(("content", "why"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_not_a_module_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    assert refused(written(tmp_path / "app.wasm", content)) == why


@pytest.mark.parametrize("length", [9, 20, len(MODULE) // 2, len(MODULE) - 1])
def test_a_module_that_was_cut_short_is_refused(length: int, tmp_path: Path) -> None:
    assert refused(written(tmp_path / "app.wasm", MODULE[:length])).startswith("the module is broken or cut short: ")


BROKEN = {
    "garbage": b"\0asm\1\0\0\0" + bytes(range(256)),
    "garbage-behind": MODULE + b"garbage",
    "endless-length": b"\0asm\1\0\0\0\1\xff\xff\xff\xff\x0f",
    "a-function-without-code": b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0",
    "wrong-types": b"\0asm\1\0\0\0\1\5\1\x60\0\1\x7f\3\2\1\0\x0a\4\1\2\0\x0b",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_module_that_is_broken_is_refused(content: bytes, tmp_path: Path) -> None:
    assert refused(written(tmp_path / "app.wasm", content)).startswith("the module is broken or cut short: ")


def test_every_module_of_a_changed_byte_is_refused_or_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a broken disk or a bad copy leaves: none may end the process, not even one that compiles.
    monkeypatch.setattr(modules.compilation, "compile_apart", lambda engine, wasm, _: engine.compile(wasm))
    loaded, refused = 0, 0
    for at in range(0, len(MODULE), 3):
        app = written(tmp_path / "app.wasm", MODULE[:at] + bytes((MODULE[at] ^ 0x55,)) + MODULE[at + 1 :])
        try:
            modules.load(wat.engine(), app, cache=False)
            loaded += 1
        except UsageError:
            refused += 1
    assert loaded
    assert refused


# What can't be passed: wasmtime's C API ends the process where it is asked for such a type.
UNPASSABLE = {
    "a-vector-in": ('(import "env" "f" (func (param i32 v128)))', "env::f (v128)"),
    "a-vector-out": ('(func (export "f") (result v128) (v128.const i32x4 0 0 0 0))', "f (v128)"),
    "a-vector-behind-imports": (
        '(import "env" "t" (table 1 funcref)) (import "env" "m" (memory 1)) (import "env" "g" (global (mut i32)))'
        ' (import "env" "f" (func)) (func (export "g") (param v128))',
        "g (v128)",
    ),
    "an-external-reference": ('(import "env" "f" (func (param externref)))', "env::f (externref)"),
    "any-reference": ('(import "env" "f" (func (result anyref)))', "env::f (anyref)"),
    "an-exception": ('(import "env" "f" (func (param exnref)))', "env::f (exnref)"),
    "a-typed-reference": (
        '(type $t (func)) (import "env" "f" (func (param (ref $t))))',
        "env::f (a typed reference)",
    ),
    "a-struct": (
        "(rec (type $s (sub (struct (field i8) (field (mut i32))))) (type (array i16)))"
        ' (func (export "f") (result (ref null $s)) ref.null $s)',
        "f (a typed reference)",
    ),
}


@pytest.mark.parametrize(("fields", "named"), UNPASSABLE.values(), ids=UNPASSABLE)
def test_a_function_with_a_type_that_cant_be_passed_is_named(fields: str, named: str, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", wat.binary(fields))
    commands = (("run", app), ("inspect", app), ("image", "build", app, "-o", tmp_path / "app.img"))
    for done in at_once(lambda words: slight_py(*words), commands):
        assert done.code == 2, done.err
        (line,) = done.errors
        assert f"{app}: the module needs more than slight-py gives: " in line
        assert f"between a module and its host: {named}; pass such values in memory" in line


def test_vectors_within_a_module_are_fine(tmp_path: Path) -> None:
    app = written(
        tmp_path / "app.wasm",
        wat.binary(
            """(func $sum (param v128 v128) (result v128) (i32x4.add (local.get 0) (local.get 1)))
            (func (export "_start")
              (if (i32.ne (i32x4.extract_lane 3 (call $sum (v128.const i32x4 1 2 3 4) (v128.const i32x4 5 6 7 8)))
                          (i32.const 12))
                (then unreachable)))"""
        ),
    )
    assert slight_py("run", app) == (0, "", "")


def test_no_module_has_a_heap_besides_its_memory(tmp_path: Path) -> None:
    # What is collected as garbage would lie outside of --max-memory.
    app = written(
        tmp_path / "app.wasm",
        wat.binary(
            """(type $block (array (mut i8)))
            (global $kept (mut (ref null $block)) (ref.null $block))
            (func (export "_start") (global.set $kept (array.new_default $block (i32.const 400000000))))"""
        ),
    )
    assert refused(app).startswith("the module needs more than slight-py gives: ")


NEEDS_MORE = {
    "shared-memory": ('(memory (export "memory") 1 2 shared)', "threads must be enabled for shared memories"),
    "64-bit-memory": ('(memory (export "memory") i64 1)', "memory64 must be enabled for 64-bit memories"),
    "two-memories": ('(memory (export "memory") 1) (memory 1)', "multiple memories"),
    "a-table-too-long": ("(table 100001 funcref)", "exceeds the limit of 100000"),
    "exceptions": ("(tag $thrown) (func (throw $thrown))", "exceptions proposal not enabled"),
    "objects": ("(type (struct (field i64)))", "without the gc feature"),
    "two-tables": ("(table 1 funcref) (table 1 funcref)", "exceeds the per-instance limit of 1"),
}


@pytest.mark.parametrize(("fields", "why"), NEEDS_MORE.values(), ids=NEEDS_MORE)
def test_a_module_that_needs_more_than_there_is_is_told_what(fields: str, why: str, tmp_path: Path) -> None:
    reason = refused(written(tmp_path / "app.wasm", wat.binary(fields)))
    assert reason.startswith("the module needs more than slight-py gives: ")
    assert why in reason


def test_more_memory_than_an_instance_may_have_is_told_with_the_option(tmp_path: Path) -> None:
    assert refused(written(tmp_path / "app.wasm", wat.binary('(memory (export "memory") 257)'))) == (
        "its memory begins with 16,842,752 bytes, and an instance may have less; allow more with --max-memory"
    )


def test_imports_that_are_not_functions_are_named(tmp_path: Path) -> None:
    kinds = ("(memory 1)", "(table 1 funcref)", "(global i32)", "(global (mut i64))")
    fields = "".join(f'(import "env" "thing-{number}" {kind})' for number, kind in enumerate(kinds))
    info = describe(wat.engine().compile(wat.binary(fields)))
    with pytest.raises(UsageError) as error:
        check(tmp_path / "app.wasm", info, embedded(), link_all=True)
    assert error.value.lines == tuple(
        f"{tmp_path}/app.wasm: imports env::thing-{number}, which is not a function; nothing provides it"
        for number in range(len(kinds))
    )


# What takes too much to compile.

TOO_MUCH = {
    "time": ("--compile-timeout", "0.2", "to compile it takes more than 0.2 seconds (--compile-timeout)"),
    "memory": (
        "--compile-memory",
        "100M",
        "to compile it takes more than 100 MiB of memory (--compile-memory), or more than the system has",
    ),
    "size": ("--max-module", "100K", "the module has more than 102,400 bytes; allow more with --max-module"),
}


@pytest.mark.parametrize(("option", "value", "why"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_module_that_takes_too_much_to_compile_is_refused(option: str, value: str, why: str, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", wat.many_functions(100_000))
    for words in (("run",), ("inspect",), ("image", "build", "-o", tmp_path / "app.img")):
        began = time.monotonic()
        done = slight_py(*words, app, option, value)
        assert (done.code, done.out) == (2, "")
        assert done.errors[0].endswith(why)
        assert len(done.errors) == 1
        assert time.monotonic() - began < 10


def test_a_module_that_takes_as_much_as_it_may_runs(tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", wat.binary('(func (export "_start"))'))
    done = slight_py("run", app, "--max-module", str(app.stat().st_size), "--compile-memory", "64M", "--no-cache")
    assert done == (0, "", "")


# What is kept.


def compiling_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(engine: Engine, wasm: bytes, limits: object) -> Any:
        raise AssertionError("a module is compiled")

    monkeypatch.setattr(modules.compilation, "compile_apart", compile_)


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def test_a_module_is_compiled_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = written(tmp_path / "app.wasm")
    modules.load(wat.engine(), app)
    compiling_nothing(monkeypatch)
    copy = written(tmp_path / "copy.wasm")
    for path in (app, copy):
        found = describe(modules.load(wat.engine(), path))
        assert set(found.functions) == {"canonical_abi_realloc", "handle-hello"}
    assert len(kept(cache)) == 1


def test_a_module_that_was_kept_runs(cache: Path, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm")
    for _ in range(2):
        module = modules.load(wat.engine(), app)
    guests = Handlers(Program(wat.engine(), module, {}), WasiSettings())
    assert wat.run(wat.ask(guests, "handle-hello")).body == b"hello"


def test_another_module_and_other_limits_are_compiled_again(cache: Path, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm")
    modules.load(wat.engine(), app)
    modules.load(wat.engine(Limits(memory=16 << 20, instances=8)), app)
    written(app, wat.module("(func)"))
    modules.load(wat.engine(), app)
    assert len(kept(cache)) == 3


def test_without_cache_nothing_is_kept(cache: Path, tmp_path: Path) -> None:
    modules.load(wat.engine(), written(tmp_path / "app.wasm"), cache=False)
    assert kept(cache) == []


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "shorter-than-a-digest": lambda content: content[:20],
    "digest-alone": lambda content: content[:32],
    "cut-short": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a-byte-changed": lambda content: content[:5000] + bytes((content[5000] ^ 1,)) + content[5001:],
    "digest-changed": lambda content: bytes((content[0] ^ 1,)) + content[1:],
    "another-format": lambda content: MODULE,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_kept_module_that_was_spoiled_is_compiled_again(
    spoil: Callable[[bytes], bytes], cache: Path, tmp_path: Path
) -> None:
    app = written(tmp_path / "app.wasm")
    modules.load(wat.engine(), app)
    (path,) = kept(cache)
    content = path.read_bytes()
    path.write_bytes(spoil(content))
    modules.load(wat.engine(), app)
    assert len(kept(cache)) == 1
    digest, compiled = path.read_bytes()[:32], path.read_bytes()[32:]
    assert sha256(compiled).digest() == digest


def test_a_kept_module_of_another_engine_is_compiled_again(cache: Path, tmp_path: Path) -> None:
    # Whole by its digest, and not what this engine takes: its configuration is another one.
    app = written(tmp_path / "app.wasm")
    modules.load(wat.engine(), app)
    (path,) = kept(cache)
    before = path.read_bytes()
    foreign = bytes(wasmtime.Module(wasmtime.Engine(), MODULE).serialize())
    path.write_bytes(sha256(foreign).digest() + foreign)
    modules.load(wat.engine(), app)
    assert path.read_bytes() == before


def test_the_cache_is_for_its_user_alone(cache: Path, tmp_path: Path) -> None:
    modules.load(wat.engine(), written(tmp_path / "app.wasm"))
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert [stat.S_IMODE(each.stat().st_mode) for each in kept(cache)] == [0o600]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_may_write_to_is_not_used(mode: int, cache: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    modules.load(wat.engine(), written(tmp_path / "app.wasm"))
    assert kept(cache) == []


def test_a_module_that_others_may_have_put_into_the_cache_is_not_used(cache: Path, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm")
    modules.load(wat.engine(), app)
    (path,) = kept(cache)
    os.utime(path, (1, 1))
    cache.chmod(0o777)
    modules.load(wat.engine(), app)
    assert path.stat().st_mtime == 1


def test_a_cache_that_is_not_a_directory_is_not_used(cache: Path, tmp_path: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"a file")
    assert modules.load(wat.engine(), written(tmp_path / "app.wasm"))
    assert cache.read_bytes() == b"a file"


def test_a_disk_that_is_full_is_no_reason_to_fail(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    assert modules.load(wat.engine(), written(tmp_path / "app.wasm"))
    assert kept(cache) == []


def test_the_cache_is_below_the_users_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert modules.cache_directory() == tmp_path / ".cache" / "slight-py" / "modules"


@pytest.mark.parametrize("base", ["", "relative", "./cache"])
def test_a_variable_that_names_no_place_is_ignored(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # XDG Base Directory Specification: "All paths set in these environment variables must be absolute."
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert modules.cache_directory() == tmp_path / ".cache" / "slight-py" / "modules"


def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert modules.load(wat.engine(), written(tmp_path / "app.wasm"))


def test_the_modules_longest_unused_go_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "CACHE_LIMIT", 3)
    apps = [written(tmp_path / f"{n}.wasm", wat.module("(func)" * n)) for n in range(5)]
    names: dict[int, Path] = {}
    for number in (0, 1, 2):
        modules.load(wat.engine(), apps[number])
        (names[number],) = set(kept(cache)) - set(names.values())
        os.utime(names[number], (number + 1, number + 1))
    modules.load(wat.engine(), apps[0])  # used again
    modules.load(wat.engine(), apps[3])
    assert len(kept(cache)) == 3
    assert names[0].exists()
    assert not names[1].exists()
    assert names[2].exists()
    modules.load(wat.engine(), apps[4])
    assert names[0].exists()
    assert not names[2].exists()


def test_many_may_start_at_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "CACHE_LIMIT", 2)
    apps = [written(tmp_path / f"{n}.wasm", wat.module("(func)" * n)) for n in range(3)]
    engine = wat.engine()
    failed: list[BaseException] = []

    def load() -> None:
        try:
            for _ in range(3):
                for app in apps:
                    modules.load(engine, app)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert not any(thread.is_alive() for thread in threads)
    modules.load(engine, apps[0])
    assert 0 < len(kept(cache)) <= 2


def test_a_module_kept_by_one_process_is_used_by_another(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = written(tmp_path / "app.wasm")
    script = (
        "import sys; from pathlib import Path; from slight_py import modules; from tests import wat; "
        "modules.load(wat.engine(), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", script, app], check=True, cwd=Path(__file__).parent.parent, timeout=20)
    assert len(kept(cache)) == 1
    compiling_nothing(monkeypatch)
    modules.load(wat.engine(), app)


def test_an_interface_that_nothing_provides_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    app = written(
        tmp_path / "app.wasm",
        wat.binary(
            """(import "canonical_abi" "resource_drop_shelf" (func (param i32)))
            (import "shop" "shelf::open" (func (param i32 i32 i32)))
            (import "shop" "shelf::name" (func (param i32 i32)))
            (import "keyvalue" "keyvalue::frobnicate" (func))
            (func (export "_start"))"""
        ),
    )
    way_out = 'write a Python class for it and grant that with resource = "FILE.py:CLASS" (docs/custom-capabilities.md)'
    assert slight_py("run", app).errors == [
        f"slight-py: error: {app}: imports shop (shelf::open, shelf::name), which nothing provides; it is no interface "
        f"of Spiderlightning. If it is one of your own, {way_out}",
        f"slight-py: error: {app}: imports keyvalue (keyvalue::frobnicate), which nothing provides; that interface has "
        "no such function; build the module against another version of it",
    ]
