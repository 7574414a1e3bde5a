"""Syntax trees to interfaces: files find each other, and names get a meaning.

Where something is wrong, the rest is resolved all the same, so that all errors come out at once; what is built around
an error never leaves this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from bindgen.wit_parser import ast
from bindgen.wit_parser.model import (
    Alias,
    Case,
    Enum,
    ExpectedOf,
    Field,
    Flags,
    Function,
    FunctionKind,
    Interface,
    Kind,
    Label,
    ListOf,
    OptionOf,
    Param,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Use,
    Variant,
    functions_of,
    named_in,
    types_of,
)
from bindgen.wit_parser.order import Measures, in_order, similar, trail, types_in
from bindgen.wit_parser.parser import PRIMITIVES, parse
from bindgen.wit_parser.source import Diagnostic, Reporter, Source, Span, read, same_file

Named: TypeAlias = TypeDef | Resource

_SUFFIXES = (".wit", ".wit.md")
_FILE_NAME = re.compile(r"[^\W\d][\w-]*")
_OTHER_SPELLINGS = {
    "f32": "float32",
    "f64": "float64",
    "float": "float64",
    "double": "float64",
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
    "result": "expected",
    "void": "unit",
}
"""What other languages, and later WIT, call the types of this one."""


def load_many(
    paths: Iterable[str | os.PathLike[str]], search: Iterable[str | os.PathLike[str]] = ()
) -> tuple[Interface, ...]:
    """The interfaces in several files, in their order; they share what they use.

    A file that another one names in a `use` is looked for beside that one, then in the directories `search`. Raises
    WitError, with all errors of all files.
    """
    reporter = Reporter()
    files = _Files(tuple(map(Path, search)), reporter)
    wanted = [files.open(Path(path)) for path in paths]
    files.follow_uses()
    measures = Measures()
    for file in in_order(files.found, _File.used_files, files.report_circle):
        _Resolver(file, measures, reporter).resolve()
    reporter.finish()
    return tuple(file.interface for file in wanted if file is not None)


def load(path: str | os.PathLike[str], search: Iterable[str | os.PathLike[str]] = ()) -> Interface:
    """The interface in the file at `path`. See `load_many`."""
    return load_many([path], search)[0]


# Files.


@dataclass(slots=True)
class _Binding:
    """What a name means in a file, and where it got its meaning there."""

    target: Named
    span: Span
    starred: bool = False
    """Whether it came by `use *`."""


@dataclass(eq=False, slots=True)
class _File:
    source: Source
    items: tuple[ast.Item, ...]
    """Without blocks: what is in them is here."""
    interface: Interface
    uses: dict[str, _File | None] = field(default_factory=dict)
    """The files it uses, by name; None for one that is missing or can't be used, which has been reported."""
    names: dict[str, _Binding] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    """Names whose definitions have errors of their own, which is all there is to say about them."""
    incomplete: bool = False
    """Whether names may be missing because of errors that have been reported."""

    def used_files(self) -> Iterable[_File]:
        return [file for file in self.uses.values() if file]


class _Files:
    """Every file that is read, once however it is named."""

    def __init__(self, search: tuple[Path, ...], reporter: Reporter) -> None:
        self.search = search
        self.reporter = reporter
        self.found: list[_File] = []
        self._opened: dict[str, _File | None] = {}
        """By what `same_file` says; None is a file that can't be read."""

    def open(self, path: Path, notes: tuple[Diagnostic, ...] = ()) -> _File | None:
        """None if the file can't be read, which is reported with `notes`."""
        key = same_file(path)
        if key not in self._opened:
            source = read(path, self.reporter, notes)
            file = self._opened[key] = self._parse(source) if source else None
            if file:
                self.found.append(file)
        return self._opened[key]

    def _parse(self, source: Source) -> _File:
        name = source.path.name.partition(".")[0]
        if not _FILE_NAME.fullmatch(name):
            message = "the name of this file can't be the name of an interface"
            self.reporter.report(Diagnostic(message, source.path))
        tree = parse(source, self.reporter)
        file = _File(source, (), Interface(name, source.path, tree.docs, (), (), (), ()))
        file.broken |= tree.broken
        file.incomplete = tree.incomplete
        file.items = tuple(self._without_blocks(file, tree))
        return file

    def _without_blocks(self, file: _File, tree: ast.File) -> Iterator[ast.Item]:
        """A block named after its file stands for what is in it; there are no others."""
        for item in tree.items:
            if not isinstance(item, ast.Block):
                yield item
            elif item.id.name == file.interface.name:
                file.interface.docs = file.interface.docs or item.docs
                yield from item.items
            else:
                file.incomplete = True
                message = f"a file holds one interface, by the file's name: `{file.interface.name}`"
                hint = f"move this one to `{item.id.name}.wit`"
                self.reporter.report(file.source.say(item.id.span, message, hint))

    def follow_uses(self) -> None:
        """Reads the files that those read so far use, and so on."""
        for file in self.found:  # which grows meanwhile
            for use in file.items:
                if isinstance(use, ast.Use) and use.file.name not in file.uses:
                    file.uses[use.file.name] = self._used(file, use.file)

    def _used(self, file: _File, name: ast.Id) -> _File | None:
        folders = (file.source.path.parent, *self.search)
        candidates = [folder / f"{name.name}{suffix}" for folder in folders for suffix in _SUFFIXES]
        for path in candidates:
            if os.path.lexists(path):
                return self.open(path, (file.source.say(name.span, "it is used here"),))
        notes = tuple(Diagnostic("not found here", path) for path in candidates)
        self.reporter.report(file.source.say(name.span, f"there is no file `{name.name}.wit`", notes=notes))
        return None

    def report_circle(self, circle: list[_File]) -> None:
        """And cuts it where it was found: the file before the last one then uses nothing of that."""
        last, first = circle[-2:]
        use = next(it for it in last.items if isinstance(it, ast.Use) and last.uses[it.file.name] is first)
        last.uses[use.file.name] = None
        names = trail([file.source.path.name for file in circle])
        self.reporter.report(last.source.say(use.file.span, f"files use each other in a circle: {names}"))


