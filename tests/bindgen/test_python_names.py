"""Names in the Python bindings that would meet: parameters, types, helpers, functions, files, and those of the host."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from bindgen.backends import python
from bindgen.backends.scope import Scope
from bindgen.runtime import Err, Ok, host_resource_imports
from bindgen.wit_parser import load_many
from slight_py.engine import Program, describe
from tests.bindgen import echo_c
from tests.bindgen.roundtrip import Caller, Case, Guest, bindings, engine

ROOT = Path(__file__).resolve().parents[2]


def case(directory: Path, types: str, functions: str) -> Case:
    return Case(directory, types, functions, echo_c.compile_echo)


def written(directory: Path, imports: dict[str, str], exports: dict[str, str] | None = None) -> dict[str, str]:
    """The Python modules of interfaces, given the text of each by its name, which may hold folders."""
    exports = exports or {}
    for name, text in (imports | exports).items():
        path = directory / f"{name}.wit"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    interfaces = load_many([directory / f"{name}.wit" for name in (*imports, *exports)])
    return python.write(interfaces[: len(imports)], interfaces[len(imports) :])


def test_a_scope_gives_no_name_twice_nor_one_from_around_it_or_within() -> None:
    outer = Scope(["taken"])
    inner = outer.nested(["here"])
    assert outer.claim("a", "taken") == "taken_"
    assert inner.claim("b", "taken_") == "taken__"
    assert inner.fresh("here", "there") == "there"
    assert outer.fresh("there") == "there_"
    assert outer.fresh("here") == "here"
    assert inner["a"] == outer.claim("a", "other") == "taken_"
    with pytest.raises(KeyError):
        outer["b"]


def test_a_parameter_named_like_the_flat_value_of_another_is_passed(tmp_path: Path) -> None:
    built = case(
        tmp_path,
        "",
        "text: func(x: string, x-length: u32, x-pointer: u32) -> tuple<string, u32, u32>\n",
    )

    async def body(call: Caller) -> None:
        assert await call("text", "hello", 11, 7) == ("hello", 11, 7)

    built.run(body)


def test_a_parameter_named_like_the_handle_of_another_is_passed(tmp_path: Path) -> None:
    (tmp_path / "host-side.wit").write_text("resource r { static new: func() -> r }\nf: func(q: r, q-handle: u32)\n")
    (imported,) = load_many([tmp_path / "host-side.wit"])
    modules = bindings(tmp_path, [imported], [])
    seen: list[Any] = []

    class Host:
        async def r_new(self) -> object:
            return "the resource"

        async def f(self, q: object, q_handle: int) -> None:
            seen.append((q, q_handle))

    module = engine().compile(
        bytes(
            wasmtime.wat2wasm("""(module
        (import "host-side" "r::new" (func $new (result i32)))
        (import "host-side" "f" (func $f (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "go") (call $f (call $new) (i32.const 99))))""")
        )
    )
    definitions = [*modules["host_side"].IMPORTS, *host_resource_imports("r")]

    async def run() -> None:
        links = {(each.module, each.name): (each, Host()) for each in definitions}
        instance = await Program(engine(), module, links).instantiate()
        try:
            await instance.call(describe(module).functions["go"], ())
        finally:
            instance.close()

    asyncio.run(run())
    assert seen == [("the resource", 99)]


def test_types_whose_helpers_would_have_one_name_have_their_own(tmp_path: Path) -> None:
    built = case(
        tmp_path,
        """
        record foo { s: string }
        record option-foo { a: u64, b: u64 }
        type a = u8
        record a-b { x: string }
        record b-c { y: u64 }
        record c { z: u16 }
        record aa { x: string }
        """,
        """
        options: func(x: list<option<foo>>, y: list<option-foo>) -> tuple<list<option<foo>>, list<option-foo>>
        expecteds: func(x: list<expected<a-b, c>>, y: list<expected<aa, b-c>>)
          -> tuple<list<expected<a-b, c>>, list<expected<aa, b-c>>>
        """,
    )
    types = built.modules["shapes"]

    async def body(call: Caller) -> None:
        options = [types.Foo("x"), None], [types.OptionFoo(1, 2)]
        assert await call("options", *options) == options

    built.run(body)


def test_helpers_of_two_types_with_one_slug_are_two(tmp_path: Path) -> None:
    files = written(
        tmp_path,
        {
            "api": """
            record a { p: string }
            record a-b { q: string }
            record b-c { r: u64 }
            record c { s: u16 }
            one: func(x: list<expected<a-b, c>>)
            other: func(x: list<expected<a, b-c>>)
            """
        },
    )
    text = files["api.py"]
    assert text.count("def _load_expected_a_b_c") == 2
    assert "lift.list(" in text
    assert "[_load_expected_a_b_c(lift, each)" in text
    assert "[_load_expected_a_b_c_(lift, each)" in text


def test_a_free_function_named_like_a_static_one_is_a_method_of_its_own(tmp_path: Path) -> None:
    files = written(
        tmp_path,
        {"api": "resource keyvalue { static open: func() -> u32 }\nkeyvalue-open: func(a: string) -> u32\n"},
    )
    text = files["api.py"]
    assert "    async def keyvalue_open(self, a: str) -> int:" in text
    assert "    async def keyvalue_open_(self) -> int:" in text
    assert "await host.keyvalue_open(a)" in text
    assert "await host.keyvalue_open_()" in text
    assert 'Import("api", "keyvalue::open", "", "i", _keyvalue_open_)' in text


def test_types_of_one_name_from_two_interfaces_are_told_apart(tmp_path: Path) -> None:
    files = written(
        tmp_path,
        {
            "api": """
            use { error } from e1
            use { error as e2-error } from e2
            f: func(a: error, b: e2-error) -> u8
            """,
            "e1": "record error { one: string }\n",
            "e2": "record error { two: u64 }\n",
        },
    )
    assert "from . import e1, e2\n" in files["api.py"]
    assert "async def f(self, a: e1.Error, b: e2.Error) -> int:" in files["api.py"]


@pytest.mark.parametrize("name", ["value", "at", "lift", "s0", "range", "list"])
def test_an_interface_named_like_a_variable_of_the_bindings_is_used(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.wit").write_text("variant shape { a(u8), b(string), c(list<string>) }\n")
    text = f"use {{ shape }} from %{name}\nf: func(at: shape, %list: list<shape>) -> tuple<shape, list<shape>>\n"
    for side in ("host-side", "guest-side"):
        (tmp_path / f"{side}.wit").write_text(text)
    imported, exported = load_many([tmp_path / "host-side.wit", tmp_path / "guest-side.wit"])
    built = Guest(tmp_path, [imported], [exported], echo_c.compile_echo)
    types = next(module for interface, module in built.module_of.items() if interface.name == name)
    shapes = [types.ShapeA(1), types.ShapeB("x"), types.ShapeC(["y", ""])]

    async def body(call: Caller) -> None:
        assert await call("f", shapes[1], shapes) == (shapes[1], shapes)

    built.run(body)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("p/types", "q/types"), ["types.py", "types_.py"]),
        (("a-b", "a_b"), ["a_b.py", "a_b_.py"]),
        (("class", "other"), ["class_.py", "other.py"]),
    ],
)
def test_every_interface_has_a_file_of_its_own(names: tuple[str, str], expected: list[str], tmp_path: Path) -> None:
    files = written(tmp_path, {names[0]: "f: func(a: u8)\n", names[1]: "g: func(a: u8)\n"})
    assert sorted(files) == expected
    assert sum("async def f(" in text for text in files.values()) == 1
    assert sum("async def g(" in text for text in files.values()) == 1


def load(directory: Path, files: dict[str, str]) -> dict[str, Any]:
    package = directory / f"names_{abs(hash(str(directory)))}"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in files.items():
        (package / name).write_text(text)
    sys.path.insert(0, str(directory))
    try:
        return {name[:-3]: importlib.import_module(f"{package.name}.{name[:-3]}") for name in files}
    finally:
        sys.path.remove(str(directory))


def test_labels_that_are_one_word_in_capitals_are_two_members(tmp_path: Path) -> None:
    modules = load(tmp_path, written(tmp_path, {"api": "enum street { ß, ss }\nf: func(a: street)\n"}))
    assert [(member.name, member.value) for member in modules["api"].Street] == [("SS", 0), ("SS_", 1)]


def test_a_variant_of_thousands_of_cases_can_be_imported(tmp_path: Path) -> None:
    cases = ", ".join(f"c{number}(u8)" for number in range(3000))
    modules = load(tmp_path, written(tmp_path, {"api": f"variant many {{ {cases} }}\nf: func(a: many)\n"}))
    assert modules["api"].ManyC2999(5).value == 5


@pytest.mark.parametrize("name", ["b", "東-京", "東京"])
def test_a_type_and_an_exported_function_may_have_one_name(name: str, tmp_path: Path) -> None:
    built = case(tmp_path, "", f"record {name} {{ v: u8 }}\n{name}-two: func(a: {name}) -> {name}\n")
    assert built.functions == [f"{name}-two"]
    files = written(tmp_path / "alone", {}, {"api": f"record {name} {{ v: u8 }}\n{name}: func(a: {name}) -> {name}\n"})
    module = load(tmp_path, files)["api"]
    definitions = [value for value in vars(module).values() if isinstance(value, module.Export)]
    assert [each.name for each in definitions] == [name]
    assert len([value for value in vars(module).values() if inspect.iscoroutinefunction(value)]) == 1
    assert len([value for value in vars(module).values() if isinstance(value, type) and hasattr(value, "v")]) == 1


CHECKED = """
type flat-alias = u32
record flat { int: s32, str: string, next: s32, %list: list<u8>, %bool: bool }
enum %float { %tuple, bytes }
resource thing { static new: func() -> thing   %list: func(a: %float) -> string   str: func() -> flat }
handles: func(a: option<thing>, b: list<option<thing>>, flat: thing) -> option<thing>
plain: func(answer: u32, result: u64) -> u64
pair: func(answer: tuple<u32, flat>) -> tuple<u32, flat>
nested: func(a: list<expected<thing, flat>>) -> expected<list<thing>, %float>
lists: func(a: list<list<string>>, b: list<list<flat>>, each: list<tuple<u8, string>>)
  -> tuple<list<list<string>>, list<option<list<flat>>>>
"""


def test_a_type_checker_finds_nothing_where_names_are_those_of_python(tmp_path: Path) -> None:
    package = tmp_path / "checked"
    package.mkdir()
    (package / "__init__.py").touch()
    exported = CHECKED.replace("thing", "other")
    for name, text in written(tmp_path, {"api": CHECKED}, {"guest": exported}).items():
        (package / name).write_text(text)
    search = {"MYPYPATH": f"{tmp_path}:{ROOT}", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "-p", "checked"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **search}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


WRONG = """
enum color { red, green }
variant shape { dot, line(u32) }
type outcome = expected<string, u32>
"""


@pytest.mark.parametrize(
    ("result", "answer", "message"),
    [
        ("outcome", "a text", "a value of type str where Ok or Err is expected"),
        ("list<expected<unit, unit>>", [5], "a value of type int where Ok or Err is expected"),
        ("tuple<u8, expected<string, u32>>", (1, None), "a value of type NoneType where Ok or Err is expected"),
        ("option<expected<unit, u8>>", 3, "a value of type int where Ok or Err is expected"),
        ("color", 2, "2 is not a valid Color"),
        ("list<color>", [0, 9], "9 is not a valid Color"),
        ("shape", 4, "a value of type int where a case of shape is expected"),
    ],
)
def test_a_result_of_a_wrong_type_is_refused_in_words(
    result: str, answer: object, message: str, tmp_path: Path
) -> None:
    built = case(tmp_path, WRONG, f"f: func(a: {result}) -> {result}\n")
    types = built.modules["shapes"]
    good: dict[str, Callable[[], object]] = {
        "outcome": lambda: Ok("x"),
        "list<expected<unit, unit>>": lambda: [Err(None)],
        "tuple<u8, expected<string, u32>>": lambda: (1, Ok("")),
        "option<expected<unit, u8>>": lambda: Err(3),
        "color": lambda: types.Color.RED,
        "list<color>": lambda: [types.Color.RED],
        "shape": lambda: types.ShapeDot(),
    }

    class Host:
        async def f(self, _a: object) -> object:
            return answer

    async def body(call: Caller) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            await call("f", good[result]())

    built.run(body, Host())
