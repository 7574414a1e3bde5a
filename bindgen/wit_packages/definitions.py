"""The types and functions of one interface, or of a world: names get a meaning.

Where something is wrong, the rest is resolved all the same, so that all errors come out at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from bindgen.wit_packages import ast
from bindgen.wit_packages.packages import IsOn, Item, Scope
from bindgen.wit_packages.parser import PRIMITIVES
from bindgen.wit_parser.ast import Id
from bindgen.wit_parser.model import (
    Alias,
    Borrow,
    Case,
    Enum,
    ExpectedOf,
    Field,
    FixedListOf,
    Flags,
    Function,
    FunctionKind,
    FutureOf,
    Interface,
    Kind,
    Label,
    ListOf,
    OptionOf,
    Own,
    Param,
    Primitive,
    Record,
    Resource,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    Use,
    Variant,
    functions_of,
    named_in,
    spelling,
    types_of,
)
from bindgen.wit_parser.order import Measures, in_order, similar, trail, types_in
from bindgen.wit_parser.source import Diagnostic, Reporter, Span

MAX_FLAGS = 32
"""What the canonical ABI has room for."""

Named: TypeAlias = TypeDef | Resource

_OTHER_SPELLINGS = {
    "float32": "f32",
    "float64": "f64",
    "float": "f64",
    "double": "f64",
    "i8": "s8",
    "i16": "s16",
    "i32": "s32",
    "i64": "s64",
    "int": "s32",
    "uint": "u32",
    "byte": "u8",
    "bytes": "list<u8>",
    "str": "string",
    "boolean": "bool",
    "expected": "result",
}
"""What other languages, and earlier WIT, call the types of this one."""


def canonical(name: str) -> str:
    """What two names must not have in common: the Explainer of the component model calls them strongly unique."""
    return name.lower().replace("-", "")


@dataclass(eq=False, slots=True)
class Names:
    """What the names in an interface mean, for those who use it."""

    interface: Interface
    targets: dict[str, Named] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    off: dict[str, str] = field(default_factory=dict)
    """Types that are not there because their feature, which is the value, is off."""
    broken: set[str] = field(default_factory=set)
    """Names of what has errors of its own, which is all there is to say about them."""


@dataclass(eq=False, slots=True)
class Context:
    """What the resolution of all interfaces has in common."""

    reporter: Reporter
    is_on: IsOn
    items: dict[ast.Path, Item | None] = field(default_factory=dict)
    """What each path leads to; None where that has been reported."""
    names: dict[Item, Names] = field(default_factory=dict)
    """Of the interfaces so far."""
    needs: dict[Interface, tuple[Interface, ...]] = field(default_factory=dict)
    """The interfaces that one uses itself."""
    aliases: dict[TypeDef, Resource] = field(default_factory=dict)
    """Resources under another name, `type NAME = RESOURCE`."""
    measures: Measures = field(default_factory=Measures)
    lending: dict[TypeDef, bool] = field(default_factory=dict)
    """Whether there is a borrowed handle in a type."""


class Definitions:
    """What is defined between a pair of braces."""

    def __init__(self, context: Context, scope: Scope, interface: Interface, quiet: bool = False) -> None:
        """With `quiet`, nothing is reported: it has been, as the same items are resolved a second time."""
        self.context = context
        self.quiet = quiet
        self.scope = scope
        self.interface = interface
        self.names = Names(interface)
        self.needs: dict[Interface, None] = {}
        self.spans: dict[TypeDef | Function, Span] = {}
        """Where what is defined here gets its name."""
        self.taken: dict[str, Id] = {}
        """Names, by what `canonical` makes of them."""

    def report(self, span: Span, message: str, hint: str = "", notes: tuple[Diagnostic, ...] = ()) -> None:
        if not self.quiet:
            self.context.reporter.report(self.scope.source.say(span, message, hint, notes))

    def resolve(self, items: Iterable[ast.InterfaceItem | ast.WorldItem]) -> None:
        """Fills the interface with what `items` define. Imports, exports and `include` are left out."""
        here = [item for item in items if self.is_here(item)]
        for item in here:
            if isinstance(item, ast.Use):
                self.bring_in(item)
        self.interface.uses = tuple(Use(name, target) for name, target in self.names.targets.items())
        types, resources = self.define(here)
        functions = [item for item in here if isinstance(item, ast.Function)]
        for function in functions:
            self.take(function.id)
            self.names.functions.add(function.id.name)
        self.find_aliases(types)
        for type_def, type_item in types:
            type_def.kind = self.kind(type_item)
        for resource, body in resources:
            resource.functions = self.resource_functions(resource, body)
        self.interface.types = tuple(type_def for type_def, _ in types)
        self.interface.resources = tuple(resource for resource, _ in resources)
        self.interface.functions = tuple(self.function(item, None) for item in functions)
        self.context.needs[self.interface] = tuple(self.needs)
        self.check_types()

    def is_here(self, item: ast.InterfaceItem | ast.WorldItem) -> bool:
        """Whether an item's feature is on; else its name is known to be off."""
        if self.context.is_on(item.gate):
            return True
        feature = item.gate.feature.name if item.gate.feature else ""
        match item:
            case ast.Alias() | ast.Compound():
                self.names.off[item.id.name] = feature
            case ast.Resource():
                self.names.off[item.id.name] = feature
                self.check_gates(item.functions, f"`{item.id.name}`")
            case ast.Use():
                self.names.off.update((name.local.name, feature) for name in item.names)
        return False

    def check_gates(self, items: Iterable[ast.InterfaceItem | ast.WorldItem], what: str) -> None:
        """What is within something that is not there is not there either, and says so."""
        for item in items:
            if self.context.is_on(item.gate) and isinstance(item, ast.TypeItem | ast.Function):
                message = f"{what} is `@unstable`, and this is not"
                self.report(item.id.span, message, "give it the same `@unstable`")

    # Names.

    def take(self, name: Id) -> bool:
        """Whether a name can be given to something here; else that is reported."""
        first = self.taken.setdefault(canonical(name.name), name)
        if first is not name:
            self.report_twice(name, first)
        return first is name

    def report_twice(self, name: Id, first: Id) -> None:
        first, name = sorted((first, name), key=lambda each: each.span)
        note = self.scope.source.say(first.span, f"the first `{first.name}` is here")
        if first.name == name.name:
            self.report(name.span, f"`{name.name}` is defined twice", notes=(note,))
        else:
            message = f"`{name.name}` is too much like `{first.name}`"
            self.report(name.span, message, "names differ in more than case and `-`", (note,))

    def distinct(self, ids: Iterable[Id]) -> None:
        first: dict[str, Id] = {}
        for each in ids:
            if first.setdefault(canonical(each.name), each) is not each:
                self.report_twice(each, first[canonical(each.name)])

    def bring_in(self, use: ast.Use) -> None:
        item = self.context.items[use.path]
        names = self.context.names.get(item) if item else None
        for name in use.names:
            free = self.take(name.local)
            target = names.targets.get(name.id.name) if names else None
            if names and target:
                self.needs[names.interface] = None
                if free:
                    self.names.targets[name.local.name] = target
            else:
                self.names.broken.add(name.local.name)
                if names and item:
                    self.report_unknown(name.id, names, item)

    def report_unknown(self, name: Id, names: Names, item: Item) -> None:
        """A name that another interface doesn't have."""
        if name.name in names.broken:
            return
        if name.name in names.off:
            self.report_off(name, names.off[name.name])
            return
        message = f"there is no type `{name.name}` in `{item.where}`"
        if name.name in names.functions:
            message = f"`{name.name}` of `{item.where}` is a function; only types are used"
        self.report(name.span, message, similar(name.name, names.targets))

    def report_off(self, name: Id, feature: str) -> None:
        message = f"`{name.name}` is not there, as the feature `{feature}` is off"
        self.report(name.span, message, f"turn it on, or make this `@unstable(feature = {feature})`, too")

    def define(
        self, items: Iterable[ast.InterfaceItem | ast.WorldItem]
    ) -> tuple[list[tuple[TypeDef, ast.Alias | ast.Compound]], list[tuple[Resource, ast.Resource]]]:
        """Gives the names of types and resources their meaning; what they are made of comes later."""
        types = []
        resources = []
        for item in items:
            if isinstance(item, ast.Alias | ast.Compound):
                type_def = TypeDef(item.id.name, item.docs, self.interface, Alias(Primitive.UNIT))
                if self.take(item.id):
                    self.names.targets[item.id.name] = type_def
                self.spans[type_def] = item.id.span
                types.append((type_def, item))
            elif isinstance(item, ast.Resource):
                resource = Resource(item.id.name, item.docs, self.interface, ())
                if self.take(item.id):
                    self.names.targets[item.id.name] = resource
                resources.append((resource, item))
        return types, resources

    def find_aliases(self, types: Iterable[tuple[TypeDef, ast.Alias | ast.Compound]]) -> None:
        """Which types are resources under another name, also where that name comes later in the text."""
        written = {
            type_def: item.type.id.name
            for type_def, item in types
            if isinstance(item, ast.Alias) and isinstance(item.type, ast.Name)
        }
        for type_def in written:
            seen: set[TypeDef] = set()
            target: Named | None = type_def
            while isinstance(target, TypeDef) and target in written and target not in seen:
                seen.add(target)
                target = self.names.targets.get(written[target])
            resource = self.context.aliases.get(target) if isinstance(target, TypeDef) else target
            if resource:
                self.context.aliases[type_def] = resource

    # Types that are defined.

    def kind(self, item: ast.Alias | ast.Compound) -> Kind:
        if isinstance(item, ast.Alias):
            return Alias(self.type_of(item.type))
        members = item.members
        self.distinct(member.id for member in members)
        if item.keyword == "record":
            return Record(tuple(Field(it.id.name, it.docs, self.type_of(it.type)) for it in members))
        if item.keyword == "flags":
            if len(members) > MAX_FLAGS:
                self.report(members[MAX_FLAGS].id.span, f"a type has {MAX_FLAGS} flags at most")
            return Flags(tuple(Label(it.id.name, it.docs) for it in members))
        if not members:
            self.report(item.id.span, f"`{item.id.name}` has no cases", "expected at least one")
        if item.keyword == "enum":
            return Enum(tuple(Label(it.id.name, it.docs) for it in members))
        return Variant(tuple(self.case(it) for it in members))

    def case(self, member: ast.Member) -> Case:
        return Case(member.id.name, member.docs, None if member.type is None else self.type_of(member.type))

    def resource_functions(self, resource: Resource, body: ast.Resource) -> tuple[Function, ...]:
        items = [item for item in body.functions if self.context.is_on(item.gate)]
        constructors = [item.id for item in items if item.kind is FunctionKind.CONSTRUCTOR]
        for second in constructors[1:]:
            self.report(second.span, f"`{body.id.name}` has a constructor already")
        others = [item.id for item in items if item.kind is not FunctionKind.CONSTRUCTOR]
        # `[method]r.r` is too much like `r`.
        self.distinct([body.id, *others])
        return tuple(self.function(item, resource) for item in items)

    # Functions.

    def function(self, item: ast.Function, resource: Resource | None) -> Function:
        self.distinct(param.id for param in item.params)
        params = tuple(Param(param.id.name, self.type_of(param.type)) for param in item.params)
        result = Primitive.UNIT if item.result is None else self.type_of(item.result)
        if item.kind is FunctionKind.CONSTRUCTOR and resource:
            result = self.constructed(item, resource, result)
        function = Function(item.id.name, item.docs, item.kind, resource, params, result, item.is_async)
        self.spans[function] = item.id.span
        return function

    def constructed(self, item: ast.Function, resource: Resource, result: Type) -> Type:
        """What a constructor returns: the resource, or a `result` that it is in."""
        if item.result is None:
            return Own(resource)
        if not isinstance(result, ExpectedOf) or result.ok != Own(resource):
            name = resource.name
            hint = f"expected no result, or `result<{name}, ...>`"
            self.report(item.id.span, f"this constructor does not return `{name}`", hint)
        return result

    # Types where they are used.

    def type_of(self, expr: ast.TypeExpr | None) -> Type:
        match expr:
            case ast.Name(name):
                return self.named(name) or Primitive.UNIT
            case ast.Handle(owns, name):
                resource = self.resource(name)
                return Primitive.UNIT if not resource else Own(resource) if owns else Borrow(resource)
            case ast.Apply():
                return self.applied(expr)
            case _:
                return expr or Primitive.UNIT

    def applied(self, expr: ast.Apply) -> Type:
        types = tuple(self.type_of(argument) for argument in expr.arguments)
        match expr.constructor, types:
            case "list", (element,):
                return ListOf(element) if expr.length is None else FixedListOf(element, expr.length)
            case "option", (value,):
                return OptionOf(value)
            case "result", (ok, err):
                return ExpectedOf(ok, err)
            case "stream", _:
                return StreamOf(types[0] if types else None)
            case "future", _:
                return FutureOf(types[0] if types else None)
            case _:
                return TupleOf(types)

    def named(self, name: Id) -> Type | None:
        target = self.target(name, "type")
        return Own(target) if isinstance(target, Resource) else target

    def resource(self, name: Id) -> Resource | None:
        """The resource that a handle is for; None if there is none, which is or has been reported."""
        target = self.target(name, "resource")
        if isinstance(target, TypeDef):
            target = self.context.aliases.get(target)
            if not target:
                self.report(name.span, f"`{name.name}` is not a resource", "a handle is one of a resource")
        return target

    def target(self, name: Id, what: str) -> Named | None:
        """What a name stands for; None if that is unknown, which is or has been reported."""
        text = name.name
        if text in self.names.targets:
            return self.names.targets[text]
        if text in self.names.broken:
            return None
        if text in self.names.off:
            self.report_off(name, self.names.off[text])
        elif text in self.names.functions:
            self.report(name.span, f"`{text}` is a function, and no {what}")
        else:
            hint = similar(text, chain(PRIMITIVES, self.names.targets))
            if text in _OTHER_SPELLINGS:
                hint = f"it is `{_OTHER_SPELLINGS[text]}`"
            self.report(name.span, f"there is no {what} `{text}`", hint)
        return None

    # Limits.

    def check_types(self) -> None:
        """No type may contain itself, nor be too deep or too large, nor a result lend what is the function's."""
        circles: list[list[TypeDef]] = []
        for type_def in in_order(self.interface.types, self.types_mentioned, circles.append):
            if not circles:
                if not self.is_within_limits(type_def, types_in(type_def.kind)):
                    return
                self.context.lending[type_def] = any(map(self.lends, types_in(type_def.kind)))
        for circle in circles:
            names = trail([type_def.name for type_def in circle])
            self.report(self.spans[circle[0]], f"`{circle[0].name}` contains itself: {names}")
        if not circles:
            self.check_functions(functions_of(self.interface))

    def check_functions(self, functions: Iterable[Function]) -> None:
        for function in functions:
            if not self.is_within_limits(function, types_of(function)):
                return
            if self.lends(function.result):
                message = f"the result of `{function.name}` holds a `borrow`, which only a parameter may"
                self.report(self.spans[function], message)

    def types_mentioned(self, type_def: TypeDef) -> Iterable[TypeDef]:
        """The types of this interface that a type is made of."""
        mentioned = dict.fromkeys(it for type_ in types_in(type_def.kind) for it in named_in(type_))
        return [it for it in mentioned if isinstance(it, TypeDef) and it.interface is self.interface]

    def is_within_limits(self, definition: TypeDef | Function, types: Iterable[Type]) -> bool:
        excess = self.context.measures.excess(definition, types)
        if excess:
            self.report(self.spans[definition], excess)
        return not excess

    def lends(self, type_: Type) -> bool:
        """Whether there is a borrowed handle in a type whose parts have been asked about before."""
        if isinstance(type_, TypeDef):
            return self.context.lending.get(type_, False)
        return isinstance(type_, Borrow) or any(map(self.lends, spelling(type_)[1]))
