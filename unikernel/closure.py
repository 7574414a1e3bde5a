"""Which Python modules go into an image: those that its roots import, and what these import in their turn.

The imports are read from the sources, those inside of functions as well, and nothing is run. An import is *outright*
where the module that has it can't be imported without it. It is *optional* inside of a function, and in a `try` that
catches its failure. What is imported outright goes in. What is optional goes in unless `CUTS` has it, or it belongs
to a package that the application does not depend on but somebody happened to install.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from re import match, sub

CUTS: Mapping[str, str] = {
    "argparse": "command lines; the machine has none",
    "bdb": "a debugger",
    "bz2": "compressed files; none are read",
    "code": "an interactive interpreter",
    "concurrent.futures.process": "processes; the machine has one",
    "ctypes.macholib": "the loader of another system",
    "ctypes.test": "tests",
    "ctypes.util": "looks for libraries with a compiler",
    "dis": "shows bytecode to a person",
    "doctest": "tests",
    "email": "messages of mail and of package metadata",
    "ftplib": "a protocol that nothing here speaks",
    "getopt": "command lines",
    "getpass": "asks a person",
    "gettext": "translations; there are none",
    "gzip": "compressed files; none are read",
    "http.client": "a blocking client",
    "importlib.metadata": "installed packages; an image has none, unless it is granted one's capability",
    "importlib.readers": "data files of packages",
    "importlib.resources": "data files of packages",
    "lzma": "compressed files; none are read",
    "multiprocessing": "processes; the machine has one",
    "netrc": "a person's passwords",
    "optparse": "command lines",
    "pdb": "a debugger",
    "pickle": "objects for other processes",
    "pickletools": "shows pickles to a person",
    "pipes": "other programs",
    "plistlib": "files of another system",
    "pkgutil": "looks for modules",
    "profile": "a profiler",
    "py_compile": "compiles to files; there is nowhere to write them",
    "pydoc": "shows documentation to a person",
    "runpy": "runs scripts",
    "shutil": "copies files",
    "site": "looks for site-packages; there are none",
    "ssl": "TLS and 5 MB of OpenSSL; who needs it imports it outright",
    "_hashlib": "5 MB of OpenSSL; hashlib has its own where it is missing",
    "_ssl": "TLS and 5 MB of OpenSSL",
    "statistics": "random tests itself with it",
    "sysconfig": "how Python was built",
    "tarfile": "archives",
    "test": "tests",
    "timeit": "measures",
    "tkinter": "windows",
    "tomllib": "the slightfile is read where the image is built",
    "tracemalloc": "looks for leaks",
    "turtle": "draws",
    "unittest": "tests",
    "uu": "an encoding of mail",
    "uvloop": "4 MB for speed that one virtual processor has no use for, and a second to load",
    "venv": "makes environments",
    "webbrowser": "windows",
    "xml": "a format that nothing here reads",
    "xmlrpc": "a protocol that nothing here speaks",
    "zipfile": "archives",
    "zipimport": "modules in archives",
    # The project's own.
    "slight_py.cli": "the command line",
    "slight_py.workers": "processes; the machine has one",
    "unikernel.cli": "the command line",
}
"""Modules, each with what it has in it, that are left out with all below them where their import is optional."""

IMPLIED: Mapping[str, tuple[str, ...]] = {
    # What C code imports, of which there is no source to read.
    "_asyncio": ("asyncio.base_futures", "asyncio.base_tasks", "asyncio.coroutines", "asyncio.events", "traceback"),
    "_ctypes": ("ctypes._endian",),
    "_datetime": ("_strptime",),
    "_decimal": ("collections", "numbers"),
    "_pickle": ("copyreg", "_compat_pickle"),
    "_socket": ("encodings.idna",),  # every name of a host is encoded with it
    "aiohttp._http_parser": ("aiohttp.hdrs", "aiohttp.http_exceptions", "aiohttp.streams", "aiohttp.http_writer"),
    "aiohttp._http_writer": ("aiohttp.http_exceptions",),
    "sysconfig": (f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{sys.implementation._multiarch}",),
    "time": ("_strptime",),
    # What Python itself imports before it runs anything. Its encodings are found by their names at run time.
    "encodings.idna": ("encodings.punycode",),
    "encodings": ("encodings.aliases", "encodings.ascii", "encodings.latin_1", "encodings.utf_8"),
}
"""Imports that no source shows, by the module that makes them."""

LIBRARIES: Mapping[str, tuple[str, str]] = {
    "slight_py.capi": ("wasmtime", "linux-x86_64/_libwasmtime.so"),
}
"""The shared library that a module opens by itself, in the folder of a package that it need not import."""

START = ("encodings", "io", "abc", "codecs", "os", "stat", "posixpath", "genericpath", "_collections_abc", "warnings")
"""What the interpreter imports before it runs anything."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module by its file; `path` is None for one that is built into the interpreter, and for a namespace package."""

    name: str
    path: Path | None
    is_package: bool = False
    search: tuple[str, ...] = ()
    """The folders of a package."""

    @property
    def is_extension(self) -> bool:
        return self.path is not None and self.path.name.endswith(tuple(EXTENSION_SUFFIXES))


