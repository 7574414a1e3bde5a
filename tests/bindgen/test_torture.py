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
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bindgen.backends.c_names import functions_of
from bindgen.backends.python_names import method_names
from bindgen.wit_parser.model import (
    Enum,
    Flags,
    Function,
    FunctionKind,
    Interface,
    Resource,
    TypeDef,
    is_unit,
    unaliased,
)
from tests.bindgen import echo_c, echo_rust
from tests.bindgen.roundtrip import Caller, Compile, Guest, export_names, pairs
from tests.bindgen.torture import LANGUAGES, Torture, everywhere, files, own_resources, words
from tests.bindgen.values import HostResource, same, values

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

    def _words(self, language: str) -> list[str]:
        return words(language, self._directory / f"words-{language}")

    def _guest(self, language: str, place: str) -> Guest:
        directory = self._directory / language / place
        directory.mkdir(parents=True)
        imports, exports = PLACES[place](self.words(language)).load(directory)
        return Guest(directory, imports, exports, GUESTS[language])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("torture"))


def some(strategy: st.SearchStrategy[Any], count: int, use: Callable[[Any], None]) -> None:
    """Calls `use` with a few examples, always the same."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def call(example: Any) -> None:
        use(example)

    call()


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


def check_types(package: Path) -> None:
    """Asserts that a type checker finds nothing in the Python modules of a folder, at its strictest."""
    search = {"MYPYPATH": f"{package.parent}:{ROOT}", "MYPY_CACHE_DIR": str(package.parent / "cache")}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "-p", package.name]
    environment = {**os.environ, **search}
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_language_may_be_a_name(language: str, place: str, build: Build) -> None:
    check_calls(build.guest(language, place))


@pytest.mark.parametrize("place", PLACES)
def test_a_type_checker_finds_nothing_where_names_are_words_of_python(place: str, build: Build) -> None:
    guest = build.guest("python", place)
    check_types(guest.package)


# Single names, each of which was once taken for something else.


def check_torture(language: str, interfaces: Torture, directory: Path) -> Guest:
    """Builds interfaces for a guest in a language, and calls all their functions."""
    guest = Guest(directory, *interfaces.load(directory), GUESTS[language])
    check_calls(guest)
    return guest


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
