"""Files to packages: which packages there are, what is in them, and what a path means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bindgen.wit_packages import ast
from bindgen.wit_packages.parser import parse
from bindgen.wit_parser.model import Package
from bindgen.wit_parser.order import similar
from bindgen.wit_parser.source import Diagnostic, Reporter, Source, Span, read

MAX_FILES = 1000
"""How many files are read at most, those of all packages together."""

SUFFIX = ".wit"
DEPENDENCIES = "deps"
"""The folder beside the files of a package that holds the packages which it uses."""


@dataclass(eq=False, slots=True)
class Scope:
    """A file, or the braces of a package in a file: what gives names a meaning besides the package itself."""

    source: Source
    package: Contents
    uses: dict[str, ast.TopUse] = field(default_factory=dict)
    """By the names that the paths have here."""


@dataclass(eq=False, slots=True)
class Item:
    """An interface or a world, not yet resolved."""

    node: ast.Interface | ast.World
    scope: Scope

    @property
    def where(self) -> str:
        """Its name as other packages write it."""
        return f"{self.scope.package.id}/{self.node.id.name}"

    @property
    def what(self) -> str:
        return "an interface" if isinstance(self.node, ast.Interface) else "a world"


@dataclass(eq=False, slots=True)
class Contents:
    """A package: what is in all of its files."""

    id: Package
    docs: str
    source: Source
    """Where its name is, with `span`."""
    span: Span
    items: dict[str, Item] = field(default_factory=dict)
    scopes: list[Scope] = field(default_factory=list)


Parsed: TypeAlias = tuple[Source, ast.File]
Kind: TypeAlias = type[ast.Interface] | type[ast.World]
IsOn: TypeAlias = Callable[[ast.Gate], bool]
"""Whether what has a gate is to be there: whether its feature is."""


class Packages:
    """All packages that were read, those in `search` when one is missing first.

    `search` are folders which hold packages as `deps` does. What is twice is reported, unless one is there only.
    """

    def __init__(self, search: Iterable[Path], reporter: Reporter) -> None:
        self.reporter = reporter
        self.found: dict[Package, Contents] = {}
        self._search = list(search)
        self._files = 0

    # Files.

    def open(self, path: Path) -> Contents | None:
        """The package in a folder or a file, and those in its folder `deps`; None after errors.

        Raises WitError for errors in syntax, after which nothing else would be worth saying.
        """
        files = self._read(path)
        has_dependencies = path.is_dir() and (path / DEPENDENCIES).is_dir()
        others = self._read_all(path / DEPENDENCIES) if has_dependencies else []
        self.reporter.finish()
        package = self._collect(files, path)
        for each, theirs in others:
            self._collect(theirs, each)
        return package

    def _read_all(self, folder: Path) -> list[tuple[Path, list[Parsed]]]:
        """The packages in a folder, each with where it is."""
        return [(each, self._read(each)) for each in self._entries(folder)]

    def _read(self, path: Path) -> list[Parsed]:
        """The files of the package at `path`."""
        paths = [each for each in self._entries(path) if not each.is_dir()] if path.is_dir() else [path]
        if path.is_dir() and not paths:
            self.reporter.report(Diagnostic(f"there is no `*{SUFFIX}` in this folder", path))
        found = []
        for each in paths:
            self._files += 1
            if self._files > MAX_FILES:
                self.reporter.give_up(Diagnostic(f"these are more than {MAX_FILES} files", each))
            source = read(each, self.reporter)
            if source:
                found.append((source, parse(source, self.reporter)))
        return found

    def _entries(self, folder: Path) -> list[Path]:
        """What is in a folder and may be a package, or a file of one, in the order of their names."""
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            self.reporter.report(Diagnostic(f"the folder can't be read: {error.strerror}", folder))
            return []
        paths = [folder / name for name in names if name != DEPENDENCIES and not name.startswith(".")]
        return [path for path in paths if path.name.endswith(SUFFIX) or _holds_files(path)]

    # Packages.

    def _collect(self, files: list[Parsed], path: Path, replaces: bool = True) -> Contents | None:
        """Makes packages of the files in `path`, and returns the one they say they are, or else the first in them."""
        own = self._collect_own(files, path, replaces)
        inner = [
            self._add(source, nested.name, nested.docs, [(source, nested.items)], replaces)
            for source, file in files
            for nested in file.nested
        ]
        return own or (inner[0] if inner else None)

    def _collect_own(self, files: list[Parsed], path: Path, replaces: bool) -> Contents | None:
        """The package that files are of, without those in braces; None if they are of none."""
        named = [(source, file.name, file.docs) for source, file in files if file.name]
        if not named:
            has_others_only = any(file.nested for _, file in files) and not any(file.items for _, file in files)
            if files and not has_others_only and not any(file.is_named for _, file in files):
                message = "no file says what this package is called"
                self.reporter.report(Diagnostic(message, path, hint="expected `package NAMESPACE:NAME;`"))
            return None
        source, name, _ = named[0]
        for other, again, _ in named[1:]:
            if _id(again) != _id(name):
                note = source.say(name.span, "the first name is here")
                message = f"the files of a folder are one package, which is `{_id(name)}`"
                self.reporter.report(other.say(again.span, message, notes=(note,)))
        documented = [each for each in named if each[2]]
        if len(documented) > 1:
            other, again, _ = documented[1]
            self.reporter.report(other.say(again.span, "the package is documented in another file, too"))
        docs = documented[0][2] if documented else ""
        return self._add(source, name, docs, [(source, file.items) for source, file in files], replaces)

    def _add(
        self,
        source: Source,
        name: ast.PackageName,
        docs: str,
        files: list[tuple[Source, tuple[ast.PackageItem, ...]]],
        replaces: bool,
    ) -> Contents | None:
        package = Contents(_id(name), docs, source, name.span)
        if package.id in self.found:
            if replaces:
                first = self.found[package.id]
                note = first.source.say(first.span, "the first one is here")
                message = f"there is another package `{package.id}`"
                self.reporter.report(source.say(name.span, message, notes=(note,)))
            return self.found[package.id]
        self.found[package.id] = package
        for each, items in files:
            self._add_items(Scope(each, package), items)
        for scope in package.scopes:
            self._check_uses(scope)
        return package

    def _add_items(self, scope: Scope, items: tuple[ast.PackageItem, ...]) -> None:
        package = scope.package
        package.scopes.append(scope)
        for node in items:
            if isinstance(node, ast.TopUse):
                first = scope.uses.setdefault(node.local.name, node)
                if first is not node:
                    self._report_twice(scope, node.local.name, node.local.span, scope, first.local.span)
                continue
            there = package.items.setdefault(node.id.name, Item(node, scope))
            if there.node is not node:
                self._report_twice(scope, node.id.name, node.id.span, there.scope, there.node.id.span)

    def _check_uses(self, scope: Scope) -> None:
        """A name of this file alone is none of what the file defines."""
        for name, use in scope.uses.items():
            item = scope.package.items.get(name)
            if item and item.scope is scope:
                self._report_twice(scope, name, item.node.id.span, scope, use.local.span)

    def _report_twice(self, scope: Scope, name: str, span: Span, first: Scope, first_span: Span) -> None:
        note = first.source.say(first_span, f"the first `{name}` is here")
        self.reporter.report(scope.source.say(span, f"`{name}` is defined twice", notes=(note,)))

    # Paths.

    def find(self, scope: Scope, path: ast.Path) -> Item | None:
        """What a path means in a scope; None if that is unknown, which is reported."""
        use = scope.uses.get(path.id.name) if path.package is None else None
        if use:
            # Those that can't be found are reported where they are.
            package = self._package(scope, use.path, quiet=True)
            return package.items.get(use.path.id.name) if package else None
        return self.find_here(scope, path)

    def find_here(self, scope: Scope, path: ast.Path) -> Item | None:
        """As `find`, but for other names that the file gives to paths."""
        package = self._package(scope, path)
        if not package:
            return None
        item = package.items.get(path.id.name)
        if not item:
            message = f"there is no interface or world `{path.id.name}` in package `{package.id}`"
            known = [*package.items, *(scope.uses if path.package is None else ())]
            self.reporter.report(scope.source.say(path.id.span, message, similar(path.id.name, known)))
        return item

    def _package(self, scope: Scope, path: ast.Path, quiet: bool = False) -> Contents | None:
        if path.package is None:
            return scope.package
        wanted = _id(path.package)
        if wanted not in self.found:
            self._read_search()
        if wanted not in self.found and not quiet:
            message = f"there is no package `{wanted}`"
            self.reporter.report(scope.source.say(path.package.span, message, self._hint(wanted)))
        return self.found.get(wanted)

    def _read_search(self) -> None:
        folders, self._search = self._search, []
        found = [each for folder in folders for each in self._read_all(folder)]
        self.reporter.finish()
        for path, files in found:
            self._collect(files, path, replaces=False)

    def _hint(self, wanted: Package) -> str:
        others = [each for each in self.found if (each.namespace, each.name) == (wanted.namespace, wanted.name)]
        if others:
            return f"there is `{'`, `'.join(str(each) for each in others[:5])}`"
        close = similar(str(wanted), map(str, self.found))
        return close or f"packages are looked for in the folder `{DEPENDENCIES}` beside the files"


def _id(name: ast.PackageName) -> Package:
    return Package(name.namespace, name.name, name.version)


def _holds_files(folder: Path) -> bool:
    """Whether a folder is one of a package."""
    try:
        return folder.is_dir() and any(each.name.endswith(SUFFIX) for each in folder.iterdir())
    except OSError:
        return False


def paths_in(nodes: Iterable[ast.InterfaceItem | ast.WorldItem], is_on: IsOn) -> Iterator[tuple[ast.Path, Kind]]:
    """The paths in what stands in an interface or a world, and what each must lead to."""
    for node in nodes:
        if not is_on(node.gate):
            continue
        match node:
            case ast.Use(path=path):
                yield path, ast.Interface
            case ast.Include(path=path):
                yield path, ast.World
            case ast.Extern(kind=ast.Path() as path):
                yield path, ast.Interface
            case ast.Extern(kind=ast.Interface(items=items)):
                yield from paths_in(items, is_on)
