"""Reads the bytes of a component one after the other.

Unlike the reader of `slight_py.sections`, this one is strict, and its errors say where in the file they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from slight_py.component.errors import InvalidComponent, UnsupportedComponent

T = TypeVar("T")

MAX_NAME = 100_000
"""In bytes; wasmtime's limit."""


@dataclass(slots=True)
class Reader:
    """A range of a file. Its methods raise InvalidComponent."""

    wasm: bytes
    at: int
    end: int

    def invalid(self, problem: str, at: int | None = None) -> InvalidComponent:
        """The exception for what is being read here, or for what is at the offset `at`."""
        return InvalidComponent(self.at if at is None else at, problem)

    def unsupported(self, problem: str, at: int | None = None) -> UnsupportedComponent:
        return UnsupportedComponent(self.at if at is None else at, problem)

    def peek(self) -> int:
        if self.at >= self.end:
            raise self.invalid("it ends too early")
        return self.wasm[self.at]

    def byte(self) -> int:
        if self.at >= self.end:
            raise self.invalid("it ends too early")
        self.at += 1
        return self.wasm[self.at - 1]

    def u32(self) -> int:
        """A number of up to 32 bits in LEB128."""
        byte = self.byte()
        if byte < 0x80:
            return byte
        start = self.at - 1
        value = byte & 0x7F
        for shift in (7, 14, 21, 28):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 32:
                    raise self.invalid("a number of more than 32 bits", start)
                return value
        raise self.invalid("a number of more than 32 bits", start)

    def index(self) -> int:
        """A type's number where a negative number would be a primitive type: 33 bits, signed, in LEB128."""
        start = self.at
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte & 0x40 or value >> 32:
                    raise self.invalid(f"{self.wasm[start]:#x} is no type", start)
                return value
        raise self.invalid("a number of more than 33 bits", start)

    def skip_signed(self, most: int) -> None:
        """Passes over a signed number of at most so many bytes in LEB128."""
        for _ in range(most):
            if self.byte() < 0x80:
                return
        raise self.invalid("a number that is too long")

    def skip(self, size: int) -> None:
        if size > self.end - self.at:
            raise self.invalid("it ends too early")
        self.at += size

    def name(self) -> str:
        start = self.at
        size = self.u32()
        if size > MAX_NAME:
            raise self.invalid(f"a name of {size:,} bytes, of which there may be {MAX_NAME:,}", start)
        self.skip(size)
        try:
            return self.wasm[self.at - size : self.at].decode()
        except UnicodeDecodeError:
            raise self.invalid("a name that is not UTF-8", start) from None

    def count(self, what: str, most: int) -> int:
        """How many of what follows there are. What takes at least a byte can't be more than the bytes that are left."""
        start = self.at
        count = self.u32()
        if count > most:
            raise self.unsupported(f"{count:,} {what}, of which there may be {most:,}", start)
        if count > self.end - self.at:
            raise self.invalid(f"there are not as many as {count:,} {what}", start)
        return count

    def many(self, what: str, most: int, read: Callable[[], T]) -> list[T]:
        """A vector: how many there are, then one after the other."""
        return [read() for _ in range(self.count(what, most))]

    def optional(self, read: Callable[[], T]) -> T | None:
        match self.byte():
            case 0:
                return None
            case 1:
                return read()
            case other:
                raise self.invalid(f"{other:#x} where 0 or 1 says whether something follows", self.at - 1)

    def flag(self) -> bool:
        match self.byte():
            case 0:
                return False
            case 1:
                return True
            case other:
                raise self.invalid(f"{other:#x} where 0 or 1 is expected", self.at - 1)

    def expect(self, byte: int, what: str) -> None:
        found = self.byte()
        if found != byte:
            raise self.invalid(f"{found:#x} where {byte:#x} is expected, {what}", self.at - 1)

    def finish(self, what: str) -> None:
        """Makes sure that everything has been read."""
        if self.at != self.end:
            raise self.invalid(f"{what} ends with {self.end - self.at:,} bytes too many")

    def part(self, size: int) -> Reader:
        """The next bytes as a range of their own, which is passed over here."""
        start = self.at
        self.skip(size)
        return Reader(self.wasm, start, self.at)

    def sections(self) -> Iterator[tuple[int, Reader]]:
        """The number and the content of each section up to the end."""
        while self.at < self.end:
            number = self.byte()
            size = self.u32()
            if size > self.end - self.at:
                raise self.invalid(f"section {number} is longer than what is left of the file")
            yield number, self.part(size)
