"""Names that mean something in a language, or in generated text: bindings hold, whatever an interface calls its things.

What is generated for them is compiled, with no warning, and values go through it and back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from bindgen.backends.python_names import method_names
from bindgen.wit_parser.model import Function, FunctionKind, is_unit
from tests.bindgen import echo_c, echo_rust
from tests.bindgen.roundtrip import Caller, Compile, Guest, export_names, pairs
from tests.bindgen.torture import (
    LANGUAGES,
    Torture,
    Words,
    combined,
    combined_resources,
    everywhere,
    files,
    own_resources,
    words,
)
from tests.bindgen.values import HostResource, same, some, values

ROOT = Path(__file__).resolve().parents[2]

GUESTS: dict[str, Compile] = {
    "python": echo_c.compile_echo,
    "c": echo_c.compile_echo,
    "rust": echo_rust.compile_echo,
}
"""What the guest is written in that the words of a language are for. Hosts are in Python, whatever the words."""

PLACES: dict[str, Callable[[Sequence[str]], Torture]] = {
    "everywhere": everywhere,
    "own": own_resources,
    "files": files,
}
"""Where the words stand, by the name of a package of bindings."""


class Build:
    """What is built for the words of each language, once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.words = cache(self._words)
        self.guest = cache(self._guest)

    def _words(self, language: str) -> Words:
        return words(language, self._directory / f"words-{language}")

    def _guest(self, language: str, place: str) -> Guest:
        directory = self._directory / language / place
        directory.mkdir(parents=True)
        imports, exports = PLACES[place](self.words(language).whole).load(directory)
        return Guest(directory, imports, exports, GUESTS[language])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("torture"))


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def check_calls(guest: Guest) -> None:
    """Asserts that each function of the guest reaches the one of the host that it stands for, and values come back."""
    exported_as = export_names(guest.exports)
    methods = {key: name for interface in guest.imports for key, name in method_names(interface).items()}
    strategy = cache(partial(values, modules=guest.module_of))
    for chunk in chunks(pairs(guest.imports, guest.exports), 40):
        shapes = [[strategy(param.type) for param in function.params] for _, function in chunk]

        def run(arguments: Sequence[tuple[Any, ...]], chunk: Sequence[tuple[Function, Function]] = chunk) -> None:
            async def body(call: Caller) -> None:
                own = None
                before = await call.live_blocks()
                for (called, function), passed in zip(chunk, arguments, strict=True):
                    host.called.clear()
                    given = passed
                    if function.kind is FunctionKind.METHOD:
                        given = (own, *passed)
                    answer = await call(exported_as[function], *given)
                    if called.kind is FunctionKind.METHOD:
                        resource, *passed = passed
                        assert resource.called == [methods[called]]
                    else:
                        assert host.called == [methods[called]]
                    if is_unit(called.result):
                        own = answer
                    else:
                        assert same(answer, tuple(passed)), function
                    if function.kind is FunctionKind.METHOD:
                        await own.drop()
                assert await call.live_blocks() == before

            host = HostResource()
            guest.run(body, host)

        some(st.tuples(*(st.tuples(*shape) for shape in shapes)), 2, run)


