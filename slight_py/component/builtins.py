"""The built-in functions of the canonical ABI for tasks, streams and futures, as imports of core modules.

Their names and rules are those of CanonicalABI.md, "Canonical Definitions". A rule that is broken is a GuestFault. That
a component may not call any while it allocates, or in a post-return, is the engine's to enforce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from struct import Struct
from typing import Any, TypeAlias

from bindgen.runtime import GuestFault, Import
from slight_py.component import streams
from slight_py.component.lifting import ERROR_CONTEXT_KEY, ErrorContext, Lifting
from slight_py.component.plan import Builtin
from slight_py.component.streams import BLOCKED, Copy, CopyResult, CopyState, End, GuestBuffer
from slight_py.component.subtasks import SUBTASK, Subtask
from slight_py.component.task_calls import passing
from slight_py.component.tasks import Guest, Task
from slight_py.component.types import STRING, FutureOf, StreamOf
from slight_py.component.values import element_form
from slight_py.component.waitables import NO_EVENT, WAITABLE_SET, Event, EventCode, Waitable, WaitableSet
from slight_py.engine import AtOnce, Harmless

Answer: TypeAlias = Callable[[Any, Any, tuple[Any, ...]], Coroutine[Any, Any, Any] | int | None]
"""`answer(host, guest, flat arguments)`; there is no host. What isn't a coroutine is done at once."""

MAX_MESSAGE = 1024
"""How many characters of the message of an error context are kept: the host holds them, as many as there are handles.
CanonicalABI.md lets a host change the message."""

_PAIR = Struct("<II")
_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "d"}


def builtin(of: Builtin) -> Import | None:
    """What answers a built-in function. None for those about resources, which resources.py has."""
    make = _MAKERS.get(of.name)
    if make is None:
        return None
    params, results = (
        "".join(_LETTERS[each] for each in types) for types in (of.core_type.params, of.core_type.results)
    )
    kind = Harmless if of.name in _HARMLESS else AtOnce
    return kind("component", of.name, params, results, make(of))


_HARMLESS = ("context.get", "context.set")
"""What a component may call while it allocates, too: CanonicalABI.md asks no `may_leave` of these."""


# Tasks.


def _current(guest: Guest, where: str) -> Task:
    task = guest.state.task
    if task is None:
        raise GuestFault(f"{where}: the function that the host called isn't lifted with async")
    return task


def _task_return(of: Builtin) -> Answer:
    result = of.type

    async def answer(_host: Any, guest: Guest, args: tuple[Any, ...]) -> None:
        await _current(guest, of.name).do_return(guest, args, result, of.name)  # type: ignore[arg-type]  # no resource

    return answer


def _task_cancel(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, _args: tuple[Any, ...]) -> None:
        await _current(guest, of.name).do_cancel(of.name)

    return answer


def _context_get(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, _args: tuple[Any, ...]) -> int:
        return (guest.state.task or guest.state).storage[of.slot]

    return answer


