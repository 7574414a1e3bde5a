"""WASI of the native machine, called from Python: the program `wasi_line` has it, built as an ordinary one
(unikernel/native/examples/wasi_line, which describes what goes over the pipe).
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from slight_py import ahead
from slight_py.wasi import WasiSettings
from tests.native_programs import program
from tests.wasi_subjects import ENDED, Subject, forwarding


class Native(Subject):
    """The native machine's."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self.reasons: list[str] = []
        """Why calls have ended the guest."""

    def call(self, name: str, *args: int) -> Any:
        # Python's calls take numbers with a sign or without.
        numbers = " ".join(str(number % (1 << 64)) for number in args)
        outcome, _, what = self._ask(f"call {name} {numbers}".rstrip()).partition(" ")
        if outcome == "ended":
            self.reasons.append(what)
            return ENDED
        return int(what) if outcome == "returned" else f"exit {what}"

    def read(self, at: int, size: int) -> bytes:
        return bytes.fromhex(self._ask(f"read {at} {size}"))

    def write(self, at: int, content: bytes) -> None:
        self._ask(f"write {at} {content.hex()}")

    def _ask(self, request: str) -> str:
        self._requests.write(f"{request}\n".encode())
        self._requests.flush()
        answer = self._answers.readline().decode()
        assert answer, "wasi_line has ended"
        return answer.removesuffix("\n")


@functools.cache
def _compiled() -> bytes:
    return ahead.compile_ahead(forwarding(), ahead.TARGET)


@contextmanager
def native(settings: WasiSettings) -> Iterator[Native]:
    arguments = [f"arg={text}" for text in settings.args]
    arguments += [f"env={name}={value}" for name, value in settings.env.items()]
    arguments += [f"dir={each.guest}={each.host}" for each in settings.directories]
    with tempfile.NamedTemporaryFile(suffix=".cwasm") as module:
        Path(module.name).write_bytes(_compiled())
        command = [str(program("wasi_line")), module.name, *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield Native(process.stdin, process.stdout)
            process.stdin.close()
            assert process.wait(10) == 0