@dataclass(frozen=True, slots=True)
class Import:
    """An import as it is written. `names` are what a `from` takes out of the module; they may be modules."""

    module: str
    names: tuple[str, ...] = ()
    outright: bool = True


@dataclass(slots=True)
class Closure:
    """The modules that go in, each with the one that first imported it, and those that `CUTS` keeps out."""

    modules: dict[str, Module] = field(default_factory=dict)
    importer: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


def closure(
    roots: Iterable[str],
    packages: Collection[str] = (),
    cuts: Mapping[str, str] = CUTS,
    files: Mapping[str, Module] | None = None,
) -> Closure:
    """The closure of `roots` over their imports.

    `packages` are the import packages of others that may go in where their import is optional. `files` are modules
    by their names that are not found as installed ones are, and are roots too.
    """
    return _Search(frozenset(packages), cuts, files or {}).run([*START, *roots])


class _Search:
    def __init__(self, packages: frozenset[str], cuts: Mapping[str, str], files: Mapping[str, Module]) -> None:
        self._packages = packages
        self._cuts = cuts
        self._files = files
        self._found = Closure()
        self._waiting: list[Module] = []

    def run(self, roots: Iterable[str]) -> Closure:
        for name in (*roots, *self._files):
            if self._add(name, "") is None:
                raise ModuleNotFoundError(f"there is no module {name!r}", name=name)
        while self._waiting:
            module = self._waiting.pop()
            for each in imports(module):
                self._follow(each, module)
            for name in IMPLIED.get(module.name, ()):
                self._add(name, module.name)
        self._found.left_out -= self._found.modules.keys()
        return self._found

    def _follow(self, each: Import, module: Module) -> None:
        if not each.outright and self._is_cut(each.module):
            self._found.left_out.add(each.module)
            return
        if self._add(each.module, module.name) is None:
            return
        for name in each.names:
            full = f"{each.module}.{name}"
            if self._is_cut(full) and not each.outright:
                self._found.left_out.add(full)
            else:
                self._add(full, module.name)

    def _is_cut(self, name: str) -> bool:
        parents = list(_parents(name))
        if any(parent in self._cuts for parent in parents):
            return True
        return _is_others(parents[0]) and parents[0] not in self._packages

    def _add(self, name: str, importer: str) -> Module | None:
        """Adds a module and the packages that it is in; None where there is none of that name."""
        module = None
        for parent in _parents(name):
            package = module
            module = self._found.modules.get(parent) or self._files.get(parent) or find(parent, package)
            if module is None:
                return None
            if parent not in self._found.modules:
                self._found.modules[parent] = module
                self._found.importer[parent] = importer
                self._waiting.append(module)
        return module


