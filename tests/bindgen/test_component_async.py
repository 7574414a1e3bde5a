"""Generated modules of asynchronous functions, streams and futures: what they ask of a guest, and give to it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import ModuleType
from typing import Any

import pytest

from bindgen.runtime import Err, GuestFault
from bindgen.wit_parser.model import ListOf, Primitive
from tests.bindgen.component_types import modules_of_text
from tests.bindgen.specification import Guest
from tests.bindgen.test_component_bindings import FORMS, use_form

WIT = """
package test:post@0.3.0;

interface types {
  resource letter;
  variant trouble { lost, other(string) }
  record line { number: u16, text: string }
}

interface post {
  use types.{letter, trouble, line};
  send: async func(it: letter, to: string) -> result<letter, trouble>;
  wait: async func(how-long: u64);
  weigh: async func(it: borrow<letter>) -> u8;
  many: async func(a: u8, b: u8, c: u8, d: u8, e: u64) -> string;
  copy: func(them: stream<u8>, done: future<result<_, trouble>>) -> tuple<stream<u8>, future<string>>;
  lines: func(them: stream<line>) -> stream<line>;
  numbers: func(them: stream<s16>);
}

interface reader {
  use types.{letter, trouble};
  read: async func(it: letter) -> result<string, trouble>;
  shout: async func();
  long: async func() -> list<string>;
}

world all { import post; export reader; }
"""
LETTER = "test:post/types/letter"
TEXTS = ListOf(Primitive.STRING)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    directory = tmp_path_factory.mktemp("generated")
    return modules_of_text(WIT, directory)


@pytest.fixture(params=FORMS)
def modules(written: dict[str, ModuleType], request: pytest.FixtureRequest) -> dict[str, ModuleType]:
    use_form(request.param, *written.values())
    return written


class Channels:
    """Streams and futures that are only noted: an index stands for what the test says, a source is kept."""

    def __init__(self) -> None:
        self.readable: dict[int, Any] = {}
        self.given: list[tuple[str, Any, Any]] = []

    def take_stream(self, payload: Any, index: int, where: Any) -> Any:
        if index not in self.readable:
            raise GuestFault(f"{where}: there is no stream {index}")
        return payload, self.readable.pop(index)

    take_future = take_stream

    def add_stream(self, payload: Any, source: Any, where: Any) -> int:
        self.given.append(("stream", payload, source))
        return len(self.given)

    def add_future(self, payload: Any, source: Any, where: Any) -> int:
        self.given.append(("future", payload, source))
        return len(self.given)


class AsyncGuest(Guest):
    """A guest whose subtasks are done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = Channels()
        self.begun: list[tuple[Coroutine[Any, Any, Any], Callable[[Any], Awaitable[None]] | None, list[int]]] = []
        self.lifts_with_async = False

    async def subtask(
        self, work: Coroutine[Any, Any, Any], lower: Callable[[Any], Awaitable[None]] | None, lent: Iterable[int]
    ) -> int:
        self.begun.append((work, lower, list(lent)))
        return len(self.begun)

    def end_subtask(self) -> None:
        """What `subtask` has to do once the host is done."""

        async def end() -> None:
            work, lower, _ = self.begun[0]
            try:
                answer = await work
            except Err as err:
                answer = err
            if lower is not None:
                await lower(answer)

        asyncio.run(end())

    async def run(self, export: Any, args: Sequence[Any], lift: Any, returned: Any) -> Any:
        result = self.function(args)
        return returned(self, result) if self.lifts_with_async else lift(self, result)


class PostHost:
    def __init__(self, types: ModuleType) -> None:
        self.types = types
        self.seen: list[Any] = []

    async def send(self, it: object, to: str) -> object:
        self.seen.append((it, to))
        if to == "nobody":
            raise Err(self.types.TroubleOther("no such person"))
        return it

    async def wait(self, how_long: int) -> None:
        self.seen.append(how_long)

    async def weigh(self, it: object) -> int:
        return 200

    async def many(self, *values: int) -> str:
        self.seen.append(values)
        return "ok"

    async def copy(self, them: Any, done: Any) -> tuple[Any, Any]:
        return them, done

    async def lines(self, them: Any) -> Any:
        return them

    async def numbers(self, them: Any) -> None:
        self.seen.append(them)


