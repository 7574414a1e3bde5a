"""What guests get wrong, on purpose or not: the one instance ends, with a reason that says where, and nothing else.

The rules are those of docs/abi.md. Guests are real modules in the real engine, asked as the HTTP server asks them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack

import pytest

from bindgen.runtime import Err, Handles, Lift
from capabilities.bindings.http_types import HttpErrorStatusError, Method, Request
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue.memory import MemoryStores
from slight_py.handlers import Handlers
from tests import wat
from tests.machine_handlers import MachineHandlers, machine_host
from tests.native_handlers import NativeHandlers, native_host
from tests.wat import KEYVALUE, call, data, handler, load, response

BESIDE = 0.25
"""Seconds within which a guest is answered beside one that misbehaves, on a machine that has more to do."""


@dataclass(frozen=True)
class Host:
    """What runs the guests of a test."""

    name: str
    pid: int | None = None
    """The process that they are in, where that holds nothing else."""

    @property
    def is_native(self) -> bool:
        return self.name in (NATIVE, MACHINE)

    def words(self, what: str) -> str:
        """What the host says where those of `slight-py run` say `what`.

        That a text is not UTF-8, and from which byte on, all of them say; what is wrong with that byte, Rust doesn't.
        """
        return re.sub("(?<=is not UTF-8: )[a-z ]+ at ", "", what) if self.is_native else what


NATIVE, MACHINE = "native", "machine"
"""The native machine's host, besides those of `slight-py run`: as an ordinary program, and in booted machines."""


@pytest.fixture(autouse=True, params=[*wat.STORES, NATIVE, MACHINE])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The host that a test is about."""
    if request.param in wat.STORES:
        wat.use_store(request.param, monkeypatch)
        yield Host(request.param, os.getpid())
    elif request.param == NATIVE:
        with native_host() as native:
            monkeypatch.setattr(wat, "handlers", native.handlers)
            monkeypatch.setattr(wat, "serving", NativeHandlers.serving)
            yield Host(NATIVE, native.pid)
    else:
        with machine_host() as machine:
            monkeypatch.setattr(wat, "handlers", machine.handlers)
            monkeypatch.setattr(wat, "serving", MachineHandlers.serving)
            yield Host(MACHINE)


only_native = pytest.mark.parametrize("host", [NATIVE, MACHINE], indirect=True)
not_booted = pytest.mark.parametrize("host", [*wat.STORES, NATIVE], indirect=True)
"""For modules that can't come to serve by themselves, and responses that are none of HTTP."""

only_slight_py_run = pytest.mark.parametrize("host", wat.STORES, indirect=True)


async def answers(guests: Handlers) -> None:
    """A guest with nothing wrong is answered."""
    assert (await wat.ask(guests, "handle-hello")).body == b"hello"


def ended(module: bytes, request: Request = wat.REQUEST, stores: MemoryStores | None = None) -> str:
    """Why a handler was ended. The next request to the same module is answered."""
    guests = wat.handlers(module, stores=stores)

    async def main() -> str:
        with pytest.raises(HandlerFailure) as failure:
            await wat.ask(guests, request=request)
        await answers(guests)
        return str(failure.value)

    return wat.run(main())


def refused(module: bytes) -> str:
    """Why an instance of a module was ended that can answer no request. Another module on the same engine can."""
    guests, others = wat.handlers(module), wat.handlers(wat.module())

    async def main() -> str:
        with pytest.raises(HandlerFailure) as failure:
            await wat.ask(guests, "handle-hello")
        await answers(others)
        return str(failure.value)

    return wat.run(main())


# What a handler returns.


def returning(result: bytes, *fields: str) -> bytes:
    """A module whose handler returns these bytes, which are at address 128."""
    return wat.module(data(128, result), *fields, handler("(i32.const 128)"))


def header(name: tuple[int, int], value: tuple[int, int] = (0, 0)) -> str:
    """A list of one header at address 256, each text as address and length."""
    return data(256, pack("<IIII", *name, *value))


