"""Targets and servers with a fault, for the tests of the harness: `python -m tests.fuzz.planted FAULT DIRECTORY`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz import target
from tests.fuzz.target import Answer, Target


class Planted(Target):
    """A target with one fault, which it has on every case but those of an even number."""

    def __init__(self, directory: Path, fault: str) -> None:
        super().__init__(directory)
        self._fault = fault

    def _content(self, case: dict[str, Any]) -> bytes:
        return f"case {case['number']}".encode()

    def _check(self, content: bytes, answer: Answer, _rng: object) -> None:
        if int(content.split()[1]) % 2 == 0:
            return
        match self._fault:
            case "abort":
                os.abort()
            case "exit":
                os._exit(3)
            case "raise":
                raise ZeroDivisionError("planted")
            case "log":
                print("Traceback (most recent call last): planted", file=sys.stderr, flush=True)
            case "hang":
                time.sleep(3600)
            case "memory":
                kept = bytearray()
                while True:
                    kept += b"\1" * (8 << 20)
                    time.sleep(0.005)

    _module = _guest = _requests = _component = _script = _check


async def serve(fault: str) -> None:
    """A server that answers a valid request, and has its fault when one for `/fault` comes."""
    broken = False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        head = await reader.read(65536)
        if b"/fault" in head:
            broken = True
            match fault:
                case "death":
                    os._exit(1)
                case "traceback":
                    print("Traceback (most recent call last): planted", file=sys.stderr, flush=True)
                case "status":
                    writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
                case "hung":
                    await asyncio.sleep(3600)
                case "memory":
                    kept.append(b"\1" * (500 << 20))
        if not (broken and fault in ("deaf", "lost")):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    kept: list[bytes] = []
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"serving at 127.0.0.1:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        place = Path(sys.argv[2])
        target.main(Planted(place, sys.argv[1]), place)
