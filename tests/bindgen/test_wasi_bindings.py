"""The host bindings of WASI's interfaces, which are generated and committed."""

from __future__ import annotations

import importlib
import shlex
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from bindgen.backends import python
from bindgen.structure import type_text
from bindgen.wit_packages import load_package
from bindgen.wit_parser.model import Interface
from tests.bindgen.component_types import sides_of

ROOT = Path(__file__).resolve().parents[2]
BINDINGS = ROOT / "capabilities" / "bindings"
WASI = ROOT / "wit" / "wasi"


def listed() -> list[tuple[str, dict[str, list[str]]]]:
    """What `make bindings` writes: a package, and the options that say what of it."""
    show = ["make", "--no-print-directory", "--eval", "show: ; @echo '$(WASI)'", "show"]
    words = shlex.split(subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    found = []
    for word in words:
        package, _, options = word.partition(":")
        chosen: dict[str, list[str]] = {"world": [], "interface": [], "features": []}
        for option in options.split(","):
            name, _, value = option.removeprefix("--").partition("=")
            chosen[name].append(value)
        found.append((package, chosen))
    return found


def interfaces(package: str, chosen: dict[str, list[str]]) -> tuple[list[Interface], list[Interface]]:
    loaded = load_package(WASI / package, [WASI], chosen["features"])
    if chosen["interface"]:
        return [loaded.interface(name) for name in chosen["interface"]], []
    return sides_of(loaded.world(*chosen["world"]))


@cache
def generated() -> dict[str, str]:
    """The files of all packages, by their paths. Where two lists have a file, they agree about it."""
    files: dict[str, str] = {}
    for each in listed():
        for path, text in python.write(*interfaces(*each)).items():
            assert files.setdefault(path, text) == text, path
    return files


def module(path: str) -> ModuleType:
    return importlib.import_module(f"capabilities.bindings.{path}")


def test_the_committed_bindings_are_what_the_interfaces_give() -> None:
    committed = {str(path.relative_to(BINDINGS)): path.read_text() for path in BINDINGS.glob("wasi_*/*.py")}
    assert committed.keys() == generated().keys()
    assert [path for path, text in generated().items() if committed[path] != text] == []


def test_there_are_bindings_of_every_package() -> None:
    folders = {path.parent.name for path in BINDINGS.glob("wasi_*/*.py")}
    assert len(folders) == len([path for path in WASI.iterdir() if path.is_dir()])
    assert {"wasi_io_0_2", "wasi_http_0_3", "wasi_keyvalue_0_2_0_draft2", "wasi_config_0_2_0_rc_1"} <= folders


# What hosts are written against, worked out by hand from the WIT and the specification.

IMPORTS = [
    (
        "wasi_io_0_2.streams",
        "[method]input-stream.read",
        ("iIi", ""),
        "func(self: borrow<wasi:io/streams/input-stream>, len: u64) -> "
        "result<list<u8>, variant{last-operation-failed(own<wasi:io/error/error>), closed}>",
    ),
    ("wasi_io_0_2.poll", "poll", ("iii", ""), "func(in: list<borrow<wasi:io/poll/pollable>>) -> list<u32>"),
    ("wasi_http_0_2.types", "[constructor]fields", ("", "i"), "func() -> own<wasi:http/types/fields>"),
    (
        "wasi_http_0_2.types",
        "[static]outgoing-body.finish",
        # own<outgoing-body>, option<own<fields>>, and where the result goes.
        ("iiii", ""),
        None,
    ),
    ("wasi_clocks_0_2.wall_clock", "now", ("i", ""), "func() -> record{seconds: u64, nanoseconds: u32}"),
    (
        "wasi_keyvalue_0_2_0_draft2.atomics",
        "increment",
        ("iiiIi", ""),
        "func(bucket: borrow<wasi:keyvalue/store/bucket>, key: string, delta: s64) -> "
        "result<s64, variant{no-such-store, access-denied, other(string)}>",
    ),
    ("wasi_random_0_3.random", "get-random-bytes", ("Ii", ""), "func(max-len: u64) -> list<u8>"),
    ("wasi_clocks_0_3.monotonic_clock", "wait-for", ("I", ""), "async func(how-long: u64)"),
]


@pytest.mark.parametrize(("path", "name", "core", "type_"), IMPORTS, ids=[each[1] for each in IMPORTS])
def test_an_import_has_the_type_of_the_specification(
    path: str, name: str, core: tuple[str, str], type_: str | None
) -> None:
    (found,) = [each for each in module(path).IMPORTS if each.name == name]
    assert (found.params, found.result) == core
    assert type_ is None or found.type == type_
    assert found.module == module(path).INTERFACE


def test_asynchronous_functions_and_no_others_can_be_called_with_async() -> None:
    for path in generated():
        for each in getattr(module(path.removesuffix(".py").replace("/", ".")), "IMPORTS", ()):
            assert (each.call_async is not None) == each.type.startswith("async func"), (path, each.name)
    (wait,) = [each for each in module("wasi_clocks_0_3.monotonic_clock").IMPORTS if each.name == "wait-for"]
    assert wait.call_async.params == "I"
    (send,) = [each for each in module("wasi_http_0_3.client").IMPORTS if each.name == "send"]
    assert send.call_async.params == "ii"  # own<request>, and where the result goes


def test_exports_say_which_interface_they_are_of() -> None:
    (handle,) = module("wasi_http_0_2.incoming_handler").EXPORTS
    assert (handle.module, handle.name) == ("wasi:http/incoming-handler@0.2.12", "handle")
    assert (handle.params, handle.result) == ("ii", "")
    assert handle.type == (
        "func(request: own<wasi:http/types/incoming-request>, response-out: own<wasi:http/types/response-outparam>)"
    )
    (run,) = module("wasi_cli_0_2.run").EXPORTS
    assert (run.name, run.params, run.result, run.type) == ("run", "", "i", "func() -> result<_, _>")


def test_resources_have_keys_without_versions() -> None:
    assert module("wasi_io_0_2.streams").RESOURCES == ("wasi:io/streams/input-stream", "wasi:io/streams/output-stream")


def test_the_texts_of_a_module_are_those_of_its_interface() -> None:
    """The generated texts are put together from constants: what comes out is what the text of the whole type is."""
    imports, _ = interfaces("http-0.2", {"world": ["proxy"], "interface": [], "features": []})
    types = next(each for each in imports if each.id == "wasi:http/types@0.2.12")
    (error_code,) = [each for each in types.types if each.name == "error-code"]
    assert type_text(error_code) == module("wasi_http_0_2.types").ERROR_CODE_TYPE