class Post:
    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self.guest = AsyncGuest()
        self.host = PostHost(modules["types"])
        self.modules = modules
        self._by_name = {each.name: each for each in modules["post"].IMPORTS}

    def call(self, name: str, *args: Any) -> Any:
        definition = self._by_name[name]
        assert len(args) == len(definition.params), definition.params
        return asyncio.run(definition.call(self.host, self.guest, args))

    def begin(self, name: str, *args: Any) -> Any:
        """The same call by a guest that goes on meanwhile."""
        definition = self._by_name[name].call_async
        assert len(args) == len(definition.params), definition.params
        return asyncio.run(definition.call(self.host, self.guest, args))

    def text(self, text: str) -> tuple[int, int]:
        return self.guest.place(Primitive.STRING, text)

    def letter(self, value: object) -> int:
        return self.guest.handles.add(LETTER, value, "")


@pytest.fixture
def post(modules: dict[str, ModuleType]) -> Post:
    return Post(modules)


def test_parameters_are_taken_at_once_and_the_result_is_written_when_it_is_there(post: Post) -> None:
    index = post.letter("a letter")
    assert post.begin("send", index, *post.text("Ann"), 0x100) == 1
    assert post.host.seen == []
    assert post.guest.handles.held == {}
    assert post.guest.data[0x100:0x110] == bytes(16)
    post.guest.data[0x100] = 9
    post.guest.end_subtask()
    assert post.host.seen == [("a letter", "Ann")]
    tag, handle = struct.unpack_from("<B3xI", post.guest.data, 0x100)
    assert (tag, post.guest.handles.held[handle]) == (0, (LETTER, "a letter"))


def test_an_error_of_the_host_is_written_with_its_text(post: Post) -> None:
    post.begin("send", post.letter("a letter"), *post.text("nobody"), 0x100)
    post.guest.end_subtask()
    tag, case, pointer, length = struct.unpack_from("<B3xB3xII", post.guest.data, 0x100)
    assert (tag, case) == (1, 1)
    assert bytes(post.guest.data[pointer : pointer + length]) == b"no such person"


def test_a_call_without_a_result_writes_nothing(post: Post) -> None:
    assert post.begin("wait", 5) == 1
    ((work, lower, lent),) = post.guest.begun
    assert (lower, lent) == (None, [])
    asyncio.run(work)
    assert post.host.seen == [5]


def test_a_flat_result_is_in_memory_too(post: Post) -> None:
    index = post.letter("a letter")
    post.begin("weigh", index, 0x101)
    assert post.guest.begun[0][2] == [index]
    assert post.guest.handles.lent == [index]
    post.guest.end_subtask()
    assert post.guest.data[0x101] == 200


def test_a_guest_that_waits_lends_without_being_asked_to_keep_the_handle(post: Post) -> None:
    assert post.call("weigh", post.letter("a letter")) == 200
    assert post.guest.handles.lent == []


def test_more_than_four_flat_parameters_are_in_memory(post: Post) -> None:
    struct.pack_into("<4B4xQ", post.guest.data, 0x200, 1, 2, 3, 4, 5)
    post.begin("many", 0x200, 0x100)
    post.guest.data[0x200:0x210] = bytes(16)  # the guest may use it for something else now
    post.guest.end_subtask()
    assert post.host.seen == [(1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("many", (0x204, 0x100), "parameters: the pointer 0x204 is not a multiple of 8"),
        ("many", (0x200, 0x102), "result: the pointer 0x102 is not a multiple of 4"),
        ("send", (7, 0, 0, 0x100), "it: 7 is no handle of test:post/types/letter"),
        ("weigh", (7, 0x100), "it: 7 is no handle of test:post/types/letter"),
        ("weigh", (1, 0x1_0000), "result: 1 bytes at 0x10000 reach past the end of memory"),
    ],
)
def test_a_lie_is_found_before_the_host_is_asked(post: Post, name: str, args: tuple[int, ...], message: str) -> None:
    post.letter("a letter")
    with pytest.raises(GuestFault) as raised:
        post.begin(name, *args)
    assert str(raised.value).startswith(f"test:post/post@0.3.0: {name}: {message}")
    assert post.guest.begun == []


# Streams and futures.


def test_streams_and_futures_are_taken_and_given(post: Post) -> None:
    post.guest.channels.readable = {3: "bytes", 4: "the end"}
    post.call("copy", 3, 4, 0x100)
    streams, ends = post.guest.channels.given
    assert (streams[0], streams[1].type, streams[2][1]) == ("stream", "u8", "bytes")
    assert (ends[0], ends[1].type, ends[2][1]) == ("future", "string", "the end")
    assert ends[2][0].type == "result<_, variant{lost, other(string)}>"
    assert struct.unpack_from("<II", post.guest.data, 0x100) == (1, 2)
    assert post.guest.channels.readable == {}


def test_a_stream_that_there_is_not_ends_the_guest(post: Post) -> None:
    with pytest.raises(GuestFault, match="lines: them: there is no stream 9"):
        post.call("lines", 9)


