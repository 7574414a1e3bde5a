"""Tokens, one after another: what the parsers of both dialects have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bindgen.wit_parser.ast import Id
from bindgen.wit_parser.lexer import Tokens
from bindgen.wit_parser.source import Diagnostic, Reporter

T = TypeVar("T")


class Broken(Exception):
    """An item can't be read on. Why has been reported."""


class TokenReader:
    """Goes through the tokens of a file, and reports what is not what the grammar asks for."""

    def __init__(self, tokens: Tokens, reporter: Reporter) -> None:
        self.tokens = tokens
        self.dialect = tokens.dialect
        self.reporter = reporter
        self.texts = [*tokens.texts, "", ""]
        self.index = 0
        self.text = self.texts[0]
        """The token to be read next; empty at the end of the file."""

    def go_to(self, index: int) -> None:
        self.index = index
        self.text = self.texts[index]

    def advance(self) -> str:
        """Goes past a token and returns it."""
        text = self.text
        if text:
            self.index += 1
            self.text = self.texts[self.index]
        return text

    def take(self, text: str) -> bool:
        """Goes past the next token if it is `text`."""
        if self.text != text:
            return False
        self.index += 1
        self.text = self.texts[self.index]
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.unexpected(f"expected `{text}`")

    def name(self, what: str) -> Id:
        if not self.is_name(self.index):
            is_keyword = self.text in self.dialect.keywords and self.text != "_"
            raise self.unexpected(
                f"`{self.text}` is a keyword; the name is `%{self.text}`" if is_keyword else f"expected {what}"
            )
        span = self.tokens.span(self.index)
        return Id(self.advance().removeprefix("%"), span)

    def is_name(self, index: int) -> bool:
        text = self.texts[index]
        if not text or text in self.dialect.punctuation or text in self.dialect.keywords or text in self.tokens.wrong:
            return False
        return text[0] not in '"0123456789'  # as strings and versions begin

    def unexpected(self, hint: str, opened: int | None = None) -> Broken:
        """Reports the next token as unexpected, unless the lexer has had something to say about it.

        `opened` is the brace that is still open, which explains why the end of the file is too early.
        """
        if self.text not in self.tokens.wrong:
            found = f"`{self.text}`" if self.text else "end of the file"
            notes: tuple[Diagnostic, ...] = ()
            if not self.text and opened is not None:
                note = f"this `{self.texts[opened]}` is not closed"
                notes = (self.tokens.source.say(self.tokens.span(opened), note),)
            self.report(self.index, f"unexpected {found}", hint, notes)
        return Broken()

    def refuse(self, hint: str) -> None:
        """Reports the next token as something that this dialect has, and we don't."""
        self.report(self.index, f"`{self.text}` is not supported", hint)

    def report(self, index: int, message: str, hint: str = "", notes: tuple[Diagnostic, ...] = ()) -> None:
        self.reporter.report(self.tokens.source.say(self.tokens.span(index), message, hint, notes))

    def listed(self, opening: str, closing: str, element: Callable[[], T]) -> tuple[T, ...]:
        """Elements with commas between them, and perhaps one after the last."""
        opened = self.index
        self.expect(opening)
        found: list[T] = []
        while not self.take(closing):
            if not self.text:
                raise self.unexpected(f"expected `{closing}`", opened)
            found.append(element())
            if not self.take(",") and self.text != closing:
                raise self.unexpected(f"expected `,` or `{closing}`", opened)
        return tuple(found)