# One file.


class _Resolver:
    def __init__(self, file: _File, measures: Measures, reporter: Reporter) -> None:
        self.file = file
        self.interface = file.interface
        self.measures = measures
        """Those of the types of every file so far."""
        self.reporter = reporter
        self.spans: dict[TypeDef | Function, Span] = {}
        """Where what this file defines gets its name."""

    def resolve(self) -> None:
        self.bring_in_uses()
        types, resources = self.define()
        for type_def, item in types:
            type_def.kind = self.kind(item)
        for resource, body in resources:
            resource.functions = self.functions(body.functions, resource)
        self.interface.types = tuple(type_def for type_def, _ in types)
        self.interface.resources = tuple(resource for resource, _ in resources)
        self.interface.functions = self.functions(
            [item for item in self.file.items if isinstance(item, ast.Function)], None
        )
        self.check_limits()

    def report(self, span: Span, message: str, hint: str = "", notes: tuple[Diagnostic, ...] = ()) -> None:
        self.reporter.report(self.file.source.say(span, message, hint, notes))

    def report_twice(self, name: str, one: Span, other: Span) -> None:
        first, second = sorted((one, other))
        note = self.file.source.say(first, f"the first `{name}` is here")
        self.report(second, f"`{name}` is defined twice", notes=(note,))

    # Names.

    def bring_in_uses(self) -> None:
        starred = set()
        for use in self.file.items:
            if isinstance(use, ast.Use):
                used = self.file.uses[use.file.name]
                if use.names is not None:
                    for name in use.names:
                        self.bring_in(name, used)
                elif used is None:
                    self.file.incomplete = True
                elif used not in starred:
                    starred.add(used)
                    self.bring_in_all(used, use.file.span)
        bindings = self.file.names.items()
        self.interface.uses = tuple(Use(name, binding.target) for name, binding in bindings)

    def bring_in(self, name: ast.Used, used: _File | None) -> None:
        if used and name.id.name in used.names:
            self.bind(name.local.name, _Binding(used.names[name.id.name].target, name.local.span))
            return
        self.file.broken.add(name.local.name)
        if used and not used.incomplete and name.id.name not in used.broken:
            message = f"there is no type or resource `{name.id.name}` in `{used.source.path.name}`"
            self.report(name.id.span, message, _did_you_mean(name.id.name, used.names))

    def bring_in_all(self, used: _File, span: Span) -> None:
        for name, binding in used.names.items():
            self.bind(name, _Binding(binding.target, span, starred=True))
        self.file.broken |= used.broken
        self.file.incomplete |= used.incomplete

    def bind(self, name: str, binding: _Binding) -> None:
        """Gives a name its meaning. Several `use *` may give it the same one."""
        first = self.file.names.setdefault(name, binding)
        if first is binding or (first.target is binding.target and first.starred and binding.starred):
            return
        self.report_twice(name, first.span, binding.span)

    def define(
        self,
    ) -> tuple[list[tuple[TypeDef, ast.Alias | ast.Compound]], list[tuple[Resource, ast.Resource]]]:
        """Gives the names of this file's types and resources their meaning; what they are made of comes later."""
        types = []
        resources = []
        for item in self.file.items:
            if isinstance(item, ast.Alias | ast.Compound):
                type_def = TypeDef(item.id.name, item.docs, self.interface, Alias(Primitive.UNIT))
                self.bind(item.id.name, _Binding(type_def, item.id.span))
                self.spans[type_def] = item.id.span
                types.append((type_def, item))
            elif isinstance(item, ast.Resource):
                resource = Resource(item.id.name, item.docs, self.interface, ())
                self.bind(item.id.name, _Binding(resource, item.id.span))
                resources.append((resource, item))
        return types, resources

    def distinct(self, ids: Iterable[ast.Id]) -> None:
        first: dict[str, Span] = {}
        for it in ids:
            if first.setdefault(it.name, it.span) is not it.span:
                self.report_twice(it.name, first[it.name], it.span)

    # Definitions.

    def kind(self, item: ast.Alias | ast.Compound) -> Kind:
        if isinstance(item, ast.Alias):
            return Alias(self.type_of(item.type))
        members = item.members
        self.distinct(member.id for member in members)
        match item.keyword:
            case "record":
                return Record(tuple(Field(it.id.name, it.docs, self.type_of(it.type)) for it in members))
            case "flags":
                return Flags(tuple(Label(it.id.name, it.docs) for it in members))
        if not members:
            self.report(item.id.span, f"`{item.id.name}` has no cases", "expected at least one")
        match item.keyword:
            case "enum":
                return Enum(tuple(Label(it.id.name, it.docs) for it in members))
            case "variant":
                return Variant(tuple(self.case(it) for it in members))
            case _:
                return Union(tuple(self.case(it) for it in members))

    def case(self, member: ast.Member) -> Case:
        return Case(member.id.name, member.docs, None if member.type is None else self.type_of(member.type))

    def functions(self, items: Iterable[ast.Function], resource: Resource | None) -> tuple[Function, ...]:
        items = tuple(items)
        self.distinct(item.id for item in items)
        return tuple(self.function(item, resource) for item in items)

    def function(self, item: ast.Function, resource: Resource | None) -> Function:
        kind = FunctionKind.FREE
        if resource:
            kind = FunctionKind.STATIC if item.static else FunctionKind.METHOD
        self.distinct(param.id for param in item.params)
        params = tuple(Param(param.id.name, self.type_of(param.type)) for param in item.params)
        function = Function(item.id.name, item.docs, kind, resource, params, self.type_of(item.result))
        self.spans[function] = item.id.span
        return function

    # Types.

    def type_of(self, expr: ast.TypeExpr | None) -> Type:
        match expr:
            case ast.Name():
                return self.named(expr) or Primitive.UNIT
            case ast.Apply("list", (element,)):
                return ListOf(self.type_of(element))
            case ast.Apply("option", (value,)):
                return OptionOf(self.type_of(value))
            case ast.Apply("expected", (ok, err)):
                return ExpectedOf(self.type_of(ok), self.type_of(err))
            case ast.Apply(_, items):
                return TupleOf(tuple(map(self.type_of, items)))
            case _:
                return expr or Primitive.UNIT

    def named(self, expr: ast.Name) -> Named | None:
        """What a name stands for; None if that is unknown, which is or has been reported."""
        name, span = expr.id.name, expr.id.span
        if name in self.file.names:
            target = self.file.names[name].target
            if expr.handle and not isinstance(target, Resource):
                self.report(span, f"`{name}` is not a resource")
                return None
            return target
        if name not in self.file.broken and not self.file.incomplete:
            what = "resource" if expr.handle else "type"
            known = chain(PRIMITIVES, self.file.names)
            self.report(span, f"there is no {what} `{name}`", _did_you_mean(name, known))
        return None

    # Limits.

    def check_limits(self) -> None:
        """No type may contain itself, nor be so deep or so large that what reads it would give out."""
        for type_def in in_order(self.interface.types, self.types_mentioned, self.report_recursion):
            if not self.is_within_limits(type_def, types_in(type_def.kind)):
                return
        for function in functions_of(self.interface):
            if not self.is_within_limits(function, types_of(function)):
                return

    def types_mentioned(self, type_def: TypeDef) -> Iterable[TypeDef]:
        """The types of this file that a type is made of."""
        mentioned = dict.fromkeys(it for type_ in types_in(type_def.kind) for it in named_in(type_))
        return [it for it in mentioned if isinstance(it, TypeDef) and it.interface is self.interface]

    def report_recursion(self, circle: list[TypeDef]) -> None:
        name = circle[0].name
        names = trail([type_def.name for type_def in circle])
        self.report(self.spans[circle[0]], f"`{name}` contains itself: {names}")

    def is_within_limits(self, definition: TypeDef | Function, types: Iterable[Type]) -> bool:
        excess = self.measures.excess(definition, types)
        if excess:
            self.report(self.spans[definition], excess)
        return not excess


# Messages.


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint, or nothing. It looks at some hundred names at most, as there may be very many."""
    if name in _OTHER_SPELLINGS:
        return f"in this dialect, it is `{_OTHER_SPELLINGS[name]}`"
    return similar(name, known)