def payload(post: Post, name: str) -> Any:
    """What the stream carries that a function takes."""
    post.guest.channels.readable = {1: None}
    if name == "numbers":
        post.call(name, 1)
        return post.host.seen[0][0]
    post.call(name, 1)
    return post.guest.channels.given[0][2][0]


def store(post: Post, carried: Any, at: int, values: Any) -> int:
    """Writes values as whoever owns a stream does; returns how many blocks of memory they took besides."""
    lower = post.modules["post"].Lower(post.guest, "here")
    carried.note(lower, values)
    asyncio.run(post.guest.allocate(lower))
    carried.store(lower, post.guest.memory, at, values)
    return len(lower.blocks)


def load(post: Post, carried: Any, at: int, count: int) -> Any:
    return carried.load(post.modules["post"].Lift(post.guest, "here", "values"), at, count)


def test_records_pass_through_memory_in_pieces(post: Post) -> None:
    lines = payload(post, "lines")
    assert (lines.type, lines.size, lines.align) == ("record{number: u16, text: string}", 12, 4)
    line = post.modules["types"].Line
    assert store(post, lines, 0x200, [line(1, "one"), line(2, "")]) == 2
    assert load(post, lines, 0x200, 2) == [line(1, "one"), line(2, "")]
    assert struct.unpack_from("<H", post.guest.data, 0x20C) == (2,)
    with pytest.raises(GuestFault, match="here: values: the pointer 0x202 is not a multiple of 4"):
        load(post, lines, 0x202, 1)


def test_numbers_and_bytes_take_no_memory_but_their_own(post: Post) -> None:
    numbers = payload(post, "numbers")
    assert store(post, numbers, 0x200, [-1, 2]) == 0
    assert load(post, numbers, 0x200, 2) == [-1, 2]
    post.guest.channels.readable = {1: None, 2: None}
    post.call("copy", 1, 2, 0x100)
    octets = post.guest.channels.given[0][1]
    assert store(post, octets, 0x300, memoryview(b"abc")) == 0
    assert load(post, octets, 0x300, 3) == b"abc"


# Exports.


def read(post: Post) -> Any:
    return asyncio.run(post.modules["reader"].read(post.guest, None, "a letter"))


@pytest.mark.parametrize("lifts_with_async", [False, True])
def test_an_export_returns_what_its_task_returns(post: Post, lifts_with_async: bool) -> None:
    post.guest.lifts_with_async = lifts_with_async

    def answer(args: Sequence[Any]) -> Any:
        assert post.guest.handles.held[args[0]] == (LETTER, "a letter")
        text = post.text("Dear Ann")
        if lifts_with_async:
            return (0, *text, 0)  # the error has a slot more
        struct.pack_into("<B3xII", post.guest.data, 0x100, 0, *text)
        return 0x100

    post.guest.function = answer
    assert read(post) == "Dear Ann"


@pytest.mark.parametrize("lifts_with_async", [False, True])
def test_an_export_raises_the_error_that_its_task_returns(post: Post, lifts_with_async: bool) -> None:
    post.guest.lifts_with_async = lifts_with_async
    struct.pack_into("<B3xB", post.guest.data, 0x100, 1, 0)
    post.guest.function = lambda _args: (1, 0, 0, 0) if lifts_with_async else 0x100
    with pytest.raises(Err) as raised:
        read(post)
    assert raised.value.value == post.modules["types"].TroubleLost()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((2, 0, 0, 0), "2 is not a case of result"),
        ((1, 2, 0, 0), "2 is not a case of trouble"),
        ((0, 0x1_0000, 1, 0), "1 bytes at 0x10000 reach past the end of memory"),
    ],
)
def test_a_task_that_returns_nonsense_ends_the_guest(post: Post, args: tuple[int, ...], message: str) -> None:
    post.guest.lifts_with_async = True
    post.guest.function = lambda _args: args
    with pytest.raises(GuestFault) as raised:
        read(post)
    assert message in str(raised.value)


@pytest.mark.parametrize("lifts_with_async", [False, True])
def test_exports_without_a_result_and_with_a_list(post: Post, lifts_with_async: bool) -> None:
    reader = post.modules["reader"]
    post.guest.lifts_with_async = lifts_with_async
    post.guest.function = lambda _args: () if lifts_with_async else None
    assert asyncio.run(reader.shout(post.guest, None)) is None

    def answer(_args: Sequence[Any]) -> Any:
        texts = post.guest.place(TEXTS, ["a", "b"])
        if lifts_with_async:
            return texts
        struct.pack_into("<II", post.guest.data, 0x100, *texts)
        return 0x100

    post.guest.function = answer
    assert asyncio.run(reader.long(post.guest, None)) == ["a", "b"]