def check_types(*packages: Path) -> None:
    """Asserts that a type checker finds nothing in the Python modules of some folders, at its strictest."""
    search = ":".join(str(place) for place in (*(package.parent for package in packages), ROOT))
    cache_of_all = str(packages[0].parents[1] / "cache")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", cache_of_all]
    command += [part for package in packages for part in ("-p", package.name)]
    environment = {**os.environ, "MYPYPATH": search}
    done = subprocess.run(command, cwd=packages[0].parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def check_torture(language: str, interfaces: Torture, directory: Path) -> Guest:
    """Builds interfaces for a guest in a language, and calls all their functions."""
    guest = Guest(directory, *interfaces.load(directory), GUESTS[language])
    check_calls(guest)
    return guest


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_language_may_be_a_name(language: str, place: str, build: Build) -> None:
    check_calls(build.guest(language, place))


@pytest.mark.parametrize("place", PLACES)
def test_a_type_checker_finds_nothing_where_names_are_words_of_python(place: str, build: Build) -> None:
    guest = build.guest("python", place)
    check_types(guest.package)


@pytest.mark.parametrize("make", [combined, combined_resources])
@pytest.mark.parametrize("language", LANGUAGES)
def test_names_that_are_alike_or_made_of_one_another_are_kept_apart(
    language: str,
    make: Callable[[Random, Words, int], Torture],
    build: Build,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    packages: list[Path] = []

    def check(random: Random) -> None:
        interfaces = make(random, build.words(language), 5)
        packages.append(check_torture(language, interfaces, tmp_path_factory.mktemp("alike")).package)

    some(st.randoms(use_true_random=True), 2, check)
    check_types(*packages)


# Single names, each of which was once taken for something else.


def alike(functions: str, types: str = "") -> Torture:
    """Functions that a guest imports and exports, over types that both have."""
    return Torture({"host-side": types + functions}, {"guest-side": types + functions})


def test_a_method_of_a_rust_resource_may_be_called_type_id(tmp_path: Path) -> None:
    interfaces = Torture(
        {"host": "open: func()\ntype-id: func(a: string) -> tuple<string>\n"},
        {"guest": "resource r { static open: func() -> r   type-id: func(a: string) -> tuple<string> }\n"},
    )
    check_torture("rust", interfaces, tmp_path)


def test_rust_modules_named_like_crates_hide_none(tmp_path: Path) -> None:
    texts = {name: f"{name}: func(a: string) -> tuple<string>\n" for name in ("alloc", "core", "std")}
    check_torture("rust", Torture(texts, texts), tmp_path)


def test_a_type_checker_takes_exports_for_nothing_that_python_modules_use(tmp_path: Path) -> None:
    functions = """
    annotations: func(a: list<list<string>>) -> tuple<list<list<string>>>
    memoryview: func(a: list<list<string>>) -> tuple<list<list<string>>>
    """
    check_types(check_torture("python", alike(functions), tmp_path).package)


def test_a_python_module_is_found_by_the_normal_form_of_its_name(tmp_path: Path) -> None:
    used = {"ª": "record ﬁ { a: string }\n"}
    functions = "use * from ª\nf: func(a: ﬁ) -> tuple<ﬁ>\n"
    check_torture("python", Torture({"host-side": functions}, {"guest-side": functions}, used), tmp_path)


def test_a_type_checker_tells_a_method_from_an_imported_type_of_its_name(tmp_path: Path) -> None:
    used = {"types": "record 東京 { a: string }\n"}
    functions = "use * from types\n東京: func(a: 東京) -> tuple<東京>\nf: func(a: 東京) -> tuple<東京>\n"
    interfaces = Torture({"host-side": functions}, {"guest-side": functions}, used)
    check_types(check_torture("python", interfaces, tmp_path).package)


def own(*resources: str) -> Torture:
    """Resources of a guest, each with one static function and one method."""
    return Torture(
        {"host": "".join(f"open-{name}: func()\nm-{name}: func() -> tuple<>\n" for name in resources)},
        {
            "guest": "".join(
                f"resource {name} {{ static open: func() -> {name}   m: func() -> tuple<> }}\n" for name in resources
            )
        },
    )


@pytest.mark.parametrize("names", [("i", "ı", "guest-i"), ("ǅ", "ǆ")])
def test_each_resource_of_a_rust_guest_has_its_own_trait_and_destructor(names: tuple[str, ...], tmp_path: Path) -> None:
    check_torture("rust", own(*names), tmp_path)


def test_parameters_that_are_one_in_lower_case_have_their_own_flat_values(tmp_path: Path) -> None:
    text = alike("f: func(ǅ: string, ǆ: string, ǅ-len: option<u8>) -> tuple<string, string, option<u8>>\n")
    for language in GUESTS:
        (tmp_path / language).mkdir()
        check_torture(language, text, tmp_path / language)


KNOWN = """
record fields { int: s32, other: s32 }
enum letters { ß, ss }
variant bare { a, b }
f: func(x: string, x-length: u32) -> tuple<string, u32>
slots: func(slots: bare, other: option<u8>) -> tuple<bare, option<u8>>
words: func(a: letters, b: fields) -> tuple<letters, fields>
q: func(r: held, r-handle: u32) -> tuple<held, u32>
flat: func(flat: held) -> tuple<held>
"""


@pytest.mark.parametrize("language", GUESTS)
def test_parameters_named_like_what_others_travel_as_are_passed(language: str, tmp_path: Path) -> None:
    interfaces = Torture(
        {"host-side": f"resource held\n{KNOWN}"}, {"guest-side": f"use {{ held }} from host-side\n{KNOWN}"}
    )
    check_types(check_torture(language, interfaces, tmp_path).package)
