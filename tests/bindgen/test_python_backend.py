"""The Python host bindings, where names collide, values are empty, and handles change hands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from bindgen.backends import BackendError, python
from bindgen.runtime import host_resource_imports
from bindgen.wit_parser import load_many
from slight_py.engine import Program, describe
from tests.bindgen import echo_c
from tests.bindgen.roundtrip import FORMS, Caller, Case, Echo, bindings, engine, use_form
from tests.bindgen.test_roundtrip import SHAPES
from tests.bindgen.test_roundtrip import functions as shapes

ROOT = Path(__file__).resolve().parents[2]

TYPES = """
variant v { a(unit), b, c(u8) }
union w { u8, u8 }
record w1 { a: u8 }
record header { name: string, value: string }
record word { text: string }
flags none { }
variant beyond { a(tuple<u8, u8, u8>), b(u16) }
"""
EIGHTEEN = f"tuple<{', '.join(['u8'] * 18)}>"
FUNCTIONS = f"""
nothing: func() -> tuple<>
headers: func(a: list<header>, b: option<list<word>>) -> tuple<list<header>, option<list<word>>>
no-flags: func(a: none) -> none
cases: func(a: v) -> v
either: func(a: w) -> w
record-of-its-name: func(a: w1) -> w1
builtins: func(len: list<u16>, int: list<u16>, b: string) -> tuple<list<u16>, list<u16>, string>
past-its-size: func(a: {EIGHTEEN}, last: beyond) -> tuple<{EIGHTEEN}, u8>
len: func(a: u8) -> u8
%s32: func(a: s32) -> s32
"""


class Host(Echo):
    async def nothing(self) -> tuple[()]:
        return ()

    async def past_its_size(self, many: tuple[int, ...], last: Any) -> tuple[tuple[int, ...], int]:
        return many, last.value[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("names"), TYPES, FUNCTIONS, echo_c.compile_echo)


@pytest.fixture(params=FORMS)
def case(built: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    use_form(request.param, built.modules.values(), monkeypatch)
    return built


def test_values_without_content_are_passed(case: Case) -> None:
    types = case.modules["shapes"]

    async def body(call: Caller) -> None:
        assert await call("nothing") == ()
        assert await call("no-flags", types.None_(0)) == 0
        for value in (types.VA(), types.VB(), types.VC(3)):
            assert await call("cases", value) == value

    case.run(body, Host())


def test_records_of_nothing_but_texts_are_passed(case: Case) -> None:
    types = case.modules["shapes"]
    headers = [types.Header("host", "localhost"), types.Header("", "ß")]

    async def body(call: Caller) -> None:
        for words in (None, [], [types.Word("a"), types.Word("")]):
            assert await call("headers", headers, words) == (headers, words)
            assert await call("headers", [], words) == ([], words)
        assert await call.live_blocks() == 0

    case.run(body, Host())


def test_classes_of_one_name_are_told_apart(case: Case) -> None:
    types = case.modules["shapes"]

    async def body(call: Caller) -> None:
        assert await call("either", types.W0(1)) == types.W0(1)
        assert await call("either", types.W1_(2)) == types.W1_(2)
        assert await call("record-of-its-name", types.W1(9)) == types.W1(9)

    case.run(body, Host())


def test_names_of_pythons_own_functions_may_be_used(case: Case) -> None:
    module = case.modules["guest_side"]

    async def body(call: Caller) -> None:
        assert await call("builtins", [1, 2], [3], "x") == ([1, 2], [3], "x")
        functions = describe(case.module).functions
        assert await module.len_(call.instance, functions["len"], 4) == 4
        assert await module.s32_(call.instance, functions["s32"], -4) == -4

    case.run(body, Host())


def test_a_payload_past_the_end_of_the_parameters_has_room(case: Case) -> None:
    last = case.modules["shapes"].BeyondA((1, 2, 3))

    async def body(call: Caller) -> None:
        assert await call("past-its-size", tuple(range(18)), last) == (tuple(range(18)), 3)
        assert await call.live_blocks() == 0

    case.run(body, Host())


def test_a_handle_in_the_result_of_an_export_is_handed_over(tmp_path: Path) -> None:
    (tmp_path / "host-side.wit").write_text("resource thing { static new: func() -> thing }\n")
    (tmp_path / "guest-side.wit").write_text("use { thing } from host-side\nmake: func() -> thing\n")
    imported, exported = load_many([tmp_path / "host-side.wit", tmp_path / "guest-side.wit"])
    modules = bindings(tmp_path, [imported], [exported])
    things: list[object] = []

    class Things:
        async def thing_new(self) -> object:
            things.append(object())
            return things[-1]

    module = engine().compile(
        bytes(
            wasmtime.wat2wasm("""(module
        (import "host-side" "thing::new" (func $new (result i32)))
        (import "canonical_abi" "resource_drop_thing" (func $drop (param i32)))
        (memory (export "memory") 1)
        (func (export "make") (result i32) (call $new)))""")
        )
    )
    definitions = [*modules["host_side"].IMPORTS, *host_resource_imports("thing")]
    links = {(each.module, each.name): (each, Things()) for each in definitions}

    async def run() -> None:
        instance = await Program(engine(), module, links).instantiate()
        try:
            make = describe(module).functions["make"]
            assert await modules["guest_side"].make(instance, make) is things[0]
            assert len(instance.handles) == 0
        finally:
            instance.close()

    asyncio.run(run())


def test_an_interface_with_resources_is_not_imported_and_exported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.wit"
    path.write_text("resource thing\n")
    (interface,) = load_many([path])
    with pytest.raises(BackendError, match="can't both import and export 'x'"):
        python.write([interface], [interface])


def test_a_type_checker_finds_nothing_in_the_bindings_of_any_shape(tmp_path: Path) -> None:
    (tmp_path / "shapes.wit").write_text(SHAPES)
    things = (
        "resource thing { static new: func(it: mixed) -> thing\n join: func(others: list<thing>) -> option<thing> }\n"
    )
    for side, resource in (("host", "host-thing"), ("guest", "guest-thing")):
        text = f"use * from shapes\n{shapes()}{things.replace('thing', resource)}"
        (tmp_path / f"{side}-side.wit").write_text(text)
    imported, exported = load_many([tmp_path / "host-side.wit", tmp_path / "guest-side.wit"])
    package = tmp_path / "everything"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in python.write([imported], [exported]).items():
        (package / name).write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "-p", "everything"]
    search = {"MYPYPATH": f"{tmp_path}:{ROOT}", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **search}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
