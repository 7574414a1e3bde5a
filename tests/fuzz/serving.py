"""A server at work, as a command of its own, and what is said to it."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.fuzz import requests
from tests.fuzz.requests import Conversation

ANSWER = 20.0
"""Seconds within which a valid request is answered, on a machine that has more to do."""

ENDING = 30.0
"""Seconds within which a connection ends whose client has said that it sends no more."""

GROWTH = 400 << 20
"""Bytes of memory that the server may have."""

EXPLAINED = (501, 503, 505)
"""What a server answers with a 5xx for reasons of the request's own: methods and versions it hasn't, and its limits."""

VALID = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

_OK = b"HTTP/1.1 200 "


class Server:
    """`slight-py run` with a guest that always answers. It ends with this process's group."""

    def __init__(self, directory: Path, command: Sequence[str] | None = None) -> None:
        """`command` is what runs in place of `slight-py`; it says where it serves as that does."""
        self._err = directory / "server.stderr"
        if command is None:
            app = directory / "server.wasm"
            app.write_bytes(requests.server())
            command = [sys.executable, "-X", "faulthandler", "-m", "slight_py", "run", str(app), "--no-dir"]
            command += ["--max-body", "100000", "--max-memory", "16777216"]
        with self._err.open("wb") as err:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving at 127\.0\.0\.1:(\d+)", self.errors)):
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"the server doesn't start: {self.errors}")
            time.sleep(0.02)
        self._port = int(found[1])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def errors(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def talk(self, conversations: list[Conversation]) -> tuple[str, str] | None:
        """What is wrong after a batch of conversations, in a word and in full."""
        found = await asyncio.gather(*(self._converse(each) for each in conversations))
        for wrong in found:
            if wrong is not None:
                return wrong
        answer = b""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(VALID)
                answer = await reader.read()
                writer.close()
        right = answer.startswith(_OK) and answer.endswith(b"\r\n\r\nhello")
        if not right:  # a process that dies closes its connections before it has ended
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, 1)
        if not self.alive:
            return "server-death", f"the server ended with {self._process.returncode}\n{self.errors}"
        if not right:
            return "no-answer", f"a valid request after it is answered {answer!r}\n{self.errors}"
        if "Traceback" in self.errors:
            return "server-traceback", self.errors
        if (size := resident(self._process.pid)) > GROWTH:
            return "server-memory", f"the server has {size >> 20} MiB"
        return None

    async def _converse(self, said: Conversation) -> tuple[str, str] | None:
        received = bytearray()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return None  # which the valid request after it will show

        async def receive() -> None:
            with suppress(OSError):
                while chunk := await reader.read(65536):
                    received.extend(chunk)

        receiving = asyncio.create_task(receive())
        with suppress(OSError):
            for piece, pause in zip(said.pieces, said.pauses, strict=True):
                await asyncio.sleep(pause)
                writer.write(piece)
                async with asyncio.timeout(ANSWER):
                    await writer.drain()
            if said.end == "half":
                writer.write_eof()
        hung = None
        if said.end == "half":
            done, _ = await asyncio.wait((receiving,), timeout=ENDING)
            if not done:
                hung = (
                    "hung-connection",
                    f"it is open {ENDING:g} s after its client's end; received: {bytes(received)!r}",
                )
        elif said.end == "wait":
            deadline = time.monotonic() + ANSWER
            while not receiving.done() and received.count(_OK) < said.valid and time.monotonic() < deadline:
                await asyncio.wait((receiving,), timeout=0.005)
        elif said.end == "reset":
            made: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # it is closed already
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await asyncio.wait((receiving,), timeout=0.05)
        writer.close()
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving
        for status in map(int, re.findall(rb"HTTP/1\.1 (\d{3}) ", received)):
            if status >= 500 and status not in EXPLAINED:
                return f"status-{status}", f"{bytes(received)!r}\n{self.errors}"
        if hung is None and (answered := received.count(_OK)) < said.valid:
            return "lost-requests", f"{answered} of {said.valid} valid requests are answered: {bytes(received)!r}"
        return hung


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0
