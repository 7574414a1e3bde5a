"""Packages to interfaces and worlds."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bindgen.wit_packages import ast
from bindgen.wit_packages.definitions import Context, Definitions
from bindgen.wit_packages.lexer import precedence
from bindgen.wit_packages.packages import Contents, Item, Kind, Packages, Scope, paths_in
from bindgen.wit_packages.worlds import Worlds
from bindgen.wit_parser.model import Interface, Package, World
from bindgen.wit_parser.order import in_order, similar, trail
from bindgen.wit_parser.source import Reporter, Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResolvedPackage:
    """A package, with its interfaces and worlds by name."""

    id: Package
    docs: str
    interfaces: dict[str, Interface]
    worlds: dict[str, World]
    packages: Mapping[str, ResolvedPackage] = field(repr=False)
    """All packages that were resolved with it, by `NAMESPACE:NAME@VERSION`."""

    def interface(self, name: str) -> Interface:
        """The interface of that name, or at a path like `wasi:http/types@0.2.12`. Raises LookupError, with a reason."""
        package, plain = self._split(name)
        return _chosen(package.interfaces, plain, "interface", package.id)

    def world(self, name: str = "") -> World:
        """As `interface`, for a world; without a name, the only one that the package has."""
        if not name:
            if len(self.worlds) == 1:
                return next(iter(self.worlds.values()))
            there_is = ", ".join(self.worlds) or "none"
            raise LookupError(f"a world of {self.id} must be chosen; there is {there_is}")
        package, plain = self._split(name)
        return _chosen(package.worlds, plain, "world", package.id)

    def _split(self, path: str) -> tuple[ResolvedPackage, str]:
        """The package and the name that a path consists of."""
        before, slash, after = path.partition("/")
        if not slash:
            return self, path
        name, at, version = after.partition("@")
        package = f"{before}{at}{version}"
        if package not in self.packages:
            raise LookupError(f"there is no package {package}; there is {', '.join(self.packages)}")
        return self.packages[package], name


def _chosen(known: Mapping[str, T], name: str, what: str, package: Package) -> T:
    if name not in known:
        hint = similar(name, known) or f"there is {', '.join(known) or 'none'}"
        raise LookupError(f"there is no {what} {name} in {package}; {hint}")
    return known[name]


def interfaces_of(world: World) -> tuple[Interface, ...]:
    """The interfaces that a world imports and exports, those that they need included; each after those it needs."""
    return tuple(dict.fromkeys(each for each in (*world.imports, *world.exports) if isinstance(each, Interface)))


def load_package(
    path: str | os.PathLike[str],
    search: Iterable[str | os.PathLike[str]] = (),
    features: Collection[str] = (),
) -> ResolvedPackage:
    """The package in the folder, or in the one file, at `path`.

    Other packages are those in its folder `deps`, a folder or a file each; what is in none of them is looked for in
    the folders `search`, which hold packages in the same way. What is `@unstable` is there if its feature is in
    `features`. Raises WitError: with all syntax errors of all files, or else with all other errors.
    """
    reporter = Reporter()
    packages = Packages(map(Path, search), reporter)
    package = packages.open(Path(path))
    resolved = _Resolver(packages, frozenset(features), reporter).resolve()
    reporter.finish()
    assert package, "where there is none, an error has been reported"
    return resolved[str(package.id)]


class _Resolver:
    def __init__(self, packages: Packages, features: frozenset[str], reporter: Reporter) -> None:
        self.packages = packages
        self.features = features
        self.reporter = reporter
        self.context = Context(reporter, self.is_on)
        self.targets: dict[Item, list[Item]] = {}
        """What each interface or world uses, imports, exports and includes."""
        self.reached: dict[Contents, list[tuple[Contents, Scope, Span]]] = {}
        """The packages to resolve, with the packages that each uses, and where."""

    def is_on(self, gate: ast.Gate) -> bool:
        return gate.feature is None or gate.feature.name in self.features

    def resolve(self) -> dict[str, ResolvedPackage]:
        """All packages, by how their names are spelled."""
        items = self.follow_paths()
        worlds: dict[Item, World] = {}
        resolver = Worlds(self.context)
        for item in in_order(items, lambda item: self.targets[item], self.report_circle):
            node = item.node
            if not self.context.is_on(node.gate):
                Definitions(self.context, item.scope, _empty(item)).check_gates(node.items, f"`{node.id.name}`")
            elif isinstance(node, ast.World):
                worlds[item] = resolver.resolve(item, node)
            else:
                definitions = Definitions(self.context, item.scope, _empty(item))
                self.context.names[item] = definitions.names
                definitions.resolve(node.items)
        return self.assembled(items, worlds)

    # Paths.

    def follow_paths(self) -> list[Item]:
        """Finds what all paths lead to, those of the packages that are reached included; returns what is in those."""
        items: list[Item] = []
        waiting = list(self.packages.found.values())
        while waiting:
            package = waiting.pop()
            if package not in self.reached:
                self.reached[package] = []
                for scope, span, target in self.links(package):
                    if target is not package:
                        self.reached[package].append((target, scope, span))
                        waiting.append(target)
                items += package.items.values()
        self.check_circles(self.reached)
        return items

    def links(self, package: Contents) -> Iterator[tuple[Scope, Span, Contents]]:
        """The packages that paths in this one lead to, and where those paths are."""
        for scope in package.scopes:
            for use in scope.uses.values():
                target = self.packages.find_here(scope, use.path)
                if target and self.is_kind(scope, use.path, target, ast.Interface):
                    yield scope, use.path.id.span, target.scope.package
        for item in package.items.values():
            self.check_versions(item)
            self.targets[item] = []
            for path, kind in paths_in(item.node.items, self.is_on) if self.is_on(item.node.gate) else ():
                target = self.target(item.scope, path, kind)
                self.context.items[path] = target
                if target:
                    self.targets[item].append(target)
                    yield item.scope, path.id.span, target.scope.package

    def target(self, scope: Scope, path: ast.Path, kind: Kind) -> Item | None:
        target = self.packages.find(scope, path)
        if target is None:
            return None
        if not self.is_kind(scope, path, target, kind):
            return None
        name = path.id.name
        if not self.is_on(target.node.gate):
            message = f"`{name}` is not there, as its feature is off"
            hint = "turn it on, or make this `@unstable` with the same feature"
            self.reporter.report(scope.source.say(path.id.span, message, hint))
            return None
        return target

    def is_kind(self, scope: Scope, path: ast.Path, target: Item, kind: Kind) -> bool:
        """Whether a path leads to what it must lead to; else that is reported."""
        if isinstance(target.node, kind):
            return True
        wanted = "an interface" if kind is ast.Interface else "a world"
        message = f"`{path.id.name}` is {target.what}; {wanted} is expected here"
        self.reporter.report(scope.source.say(path.id.span, message))
        return False

    # What may not be.

    def check_versions(self, item: Item) -> None:
        """Nothing is there since a version that is still to come."""
        version = item.scope.package.id.version
        for gate in _gates(item.node) if version else ():
            if gate.since and version and precedence(gate.since.name) > precedence(version):
                message = f"the package is of version {version}, and this is there since a later one"
                self.reporter.report(item.scope.source.say(gate.since.span, message))

    def check_circles(self, links: Mapping[Contents, list[tuple[Contents, Scope, Span]]]) -> None:
        """No package needs itself, through whatever others."""

        def report(circle: list[Contents]) -> None:
            last, first = circle[-2:]
            scope, span = next((scope, span) for target, scope, span in links[last] if target is first)
            names = trail([str(package.id) for package in circle])
            self.reporter.report(scope.source.say(span, f"packages need each other in a circle: {names}"))

        in_order(links, lambda package: list(dict.fromkeys(target for target, _, _ in links[package])), report)

    def report_circle(self, circle: list[Item]) -> None:
        names = trail([item.node.id.name for item in circle])
        first = circle[0]
        message = f"`{first.node.id.name}` needs itself: {names}"
        self.reporter.report(first.scope.source.say(first.node.id.span, message))

    # The result.

    def assembled(self, items: Iterable[Item], worlds: Mapping[Item, World]) -> dict[str, ResolvedPackage]:
        found: dict[str, ResolvedPackage] = {}
        for package in filter(self.reached.__contains__, self.packages.found.values()):
            found[str(package.id)] = ResolvedPackage(package.id, package.docs, {}, {}, found)
        for item in items:
            here = found[str(item.scope.package.id)]
            if item in worlds:
                here.worlds[item.node.id.name] = worlds[item]
            elif item in self.context.names:
                here.interfaces[item.node.id.name] = self.context.names[item].interface
        return found


def _empty(item: Item) -> Interface:
    node = item.node
    return Interface(node.id.name, item.scope.source.path, node.docs, (), (), (), (), item.scope.package.id)


def _gates(node: ast.Interface | ast.World) -> Iterator[ast.Gate]:
    """The gates of an interface or a world, and of all that is in it."""
    yield node.gate
    for item in node.items:
        yield item.gate
        match item:
            case ast.Resource(functions=functions):
                yield from (function.gate for function in functions)
            case ast.Extern(kind=ast.Interface() as inner):
                yield from _gates(inner)
