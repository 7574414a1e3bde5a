"""Round trips through real guests: a guest hands every argument on to an import of the same shape, and back.

A case is a list of WIT functions over some types. From it come three interfaces (the types, the functions as imports,
the functions as exports), the host's bindings in Python, and a guest in C or in Rust which is nothing but those calls.
"""

from __future__ import annotations

import asyncio
import importlib
import keyword
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bindgen import runtime
from bindgen.backends import interfaces_of, python, python_names
from bindgen.backends.python_names import snake
from bindgen.plan import ABI
from bindgen.runtime import guest_resource_imports, host_resource_imports
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Function, Interface, functions_of
from slight_py import wasi
from slight_py.engine import Engine, Instance, Limits, Program, describe
from slight_py.linker import Links

FORMS = ("C", "Python")
"""The two forms of what lifts and lowers, bindgen/runtime/_support.c and bindgen/runtime."""


def lift_and_lower(form: str) -> tuple[Any, Any]:
    """The classes of one form."""
    assert runtime.Lift is not runtime.PureLift, "bindgen/runtime/_support.c is not built: pip install --editable ."
    return (runtime.Lift, runtime.Lower) if form == "C" else (runtime.PureLift, runtime.PureLower)


def use_form(form: str, modules: Iterable[ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has generated modules lift and lower in that form."""
    for module in modules:
        for name, found in zip(("Lift", "Lower"), lift_and_lower(form), strict=True):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, found)


Compile = Callable[[Sequence[Interface], Sequence[Interface], Path], Path]
"""Builds the guest of imported and exported interfaces in a directory; returns the module."""

_engine: Engine | None = None


def engine() -> Engine:
    """One engine for all tests: its pool reserves a lot of address space."""
    global _engine
    _engine = _engine or Engine(Limits(memory=64 << 20, instances=20))
    return _engine


def parse(directory: Path, types: str, functions: str) -> tuple[Interface, Interface]:
    """The functions as an imported and as an exported interface."""
    uses = "use * from shapes\n" if types else ""
    (directory / "shapes.wit").write_text(types)
    (directory / "host-side.wit").write_text(uses + functions)
    (directory / "guest-side.wit").write_text(uses + functions)
    imported, exported = load_many([directory / "host-side.wit", directory / "guest-side.wit"])
    return imported, exported


def pairs(imports: Iterable[Interface], exports: Iterable[Interface]) -> list[tuple[Function, Function]]:
    """What an echo calls, and what it exports: the functions of imported and exported interfaces, in their order."""
    called, exported = ([each for one in some for each in functions_of(one)] for some in (imports, exports))
    return list(zip(called, exported, strict=True))


def export_names(exports: Sequence[Interface]) -> dict[Function, str]:
    """What an echo exports its functions as: the names have to differ also where there are several interfaces."""
    prefixes = {interface: f"{interface.name}/" if len(exports) > 1 else "" for interface in exports}
    return {each: prefixes[interface] + ABI.name(each) for interface in exports for each in functions_of(interface)}


class Guest:
    """The bindings of both sides for some interfaces, and a guest between them that is an echo."""

    def __init__(
        self, directory: Path, imports: Sequence[Interface], exports: Sequence[Interface], compile_guest: Compile
    ) -> None:
        self.imports, self.exports = imports, exports
        self.wasm = compile_guest(imports, exports, directory)
        self.modules = bindings(directory, imports, exports)
        self.package = directory / f"generated_{_packages}"
        """Where the Python modules are."""
        stems = python_names.name_modules(interfaces_of(imports, exports))
        self.module_of = {interface: self.modules[stem] for interface, stem in stems.items()}
        self.module = engine().compile(self.wasm.read_bytes())
        self.host: object = Echo()
        self._functions = describe(self.module).functions
        self._callables = self._by_export(stems)
        self._program = Program(engine(), self.module, self._links())

    def _by_export(self, stems: Mapping[Interface, str]) -> dict[str, Callable[..., Awaitable[Any]]]:
        """What calls each function, by the name that it is exported as."""
        found = {}
        exported_as = export_names(self.exports)
        for interface in self.exports:
            names = python_names.Names(interface, stems, self.exports)
            for function in functions_of(interface):
                found[exported_as[function]] = getattr(self.module_of[interface], names.exported(function))
        return found

    def _links(self) -> Links:
        definitions = [each for interface in self.imports for each in self.module_of[interface].IMPORTS]
        for module in self.modules.values():
            for name in getattr(module, "RESOURCES", ()):
                definitions += host_resource_imports(name)
            for name in getattr(module, "GUEST_RESOURCES", ()):
                definitions += guest_resource_imports(name)
        # What is written in an interpreted language has an engine in it, which wants WASI.
        system: Links = {(each.module, each.name): (each, None) for each in wasi.IMPORTS}
        return {**system, **{(each.module, each.name): (each, Answering(self)) for each in definitions}}

    def run(self, body: Callable[[Caller], Awaitable[None]], host: object | None = None) -> None:
        """Runs `body` with an instance of the guest. `host` answers its imports: by default each with its argument."""
        self.host = host or Echo()
        asyncio.run(self._run(body))

    async def _run(self, body: Callable[[Caller], Awaitable[None]]) -> None:
        async with asyncio.timeout(60):
            instance = await self._program.instantiate(None, reused=True)
            try:
                if "_initialize" in self._functions:
                    await instance.call(self._functions["_initialize"], ())
                await body(Caller(instance, self._functions, self._callables))
            finally:
                instance.close()


class Case(Guest):
    """Some functions over some types, given in WIT, and their guest."""

    def __init__(self, directory: Path, types: str, functions: str, compile_guest: Compile) -> None:
        self.imported, self.exported = parse(directory, types, functions)
        super().__init__(directory, [self.imported], [self.exported], compile_guest)

    @property
    def functions(self) -> list[str]:
        return [function.name for function in self.exported.functions]


class Caller:
    """Calls the guest's exports by the names that they are exported as."""

    def __init__(
        self, instance: Instance, functions: Mapping[str, Any], callables: Mapping[str, Callable[..., Awaitable[Any]]]
    ) -> None:
        self.instance = instance
        self._functions = functions
        self._callables = callables

    async def __call__(self, name: str, *arguments: Any) -> Any:
        return await self._callables[name](self.instance, self._functions[name], *arguments)

    async def live_blocks(self) -> int:
        """How many blocks of memory the guest holds."""
        return int(await self.instance.call(self._functions["live-blocks"], ()))


def in_python(name: str) -> str:
    """What a generated module calls an exported function, where nothing else has that name."""
    text = snake(name.replace("::", "-"))
    return f"{text}_" if keyword.iskeyword(text) else text


class Answering:
    """Answers as the host does that a case runs with at the moment, so that it's linked once."""

    def __init__(self, case: Guest) -> None:
        self._case = case

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case.host, name)


class Echo:
    """A host that answers every function with its argument, or with all of them as a tuple."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("__"):
            raise AttributeError(name)

        async def answer(*arguments: Any) -> Any:
            return arguments[0] if len(arguments) == 1 else arguments

        return answer


_packages = 0


def bindings(directory: Path, imports: Sequence[Interface], exports: Sequence[Interface]) -> dict[str, ModuleType]:
    """Writes host bindings, and imports them; returns the modules by name."""
    global _packages
    _packages += 1
    package = f"generated_{_packages}"
    home = directory / package
    home.mkdir()
    (home / "__init__.py").touch()
    files = python.write(imports, exports)
    for name, text in files.items():
        (home / name).write_text(text)
    sys.path.insert(0, str(directory))
    try:
        return {name[:-3]: importlib.import_module(f"{package}.{name[:-3]}") for name in files}
    finally:
        sys.path.remove(str(directory))


def modules_of(
    directory: Path, imports: Sequence[Interface], exports: Sequence[Interface]
) -> dict[Interface, ModuleType]:
    """Writes host bindings, and imports them; returns the modules by the interfaces that they are of."""
    modules = bindings(directory, imports, exports)
    stems = python_names.name_modules(interfaces_of(imports, exports))
    return {interface: modules[stem] for interface, stem in stems.items()}
