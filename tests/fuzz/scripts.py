"""Scripts for the components of worlds.py: calls in random sequences, most of them with handles of the right sort and
values of the right type, so that the lies among them get far."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slight_py.component.types import (
    Borrow,
    Enum,
    Flags,
    FuncType,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    StreamOf,
    TupleOf,
    ValueType,
    Variant,
    align,
    discriminant_size,
    offsets,
    payload_offset,
)
from tests.fuzz import worlds
from tests.fuzz.worlds import (
    ALLOCATOR_SCRIPT_AT,
    CELLS_AT,
    DATA_AT,
    HEAP_AT,
    OUT_AT,
    SCRIPT_AT,
    Allocator,
    Call,
    Operand,
    Step,
    World,
    sort_of,
)

PORT = "12345"
"""What stands in texts for the port of the server that the component itself answers for."""

TEXTS = (
    "", "a", "GET", "POST", "http", "/", "/a?b=c", "..", "../secret", "file", "directory", "directory/../../secret",
    "out", "/etc/passwd", "inside", "link", "\0", "content-length", "x-a", "a\r\nx-injected: 1", "transfer-encoding",
    "chunked", "5", "host", f"127.0.0.1:{PORT}", "127.0.0.1:1", "127.0.0.1:99999", "[::1", "user@127.0.0.1:1",
    "default", "other", "key", "é", "日本", "\U0001f600", "a" * 300, "connection", "close", "trailer", "expect",
    "100-continue", "-1", "99999999999999999999", ":authority", " x ", "localhost\r\n", "\x1b[31m", "text/plain",
)  # fmt: skip

FIELDS = ("x-a", "content-type", "content-length", "trailer", "set-cookie", "x-b", "etag")

EDGES = (
    0, 1, 2, 3, 7, 255, 256, 65535, 65536, HEAP_AT, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4, 2**32 - 65536, 2**63 - 1,
    2**63, 2**64 - 1, 10**9, 10**6,
)  # fmt: skip

INCOMPLETE = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00\xd8", b"\x00\xdc\x00\xd8", b"\xf4\x90\x80\x80")
"""Bytes that are no text in one encoding or another."""

Flat = tuple[int, int]
"""An operand: what it stands for, and its value."""


@dataclass
class Script:
    """What one instance is told to do."""

    entry: str
    image: list[tuple[int, bytes]] = field(default_factory=list)
    """What is put into the memory first, by address."""
    request: dict[str, Any] = field(default_factory=dict)
    """What a client sends, where the entry answers requests."""
    honest: bool = False
    """Whether nothing of it is a lie, so that the client must get `hello` with the status 200."""


class Writer:
    """Writes one script."""

    def __init__(self, rng: random.Random, world: World, entry: str, wild: float) -> None:
        self.rng = rng
        self.world = world
        self.entry = entry
        self.wild = wild
        """How much of what it says is a lie."""
        self.code = bytearray()
        self.at = SCRIPT_AT
        self.image: list[tuple[int, bytes]] = []
        self.available = {"request"} | {each for each in world.given[entry].split(" ") if each}
        self._free = DATA_AT
        self._outs = 0
        self.encoding = world.name.split()[1]

    # Instructions.

    def emit(self, step: int, *operands: Flat) -> None:
        self.code += struct.pack("<H", step)
        for kind, value in operands:
            self.code += struct.pack("<IQ", kind, value & (1 << 64) - 1)

    @property
    def here(self) -> int:
        """The address of the next instruction."""
        return self.at + len(self.code)

    def stop(self, result: Flat = (0, 0)) -> None:
        self.emit(Step.STOP, result)

    def copy(self, to: int, source: int) -> None:
        self.emit(Step.COPY, (0, to), (0, source))

    # Places.

    def room(self, size: int, alignment: int = 1) -> int:
        """The address of so many bytes."""
        at = align(self._free, alignment)
        if at + size > OUT_AT:
            at = DATA_AT
        self._free = at + size
        return at

    def put(self, content: bytes, alignment: int = 1) -> int:
        at = self.room(len(content), alignment)
        self.image.append((at, content))
        return at

    def out(self) -> int:
        self._outs += 1
        return OUT_AT + 256 * (self._outs % 60)

    def cell(self, sort: str) -> int:
        return self.world.cells.get(sort, CELLS_AT + 8 * 16)

    # Values.

    def lies(self) -> bool:
        return self.rng.random() < self.wild

    def number(self) -> int:
        rng = self.rng
        if self.lies():
            return rng.choice(EDGES) if rng.random() < 0.8 else rng.getrandbits(rng.choice((32, 64)))
        return rng.choice((0, 1, 2, 3, 4, 5, 8, 10, 100, 200, 404, 4096, 65536, OUT_AT, DATA_AT))

    def lie(self) -> Flat:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                return Operand.CELL, rng.choice([*self.world.cells.values()])
            case 1:
                return Operand.END, rng.choice((0, -1, -4, -8, -16, 4))
            case _:
                return Operand.VALUE, self.number()

    def text(self, among: Sequence[str] = TEXTS) -> tuple[int, int]:
        """Pointer and length of a text, as the component's encoding has it."""
        rng = self.rng
        said = rng.choice(among)
        if self.lies():
            content = rng.choice(INCOMPLETE) + said.encode()
            at = self.put(content, 2)
            length = rng.choice((len(content), len(content) // 2, 2**31 - 1, 2**31 | 4, 2**31 | 2**30, 2**32 - 1))
            return at + rng.choice((0, 0, 1)), length
        match self.encoding:
            case "utf8":
                content = said.encode()
                return self.put(content), len(content)
            case "utf16":
                content = said.encode("utf-16-le")
                return self.put(content, 2), len(content) // 2
        if all(ord(each) < 256 for each in said) and rng.random() < 0.7:
            return self.put(said.encode("latin-1"), 2), len(said)
        content = said.encode("utf-16-le")
        return self.put(content, 2), len(content) // 2 | 1 << 31

    def primitive(self, name: str) -> Flat:
        rng = self.rng
        if name == "bool":
            return 0, 2 if self.lies() else rng.randrange(2)
        if name == "char":
            return 0, rng.choice((0xD800, 0x110000, 2**32 - 1)) if self.lies() else rng.choice((65, 0xE9, 0x1F600))
        return 0, self.number()

    def flat(self, type_: ValueType) -> list[Flat]:
        """Operands that mean a value of a type."""
        match type_:
            case Primitive("string"):
                return [(0, each) for each in self.text()]
            case Primitive(name):
                return [self.primitive(name)]
            case Own() | Borrow() | StreamOf() | FutureOf():
                return [(Operand.CELL, self.cell(sort_of(type_)))]
            case ListOf(element):
                return [(0, each) for each in self.elements(element)]
            case Record() | TupleOf():
                return [each for part in type_.parts() for each in self.flat(part)]
            case Flags(names):
                return [(0, self.rng.getrandbits(min(32, len(names) + (3 if self.lies() else 0))))]
            case Enum(names):
                return [(0, self.case(len(names)))]
        cases = self.cases(type_)
        number = self.case(len(cases))
        payload = cases[number] if number < len(cases) else None
        found = [(0, number), *([] if payload is None else self.flat(payload))]
        width = len(type_.flat or ())
        return [*found, *[(0, 0)] * (width - len(found))]

    def cases(self, type_: ValueType) -> list[ValueType | None]:
        assert isinstance(type_, Variant | OptionOf | ResultOf), type_
        return [each.type for each in type_.cases]

    def case(self, count: int) -> int:
        if self.lies():
            return self.rng.choice((count, 255, 2**32 - 1, 256))
        return self.rng.randrange(count) if self.rng.random() < 0.5 else 0

    def elements(self, element: ValueType) -> tuple[int, int]:
        rng = self.rng
        if element == Primitive("u8"):
            if rng.random() < 0.6:
                return self.put(rng.choice(TEXTS).encode()), rng.choice((0, 1, 2, 5))
            return rng.choice((0, OUT_AT, SCRIPT_AT)), rng.choice((0, 5, 4096, 65536))
        if self.lies():
            return rng.choice(EDGES) & 0xFFFF_FFFF, rng.choice(EDGES) & 0xFFFF_FFFF
        count = rng.choice((0, 1, 1, 2, 3))
        at = self.room(element.size * count, element.alignment)
        for number in range(count):
            self.store(element, at + number * element.size)
        return at, count

    def store(self, type_: ValueType, at: int) -> None:
        """Puts a value of a type into the memory."""
        match type_:
            case Primitive("string"):
                self.image.append((at, struct.pack("<II", *self.text())))
            case Primitive(name):
                self.number_at(at, type_.size, self.primitive(name)[1])
            case Own() | Borrow() | StreamOf() | FutureOf():
                self.copy(at, self.cell(sort_of(type_)))
            case ListOf(element):
                self.image.append((at, struct.pack("<II", *self.elements(element))))
            case Record() | TupleOf():
                parts = [*type_.parts()]
                for part, offset in zip(parts, offsets(parts), strict=True):
                    self.store(part, at + offset)
            case Flags(names):
                self.number_at(at, type_.size, self.rng.getrandbits(len(names)))
            case Enum(names):
                self.number_at(at, type_.size, self.case(len(names)))
            case Variant() | OptionOf() | ResultOf():
                cases = self.cases(type_)
                number = self.case(len(cases))
                self.number_at(at, discriminant_size(len(cases)), number)
                payload = cases[number] if number < len(cases) else None
                if payload is not None:
                    self.store(payload, at + payload_offset(type_.cases))

    def number_at(self, at: int, size: int, number: int) -> None:
        self.image.append((at, (number & (1 << 8 * size) - 1).to_bytes(size, "little")))

    # Calls.

    def call(self, call: Call) -> None:
        """A call with arguments of its types, or with others."""
        out = self.out()
        function = call.function
        operands = self.of_builtin(call) if function is None else self.arguments(call, function, out)
        operands = [self.lie() if self.rng.random() < self.wild / 4 else each for each in operands]
        if self.rng.random() < self.wild / 4:
            operands = [self.lie() for _ in operands]
        result = out if call.core.results else None
        if result is not None and call.function is not None and len(operands) and operands[-1] == (0, out):
            result = self.cell("subtask")  # how far an asynchronous call is; its result is elsewhere
        self.emit(self.world.number(call), *operands, *([] if result is None else [(0, result)]))
        self.available -= self.given_away(call)
        self.keep(call, out)

    def arguments(self, call: Call, function: FuncType, out: int) -> list[Flat]:
        types = [each.type for each in function.params]
        width = len(call.core.params)
        operands = [each for type_ in types for each in self.flat(type_)]
        spilled = len(operands) > (4 if call.is_async else 16)
        if spilled:
            record = TupleOf(tuple(types))
            at = self.room(record.size, record.alignment)
            self.store(record, at)
            operands = [(0, at)]
        if len(operands) < width:
            operands.append((0, out))
        return (operands + [(0, 0)] * width)[:width]

    def keep(self, call: Call, out: int) -> None:
        """Keeps the handles that a call gives in their cells."""
        if call.function is not None:
            result = call.function.result
            if call.is_async:
                self.available.add("subtask")
            if result is None or call.name == "task.return":
                return
            if len(result.flat or "12") == 1 and not call.is_async:
                if isinstance(result, Own | StreamOf | FutureOf):
                    self.copy(self.cell(sort_of(result)), out)
                    self.available.add(sort_of(result))
            else:
                self.handles_at(result, out)
            return
        if call.name in ("stream.new", "future.new"):
            assert call.about is not None
            sort = sort_of(call.about)
            self.copy(self.cell(sort), out)
            self.copy(self.cell(f"writable {sort}"), out + 4)
            self.available |= {sort, f"writable {sort}"}
        elif call.name == "waitable-set.new":
            self.copy(self.cell("set"), out)
            self.available.add("set")
        elif call.name.endswith((".read async", ".write async")):
            self.available.add(f"{self.end_of(call)} at work")

    def handles_at(self, type_: ValueType, at: int) -> None:
        match type_:
            case Own() | StreamOf() | FutureOf():
                self.copy(self.cell(sort_of(type_)), at)
                self.available.add(sort_of(type_))
            case Record() | TupleOf():
                parts = [*type_.parts()]
                for part, offset in zip(parts, offsets(parts), strict=True):
                    self.handles_at(part, at + offset)
            case ResultOf(ok) if ok is not None:
                self.if_first(at, ok, payload_offset(type_.cases), jump_if_set=True)
            case OptionOf(value):
                self.if_first(at, value, payload_offset(type_.cases), jump_if_set=False)
            case ListOf(Own() | TupleOf() as element):
                first = element if isinstance(element, Own) else element.items[0]
                if isinstance(first, Own):
                    self.emit(Step.FOLLOW, (0, self.cell(sort_of(first))), (0, at), (0, 0))
                    self.available.add(sort_of(first))

    def if_first(self, at: int, type_: ValueType, offset: int, jump_if_set: bool) -> None:
        """Keeps handles in a payload unless it's a failure's; of an option it doesn't look whether there is one."""
        before = len(self.code)
        if jump_if_set:
            self.emit(Step.SKIP, (0, 0), (0, at))
        begun = len(self.code)
        self.handles_at(type_, at + offset)
        if len(self.code) == begun:
            del self.code[before:]
        elif jump_if_set:
            self.code[before + 6 : before + 14] = struct.pack("<Q", self.here)

    def of_builtin(self, call: Call) -> list[Flat]:
        """What a built-in function is most likely to be given."""
        rng = self.rng
        count = len(call.core.params)
        if isinstance(call.about, ResourceType):
            return [(Operand.CELL, self.cell(call.about.key))]
        if isinstance(call.about, StreamOf | FutureOf):
            end = self.cell(self.end_of(call).removesuffix(" at work"))
            word = call.name.partition(".")[2].split()[0]
            element = call.about.element
            at = self.room(64, 8)
            if word == "write" and element is not None and element != Primitive("u8"):
                self.store(element, at)
            many = rng.choice((0, 1, 1, 5, 100, 4096))
            if element is not None and element != Primitive("u8"):
                many = min(many, 1)
            return [(Operand.CELL, end), (0, at), (0, many)][:count]
        match call.name.split()[0]:
            case "waitable-set.wait" | "waitable-set.poll":
                return [(Operand.CELL, self.cell("set")), (0, CELLS_AT + 8)]
            case "waitable-set.drop":
                return [(Operand.CELL, self.cell("set"))]
            case "waitable.join":
                return [self.waitable(), rng.choice(((Operand.CELL, self.cell("set")), (0, 0)))]
            case "subtask.drop" | "subtask.cancel":
                return [(Operand.HANDLE, self.cell("subtask"))]
        return [(0, self.number()) for _ in range(count)]

    def waitable(self) -> Flat:
        rng = self.rng
        ends = [sort for sort in self.world.cells if sort.startswith(("stream", "future", "writable"))]
        if not ends or rng.random() < 0.4:
            return Operand.HANDLE, self.cell("subtask")
        return Operand.CELL, self.cell(rng.choice([each for each in ends if each in self.available] or ends))

    # Sequences.

    def needs(self, call: Call) -> set[str]:
        """The sorts of handles that a call is given."""
        if call.function is not None:
            return {
                sort_of(each)
                for param in call.function.params
                for each in (param.type,)
                if isinstance(each, Own | Borrow | StreamOf | FutureOf)
            }
        if isinstance(call.about, ResourceType):
            return {call.about.key}
        if call.about is not None and not call.name.endswith(".new"):
            return {self.end_of(call)}
        if call.name in ("waitable-set.wait", "waitable-set.poll", "waitable-set.drop"):
            return {"set"}
        return {"subtask"} if call.name.startswith("subtask") else set()

    def end_of(self, call: Call) -> str:
        """The sort of the end of a stream or future that a built-in function is about; of the cancellation of a read or
        write, of one at which that was begun."""
        assert isinstance(call.about, StreamOf | FutureOf)
        word = call.name.partition(".")[2].split()[0]
        sort = sort_of(call.about)
        if word not in ("read", "cancel-read", "drop-readable"):
            sort = f"writable {sort}"
        return f"{sort} at work" if word.startswith("cancel") else sort

    def given_away(self, call: Call) -> set[str]:
        """The sorts of handles that aren't the component's any more after a call."""
        if call.function is not None:
            params = [each.type for each in call.function.params]
            return {sort_of(each) for each in params if isinstance(each, Own | StreamOf | FutureOf)}
        if "drop" in call.name or "cancel-" in call.name:
            return self.needs(call)
        return set()

    def some_call(self) -> None:
        rng = self.rng
        calls = self.world.calls
        chosen = rng.choice(calls)
        if not self.lies():
            for _ in range(30):
                needed = self.needs(chosen)
                # What needs a handle leads further than what needs none.
                if needed <= self.available and (needed or rng.random() < 0.3) and not self.ends(chosen):
                    break
                chosen = rng.choice(calls)
        self.call(chosen)

    def ends(self, call: Call) -> bool:
        """Whether a call is likely to be the last one."""
        names = ("#exit", "#exit-with-code", "task.cancel", "task.return", "backpressure.dec")
        return self.rng.random() < 0.9 and call.name.endswith(names)

    def statement(self, depth: int = 0) -> None:
        rng = self.rng
        match rng.randrange(60):
            case 0:
                self.emit(Step.STORE32, self.lie(), self.lie())
            case 1:
                self.emit(Step.GROW, (0, rng.choice((0, 1, 16, 100, 65536))))
            case 2 | 3:
                self.emit(Step.ALLOCATOR, (0, rng.choice([*Allocator])))
            case 4 | 5 if depth < 2:
                self.again(depth)
            case 6 if rng.random() < 0.2:
                self.emit(rng.choice((Step.TRAP, Step.FOREVER)))
            case 7 if rng.random() < 0.3:
                self.emit(Step.NEST, (0, rng.choice((SCRIPT_AT, ALLOCATOR_SCRIPT_AT))))
            case _:
                self.some_call()

    def again(self, depth: int) -> None:
        """Statements over and over."""
        cell = CELLS_AT + 8 * self.rng.randrange(4, 12)
        self.emit(Step.STORE32, (0, cell), (0, 0))
        start = self.here
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            self.statement(depth + 1)
        most = self.rng.choice((2, 5, 50, 1000, 70_000 if self.rng.random() < 0.1 else 10))
        self.emit(Step.AGAIN, (0, cell), (0, most), (0, start))

    def named(self, name: str, about: str = "") -> Call:
        """A call by the end of its name, and by the sort of what it's about."""
        for call in self.world.calls:
            if call.name.endswith(name) and not call.is_async and (not about or sort_of(call.about or "") == about):
                return call
        raise KeyError(name, about)


# Sequences that lead somewhere.

_OPENINGS = {
    "0.2": (
        ("#get-directories", "[method]descriptor.open-at"),
        ("#get-stdout",), ("#get-stdin",), ("#open",), ("#subscribe-duration",), ("#instance-network",),
        ("[method]incoming-request.consume", "[method]incoming-body.stream", "[method]input-stream.subscribe"),
        ("[method]incoming-request.headers",), ("[constructor]fields", "[constructor]outgoing-request"),
        ("[constructor]request-options",), ("#create-tcp-socket",), ("#create-udp-socket",),
        ("[constructor]fields", "[constructor]outgoing-request", "[method]outgoing-request.set-authority", "#handle",
         "[method]future-incoming-response.subscribe"),
    ),
    "0.3": (
        ("#get-directories", "[method]descriptor.open-at"),
        ("[constructor]fields",), ("[constructor]request-options",), ("waitable-set.new",), ("#read-via-stream",),
        ("waitable-set.new", "stream.new", "future.new"), ("[static]tcp-socket.create",),
        ("[static]udp-socket.create",),
    ),
}  # fmt: skip


def _open(writer: Writer) -> None:
    """Calls that give first handles."""
    for names in writer.rng.sample(_OPENINGS[writer.world.name[:3]], writer.rng.randrange(4)):
        for name in names:
            found = [call for call in writer.world.calls if call.name.endswith(name) and not call.is_async]
            if found:
                writer.call(writer.rng.choice(found))


def _answer_0_2(writer: Writer, sure: bool) -> None:
    """A response, of which each step may be left out, with calls in between."""
    outgoing = "wasi:http/types/"
    for name in (
        "[constructor]fields", "[constructor]outgoing-response", "[method]outgoing-response.body", "!set",
        "[method]outgoing-body.write", "!hello", "!drop", "!finish",
    ):  # fmt: skip
        if not sure and writer.rng.random() < 0.08:
            continue
        if not sure and writer.rng.random() < 0.15:
            writer.statement()
        match name:
            case "!set":
                call = writer.named("[static]response-outparam.set")
                zeros = [(0, 0)] * (len(call.core.params) - 3)
                response = Operand.CELL, writer.cell(outgoing + "outgoing-response")
                outparam = Operand.CELL, writer.cell(outgoing + "response-outparam")
                writer.emit(writer.world.number(call), outparam, (0, 0), response, *zeros)
            case "!hello":
                call = writer.named("[method]output-stream.blocking-write-and-flush")
                stream = Operand.CELL, writer.cell("wasi:io/streams/output-stream")
                _write(writer, call, stream)
            case "!drop":
                writer.call(_drop_of(writer, "wasi:io/streams/output-stream"))
            case "!finish":
                call = writer.named("[static]outgoing-body.finish")
                body = Operand.CELL, writer.cell(outgoing + "outgoing-body")
                writer.emit(writer.world.number(call), body, (0, 0), (0, 0), (0, writer.out()))
            case _:
                writer.call(writer.named(name))


def _write(writer: Writer, call: Call, stream: Flat) -> None:
    writer.emit(writer.world.number(call), stream, (0, writer.put(b"hello")), (0, 5), (0, writer.out()))


def _drop_of(writer: Writer, key: str) -> Call:
    return next(
        call
        for call in writer.world.calls
        if isinstance(call.about, ResourceType) and call.name == "resource.drop" and call.about.key == key
    )


def _answer_0_3(writer: Writer, sure: bool) -> None:
    """The same for a task that is lifted with `async`."""
    trailers = next(
        sort for sort in writer.world.cells if sort.startswith("future<result<option<own<wasi:http/types/fields>>")
    )
    for name in (
        "[constructor]fields",
        "stream.new",
        "future.new",
        "!response",
        "!return",
        "!hello",
        "!end",
        "!trailers",
    ):
        if not sure and writer.rng.random() < 0.08:
            continue
        if not sure and writer.rng.random() < 0.15:
            writer.statement()
        match name:
            case "!response":
                call = writer.named("[static]response.new")
                out = writer.out()
                fields = Operand.CELL, writer.cell("wasi:http/types/fields")
                stream, future = (Operand.CELL, writer.cell("stream<u8>")), (Operand.CELL, writer.cell(trailers))
                writer.emit(writer.world.number(call), fields, (0, 1), stream, future, (0, out))
                writer.copy(writer.cell("wasi:http/types/response"), out)
            case "!return":
                call = next(
                    call for call in writer.world.calls if call.name == "task.return" and len(call.core.params) > 2
                )
                response = Operand.CELL, writer.cell("wasi:http/types/response")
                writer.emit(writer.world.number(call), (0, 0), response, *[(0, 0)] * (len(call.core.params) - 2))
            case "!hello":
                call = writer.named("stream.write", "stream<u8>")
                end = Operand.CELL, writer.cell("writable stream<u8>")
                _write(writer, call, end)
            case "!end":
                writer.call(writer.named("stream.drop-writable", "stream<u8>"))
            case "!trailers":
                call = writer.named("future.write async", trailers)
                at = writer.put(bytes(64), 8)
                future = Operand.CELL, writer.cell(f"writable {trailers}")
                writer.emit(writer.world.number(call), future, (0, at), (0, writer.out()))
            case "stream.new":
                writer.call(writer.named(name, "stream<u8>"))
            case "future.new":
                writer.call(writer.named(name, trailers))
            case _:
                writer.call(writer.named(name))


def _results(writer: Writer) -> Iterable[Flat]:
    """What the core function and its callback return."""
    if not writer.world.name.endswith("callback"):
        yield (0, 0 if not writer.lies() else writer.number())
        return
    while writer.rng.random() < 0.6:
        yield writer.rng.choice(((0, 1), (Operand.WAIT, writer.cell("set")), (0, 1), writer.lie()))
    yield (0, 0)


def write(rng: random.Random, world: World, entry: str, honest: bool = False) -> Script:
    """One script."""
    writer = Writer(rng, world, entry, 0.0 if honest else rng.choice((0.0, 0.02, 0.1, 0.4)))
    answer = _answer_0_2 if world.name.startswith("0.2") else _answer_0_3
    answers = entry == "handle" and (honest or rng.random() < 0.6)
    if honest:
        answer(writer, True)
        writer.stop()
    else:
        if rng.random() < 0.8:
            _open(writer)
        first = rng.random() < 0.5
        if answers and first:
            answer(writer, False)
        for result in _results(writer):
            for _ in range(rng.randrange(12)):
                writer.statement()
            if answers and not first:
                answer(writer, False)
                answers = False
            writer.stop(result)
    writer.stop()
    image = [*writer.image, (SCRIPT_AT, bytes(writer.code))]
    if not honest:
        nested = Writer(rng, world, entry, writer.wild)
        nested.at = ALLOCATOR_SCRIPT_AT
        for _ in range(rng.randrange(3)):
            nested.statement()
        nested.stop((0, HEAP_AT + 8192))
        image += [*nested.image, (ALLOCATOR_SCRIPT_AT, bytes(nested.code))]
    return Script(entry, image, {} if entry != "handle" else _request(rng, honest), honest)


def _request(rng: random.Random, honest: bool) -> dict[str, Any]:
    """What a client sends, and how it behaves."""
    if honest:
        return {"head": "GET / HTTP/1.1\r\nHost: localhost\r\n", "body": "", "end": "wait"}
    method = rng.choice(("GET", "POST", "PUT", "HEAD", "OPTIONS", "X-OTHER"))
    head = f"{method} /{rng.choice(('', 'a?b=c', '%ff', 'a' * 2000))} HTTP/1.1\r\nHost: localhost\r\n"
    head += rng.choice(("", "", "X-A: b\r\n", "X-A: b\r\n" * 90, "Cookie: a=b\r\n", "Expect: 100-continue\r\n"))
    body = ""
    match rng.randrange(50):
        case 0:
            body = "x" * 10
            head += "Content-Length: 20\r\n"  # of which the rest never comes
        case each if each < 12:
            body = "x" * rng.choice((1, 10, 100_000))
            head += f"Content-Length: {len(body)}\r\n"
        case each if each < 24:
            body = "5\r\nhello\r\n0\r\n" + rng.choice(("", "X-T: 1\r\n")) + "\r\n"
            head += "Transfer-Encoding: chunked\r\n"
    return {"head": head, "body": body, "end": rng.choice(("wait",) * 8 + ("leave", "half"))}


SCRIPTS = 40
"""Scripts of one case, which run at the same time."""


@dataclass
class Case:
    """Scripts for one world."""

    world: str
    scripts: list[Script]


def make(rng: random.Random) -> Case:
    name = rng.choice([*worlds.NAMES])
    world = worlds.named(name)
    found = []
    if not name.endswith("sync"):
        found.append(write(rng, world, "handle", honest=True))
    for _ in range(SCRIPTS):
        found.append(write(rng, world, rng.choice(("handle", "handle", "run"))))
    return Case(name, found)


def to_bytes(case: Case) -> bytes:
    """The text of a case's file."""
    scripts = [
        {
            "entry": each.entry, "honest": each.honest, "request": each.request,
            "image": [[at, content.hex()] for at, content in each.image],
        }
        for each in case.scripts
    ]  # fmt: skip
    return json.dumps({"world": case.world, "scripts": scripts}).encode()


def from_bytes(content: bytes) -> Case:
    found = json.loads(content)
    return Case(
        found["world"],
        [
            Script(
                each["entry"],
                [(at, bytes.fromhex(text)) for at, text in each["image"]],
                each["request"],
                each["honest"],
            )
            for each in found["scripts"]
        ],
    )
