"""Names in the generated modules of packages: folders, constants, and what would hide something else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bindgen.backends import BackendError, python
from bindgen.backends.python_names import name_package
from bindgen.wit_packages import load_package
from bindgen.wit_parser.model import Package, Primitive
from tests.bindgen.component_types import modules_of_text, sides_of
from tests.bindgen.specification import Guest


@pytest.mark.parametrize(
    ("version", "folder"),
    [
        ("0.2.12", "wasi_io_0_2"),
        ("0.2.0", "wasi_io_0_2"),
        ("1.4.2", "wasi_io_1"),
        ("12.0.0", "wasi_io_12"),
        ("0.2.0-draft2", "wasi_io_0_2_0_draft2"),
        ("0.2.0-rc.1", "wasi_io_0_2_0_rc_1"),
        ("0.2.0+build-5", "wasi_io_0_2"),
        ("0.2.0-rc.1+build", "wasi_io_0_2_0_rc_1"),
        (None, "wasi_io"),
    ],
)
def test_versions_that_go_together_have_one_folder(version: str | None, folder: str) -> None:
    assert name_package(Package("wasi", "io", version)) == folder


AWKWARD = """
package my:%import@1.0.0;

interface types {
  resource guest { }
  record lift { lower: u8, value: string }
  enum payload { %interface, imports }
  variant err { ok, err(lift) }
  flags guest-key { lift-type }
}

interface %class {
  use types.{guest, lift, payload, err, guest-key};
  resource types { constructor(lift: lift); %self: func(%self: borrow<guest>, guest: string) -> string; }
  lower: func(lift: lift, lower: payload, memory: string, result-at: u8) -> result<lift, err>;
  isinstance: func(len: string, args: list<string>, host: guest-key) -> list<lift>;
  lower-answer: async func(answer: string, work: u8, lower-answer: u8) -> string;
  signed: func(lift: s8) -> s8;
  %interface: func(guest: own<guest>) -> string;
}

interface exports {
  use types.{lift, err};
  %export: func(guest: string, %export: string) -> result<lift, err>;
  exports: async func(lift: string, s0: u8) -> result<string, err>;
}

world all { import %class; export exports; }
"""


class Host:
    """Answers with its first argument, or with what the test gave it."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any) -> Any:
            return args[0] if self.answer is None else self.answer

        return method


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


def test_names_that_the_module_uses_itself_may_be_used(directory: Path) -> None:
    modules = modules_of_text(AWKWARD, directory)
    found = modules["class_"]
    functions = {each.name: each for each in found.IMPORTS}
    guest = Guest()

    def call(name: str, *args: Any, answer: Any = None) -> Any:
        return asyncio.run(functions[name].call(Host(answer), guest, args))

    assert call("signed", 0xFF) == 0xFFFF_FFFF
    word = guest.place(Primitive.STRING, "word")
    index = guest.handles.add("my:import/types/guest", "text", "")
    call("interface", index, 0x100)
    assert guest.load(Primitive.STRING, 0x100) == "text"
    call("lower", 7, *word, 1, *word, 5, 0x100)
    assert guest.data[0x100] == 0
    assert guest.data[0x104] == 7
    me = guest.handles.add("my:import/class/types", Host("mine"), "")
    index = guest.handles.add("my:import/types/guest", "text", "")
    call("[method]types.self", me, index, *word, 0x100)
    assert guest.load(Primitive.STRING, 0x100) == "mine"
    call("isinstance", *word, 0x100, 0, 1, 0x200, answer=[])
    assert guest.data[0x204:0x208] == bytes(4)
    exported = modules["exports"]
    assert [each.name for each in exported.EXPORTS] == ["export", "exports"]


def test_what_python_has_is_not_hidden_by_parameters(directory: Path) -> None:
    text = """
    package my:builtins;
    interface all { f: func(len: u8, %type: u8, class: u8, self: u8, other: u8) -> u8; }
    world one { import all; }
    """
    found = modules_of_text(text, directory)["all"]
    names = found.AllHost.f.__code__.co_varnames
    assert names == ("self", "len_", "type_", "class_", "self_", "other")
    assert found.IMPORTS[0].type == "func(len: u8, type: u8, class: u8, self: u8, other: u8) -> u8"


def test_the_runtime_may_have_another_name(directory: Path) -> None:
    path = directory / "one.wit"
    path.write_text("package my:one; interface i { f: func(); } world w { import i; }")
    (text,) = [
        text
        for name, text in python.write(*sides_of(load_package(path).world()), runtime="my.runtime").items()
        if name == "my_one/i.py"
    ]
    assert "from my.runtime.component import Guest, Import\n" in text


def test_resources_that_a_component_exports_are_refused(directory: Path) -> None:
    path = directory / "one.wit"
    path.write_text("package my:one; interface i { resource r { } } world w { export i; }")
    with pytest.raises(BackendError, match=r"my:one/i: a guest's own resources are not supported yet"):
        python.write(*sides_of(load_package(path).world()))


def test_generated_modules_are_typed(directory: Path) -> None:
    """What a type checker says of a module with everything that there is, and of another package that it uses."""
    folder = directory / "typed"
    folder.mkdir()
    (folder / "shop.wit").write_text("""
    package my:typed@0.1.0;
    interface types { resource r { make: static func() -> option<r>; } variant e { a, b(list<option<string>>) } }
    interface all {
      use types.{r, e};
      record wide { a: option<option<u8>>, b: result<_, e>, c: tuple<f32, char>, d: list<bool> }
      flags many { a, b }
      nested: func(a: wide, b: many, c: list<list<r>>) -> result<list<wide>, e>;
      bare: func() -> result;
      streams: func(a: stream<wide>, b: future<u8>, c: stream, d: future)
        -> tuple<stream<r>, future<result<r, e>>, stream>;
      wait: async func(a: borrow<r>, b: wide) -> option<r>;
    }
    world w { import all; }
    """)
    for path, text in python.write(*sides_of(load_package(folder).world())).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    root = Path(__file__).resolve().parents[2]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml", folder / "my_typed_0_1"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
