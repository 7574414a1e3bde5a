"""Worlds: what they import and export, with what they include and what those interfaces need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from bindgen.wit_packages import ast
from bindgen.wit_packages.definitions import Context, Definitions, canonical
from bindgen.wit_packages.packages import Item
from bindgen.wit_parser.ast import Id
from bindgen.wit_parser.model import Function, Interface, Resource, TypeDef, World
from bindgen.wit_parser.order import in_order, similar
from bindgen.wit_parser.source import Span

ROOT = "$root"
"""What the functions and types of a world itself stand in: the module that a guest imports such functions from."""


MAX_PARTS = 200_000
"""How much all worlds together may import, export and include, counted as often as another world includes it. It keeps
the time that a hostile file takes to some seconds; all worlds of WASI have some hundred."""


@dataclass(eq=False, slots=True)
class _Named:
    """Something that is imported or exported under a plain name, and how to make it under another one."""

    thing: Interface | Function
    make: Callable[[str], Interface | Function]


@dataclass(eq=False, slots=True)
class _Side:
    """The imports of a world, or its exports."""

    things: dict[Interface | Function, None] = field(default_factory=dict)
    """All, in the order of the text."""
    named: dict[str, _Named] = field(default_factory=dict)
    """Those of them that have a plain name, in place of a path."""

    def add(self, name: str, named: _Named) -> None:
        self.named[name] = named
        self.things[named.thing] = None

    def paths(self) -> list[Interface]:
        named = {each.thing for each in self.named.values()}
        return [each for each in self.interfaces() if each not in named]

    def interfaces(self) -> list[Interface]:
        return [each for each in self.things if isinstance(each, Interface)]

    def functions(self) -> list[Function]:
        return [each for each in self.things if isinstance(each, Function)]


@dataclass(eq=False, slots=True)
class _Parts:
    """A world as it is written, with what it includes."""

    imports: _Side = field(default_factory=_Side)
    exports: _Side = field(default_factory=_Side)
    types: dict[TypeDef, None] = field(default_factory=dict)
    resources: dict[Resource, None] = field(default_factory=dict)
    used: dict[Interface, None] = field(default_factory=dict)
    """The interfaces that its own types and functions use."""


class Worlds:
    """All worlds, in an order in which each comes after those that it includes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.parts: dict[Item, _Parts] = {}
        self.count = 0
        """Of what MAX_PARTS is about."""

    def resolve(self, item: Item, node: ast.World) -> World:
        reader = _Reader(self, item, node)
        self.parts[item] = reader.read()
        return reader.world()