AT_256 = (256, 1)
TEXTS = data(512, b"text", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xe2\x82")

WRONG_RESULTS = {
    "header-that-is-not-text": (
        returning(response(headers=AT_256), header((512, 5)), TEXTS),
        "the text is not UTF-8: invalid start byte at byte 4",
    ),
    "header-with-a-surrogate": (
        returning(response(headers=AT_256), header((512, 4), (517, 3)), TEXTS),
        "the text is not UTF-8: invalid continuation byte at byte 0",
    ),
    "header-with-an-overlong-null": (
        returning(response(headers=AT_256), header((520, 2)), TEXTS),
        "the text is not UTF-8: invalid start byte at byte 0",
    ),
    "header-that-ends-within-a-character": (
        returning(response(headers=AT_256), header((522, 2)), TEXTS),
        "the text is not UTF-8: unexpected end of data at byte 0",
    ),
    "header-past-the-end": (
        returning(response(headers=AT_256), header((0xFFFC, 5))),
        "5 bytes at 0xfffc reach past the end of memory, 0x10000",
    ),
    "header-as-long-as-can-be": (
        returning(response(headers=AT_256), header((0, 2**32 - 1))),
        "4294967295 bytes at 0x0 reach past the end of memory, 0x10000",
    ),
    "header-whose-end-wraps": (
        returning(response(headers=AT_256), header((0xFFFFFFF0, 0x20))),
        "32 bytes at 0xfffffff0 reach past the end of memory, 0x10000",
    ),
    "as-many-headers-as-can-be": (
        returning(response(headers=(256, 2**32 - 1))),
        "the call hands over too much; it may 256 MiB, or 32 MiB of text, or 65536 elements of lists",
    ),
    "headers-past-the-end": (
        returning(response(headers=(0xFFF0, 2))),
        "32 bytes at 0xfff0 reach past the end of memory, 0x10000",
    ),
    "headers-whose-end-wraps": (
        returning(response(headers=(0xFFFFFFF0, 2))),
        "32 bytes at 0xfffffff0 reach past the end of memory, 0x10000",
    ),
    "body-past-the-end": (
        returning(response(body=(0x10000, 1))),
        "1 bytes at 0x10000 reach past the end of memory, 0x10000",
    ),
    "body-as-long-as-can-be": (
        returning(response(body=(128, 2**32 - 1))),
        "4294967295 bytes at 0x80 reach past the end of memory, 0x10000",
    ),
    "body-whose-end-wraps": (
        returning(response(body=(2**32 - 1, 2))),
        "2 bytes at 0xffffffff reach past the end of memory, 0x10000",
    ),
    "expected-of-no-case": (returning(response(expected=2)), "2 is not a case of expected"),
    "headers-of-no-case": (returning(response(headers_tag=2)), "2 is not a case of option"),
    "body-of-no-case": (returning(response(body_tag=255)), "255 is not a case of option"),
    "error-of-no-case": (returning(pack("<B3xB", 1, 5)), "5 is not a case of http-error"),
    "error-that-is-not-text": (
        returning(pack("<B3xB3xII", 1, 4, 516, 1), TEXTS),
        "the text is not UTF-8: invalid start byte at byte 0",
    ),
    "result-past-the-end": (
        wat.module(handler("(i32.const 0xffe1)")),
        "32 bytes at 0xffe1 reach past the end of memory, 0x10000",
    ),
    "result-at-the-highest-address": (
        wat.module(handler("(i32.const -1)")),
        "32 bytes at 0xffffffff reach past the end of memory, 0x10000",
    ),
}


@pytest.mark.parametrize(("module", "what"), WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_a_wrong_response_ends_the_guest(module: bytes, what: str, host: Host) -> None:
    assert ended(module) == host.words(f"http-handler: handle-http: result: {what}")


def test_a_response_in_the_last_bytes_of_memory_is_taken() -> None:
    last = wat.PAGE - 32
    guests = wat.handlers(
        wat.module(handler(f"(memory.copy (i32.const {last}) (i32.const 0) (i32.const 32)) (i32.const {last})"))
    )
    assert wat.run(wat.ask(guests)).body == b"hello"


@not_booted
def test_the_pointer_of_an_empty_text_or_list_does_not_matter() -> None:
    guests = wat.handlers(returning(response(headers=AT_256, body=(2**32 - 1, 0)), header((2**32 - 1, 0), (70_000, 0))))
    assert wat.run(wat.ask(guests)) == wat.run(wat.ask(guests))
    assert wat.run(wat.ask(guests)).headers == [("", "")]


def test_an_error_that_a_handler_returns_is_the_callers() -> None:
    guests = wat.handlers(returning(pack("<B3xB3xH", 1, 3, 418)))
    with pytest.raises(Err) as err:
        wat.run(wat.ask(guests))
    assert err.value.value == HttpErrorStatusError(418)


@pytest.mark.parametrize("status", [0, 7, 99, 600, 999, 65535])
def test_a_status_out_of_range_is_a_500(status: int) -> None:
    guests = wat.handlers(returning(response(status=status)))

    async def main() -> tuple[int, bytes]:
        async with wat.serving(guests, HttpSettings()) as port:
            bad = await wat.get(port, "/handle-bad")
            assert await wat.get(port, "/handle-hello") == (200, b"hello")
            return bad

    assert wat.run(main())[0] == 500


def test_texts_that_overlap_take_no_more_of_the_host_than_a_call_may_hand_over() -> None:
    # 2,000 headers of 60 KB each, which are the same bytes: 120 MB of text out of 3 pages of memory.
    place = "(i32.add (i32.const 0x20000) (i32.shl (local.get $n) (i32.const 4)))"
    fill = f"(i64.store {place} (i64.const {60_000 << 32 | 0x10000}))"
    bad = handler(f"{wat.times(2000, fill)} (i32.const 128)")
    module = wat.module(data(128, response(headers=(0x20000, 2000))), bad, memory='(memory (export "memory") 3)')
    began = time.perf_counter()
    reason = ended(module)
    assert reason.startswith("http-handler: handle-http: result: the call hands over too much; ")
    assert time.perf_counter() - began < 2


def test_a_list_of_more_elements_than_are_taken_in_one_turn_ends_the_guest() -> None:
    # All of them empty: 65,537 headers are 1 MiB of zeros.
    module = wat.module(
        data(128, response(headers=(0x10000, Lift.LIMIT // Lift.ELEMENT + 1))),
        handler("(i32.const 128)"),
        memory='(memory (export "memory") 18)',
    )
    assert "the call hands over too much" in ended(module)


# What it passes to imports.

OPEN = f"{call('$open', 600, 5, 640)} (if (i32.load8_u (i32.const 640)) (then (unreachable)))"
"""Opens a store; its handle is at address 644."""

GET = call("$get", load(644), 605, 3, 656)
STORE = data(600, "store", "key", b"\xff", "value")


def importing(body: str, *fields: str, imports: str = KEYVALUE) -> bytes:
    return wat.module(STORE, *fields, handler(f"{body} (i32.const 0)"), imports=imports)


WRONG_ARGUMENTS = {
    "name-that-is-not-text": (
        call("$open", 600, 9, 640),
        "keyvalue::open: name: the text is not UTF-8: invalid start byte at byte 8",
    ),
    "name-past-the-end": (
        call("$open", 0xFFFF, 2, 640),
        "keyvalue::open: name: 2 bytes at 0xffff reach past the end of memory, 0x10000",
    ),
    "name-as-long-as-can-be": (
        call("$open", 0, -1, 640),
        "keyvalue::open: name: 4294967295 bytes at 0x0 reach past the end of memory, 0x10000",
    ),
    "name-whose-end-wraps": (
        call("$open", -1, 2, 640),
        "keyvalue::open: name: 2 bytes at 0xffffffff reach past the end of memory, 0x10000",
    ),
    "result-past-the-end": (
        call("$open", 600, 5, 0xFFF1),
        "keyvalue::open: result: 16 bytes at 0xfff1 reach past the end of memory, 0x10000",
    ),
    "result-at-the-highest-address": (
        call("$open", 600, 5, -1),
        "keyvalue::open: result: 16 bytes at 0xffffffff reach past the end of memory, 0x10000",
    ),
    "key-that-is-not-text": (
        OPEN + call("$get", load(644), 608, 1, 656),
        "keyvalue::get: key: the text is not UTF-8: invalid start byte at byte 0",
    ),
    "value-past-the-end": (
        OPEN + call("$set", load(644), 605, 3, 609, 70_000, 656),
        "keyvalue::set: value: 70000 bytes at 0x261 reach past the end of memory, 0x10000",
    ),
    "handle-that-was-never-given": (
        call("$get", 5, 605, 3, 656),
        "keyvalue::get: self: handle 5 of keyvalue was never given out",
    ),
    "the-highest-handle": (
        OPEN + call("$keys", -1, 656),
        "keyvalue::keys: self: handle 4294967295 of keyvalue was never given out",
    ),
    "handle-that-was-dropped": (
        OPEN + call("$drop", load(644)) + GET,
        "keyvalue::get: self: handle 0 of keyvalue was dropped",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "what"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_a_wrong_argument_ends_the_guest(body: str, what: str, host: Host) -> None:
    assert ended(importing(body)) == host.words(f"keyvalue: {what}")


def test_a_handle_that_is_dropped_twice_ends_the_guest() -> None:
    twice = OPEN + call("$drop", load(644)) * 2
    assert ended(importing(twice)) == "canonical_abi: resource_drop_keyvalue: handle: handle 0 of keyvalue was dropped"


def test_a_handle_that_is_dropped_and_was_never_given_ends_the_guest() -> None:
    reason = ended(importing(call("$drop", 0)))
    assert reason == "canonical_abi: resource_drop_keyvalue: handle: handle 0 of keyvalue was never given out"


def test_a_handle_of_another_resource_ends_the_guest() -> None:
    other = call("$kv_open", 600, 5, 640) + GET
    reason = ended(importing(other, imports=KEYVALUE + wat.KV))
    assert reason == "keyvalue: keyvalue::get: self: handle 0 is of kv, not of keyvalue"


def test_a_handle_that_is_dropped_as_another_resource_ends_the_guest() -> None:
    other = call("$kv_open", 600, 5, 640) + call("$drop", load(644))
    reason = ended(importing(other, imports=KEYVALUE + wat.KV))
    assert reason == "canonical_abi: resource_drop_keyvalue: handle: handle 0 is of kv, not of keyvalue"


def test_a_handler_may_drop_its_handles_and_open_others() -> None:
    guests = wat.handlers(importing(wat.times(100, OPEN + call("$drop", load(644)))))
    assert wat.run(wat.ask(guests)).status == 200


def most_handles(host: Host, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many handles a guest may hold: 65,536, or fewer where that can be set."""
    if not host.is_native:
        monkeypatch.setattr(Handles, "LIMIT", 1000)
    return Handles.LIMIT


def test_a_guest_that_opens_handles_without_end_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    most = most_handles(host, monkeypatch)
    reason = ended(importing(wat.times(most + 1, OPEN)))
    assert reason == f"keyvalue: keyvalue::open: result: the guest holds {most} handles and drops none"


OWN_RESOURCE = """
(import "canonical_abi" "resource_new_thing" (func $new (param i32) (result i32)))
(import "canonical_abi" "resource_get_thing" (func $rep (param i32) (result i32)))
(import "canonical_abi" "resource_clone_thing" (func $clone (param i32) (result i32)))
(import "canonical_abi" "resource_drop_thing" (func $drop_thing (param i32)))
"""


def destroying(destructor: str, body: str) -> bytes:
    """A module that defines the resource `thing`."""
    function = f'(func (export "canonical_abi_drop_thing") (param $rep i32) {destructor})'
    return wat.module(function, handler(f"{body} (i32.const 0)"), imports=OWN_RESOURCE)


WRONG_OWN_HANDLES = {
    "get": (f"(drop {call('$rep', 3)})", "resource_get_thing: handle: handle 3 of thing was never given out"),
    "clone": (
        f"(drop {call('$clone', -1)})",
        "resource_clone_thing: handle: handle 4294967295 of thing was never given out",
    ),
    "drop": (
        f"(drop {call('$new', 7)}) {call('$drop_thing', 0)} {call('$drop_thing', 0)}",
        "resource_drop_thing: handle: handle 0 of thing was dropped",
    ),
}


@pytest.mark.parametrize(("body", "what"), WRONG_OWN_HANDLES.values(), ids=WRONG_OWN_HANDLES)
def test_a_wrong_handle_of_the_guests_own_resource_ends_it(body: str, what: str) -> None:
    assert ended(destroying("", body)) == f"canonical_abi: {what}"


def test_a_guest_that_makes_resources_of_its_own_without_end_is_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = most_handles(host, monkeypatch)
    reason = ended(destroying("", wat.times(most + 1, f"(drop {call('$new', 1)})")))
    assert reason == f"canonical_abi: thing: the guest holds {most} handles and drops none"


def test_a_destructor_that_destroys_another_and_so_on_without_end_is_ended() -> None:
    another = call("$drop_thing", call("$new", 1))
    assert ended(destroying(another, another)) == "calls into the guest and from it are nested 16 deep"


def test_a_destructor_that_traps_ends_the_guest() -> None:
    assert "unreachable" in ended(destroying("(unreachable)", call("$drop_thing", call("$new", 1))))


# Memory that it is asked for.

EVIL = 672
"""The number of bytes for which `evil` gives something else than memory."""

MANY_HEADERS = Request(Method.GET, "/", [("", "")] * (EVIL // 16), [], b"")


def evil(body: str, *fields: str, imports: str = KEYVALUE) -> bytes:
    """A module whose `canonical_abi_realloc` does something else for EVIL bytes.

    It gets those as the argument of a handler (MANY_HEADERS) or as the result of an import (`handle-bad`).
    """
    wrapped = f"""
    (func (export "canonical_abi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32)
        (result i32)
      (if (i32.eq (local.get $new) (i32.const {EVIL})) (then {body}))
      (call $realloc (local.get $old) (local.get $size) (local.get $align) (local.get $new)))
    """
    realloc = wat.REALLOC.replace('(export "canonical_abi_realloc")', "")
    return wat.module(
        STORE, *fields, handler(f"{OPEN} {GET} (i32.const 0)"), imports=imports, realloc=realloc + wrapped
    )


def full_of(value: bytes) -> MemoryStores:
    stores = MemoryStores()
    stores.set(b"store", b"key", value)
    return stores


USELESS = {
    "nothing": ("(return (i32.const 0))", "0x0"),
    "past-the-end": ("(return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)))", "0xfffc"),
    "the-end": ("(return (i32.mul (memory.size) (i32.const 65536)))", "0x10000"),
    "the-highest-address": ("(return (i32.const -1))", "0xffffffff"),
    "an-end-that-wraps": ("(return (i32.const -672))", "0xfffffd60"),
}


@pytest.mark.parametrize(("body", "pointer"), USELESS.values(), ids=USELESS)
def test_useless_memory_for_a_result_ends_the_guest(body: str, pointer: str) -> None:
    reason = ended(evil(body), stores=full_of(bytes(EVIL)))
    assert reason == f"keyvalue: keyvalue::get: canonical_abi_realloc returned {pointer} for 672 bytes aligned to 1"


@pytest.mark.parametrize(("body", "pointer"), USELESS.values(), ids=USELESS)
def test_useless_memory_for_an_argument_ends_the_guest(body: str, pointer: str) -> None:
    reason = ended(evil(body), MANY_HEADERS)
    assert reason == f"http-handler: handle-http: canonical_abi_realloc returned {pointer} for 672 bytes aligned to 4"


def test_misaligned_memory_ends_the_guest() -> None:
    reason = ended(evil("(return (i32.const 9001))"), MANY_HEADERS)
    assert reason == "http-handler: handle-http: canonical_abi_realloc returned 0x2329 for 672 bytes aligned to 4"


@pytest.mark.parametrize("request_", [wat.REQUEST, MANY_HEADERS], ids=["result", "argument"])
def test_a_realloc_that_traps_ends_the_guest(request_: Request) -> None:
    reason = ended(evil("(unreachable)"), request_, full_of(bytes(EVIL)))
    assert reason == "wasm trap: wasm `unreachable` instruction executed"


IN_REALLOC = "the guest calls an import while it allocates or frees for the host"
"""What the native machine says, which doesn't know for what it has called the guest."""


@pytest.mark.parametrize("request_", [wat.REQUEST, MANY_HEADERS], ids=["result", "argument"])
def test_a_realloc_that_calls_an_import_ends_the_guest(request_: Request, host: Host) -> None:
    reason = ended(evil(call("$get", 0, 605, 3, 656)), request_, full_of(bytes(EVIL)))
    if host.is_native:
        assert reason == f"keyvalue: keyvalue::get: {IN_REALLOC}"
    else:
        assert reason == "canonical_abi_realloc calls keyvalue::keyvalue::get"


def test_a_realloc_that_sleeps_ends_the_guest(host: Host) -> None:
    poll = '(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'
    reason = ended(evil(f"(drop {call('$poll', 0, 64, 1, 128)})", imports=KEYVALUE + poll), MANY_HEADERS)
    if host.is_native:
        assert reason == f"poll_oneoff: {IN_REALLOC}"
    else:
        assert reason == "canonical_abi_realloc calls wasi_snapshot_preview1::poll_oneoff"


@pytest.mark.parametrize("request_", [wat.REQUEST, MANY_HEADERS], ids=["result", "argument"])
def test_a_realloc_that_loops_for_ever_can_be_ended(request_: Request) -> None:
    guests = wat.handlers(evil(wat.FOREVER), stores=full_of(bytes(EVIL)))

    async def main() -> None:
        asked = asyncio.create_task(wat.ask(guests, request=request_))
        await asyncio.sleep(0.05)
        await answers(guests)
        assert not asked.done()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await answers(guests)

    wat.run(main())


def test_a_realloc_that_recurses_for_ever_ends_the_guest() -> None:
    deep = "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))"
    assert ended(evil("(return (call $deep))", deep), MANY_HEADERS) == "wasm trap: call stack exhausted"


def test_a_realloc_that_grows_the_memory_is_given_what_it_asks_for() -> None:
    # The value comes back as the body, from pages that were not there when the import was called.
    body = f"""
    {OPEN} {GET}
    (i64.store (i32.const {128 + wat.BODY_AT}) (i64.load (i32.const 660)))
    (i32.const 128)"""
    grow = "(drop (memory.grow (i32.const 100))) (return (i32.mul (i32.const 65536) (i32.const 99)))"
    module = evil(grow, data(128, response(body=(0, 0))), handler(body, "handle-grow"))
    value = bytes(range(224)) * 3
    guests = wat.handlers(module, stores=full_of(value))
    assert wat.run(wat.ask(guests, "handle-grow")).body == value


def test_a_realloc_that_grows_the_memory_for_an_argument_is_given_what_it_asks_for() -> None:
    grow = "(drop (memory.grow (i32.const 100))) (return (i32.mul (i32.const 65536) (i32.const 99)))"
    # The name of the last header, as the handler finds it.
    body = f"""
    (i64.store (i32.const {128 + wat.BODY_AT}) (i64.load (i32.add (local.get 3) (i32.const {EVIL - 16}))))
    (i32.const 128)"""
    module = evil(grow, data(128, response(body=(0, 0))), handler(body, "handle-grow"))
    request = Request(Method.GET, "/", [("", "")] * (EVIL // 16 - 1) + [("name", "value")], [], b"")
    assert wat.run(wat.ask(wat.handlers(module), "handle-grow", request)).body == b"name"


NO_REALLOC = {
    "missing": "",
    "three-parameters": (
        '(func (export "canonical_abi_realloc") (param i32 i32 i32) (result i32) (i32.const 9000))'
    ),
    "64-bit-size": (
        '(func (export "canonical_abi_realloc") (param i32 i32 i32 i64) (result i32) (i32.const 9000))'
    ),
    "no-result": '(func (export "canonical_abi_realloc") (param i32 i32 i32 i32))',
    "not-a-function": '(global (export "canonical_abi_realloc") i32 (i32.const 9000))',
}  # fmt: skip


@pytest.mark.parametrize("realloc", NO_REALLOC.values(), ids=NO_REALLOC)
def test_a_guest_without_realloc_is_refused(realloc: str) -> None:
    reason = refused(wat.module(realloc=realloc))
    assert reason == (
        "http-handler: handle-http: the guest does not export canonical_abi_realloc(i32, i32, i32, i32) -> i32"
    )


NO_MEMORY = {
    "not-exported": "(memory 1)",
    "another-name": '(memory (export "mem") 1)',
    "not-a-memory": '(memory 1) (global (export "memory") i32 (i32.const 1))',
}


@pytest.mark.parametrize("memory", NO_MEMORY.values(), ids=NO_MEMORY)
def test_a_guest_without_memory_is_refused(memory: str, host: Host) -> None:
    # In a machine, it gets to know when the guest is about to serve.
    place = "http-server: router::new: result" if host.name == MACHINE else "http-handler: handle-http"
    assert refused(wat.module(memory=memory)).startswith(f"{place}: the guest exports no memory")


@not_booted
def test_a_guest_whose_memory_has_no_pages_is_refused() -> None:
    realloc = '(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))'
    fields = f'(memory (export "memory") 0) {realloc} {handler("(i32.const 0)", "handle-hello")}'
    reason = refused(wat.binary(fields))
    assert reason == "http-handler: handle-http: canonical_abi_realloc returned 0x8 for 1 bytes aligned to 1"


def test_a_wrong_argument_in_the_start_function_ends_the_guest(host: Host) -> None:
    start = f"(func $start {call('$keys', 0, 640)}) (start $start)"
    reason = refused(wat.module(start, imports=KEYVALUE))
    if host.is_native:
        # The host knows what a guest exports while that starts, so that it may call imports.
        what = "self: handle 0 of keyvalue was never given out"
    else:
        what = "the guest exports no memory, or calls an import from its start"
    assert reason.startswith(f"keyvalue: keyvalue::keys: {what}")


@only_native
def test_a_guest_may_be_called_while_it_starts() -> None:
    destructor = '(func (export "canonical_abi_drop_thing") (param i32) (i32.store8 (i32.const 32) (local.get 0)))'
    start = f"(func $start {call('$drop_thing', call('$new', ord('j')))}) (start $start)"
    guests = wat.handlers(wat.module(destructor, start, imports=OWN_RESOURCE))
    assert wat.run(wat.ask(guests, "handle-hello")).body == b"jello"


@only_slight_py_run
def test_a_guest_that_is_needed_before_it_has_started_is_ended() -> None:
    destructor = '(func (export "canonical_abi_drop_thing") (param $rep i32))'
    start = f"(func $start (drop {call('$new', 7)}) {call('$drop_thing', 0)}) (start $start)"
    assert refused(wat.module(destructor, start, imports=OWN_RESOURCE)) == (
        "the guest calls an import from its start function that needs canonical_abi_drop_thing, which can be called"
        " only when the guest has started"
    )


# What it does besides.


def test_deep_recursion_is_a_trap() -> None:
    deep = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))"
    assert ended(wat.module(deep, handler("(call $deep (i32.const 1))"))) == "wasm trap: call stack exhausted"


def test_an_address_past_the_memory_is_a_trap() -> None:
    assert "out of bounds memory access" in ended(wat.module(handler("(i32.load (i32.const 65533))")))


def resident(pid: int | None) -> int:
    """Bytes of memory that a process holds; 0 for the hosts that have no process of their own."""
    if pid is None:
        return 0
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_a_memory_that_grows_without_end_grows_to_the_limit(host: Host) -> None:
    grow = "(drop (memory.grow (i32.const 1)))"
    rest = "(i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536))"
    touch = f"(memory.fill (i32.const 65536) (i32.const 1) {rest})"
    pages = "(i32.store (i32.const 256) (memory.size)) (i32.const 128)"
    guests = wat.handlers(
        returning(response(body=(256, 4)), handler(wat.times(1000, grow) + touch + pages, "handle-grow"))
    )

    async def main() -> None:
        before = resident(host.pid)
        # All of them together are more than a machine has.
        for _ in range(3):
            found = await asyncio.gather(*(wat.ask(guests, "handle-grow") for _ in range(8)))
            assert {each.body for each in found} == {pack("<I", wat.LIMITS.memory // wat.PAGE)}
        # What a guest has touched, the next one in its place may find resident again, and nothing piles up.
        assert resident(host.pid) - before < 8 * wat.LIMITS.memory + (32 << 20)

    wat.run(main())


def test_a_table_that_grows_without_end_grows_to_the_limit() -> None:
    grow = "(drop (table.grow $table (ref.null func) (i32.const 999)))"
    size = "(i32.store (i32.const 256) (table.size $table)) (i32.const 128)"
    table = f"(table $table 1 funcref) {handler(wat.times(1000, grow) + size, 'handle-grow')}"
    guests = wat.handlers(returning(response(body=(256, 4)), table))
    assert wat.run(wat.ask(guests, "handle-grow")).body == pack("<I", 1 + 100 * 999)


# Time.


def test_a_handler_that_loops_for_ever_is_ended_and_holds_up_nobody() -> None:
    guests = wat.handlers(wat.module(handler(f"{wat.FOREVER} (unreachable)")))

    async def main() -> None:
        async with wat.serving(guests, HttpSettings(request_timeout=0.5)) as port:
            looping = [asyncio.create_task(wat.get(port, "/handle-bad")) for _ in range(3)]
            await asyncio.sleep(0.05)
            await _answers_soon(port, until=looping[0])
            assert {(await each)[0] for each in looping} == {504}
            assert await wat.get(port, "/handle-hello") == (200, b"hello")

    wat.run(main())


async def _answers_soon(port: int, until: asyncio.Task[tuple[int, bytes]]) -> None:
    """Asks for the good guest over and over until the bad one has ended."""
    asked = 0
    while not until.done():
        began = time.perf_counter()
        assert await wat.get(port, "/handle-hello") == (200, b"hello")
        took = time.perf_counter() - began
        assert took < BESIDE
        asked += 1
    assert asked > 3


def test_a_handler_that_computes_for_long_is_answered_and_holds_up_nobody() -> None:
    rounds = wat.times(600_000_000, "")
    guests = wat.handlers(wat.module(handler(f"{rounds} (i32.const 0)")))

    async def main() -> None:
        async with wat.serving(guests, HttpSettings()) as port:
            computing = asyncio.create_task(wat.get(port, "/handle-bad"))
            await _answers_soon(port, until=computing)
            assert await computing == (200, b"hello")

    wat.run(main())


def loops_before_its_handler(module: bytes) -> None:
    """Asks a guest that is never done, which is ended, and another one meanwhile, which answers."""
    guests, others = wat.handlers(module), wat.handlers(wat.module())

    async def main() -> None:
        async with wat.serving(guests, HttpSettings(request_timeout=0.1)) as port:
            looping = asyncio.create_task(wat.get(port, "/handle-hello"))
            await asyncio.sleep(0.05)
            await answers(others)
            assert (await looping)[0] == 504

    wat.run(main())


@not_booted
@pytest.mark.parametrize(
    "field",
    [f"(func $start {wat.FOREVER}) (start $start)", f'(func (export "_initialize") {wat.FOREVER})'],
    ids=["start function", "initialize"],
)
def test_a_guest_that_loops_for_ever_before_its_handler_is_ended(field: str) -> None:
    loops_before_its_handler(wat.module(field))


def test_a_guest_whose_realloc_loops_for_ever_before_its_handler_is_ended() -> None:
    looping = wat.REALLOC.replace("(local $at i32)", f"(local $at i32) {wat.FOREVER}")
    loops_before_its_handler(wat.module(realloc=looping))


# Faults of the host.


class Broken:
    """A backend with a bug."""

    async def open(self, name: str) -> Broken:
        return self

    async def get(self, key: str) -> bytes:
        raise ZeroDivisionError("the secret of the house")

    async def close(self) -> None:
        pass


@only_slight_py_run
def test_a_bug_in_a_backend_ends_the_guest_and_is_told_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    guests = wat.handlers(importing(OPEN + GET), stores=Broken())

    async def main() -> tuple[int, bytes]:
        async with wat.serving(guests, HttpSettings()) as port:
            failed = await wat.get(port, "/handle-bad")
            assert await wat.get(port, "/handle-hello") == (200, b"hello")
            return failed

    with caplog.at_level(logging.DEBUG):
        status, content = wat.run(main())
    assert status == 500
    assert b"secret" not in content
    assert b"Zero" not in content
    assert "keyvalue::get" in caplog.text
    assert "ZeroDivisionError: the secret of the house" in caplog.text


def test_a_trap_is_told_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    guests = wat.handlers(wat.module(handler("(unreachable)")))

    async def main() -> tuple[int, bytes]:
        async with wat.serving(guests, HttpSettings()) as port:
            return await wat.get(port, "/handle-bad")

    status, content = wat.run(main())
    assert status == 500
    assert b"unreachable" not in content
    assert "unreachable" in caplog.text