def _context_set(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        (guest.state.task or guest.state).storage[of.slot] = args[0]

    return answer


def _backpressure_set(_of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        guest.state.backpressure = int(bool(args[0]))
        guest.state.grant()

    return answer


def _backpressure_inc(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, _args: tuple[()]) -> None:
        guest.state.backpressure += 1
        if guest.state.backpressure == 1 << 16:
            raise GuestFault(f"{of.name}: called {1 << 16} times more than backpressure.dec")

    return answer


def _backpressure_dec(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, _args: tuple[()]) -> None:
        if not guest.state.backpressure:
            raise GuestFault(f"{of.name}: called more often than backpressure.inc")
        guest.state.backpressure -= 1
        guest.state.grant()

    return answer


def _yield(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, _args: tuple[()]) -> int:
        state = guest.state
        task = state.task
        if task is None or not state.may_block():
            return 0
        await asyncio.sleep(0)
        return int(of.is_cancellable and task.deliver_cancel())

    return answer


def _subtask_cancel(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, args: tuple[int]) -> int:
        state = guest.state
        subtask: Subtask = state.handles.get(SUBTASK, args[0], of.name)
        _check_alone(subtask, of.name)
        if subtask.is_delivered or subtask.cancel_requested:
            raise GuestFault(f"{of.name}: the subtask {args[0]} is done, or was cancelled before")
        if not subtask.is_resolved:
            await subtask.request_cancel()
        if not subtask.is_resolved:
            if of.options.is_async:
                return BLOCKED
            state.check_block(of.name)
            await subtask.until_resolved(state)
        subtask.take_event()
        return subtask.state

    return answer


def _subtask_drop(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        subtask: Subtask = guest.handles.get(SUBTASK, args[0], of.name)
        if not subtask.is_delivered:
            raise GuestFault(f"{of.name}: cannot drop a subtask which has not yet resolved")
        guest.handles.take(SUBTASK, args[0], of.name)
        subtask.join(None)

    return answer


# Waitables.


def _waitable_set_new(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, _args: tuple[()]) -> int:
        return guest.handles.add(WAITABLE_SET, WaitableSet(), of.name)

    return answer


def _store_event(guest: Guest, at: int, event: Event, where: str) -> int:
    code, first, second = event
    memory = guest.memory
    if at % 4 or at + _PAIR.size > len(memory):
        raise GuestFault(f"{where}: the event is wanted at {at:#x}, which isn't in memory or isn't aligned")
    _PAIR.pack_into(memory, at, first, second)
    return code


def _waitable_set_wait(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, args: tuple[int, int]) -> int:
        joined: WaitableSet = guest.handles.get(WAITABLE_SET, args[0], of.name)
        if joined.has_event and guest.state.task is None:
            event = joined.take_event()
        else:
            if not joined.has_event:
                guest.state.check_block(of.name)
            event = await _current(guest, of.name).wait(joined, of.is_cancellable, returns=False)
        return _store_event(guest, args[1], event, of.name)

    return answer


def _waitable_set_poll(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, args: tuple[int, int]) -> int:
        joined: WaitableSet = guest.handles.get(WAITABLE_SET, args[0], of.name)
        task = guest.state.task
        event = NO_EVENT
        if task is not None and of.is_cancellable and task.deliver_cancel():
            event = (EventCode.TASK_CANCELLED, 0, 0)
        else:
            if not joined.has_event:
                # A guest that polls in a loop waits for others, which need their turn for that.
                await asyncio.sleep(0)
            if joined.has_event:
                event = joined.take_event()
        return _store_event(guest, args[1], event, of.name)

    return answer


def _waitable_set_drop(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        joined: WaitableSet = guest.handles.get(WAITABLE_SET, args[0], of.name)
        joined.check_drop(of.name)
        guest.handles.take(WAITABLE_SET, args[0], of.name)

    return answer


def _waitable_join(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int, int]) -> None:
        waitable = guest.handles.find(args[0], of.name)
        if not isinstance(waitable, Waitable):
            raise GuestFault(f"{of.name}: the handle {args[0]} is nothing to wait for")
        if isinstance(waitable, End) and waitable.state is CopyState.BLOCKING:
            raise GuestFault(f"{of.name}: waitable cannot be used synchronously while added to a waitable set")
        waitable.join(guest.handles.get(WAITABLE_SET, args[1], of.name) if args[1] else None)

    return answer


# Streams and futures.


def _type(of: Builtin) -> StreamOf | FutureOf:
    assert isinstance(of.type, StreamOf | FutureOf)
    return of.type


def _new(of: Builtin) -> Answer:
    type_ = _type(of)
    is_future, element, carried = isinstance(type_, FutureOf), type_.element, streams.text_of_element(type_)

    def answer(_host: Any, guest: Guest, _args: tuple[()]) -> int:
        readable, writable = streams.add_ends(guest.handles, is_future, element, carried, of.name)
        return readable | writable << 32

    return answer


def _finder(of: Builtin, is_readable: bool) -> Callable[[Guest, int], End]:
    """What finds the end that a guest means by an index."""
    type_ = _type(of)
    element, carried = type_.element, streams.text_of_element(type_)
    key = streams.key_of_end(isinstance(type_, FutureOf), is_readable)

    def find(guest: Guest, index: int) -> End:
        end: End = guest.handles.get(key, index, of.name)
        streams.check_type(end, element, carried, of.name)
        return end

    return find


def _copy(of: Builtin, is_read: bool) -> Answer:
    type_ = _type(of)
    is_future = isinstance(type_, FutureOf)
    form = element_form(type_.element)
    code = streams.EVENT_CODES[is_future, is_read]
    find = _finder(of, is_read)

    async def answer(_host: Any, guest: Guest, args: tuple[int, ...]) -> int:
        index, at = args[0], args[1]
        count = 1 if is_future else args[2]
        end = find(guest, index)
        _check_idle(end, of.name)
        if not of.options.is_async:
            _check_alone(end, of.name)
        if count > streams.MAX_LENGTH:
            raise GuestFault(f"{of.name}: {count} values are more than {streams.MAX_LENGTH}")
        if form.size and count:
            _check_range(guest, at, count * form.size, form.alignment, of.name)
        end.state = CopyState.COPYING
        buffer = GuestBuffer(guest, form, form.size, at, count, of.name)
        copied, ended = partial(_on_copied, end, code, index), partial(_on_ended, end, code, index)
        await end.channel.copy(Copy(is_read, buffer, copied, ended))
        return await _outcome(guest, end, of, CopyState.BLOCKING)

    return answer


def _check_idle(end: End, where: str) -> None:
    verb = "read from" if end.is_readable else "write to"
    if end.state is CopyState.DONE:
        raise GuestFault(f"{where}: cannot {verb} {end.kind} {end.done_reason()}")
    if end.state is not CopyState.IDLE:
        raise GuestFault(f"{where}: cannot {verb} busy {end.kind}")


def _check_alone(waitable: Waitable, where: str) -> None:
    """What core code waits for can't be waited for with a set besides."""
    if waitable.set is not None:
        raise GuestFault(f"{where}: waitable cannot be used synchronously while added to a waitable set")


def _check_range(guest: Guest, at: int, size: int, alignment: int, where: str) -> None:
    end = len(guest.memory)
    if at % alignment or at + size > end:
        raise GuestFault(
            f"{where}: {size} bytes at {at:#x} are not in memory, {end:#x}, or not aligned to {alignment} bytes"
        )


def _on_copied(end: End, code: EventCode, index: int, copy: Copy) -> None:
    """A part was copied: more may be until the guest takes the event."""

    def event() -> Event:
        end.channel.withdraw(copy)
        end.state = CopyState.IDLE
        return code, index, CopyResult.COMPLETED | copy.buffer.done << 4

    end.set_event(event)


def _on_ended(end: End, code: EventCode, index: int, copy: Copy, result: CopyResult) -> None:
    is_future = end.channel.is_future
    is_done = result is CopyResult.DROPPED or (is_future and result is CopyResult.COMPLETED)

    def event() -> Event:
        end.state = CopyState.DONE if is_done else CopyState.IDLE
        end.other_dropped = result is CopyResult.DROPPED
        return code, index, result if is_future else result | copy.buffer.done << 4

    end.set_event(event)


async def _outcome(guest: Guest, end: End, of: Builtin, meanwhile: CopyState) -> int:
    """What a guest is told of a copy that it began or cancels; waits for it, unless the guest does so itself."""
    if not end.has_event:
        if of.options.is_async:
            return BLOCKED
        guest.state.check_block(of.name)
        end.state = meanwhile
        while not end.has_event:
            await guest.state.until(end.waiter())
    return end.take_event()[2]


def _cancel(of: Builtin, is_read: bool) -> Answer:
    find = _finder(of, is_read)

    async def answer(_host: Any, guest: Guest, args: tuple[int]) -> int:
        end = find(guest, args[0])
        if end.state is not CopyState.COPYING:
            raise GuestFault(f"{of.name}: nothing of the end {args[0]} can be cancelled")
        if not of.options.is_async:
            _check_alone(end, of.name)
        end.state = CopyState.CANCELLING
        if not end.has_event:
            end.channel.cancel(is_read)
        return await _outcome(guest, end, of, CopyState.CANCELLING)

    return answer


def _drop(of: Builtin, is_readable: bool) -> Answer:
    key = streams.key_of_end(isinstance(of.type, FutureOf), is_readable)
    find = _finder(of, is_readable)

    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        end = find(guest, args[0])
        if end.is_copying:
            raise GuestFault(f"{of.name}: cannot drop busy {end.kind}")
        if key == streams.WRITABLE_FUTURE and end.state is not CopyState.DONE:
            raise GuestFault(f"{of.name}: cannot drop future write end without first writing a value")
        guest.handles.take(key, args[0], of.name)
        end.drop()

    return answer


# Error contexts.


def _error_context_new(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int, int]) -> int:
        message = Lifting(guest, of.name).string(*args)[:MAX_MESSAGE]
        return guest.handles.add(ERROR_CONTEXT_KEY, ErrorContext(message), of.name)

    return answer


def _error_context_debug_message(of: Builtin) -> Answer:
    async def answer(_host: Any, guest: Guest, args: tuple[int, int]) -> None:
        context: ErrorContext = guest.handles.get(ERROR_CONTEXT_KEY, args[0], of.name)
        await passing((STRING,), 0).lower(guest, [context.message], of.name, out=args[1])

    return answer


def _error_context_drop(of: Builtin) -> Answer:
    def answer(_host: Any, guest: Guest, args: tuple[int]) -> None:
        guest.handles.take(ERROR_CONTEXT_KEY, args[0], of.name)

    return answer


_MAKERS: dict[str, Callable[[Builtin], Answer]] = {
    "task.return": _task_return,
    "task.cancel": _task_cancel,
    "context.get": _context_get,
    "context.set": _context_set,
    "backpressure.set": _backpressure_set,
    "backpressure.inc": _backpressure_inc,
    "backpressure.dec": _backpressure_dec,
    "thread.yield": _yield,
    "subtask.cancel": _subtask_cancel,
    "subtask.drop": _subtask_drop,
    "waitable-set.new": _waitable_set_new,
    "waitable-set.wait": _waitable_set_wait,
    "waitable-set.poll": _waitable_set_poll,
    "waitable-set.drop": _waitable_set_drop,
    "waitable.join": _waitable_join,
    "stream.new": _new,
    "future.new": _new,
    "stream.read": partial(_copy, is_read=True),
    "stream.write": partial(_copy, is_read=False),
    "future.read": partial(_copy, is_read=True),
    "future.write": partial(_copy, is_read=False),
    "stream.cancel-read": partial(_cancel, is_read=True),
    "stream.cancel-write": partial(_cancel, is_read=False),
    "future.cancel-read": partial(_cancel, is_read=True),
    "future.cancel-write": partial(_cancel, is_read=False),
    "stream.drop-readable": partial(_drop, is_readable=True),
    "stream.drop-writable": partial(_drop, is_readable=False),
    "future.drop-readable": partial(_drop, is_readable=True),
    "future.drop-writable": partial(_drop, is_readable=False),
    "error-context.new": _error_context_new,
    "error-context.debug-message": _error_context_debug_message,
    "error-context.drop": _error_context_drop,
}