class _Reader:
    """One world."""

    def __init__(self, worlds: Worlds, item: Item, node: ast.World) -> None:
        self.worlds = worlds
        self.context = worlds.context
        self.item = item
        self.node = node
        self.parts = _Parts()
        root = Interface(ROOT, item.scope.source.path, "", (), (), (), ())
        self.definitions = Definitions(self.context, item.scope, root)
        self.exported: dict[str, Id] = {}
        """Names of exports, by what `canonical` makes of them."""

    def count(self, number: int) -> None:
        """Adds to the parts of all worlds. Raises WitError if those are too many."""
        self.worlds.count += number
        if self.worlds.count > MAX_PARTS:
            message = f"with this world, the worlds have more than {MAX_PARTS:,} imports and exports"
            self.context.reporter.give_up(self.item.scope.source.say(self.node.id.span, message))

    def report(self, span: Span, message: str, hint: str = "") -> None:
        self.definitions.report(span, message, hint)

    def read(self) -> _Parts:
        parts, definitions = self.parts, self.definitions
        definitions.resolve(self.node.items)
        parts.types.update(dict.fromkeys(definitions.interface.types))
        parts.resources.update(dict.fromkeys(definitions.interface.resources))
        parts.used.update(definitions.needs)
        here = [item for item in self.node.items if self.context.is_on(item.gate)]
        for each in here:
            if isinstance(each, ast.Extern):
                self.extern(each, parts.imports if each.keyword == "import" else parts.exports)
        for each in here:
            if isinstance(each, ast.Include):
                self.include(each)
        return parts

    # What is written.

    def extern(self, node: ast.Extern, side: _Side) -> None:
        if isinstance(node.kind, ast.Path) and not node.is_renamed:
            interface = self.interface_at(node.kind)
            if interface and interface in side.things:
                self.report(node.id.span, f"`{interface.name}` is {node.keyword}ed twice")
            elif interface:
                side.things[interface] = None
        elif self.take(node.id, side):
            named = self.named(node)
            if named:
                side.add(node.id.name, named)

    def interface_at(self, path: ast.Path) -> Interface | None:
        item = self.context.items[path]
        names = self.context.names.get(item) if item else None
        return names.interface if names else None

    def take(self, name: Id, side: _Side) -> bool:
        """Whether a name can be given to an import or export; else that is reported."""
        if side is self.parts.imports:
            return self.definitions.take(name)
        first = self.exported.setdefault(canonical(name.name), name)
        if first is not name:
            self.definitions.report_twice(name, first)
        return first is name

    def named(self, node: ast.Extern) -> _Named | None:
        """What a plain name stands for."""
        kind = node.kind
        if isinstance(kind, ast.Function):
            function = self.definitions.function(kind, None)
            self.definitions.check_functions([function])
            return _Named(function, lambda name: replace(function, name=name))
        if isinstance(kind, ast.Interface):
            make = self.maker(self.item, kind)
            return _Named(make(kind.id.name), self.maker(self.item, kind, quiet=True))
        target = self.context.items[kind]
        if target is None or not isinstance(target.node, ast.Interface):
            return None
        make = self.maker(target, target.node, quiet=True)
        return _Named(make(node.id.name), make)

    def maker(self, item: Item, node: ast.Interface, quiet: bool = False) -> Callable[[str], Interface]:
        """Makes an interface of its own, with the types and functions of `node`, under any name."""

        def make(name: str) -> Interface:
            self.count(_size(node))
            interface = Interface(name, item.scope.source.path, node.docs, (), (), (), ())
            Definitions(self.context, item.scope, interface, quiet).resolve(node.items)
            return interface

        return make

    # What is included.

    def include(self, node: ast.Include) -> None:
        item = self.context.items[node.path]
        other = self.worlds.parts.get(item) if item else None
        if not other:
            return
        self.count(len(other.imports.things) + len(other.exports.things) + len(other.types) + len(other.resources))
        renamed = {name.id.name: name for name in node.names}
        self.definitions.distinct(name.id for name in node.names)
        for side, theirs in ((self.parts.imports, other.imports), (self.parts.exports, other.exports)):
            side.things.update(dict.fromkeys(theirs.paths()))
            for name, named in theirs.named.items():
                self.include_named(node, side, renamed[name].local.name if name in renamed else name, name, named)
        self.include_types(node, other)
        self.parts.used.update(other.used)
        self.check_renamed(node, other)

    def include_named(self, node: ast.Include, side: _Side, name: str, old: str, named: _Named) -> None:
        taken = self.definitions.taken if side is self.parts.imports else self.exported
        first = taken.setdefault(canonical(name), Id(name, node.path.id.span))
        if first.name != name or name in side.named or first.span != node.path.id.span:
            hint = f"give it another name: `include ... with {{ {old} as ... }}`"
            self.report(node.path.id.span, self.clash(node, name, first), hint)
        else:
            side.add(name, named if name == old else _Named(named.make(name), named.make))

    def clash(self, node: ast.Include, name: str, first: Id) -> str:
        """What to say when something that is included has a name that is taken."""
        if name == first.name:
            return f"`{name}` of `{node.path.id.name}` has the name of something else here"
        return f"`{name}` of `{node.path.id.name}` is too much like `{first.name}`"

    def include_types(self, node: ast.Include, other: _Parts) -> None:
        theirs: list[TypeDef | Resource] = [*other.types, *other.resources]
        for each in theirs:
            first = self.definitions.taken.setdefault(canonical(each.name), Id(each.name, node.path.id.span))
            if each in self.parts.types or each in self.parts.resources:
                continue
            if first.span != node.path.id.span:
                self.report(node.path.id.span, self.clash(node, each.name, first))
            elif isinstance(each, TypeDef):
                self.parts.types[each] = None
            else:
                self.parts.resources[each] = None

    def check_renamed(self, node: ast.Include, other: _Parts) -> None:
        """What is renamed has a plain name, and is no type."""
        plain = [*other.imports.named, *other.exports.named]
        types = {each.name for each in other.types} | {each.name for each in other.resources}
        for name in node.names:
            if name.id.name in types:
                self.report(name.id.span, f"`{name.id.name}` is a type, and keeping its name is all that is supported")
            elif name.id.name not in plain:
                message = f"`{node.path.id.name}` imports and exports nothing under the plain name `{name.id.name}`"
                hint = similar(name.id.name, plain) or "what has a path can't be given another name"
                self.report(name.id.span, message, hint)

    # The world as a whole.

    def world(self) -> World:
        parts = self.parts
        exports = self.in_order(parts.exports.interfaces(), among=parts.exports.interfaces())
        needed = self.needed_by(exports)
        imports = self.in_order([*parts.imports.interfaces(), *parts.used, *needed])
        return World(
            self.node.id.name,
            self.node.docs,
            self.item.scope.package.id,
            (*imports, *parts.imports.functions()),
            (*parts.exports.functions(), *exports),
            tuple(parts.types),
            tuple(parts.resources),
        )

    def in_order(self, interfaces: Iterable[Interface], among: Iterable[Interface] | None = None) -> list[Interface]:
        """Interfaces and those that they need, if they are `among` these, which come before them."""
        allowed = None if among is None else set(among)

        def needs(interface: Interface) -> list[Interface]:
            found = self.context.needs.get(interface, ())
            self.count(len(found) + 1)
            return [each for each in found if allowed is None or each in allowed]

        # Circles have been reported, and are cut.
        return in_order(interfaces, needs, lambda circle: None)

    def needed_by(self, exports: list[Interface]) -> list[Interface]:
        """The interfaces that exports need and that are no exports themselves, which are imports then.

        What such an import needs is an import, too; if that is exported as well, nobody could tell which is meant.
        """
        own = set(exports)
        direct = [each for export in exports for each in self.context.needs.get(export, ()) if each not in own]
        needed = self.in_order(direct)
        both = next((each for each in needed if each in own), None)
        if both:
            through = next(each for each in direct if both in self.in_order([each]))
            message = f"an export needs `{both.name}` as an import, through `{through.name}`, which is not exported"
            self.report(self.node.id.span, message, f"`{both.name}` is exported: export `{through.name}`, too")
        return needed


def _size(node: ast.Interface) -> int:
    """How much there is in an interface."""
    size = 1
    for item in node.items:
        match item:
            case ast.Compound(members=parts) | ast.Resource(functions=parts) | ast.Use(names=parts):
                size += len(parts)
        size += 1
    return size
