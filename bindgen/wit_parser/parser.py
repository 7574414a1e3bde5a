"""Tokens to a syntax tree.

A recursive descent, a method a construct. What can't be read is reported once; then reading goes on at what looks
like the next item, or like the next function of a resource.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from bindgen.wit_parser import ast
from bindgen.wit_parser.lexer import PUNCTUATION, Tokens, lex
from bindgen.wit_parser.model import Primitive
from bindgen.wit_parser.reader import Broken, TokenReader
from bindgen.wit_parser.source import Reporter, Source

MAX_DEPTH = 64
"""How deep types may be nested, in one place and through their names."""

T = TypeVar("T")

PRIMITIVES = {primitive.value: primitive for primitive in Primitive if primitive is not Primitive.ERROR_CONTEXT}
"""The types that WIT of 2022 has without a definition, by how they are written."""

_COMPOUNDS = frozenset(["record", "flags", "variant", "union", "enum"])
_ITEMS = _COMPOUNDS | {"use", "type", "resource", "interface"}
_FUNCTION = frozenset(["func", "function", "async"])
"""`function` is an older spelling of `func`."""

_ARGUMENTS = {
    "list": range(1, 2),
    "option": range(1, 2),
    "expected": range(3),
    "tuple": range(sys.maxsize),
    "future": range(2),
    "stream": range(3),
}
"""How many types a type may take."""

_NOT_ASYNC = "functions and types are synchronous here"

_MISPLACED = {
    "static": "a `static` function belongs to a resource",
    "interface": "an interface holds no other interface",
    ";": "nothing ends with `;` here",
}

_LATER_ITEMS = frozenset(["package", "world", "import", "export", "include"])
_LATER_TYPES = {"result": "`expected<T, E>`", "own": "the resource's name", "borrow": "the resource's name"}
"""WIT as it is today, and what stands for it here."""


def parse(source: Source, reporter: Reporter) -> ast.File:
    """What can be read of `source`. The rest is reported."""
    return _Parser(lex(source, reporter), reporter).file()


class _Parser(TokenReader):
    def __init__(self, tokens: Tokens, reporter: Reporter) -> None:
        super().__init__(tokens, reporter)
        self.broken: set[str] = set()
        self.incomplete = False

    # Items.

    def file(self) -> ast.File:
        items = []
        while self.text:
            items += self.item_or_nothing(self.item)
        return ast.File(self.tokens.docs, tuple(items), frozenset(self.broken), self.incomplete)

    def item_or_nothing(self, read: Callable[[], T]) -> list[T]:
        """What `read` reads, unless it is broken; then it is skipped."""
        start = self.index
        try:
            return [read()]
        except Broken:
            self.broken.add(self.texts[start + 1].removeprefix("%"))
            self.incomplete |= self.texts[start] in ("use", "interface")
            self.skip_item(start)
            return []

    def skip_item(self, start: int) -> None:
        """Goes to the end of a broken item, or to what can only be the beginning of the next."""
        read = self.texts[start : self.index]
        depth = read.count("{") - read.count("}")
        index = max(self.index, start + 1)
        while text := self.texts[index]:
            if text == "{":
                depth += 1
            elif text == "}":
                depth -= 1
                if depth <= 0:
                    index += depth == 0
                    break
            elif self.may_begin_item(index) if depth <= 0 else self.begins_item(index) and self.is_unindented(index):
                break
            index += 1
        self.go_to(index)

    def may_begin_item(self, index: int) -> bool:
        """Outside of braces, which is where items are; but there are also the ruins of the item before."""
        if self.begins_item(index) or self.begins_function(index):
            return True
        return self.texts[index][0].isalpha() and self.is_unindented(index)

    def is_unindented(self, index: int) -> bool:
        start, _ = self.tokens.span(index)
        return start == 0 or self.tokens.source.code[start - 1] == "\n"

    def begins_item(self, index: int) -> bool:
        """Whether an item begins here, wherever that is: keywords are no names, and have punctuation after names."""
        text, following = self.texts[index], self.texts[index + 1]
        return text in _ITEMS and (following in ("{", "*") if text == "use" else following not in PUNCTUATION)

    def begins_function(self, index: int) -> bool:
        return self.texts[index + 1] == ":" and self.texts[index + 2] in _FUNCTION and self.is_name(index)

    def item(self, in_block: bool = False) -> ast.Item:
        docs = self.tokens.docs_before(self.index)
        text = self.text
        if self.texts[self.index + 1] == ":":
            return self.function(docs)
        if text == "use":
            return self.use()
        if text == "type":
            return self.alias(docs)
        if text in _COMPOUNDS:
            return self.compound(docs)
        if text == "resource":
            return self.resource(docs)
        if text == "interface" and not in_block:
            return self.block(docs)
        hint = "expected an item: `use`, `type`, `record`, `flags`, `variant`, `union`, `enum`, `resource`, a function"
        if text in _LATER_ITEMS:
            hint = f"this is the WIT of wit-bindgen 0.2, from August 2022, which has no `{text}`"
        raise self.unexpected(_MISPLACED.get(text, hint))

    def use(self) -> ast.Use:
        """`use * from FILE`, `use { a, b as c } from FILE`."""
        self.advance()
        names = None if self.take("*") else self.listed("{", "}", self.used)
        self.expect("from")
        file = self.name("the name of a file, without `.wit`")
        if self.text == ":":
            raise self.unexpected("a file holds one interface, so that its name says all")
        return ast.Use(names, file)

    def used(self) -> ast.Used:
        found = self.name("the name of a type or resource")
        return ast.Used(found, self.name("the name it gets here") if self.take("as") else found)

    def alias(self, docs: str) -> ast.Alias:
        """`type NAME = TYPE`."""
        self.advance()
        defined = self.name("a name")
        self.expect("=")
        return ast.Alias(defined, docs, self.type_expr())

    def compound(self, docs: str) -> ast.Compound:
        """`record NAME { ... }` and its like."""
        keyword = self.advance()
        defined = self.name("a name")
        readers = {"record": self.field, "variant": self.case, "union": self.unnamed_case}
        members = self.listed("{", "}", readers.get(keyword, self.label))
        if keyword == "union":
            members = tuple(
                replace(member, id=replace(member.id, name=str(index))) for index, member in enumerate(members)
            )
        return ast.Compound(keyword, defined, docs, members)

    def field(self) -> ast.Member:
        docs = self.tokens.docs_before(self.index)
        found = self.name("the name of a field")
        self.expect(":")
        return ast.Member(found, docs, self.type_expr())

    def label(self) -> ast.Member:
        docs = self.tokens.docs_before(self.index)
        return ast.Member(self.name("a name"), docs, None)

    def case(self) -> ast.Member:
        docs = self.tokens.docs_before(self.index)
        found = self.name("the name of a case")
        payload = None
        if self.take("("):
            payload = self.type_expr()
            self.expect(")")
        return ast.Member(found, docs, payload)

    def unnamed_case(self) -> ast.Member:
        docs = self.tokens.docs_before(self.index)
        span = self.tokens.span(self.index)
        return ast.Member(ast.Id("", span), docs, self.type_expr())

    def resource(self, docs: str) -> ast.Resource:
        """`resource NAME`, or `resource NAME { FUNCTIONS }`."""
        self.advance()
        defined = self.name("a name")
        functions = []
        opened = self.index
        if self.take("{"):
            while not self.take("}"):
                if not self.text or self.begins_item(self.index):
                    raise self.unexpected("expected a function or `}`", opened)
                functions += self.function_or_nothing()
        return ast.Resource(defined, docs, tuple(functions))

    def function_or_nothing(self) -> list[ast.Function]:
        """A function of a resource, unless it is broken; then it is skipped."""
        start = self.index
        try:
            docs = self.tokens.docs_before(self.index)
            return [self.function(docs, static=self.take("static"))]
        except Broken:
            self.skip_function(start)
            return []

    def skip_function(self, start: int) -> None:
        """Goes to the next function of the resource, or to the end of the resource."""
        index = max(self.index, start + 1)
        while (text := self.texts[index]) and text != "}":
            if text == "static" or self.begins_function(index) or self.begins_item(index):
                break
            index += 1
        self.go_to(index)

    def function(self, docs: str, static: bool = False) -> ast.Function:
        """`NAME: func(a: TYPE, ...) -> TYPE`, with or without a result."""
        found = self.name("a function")
        self.expect(":")
        if self.text == "async":
            self.refuse(_NOT_ASYNC)
            self.advance()
        if self.text not in _FUNCTION:
            raise self.unexpected("expected `func`")
        self.advance()
        params = self.listed("(", ")", self.param)
        result = self.type_expr() if self.take("->") else Primitive.UNIT
        return ast.Function(found, docs, static, params, result)

    def param(self) -> ast.Param:
        found = self.name("the name of a parameter")
        self.expect(":")
        return ast.Param(found, self.type_expr())

    def block(self, docs: str) -> ast.Block:
        """`interface NAME { ITEMS }`."""
        self.advance()
        name = self.name("a name")
        items = []
        opened = self.index
        self.expect("{")
        while not self.take("}"):
            if not self.text:
                raise self.unexpected("expected `}`", opened)
            items += self.item_or_nothing(lambda: self.item(in_block=True))
        return ast.Block(name, docs, tuple(items))

    # Types.

    def type_expr(self, depth: int = 1) -> ast.TypeExpr:
        if depth > MAX_DEPTH:
            self.report(self.index, f"types are nested more than {MAX_DEPTH} deep here")
            raise Broken
        if self.text in PRIMITIVES:
            return PRIMITIVES[self.advance()]
        if self.text in _ARGUMENTS:
            return self.applied_type(depth)
        if self.take("handle"):
            return ast.Name(self.name("the name of a resource"), handle=True)
        if not self.is_name(self.index):
            raise self.unexpected("expected a type")
        found = ast.Name(self.name("a type"), handle=False)
        if self.text == "<":
            instead = _LATER_TYPES.get(found.id.name)
            raise self.unexpected(
                f"in this dialect, it is {instead}" if instead else f"`{found.id.name}` takes no types"
            )
        return found

    def applied_type(self, depth: int) -> ast.TypeExpr:
        """`list<T>` and its like. In `expected`, `_` is `unit`, and so is what is left out."""
        at = self.index
        is_refused = self.text in ("future", "stream")
        if is_refused:
            self.refuse(_NOT_ASYNC)
        constructor = self.advance()
        arguments: tuple[ast.TypeExpr, ...] = ()
        if self.text == "<" or constructor in ("list", "option", "tuple"):
            arguments = self.listed("<", ">", lambda: self.argument(constructor, depth + 1))
        if is_refused:
            return Primitive.UNIT
        if len(arguments) not in _ARGUMENTS[constructor]:
            number = "one type" if constructor != "expected" else "at most two types"
            self.report(at, f"`{constructor}` takes {number}")
            return Primitive.UNIT
        if constructor == "expected":
            arguments = (*arguments, Primitive.UNIT, Primitive.UNIT)[:2]
        return ast.Apply(constructor, arguments)

    def argument(self, constructor: str, depth: int) -> ast.TypeExpr:
        if constructor == "expected" and self.take("_"):
            return Primitive.UNIT
        return self.type_expr(depth)
