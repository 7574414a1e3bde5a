"""Python modules as the machine loads them: compiled, and the same bytes for the same source.

Python's own marshal.dumps marks what is in use elsewhere in the process, so what it writes depends on what was imported
before. Here that is evened out.
"""

from __future__ import annotations

import importlib.util
import marshal
import struct
from types import CodeType

_REFERENCE = ord("r")
_FLAG = 0x80
"""Of the type of an object that a reference may follow to; they are numbered in their order."""

_INTERNED = {ord("z"): ord("Z"), ord("a"): ord("A"), ord("u"): ord("t")}
"""The types of strings that the process has once, for those of others: which is which depends on what else it has."""

_COUNTS, _BEFORE_LINE, _AFTER_LINE = 20, 8, 2
"""Of a code object: bytes of its five numbers, and the objects before and after that of its first line."""

_UNCHECKED_HASH = struct.pack("<IQ", 1, 0)
"""What follows the magic number in a .pyc that is never compared with its source."""


def compile_module(source: bytes, filename: str) -> bytes:
    """The .pyc file of a module, which calls itself `filename` in tracebacks. Raises SyntaxError.

    Docstrings stay: without them an image is 2% smaller and starts no sooner, and a few modules read their own.
    """
    code = compile(source, filename, "exec", dont_inherit=True, optimize=0)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + dump(code)


def dump(code: CodeType) -> bytes:
    """What marshal.loads makes the code of."""
    data = marshal.dumps(code)
    reader = _Reader(data)
    writer = _Writer(reader.read())
    return bytes(writer.out)


class _Node:
    """One object as marshal writes it: its type, what comes before the objects in it, and these, with the number of a
    line between them where it's code."""

    __slots__ = ("head", "kind", "parts", "uses")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.head = b""
        self.parts: list[_Node | bytes] = []
        self.uses = 1


class _Reader:
    """Reads the format of Python/marshal.c, as far as code has it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._nodes: list[_Node] = []

    def read(self) -> _Node:
        kind = self._take(1)[0]
        if kind == _REFERENCE:
            found = self._nodes[self._number()]
            found.uses += 1
            return found
        node = _Node(_INTERNED.get(kind & ~_FLAG, kind & ~_FLAG))
        if kind & _FLAG:
            self._nodes.append(node)
        self._fill(node)
        return node

    def _fill(self, node: _Node) -> None:
        match chr(node.kind):
            case "N" | "T" | "F" | ".":
                pass
            case "i":
                node.head = self._take(4)
            case "g":
                node.head = self._take(8)
            case "y":
                node.head = self._take(16)
            case "l":
                count = self._take(4)
                node.head = count + self._take(2 * abs(int.from_bytes(count, "little", signed=True)))
            case "Z":
                size = self._take(1)
                node.head = size + self._take(size[0])
            case "s" | "t" | "A":
                node.head = self._take(4)
                node.head += self._take(int.from_bytes(node.head, "little"))
            case ")":
                node.head = self._take(1)
                node.parts = [self.read() for _ in range(node.head[0])]
            case "(" | ">":
                node.head = self._take(4)
                node.parts = [self.read() for _ in range(int.from_bytes(node.head, "little"))]
            case "c":
                node.head = self._take(_COUNTS)
                node.parts = [self.read() for _ in range(_BEFORE_LINE)]
                node.parts += [self._take(4), *(self.read() for _ in range(_AFTER_LINE))]
            case other:
                raise AssertionError(f"code holds no {other!r}")

    def _number(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


class _Writer:
    """Writes the same again, marked as referred to only where it is."""

    def __init__(self, node: _Node) -> None:
        self.out = bytearray()
        self._written: dict[int, int] = {}
        self._write(node)

    def _write(self, part: _Node | bytes) -> None:
        if isinstance(part, bytes):
            self.out += part
            return
        known = self._written.get(id(part))
        if known is not None:
            self.out += struct.pack("<BI", _REFERENCE, known)
            return
        if part.uses > 1:
            self._written[id(part)] = len(self._written)
        self.out.append(part.kind | (_FLAG if part.uses > 1 else 0))
        self.out += part.head
        for each in part.parts:
            self._write(each)
