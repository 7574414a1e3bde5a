"""QEMU's machine protocol (QMP): commands and events as JSON over a socket.

See QEMU's documents "QEMU Machine Protocol Specification" and "QEMU QMP Reference Manual".
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_LIMIT = 1 << 20
_TIME = 20.0
"""Seconds for an answer. QEMU answers at once, but the computer may be busy."""


class QmpError(Exception):
    """A command failed, with QEMU's words; or QEMU has gone, or says what is not in the protocol."""


class Qmp:
    """A client, for one command at a time."""

    def __init__(self, opened: socket.socket, on_event: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Takes over a connected, non-blocking socket. `on_event` is called with the name and the data of an event."""
        self._socket = opened
        self._on_event = on_event
        self._replies: asyncio.Queue[Mapping[str, Any] | QmpError] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self.version = ""
        """QEMU's, as in `7.2.22`."""

    async def connect(self, time: float = _TIME) -> None:
        """Waits for the greeting, at most `time` seconds, and gets ready for commands. Raises QmpError."""
        self._reader = asyncio.create_task(self._read())
        greeting = await self._reply(time)
        try:
            version = greeting["QMP"]["version"]["qemu"]
            self.version = ".".join(str(int(version[part])) for part in ("major", "minor", "micro"))
        except (KeyError, TypeError, ValueError):
            raise QmpError("QEMU's monitor begins without its greeting") from None
        await self.execute("qmp_capabilities")

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, fds: Sequence[int] = (), time: float = _TIME
    ) -> Any:
        """What a command returns. `fds` go with it, for `getfd`. Raises QmpError, also after `time` seconds."""
        message = json.dumps({"execute": command} | ({"arguments": dict(arguments)} if arguments else {})).encode()
        async with self._turn:
            try:
                if fds:
                    socket.send_fds(self._socket, [message], list(fds))
                else:
                    await asyncio.get_running_loop().sock_sendall(self._socket, message)
            except OSError as error:
                raise QmpError(f"QEMU has gone: {error.strerror}") from None
            reply = await self._reply(time)
        if "return" in reply:
            return reply["return"]
        reason = reply.get("error")
        raise QmpError(str(reason.get("desc")) if isinstance(reason, dict) else "an error without a text")

    async def human(self, line: str) -> str:
        """The text that a command of the human monitor prints; most print nothing if all went well."""
        return str(await self.execute("human-monitor-command", {"command-line": line})).strip()

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        self._socket.close()

    async def _reply(self, time: float = _TIME) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(time):
                reply = await self._replies.get()
        except TimeoutError:
            # An answer that comes after all would be taken for that of the next command.
            self._replies.put_nowait(QmpError("QEMU's monitor didn't answer before"))
            raise QmpError(f"QEMU's monitor doesn't answer within {time:g} s") from None
        if isinstance(reply, QmpError):
            self._replies.put_nowait(reply)  # and so it is for whoever asks next
            raise reply
        return reply

    async def _read(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            rest = b""
            while received := await loop.sock_recv(self._socket, 1 << 16):
                *lines, rest = (rest + received).split(b"\n")
                if len(rest) > _LIMIT:
                    raise QmpError("QEMU's monitor sends a line without end")
                for line in lines:
                    self._take(line)
            raise QmpError("QEMU has gone")
        except OSError:
            self._replies.put_nowait(QmpError("QEMU has gone"))
        except QmpError as error:
            self._replies.put_nowait(error)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise QmpError("QEMU's monitor sends what is not JSON") from None
        match message:
            case {"event": str(name)}:
                data = message.get("data")
                self._on_event(name, data if isinstance(data, dict) else {})
            case {"return": _} | {"error": _} | {"QMP": _}:
                self._replies.put_nowait(message)
            case _:
                raise QmpError("QEMU's monitor sends what is neither an answer nor an event")