def _parents(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` for `a.b.c`."""
    words = name.split(".")
    return (".".join(words[:count]) for count in range(1, len(words) + 1))


# Finding.


@cache
def find(name: str, package: Module | None = None) -> Module | None:
    """A module that is installed, or in a package; None where there is none of that name. Imports nothing."""
    if package is not None:
        return _module(name, PathFinder.find_spec(name, package.search)) if package.search else None
    if BuiltinImporter.find_spec(name) is not None:
        return Module(name, None)
    # Not the finder of frozen modules, which has no files. Those after it are of editable installs.
    finders = (finder for finder in sys.meta_path if finder is not FrozenImporter and finder is not BuiltinImporter)
    specs = (finder.find_spec(name, None) for finder in finders)
    return _module(name, next(filter(None, specs), None))


def _module(name: str, spec: ModuleSpec | None) -> Module | None:
    if spec is None:
        return None
    search = tuple(spec.submodule_search_locations or ())
    if spec.origin is None or not spec.has_location:
        return Module(name, None, bool(search), search)
    return Module(name, Path(spec.origin), bool(search), search)


@cache
def _is_others(package: str) -> bool:
    """Whether a package of that name is neither Python's nor our own, and is there."""
    if package in sys.stdlib_module_names or package in OWN:
        return False
    module = find(package)
    return module is not None and package in owners()


OWN = ("bindgen", "capabilities", "slight_py", "unikernel")


@cache
def owners() -> Mapping[str, list[str]]:
    """The installed distributions by the import packages that they have."""
    return packages_distributions()


def distributions(names: Iterable[str]) -> dict[str, str]:
    """Installed distributions and those that they need, each with its version; what is not installed is left out."""
    found: dict[str, str] = {}
    waiting = [*names]
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = installed.version
        for requirement in installed.requires or ():
            needed = match(r"[A-Za-z0-9._-]+", requirement)
            if needed and "extra ==" not in requirement:
                waiting.append(needed[0])
    return dict(sorted(found.items()))


def packages_of(names: Iterable[str]) -> set[str]:
    """The import packages of distributions."""
    wanted = {_canonical(name) for name in names}
    return {package for package, owner in owners().items() if wanted & {_canonical(each) for each in owner}}


def owner_of(package: str) -> str | None:
    """The distribution that an import package is of; None for Python's and our own."""
    if not _is_others(package):
        return None
    return _canonical(owners()[package][0])


def _canonical(name: str) -> str:
    return sub(r"[-_.]+", "-", name).lower()


# Reading.


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """The imports of a module, from its source; none of one without source."""
    if module.path is None or module.path.suffix != ".py":
        return ()
    reader = _Reader(module)
    reader.visit(ast.parse(module.path.read_bytes()))
    return tuple(dict.fromkeys(reader.found))


class _Reader(ast.NodeVisitor):
    def __init__(self, module: Module) -> None:
        self.found: list[Import] = []
        self._package = module.name if module.is_package else module.name.rpartition(".")[0]
        self._outright = True

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            package = self._package.split(".")
            base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
        self._add(base, tuple(alias.name for alias in node.names if alias.name != "*"))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in ("__import__", "import_module") and node.args and isinstance(node.args[0], ast.Constant):
            value = node.args[0].value
            if isinstance(value, str) and not value.startswith("."):
                self._add(value)
        self.generic_visit(node)

    def _add(self, module: str, names: tuple[str, ...] = ()) -> None:
        self.found.append(Import(module, names, self._outright))

    def visit_If(self, node: ast.If) -> None:
        known = _known(node.test)
        for side in (node.body if known is not False else [], node.orelse if known is not True else []):
            for statement in side:
                self.visit(statement)

    def visit_Try(self, node: ast.Try) -> None:
        catches = any(_catches(handler.type) for handler in node.handlers)
        self._visit_all(node.body, self._outright and not catches)
        # What stands in for an import that failed is not needed either where it doesn't.
        for handler in node.handlers:
            self._visit_all(handler.body, self._outright and not catches)
        self._visit_all([*node.orelse, *node.finalbody], self._outright)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_all(node.body, False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_all(node.body, False)

    def _visit_all(self, nodes: Iterable[ast.AST], outright: bool) -> None:
        before, self._outright = self._outright, outright
        for node in nodes:
            self.visit(node)
        self._outright = before


def _catches(caught: ast.expr | None) -> bool:
    """Whether an `except` of that catches the failure of an import."""
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    failures = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
    return any(isinstance(name, ast.Name) and name.id in failures for name in names)


def _known(test: ast.expr) -> bool | None:
    """What a condition is in every image, None where that's not known: nobody checks types, and the system is Linux."""
    match test:
        case ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return False
        case ast.UnaryOp(ast.Not(), operand):
            known = _known(operand)
            return None if known is None else not known
        case ast.BoolOp(op, values):
            results = [_known(value) for value in values]
            deciding = isinstance(op, ast.Or)
            if deciding in results:
                return deciding
            return None if None in results else not deciding
        case ast.Compare(left, [op], [ast.Constant(str(other))]) if isinstance(op, ast.Eq | ast.NotEq):
            value = {"sys.platform": "linux", "os.name": "posix", "__name__": "a module"}.get(ast.unparse(left))
            return None if value is None else (value == other) == isinstance(op, ast.Eq)
        case ast.Compare(left, [op], [ast.Tuple() as other]) if ast.unparse(left) == "sys.version_info":
            version = ast.literal_eval(other)
            here = sys.version_info[: len(version)]
            match op:
                case ast.GtE():
                    return bool(here >= version)
                case ast.Lt():
                    return bool(here < version)
    return None
