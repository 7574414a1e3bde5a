"""Tokens to a syntax tree.

A recursive descent, a method a construct, after the grammar in
https://github.com/WebAssembly/component-model/blob/main/design/mvp/WIT.md. What can't be read is reported once; then
reading goes on behind that item.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from bindgen.wit_packages import ast
from bindgen.wit_packages.lexer import DIALECT, is_version
from bindgen.wit_parser.ast import Id
from bindgen.wit_parser.lexer import lex
from bindgen.wit_parser.model import FunctionKind, Primitive
from bindgen.wit_parser.parser import MAX_DEPTH
from bindgen.wit_parser.reader import Broken, TokenReader
from bindgen.wit_parser.source import Reporter, Source

T = TypeVar("T")

PRIMITIVES = {
    "f32": Primitive.FLOAT32,
    "f64": Primitive.FLOAT64,
    **{
        primitive.value: primitive
        for primitive in Primitive
        if primitive not in (Primitive.FLOAT32, Primitive.FLOAT64, Primitive.UNIT)
    },
}
"""The types that need no definition, by how they are written."""

MAX_LENGTH = 2**32 - 1
"""Of a list of a fixed length: what the binary format can say."""

_COMPOUNDS = frozenset(["record", "flags", "variant", "enum"])
_TYPE_ITEMS = _COMPOUNDS | {"type", "resource"}
_BLOCKS = frozenset(["interface", "world", "package"])
_ITEMS = _TYPE_ITEMS | _BLOCKS | {"use", "import", "export", "include"}
_OUTSIDE = "outside of interfaces and worlds there are `package`, `use`, `interface` and `world`"


def parse(source: Source, reporter: Reporter) -> ast.File:
    """What can be read of `source`. The rest is reported."""
    return _Parser(lex(source, reporter, DIALECT), reporter).file()


class _Parser(TokenReader):
    # Tokens.

    def version(self) -> Id:
        if not is_version(self.text):
            raise self.unexpected("expected a version, like `1.2.3`")
        span = self.tokens.span(self.index)
        return Id(self.advance(), span)

    def word(self, text: str) -> None:
        """Goes past a name that means something in its place only, such as `version`."""
        if not self.take(text):
            raise self.unexpected(f"expected `{text}`")

    def semicolon(self) -> None:
        """Goes past a `;`. Where one is missing at the end of a line, all that follows can be read nevertheless."""
        if self.take(";"):
            return
        broken = self.unexpected("expected `;`")
        if not self.begins_line(self.index):
            raise broken

    def begins_line(self, index: int) -> bool:
        """Whether a token is the first one of its line."""
        if not self.texts[index]:
            return True
        start, _ = self.tokens.span(index)
        _, end = self.tokens.span(index - 1) if index else (0, 0)
        return not index or "\n" in self.tokens.source.code[end:start]

    def docs(self) -> str:
        return self.tokens.docs_before(self.index)

    # What is broken.

    def item_or_nothing(self, read: Callable[[], T]) -> list[T]:
        """What `read` reads, unless it is broken; then it is skipped."""
        start = self.index
        try:
            return [read()]
        except Broken:
            self.skip_item(start)
            return []

    def skip_item(self, start: int) -> None:
        """Goes behind a broken item, or to what ends what it is in, or to what can only begin the next."""
        read = self.texts[start : self.index]
        depth = read.count("{") - read.count("}")
        index = max(self.index, start + 1)
        while text := self.texts[index]:
            if text == "{":
                depth += 1
            elif text == "}":
                if depth <= 0:
                    break
                depth -= 1
                if not depth:
                    index += 2 if self.texts[index + 1] == ";" else 1
                    break
            elif text == ";" and depth <= 0:
                index += 1
                break
            elif self.begins_item(index) if depth <= 0 else self.begins_block(index):
                break
            index += 1
        self.go_to(index)

    def begins_item(self, index: int) -> bool:
        """Whether an item begins here, outside of braces: its keyword is no name, and comes first in a line."""
        return self.texts[index] in _ITEMS and self.begins_line(index)

    def begins_block(self, index: int) -> bool:
        """Whether `interface NAME {` or its like is here, at the very beginning of a line, wherever that is."""
        start, _ = self.tokens.span(index)
        unindented = start == 0 or self.tokens.source.code[start - 1] == "\n"
        return self.texts[index] in _BLOCKS and unindented and self.texts[index + 1] not in ("", ":")

    def items(self, read: Callable[[], T]) -> tuple[T, ...]:
        """`{ ITEMS }`."""
        opened = self.index
        self.expect("{")
        found: list[T] = []
        while not self.take("}"):
            if not self.text or self.begins_block(self.index):
                raise self.unexpected("expected `}`", opened)
            found += self.item_or_nothing(read)
        return tuple(found)

    # Files and packages.

    def file(self) -> ast.File:
        name = None
        is_named = False
        docs = ""
        items: list[ast.PackageItem] = []
        nested: list[ast.Nested] = []
        while self.text:
            if self.text == "package":
                is_first = not self.index
                before = self.docs()
                read = self.item_or_nothing(self.package)
                is_named |= is_first and not any(isinstance(found, ast.Nested) for found in read)
                for found in read:
                    if isinstance(found, ast.Nested):
                        nested.append(found)
                    elif is_first:
                        name, docs = found, before
                    else:
                        message = "a file names its package once, before everything else"
                        hint = "another package in the same file is `package NAME { ... }`"
                        self.reporter.report(self.tokens.source.say(found.span, message, hint))
            else:
                items += self.item_or_nothing(self.package_item)
        return ast.File(name, is_named, docs, tuple(items), tuple(nested))

    def package(self) -> ast.PackageName | ast.Nested:
        """`package NAME;` or `package NAME { ITEMS }`."""
        docs = self.docs()
        self.advance()
        name = self.package_name()
        if self.text == "{":
            return ast.Nested(name, docs, self.items(self.package_item))
        self.semicolon()
        return name

    def package_name(self) -> ast.PackageName:
        namespace = self.name("a namespace")
        self.expect(":")
        name = self.name("the name of a package")
        return self.with_version(namespace, name)

    def with_version(self, namespace: Id, name: Id) -> ast.PackageName:
        version = self.version() if self.take("@") else None
        span = (namespace.span[0], (version or name).span[1])
        return ast.PackageName(namespace.name, name.name, version.name if version else None, span)

    def package_item(self) -> ast.PackageItem:
        docs = self.docs()
        gate = self.gate()
        if self.text == "use":
            return self.top_use()
        if self.text == "interface":
            self.refuse_external_id(gate)
            self.advance()
            found = self.name("the name of an interface")
            return ast.Interface(gate, found, docs, self.items(self.interface_item))
        if self.text == "world":
            self.refuse_external_id(gate)
            self.advance()
            found = self.name("the name of a world")
            return ast.World(gate, found, docs, self.items(self.world_item))
        raise self.unexpected("a package can't be within a package" if self.text == "package" else _OUTSIDE)

    def top_use(self) -> ast.TopUse:
        """`use PATH;` or `use PATH as NAME;`."""
        self.advance()
        path = self.path()
        local = self.name("the name it gets here") if self.take("as") else path.id
        self.semicolon()
        return ast.TopUse(path, local)

    def path(self) -> ast.Path:
        first = self.name("the name of an interface or world")
        if not self.take(":"):
            return ast.Path(None, first)
        name = self.name("the name of a package")
        self.expect("/")
        found = self.name("the name of an interface or world")
        package = self.with_version(first, name)
        return ast.Path(package, found)

    # Gates.

    def gate(self) -> ast.Gate:
        """What stands before an item and begins with `@`."""
        gate = ast.Gate()
        seen: dict[str, int] = {}
        while self.text == "@":
            at = self.index
            self.advance()
            name = self.text
            if name in seen:
                self.report(self.index, f"`@{name}` is here twice")
            seen.setdefault(name, at)
            self.attribute(gate)
        if "since" in seen and "unstable" in seen:
            self.report(max(seen["since"], seen["unstable"]), "an item is either `@since` a version or `@unstable`")
        if "deprecated" in seen and not seen.keys() & {"since", "unstable"}:
            self.report(seen["deprecated"], "what is `@deprecated` is also `@since` a version, or `@unstable`")
        return gate

    def attribute(self, gate: ast.Gate) -> None:
        """The rest of `@since(version = ...)` and its like."""
        if self.text == "external-id":
            gate.external_id = self.tokens.span(self.index)
            self.advance()
            self.expect("(")
            if not self.text.startswith('"'):
                raise self.unexpected("expected a string")
            self.advance()
        elif self.text == "unstable":
            self.advance()
            self.expect("(")
            self.word("feature")
            self.expect("=")
            gate.feature = self.name("the name of a feature")
        elif self.text in ("since", "deprecated"):
            keyword = self.advance()
            self.expect("(")
            self.word("version")
            self.expect("=")
            version = self.version()
            if keyword == "since":
                gate.since = version
        else:
            raise self.unexpected("expected `since`, `unstable`, `deprecated` or `external-id`")
        self.expect(")")

    def refuse_external_id(self, gate: ast.Gate) -> None:
        if gate.external_id:
            message = "`@external-id` belongs to what is imported or exported, to types and to functions"
            self.reporter.report(self.tokens.source.say(gate.external_id, message))

    # Interfaces.

    def interface_item(self) -> ast.InterfaceItem:
        docs = self.docs()
        gate = self.gate()
        if self.text == "use":
            return self.use(gate)
        if self.text in _TYPE_ITEMS:
            return self.type_item(gate, docs)
        if self.is_name(self.index):
            return self.function(gate, docs)
        raise self.unexpected(
            "an interface holds functions, `use`, `type`, `record`, `flags`, `variant`, `enum` and `resource`"
        )

    def use(self, gate: ast.Gate) -> ast.Use:
        """`use PATH.{a, b as c};`."""
        self.refuse_external_id(gate)
        self.advance()
        path = self.path()
        self.expect(".")
        names = self.listed("{", "}", lambda: self.renamed(optional=True))
        self.semicolon()
        return ast.Use(gate, path, names)

    def renamed(self, optional: bool) -> ast.Renamed:
        found = self.name("a name")
        if optional and self.text != "as":
            return ast.Renamed(found, found)
        self.expect("as")
        return ast.Renamed(found, self.name("the name it gets here"))

    def function(self, gate: ast.Gate, docs: str) -> ast.Function:
        """`NAME: func(...) -> TYPE;`."""
        found = self.name("the name of a function")
        self.expect(":")
        function = self.function_type(gate, docs, found, FunctionKind.FREE)
        self.semicolon()
        return function

    def function_type(self, gate: ast.Gate, docs: str, name: Id, kind: FunctionKind) -> ast.Function:
        is_async = self.take("async")
        if self.text in ("get", "set") and self.texts[self.index + 1] == "(" and not is_async:
            self.refuse("use a function: `func`")
            self.advance()
        else:
            self.expect("func")
        params = self.listed("(", ")", self.param)
        result = self.type_expr() if self.take("->") else None
        return ast.Function(gate, name, docs, kind, is_async, params, result)

    def param(self) -> ast.Param:
        found = self.name("the name of a parameter")
        self.expect(":")
        return ast.Param(found, self.type_expr())

    def type_item(self, gate: ast.Gate, docs: str) -> ast.TypeItem:
        if self.text == "type":
            return self.alias(gate, docs)
        return self.resource(gate, docs) if self.text == "resource" else self.compound(gate, docs)

    def alias(self, gate: ast.Gate, docs: str) -> ast.Alias:
        """`type NAME = TYPE;`."""
        self.advance()
        defined = self.name("a name")
        self.expect("=")
        type_ = self.type_expr()
        self.semicolon()
        return ast.Alias(gate, defined, docs, type_)

    def compound(self, gate: ast.Gate, docs: str) -> ast.Compound:
        """`record NAME { ... }` and its like."""
        keyword = self.advance()
        defined = self.name("a name")
        readers = {"record": self.field, "variant": self.case}
        members = self.listed("{", "}", readers.get(keyword, self.label))
        return ast.Compound(gate, keyword, defined, docs, members)

    def field(self) -> ast.Member:
        docs = self.docs()
        found = self.name("the name of a field")
        self.expect(":")
        return ast.Member(found, docs, self.type_expr())

    def label(self) -> ast.Member:
        docs = self.docs()
        return ast.Member(self.name("a name"), docs, None)

    def case(self) -> ast.Member:
        docs = self.docs()
        found = self.name("the name of a case")
        payload = None
        if self.take("("):
            payload = self.type_expr()
            self.expect(")")
        return ast.Member(found, docs, payload)

    def resource(self, gate: ast.Gate, docs: str) -> ast.Resource:
        """`resource NAME;` or `resource NAME { FUNCTIONS }`."""
        self.advance()
        defined = self.name("a name")
        functions: tuple[ast.Function, ...] = ()
        if self.text == "{":
            functions = self.items(self.resource_function)
        else:
            self.semicolon()
        return ast.Resource(gate, defined, docs, functions)

    def resource_function(self) -> ast.Function:
        docs = self.docs()
        gate = self.gate()
        span = self.tokens.span(self.index)
        if self.take("constructor"):
            params = self.listed("(", ")", self.param)
            result = self.type_expr() if self.take("->") else None
            function = ast.Function(
                gate, Id("constructor", span), docs, FunctionKind.CONSTRUCTOR, False, params, result
            )
        else:
            found = self.name("a function, or `constructor`")
            self.expect(":")
            kind = FunctionKind.STATIC if self.take("static") else FunctionKind.METHOD
            function = self.function_type(gate, docs, found, kind)
        self.semicolon()
        return function

    # Worlds.

    def world_item(self) -> ast.WorldItem:
        docs = self.docs()
        gate = self.gate()
        if self.text in ("import", "export"):
            return self.extern(gate, docs)
        if self.text == "include":
            return self.include(gate)
        if self.text == "use":
            return self.use(gate)
        if self.text in _TYPE_ITEMS:
            return self.type_item(gate, docs)
        raise self.unexpected("a world holds `import`, `export`, `include`, `use` and types")

    def extern(self, gate: ast.Gate, docs: str) -> ast.Extern:
        """`import PATH;`, `import NAME: PATH;`, `import NAME: func(...);` or `import NAME: interface { ... }`."""
        keyword = self.advance()
        if self.texts[self.index + 1] != ":" or self.texts[min(self.index + 3, len(self.texts) - 1)] == "/":
            path = self.path()
            self.semicolon()
            return ast.Extern(gate, keyword, path.id, path)
        name = self.name(f"the name of what is {keyword}ed")
        self.expect(":")
        if self.take("interface"):
            return ast.Extern(
                gate, keyword, name, ast.Interface(ast.Gate(), name, docs, self.items(self.interface_item))
            )
        is_path = self.is_name(self.index) and self.texts[self.index + 1] != "("
        kind = self.path() if is_path else self.function_type(ast.Gate(), docs, name, FunctionKind.FREE)
        self.semicolon()
        return ast.Extern(gate, keyword, name, kind, is_path)

    def include(self, gate: ast.Gate) -> ast.Include:
        """`include PATH;` or `include PATH with { a as b }`, which may do without `;`."""
        self.refuse_external_id(gate)
        self.advance()
        path = self.path()
        names: tuple[ast.Renamed, ...] = ()
        if self.take("with"):
            names = self.listed("{", "}", lambda: self.renamed(optional=False))
            self.take(";")
        else:
            self.semicolon()
        return ast.Include(gate, path, names)

    # Types.

    def type_expr(self, depth: int = 1) -> ast.TypeExpr:
        if depth > MAX_DEPTH:
            self.report(self.index, f"types are nested more than {MAX_DEPTH} deep here")
            raise Broken
        if self.text in PRIMITIVES:
            return PRIMITIVES[self.advance()]
        readers = {
            "list": self.list_type,
            "map": self.map_type,
            "option": lambda depth: self.applied("option", range(1, 2), depth),
            "tuple": lambda depth: self.applied("tuple", range(1, sys.maxsize), depth),
            "result": self.result_type,
            "future": lambda depth: self.applied("future", range(2), depth),
            "stream": lambda depth: self.applied("stream", range(2), depth),
            "own": self.handle,
            "borrow": self.handle,
        }
        if self.text in readers:
            return readers[self.text](depth + 1)
        if not self.is_name(self.index):
            raise self.unexpected("expected a type")
        return ast.Name(self.name("a type"))

    def applied(self, constructor: str, counts: range, depth: int) -> ast.TypeExpr:
        """`option<T>`, `tuple<T, U>` and the like; without brackets where no types may be enough."""
        at = self.index
        self.advance()
        if self.text != "<" and 0 in counts:
            return ast.Apply(constructor, ())
        arguments = self.listed("<", ">", lambda: self.type_expr(depth))
        if len(arguments) not in counts or not arguments:
            self.report(at, f"`{constructor}` takes {'at least one type' if constructor == 'tuple' else 'one type'}")
            raise Broken
        return ast.Apply(constructor, arguments)

    def result_type(self, depth: int) -> ast.TypeExpr:
        """`result`, `result<T>`, `result<T, E>` or `result<_, E>`."""
        self.advance()
        ok: ast.TypeExpr | None = None
        error: ast.TypeExpr | None = None
        if self.take("<"):
            if self.take("_"):
                self.expect(",")
                error = self.type_expr(depth)
            else:
                ok = self.type_expr(depth)
                if self.take(","):
                    error = self.type_expr(depth)
            self.expect(">")
        return ast.Apply("result", (ok, error))

    def list_type(self, depth: int) -> ast.TypeExpr:
        """`list<T>` or `list<T, LENGTH>`."""
        self.advance()
        self.expect("<")
        element = self.type_expr(depth)
        length = None
        if self.take(","):
            if not self.text.isdecimal() or len(self.text) > 10 or not 0 < int(self.text) <= MAX_LENGTH:
                raise self.unexpected(f"expected the length of the list, from 1 to {MAX_LENGTH}")
            length = int(self.advance())
        self.expect(">")
        return ast.Apply("list", (element,), length)

    def map_type(self, depth: int) -> ast.TypeExpr:
        """`map<K, V>`, which no version of WASI has."""
        self.refuse("use a list of pairs, which looks the same to a component: `list<tuple<K, V>>`")
        self.advance()
        self.expect("<")
        key = self.type_expr(depth)
        self.expect(",")
        value = self.type_expr(depth)
        self.expect(">")
        return ast.Apply("list", (ast.Apply("tuple", (key, value)),))

    def handle(self, depth: int) -> ast.TypeExpr:
        """`own<RESOURCE>` or `borrow<RESOURCE>`."""
        keyword = self.advance()
        self.expect("<")
        resource = self.name("the name of a resource")
        self.expect(">")
        return ast.Handle(keyword == "own", resource)
