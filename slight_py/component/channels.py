"""Streams and futures between the host and a component, as generated modules have them: `Channels` of
`bindgen.runtime.component`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable
from typing import Any

from bindgen.runtime.component import Lift, Lower, Payload
from slight_py.component import streams
from slight_py.component.handles import HandleTable


class PayloadForm:
    """How a generated module sees the values of a stream or future; a `streams.Form`."""

    __slots__ = ("_payload",)

    def __init__(self, payload: Payload[Any]) -> None:
        self._payload = payload

    def load(self, guest: Any, where: str, at: int, count: int) -> Any:
        return self._payload.load(Lift(guest, where, "values"), at, count)

    def store(self, guest: Any, where: str, at: int, values: Any) -> Awaitable[None] | None:
        lower = Lower(guest, where)
        self._payload.note(lower, values)
        if lower.blocks:
            return self._store_later(lower, at, values)
        self._payload.store(lower, guest.memory, at, values)
        return None

    async def _store_later(self, lower: Lower, at: int, values: Any) -> None:
        await lower.guest.allocate(lower)
        self._payload.store(lower, lower.guest.memory, at, values)


class Channels:
    """The streams and futures that one component instance shares with the host."""

    __slots__ = ("_handles",)

    def __init__(self, handles: HandleTable) -> None:
        self._handles = handles

    def take_stream(self, payload: Payload[Any], index: int, where: str) -> streams.StreamReader:
        """The readable end of a stream that the guest hands over."""
        reader = streams.StreamReader(self._take(payload, False, index, where))
        self._handles.share(reader)
        return reader

    def take_future(self, payload: Payload[Any], index: int, where: str) -> streams.FutureReader:
        """The readable end of a future that the guest hands over."""
        reader = streams.FutureReader(self._take(payload, True, index, where))
        self._handles.share(reader)
        return reader

    def _take(self, payload: Payload[Any], is_future: bool, index: int, where: str) -> streams.Channel:
        channel = streams.take_channel(self._handles, is_future, index, payload.type, where)
        channel.form = form_of(payload)
        return channel

    def add_stream(self, payload: Payload[Any], source: AsyncIterable[Any], where: str) -> int:
        """Hands a stream over that the host fills from `source`; returns the index of its readable end."""
        return self._add(payload, False, source, where)

    def add_future(self, payload: Payload[Any], source: Awaitable[Any], where: str) -> int:
        """Hands a future over that the host fulfils with the value of `source`; returns its index."""
        return self._add(payload, True, source, where)

    def _add(self, payload: Payload[Any], is_future: bool, source: Any, where: str) -> int:
        return streams.add_source(self._handles, is_future, payload.type, form_of(payload), source, where)


def form_of(payload: Payload[Any]) -> PayloadForm | None:
    """None where the values are those of values.py anyway: bytes, and nothing."""
    return None if payload.type in ("", "u8") else PayloadForm(payload)
