"""Compiles a module in a process of its own, which has a limit of time and one of memory: a module of a few megabytes
can be made to take minutes and gigabytes, and nothing in the process that asks would end that.

The process is an interpreter that imports this module and little else: to start it takes about 0.1 s, once for each
module that is not in the cache.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from slight_py import capi
from slight_py.engine import Engine, InvalidModule, Limits, Module, Shape, UnsupportedModule, serialize


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What a module may be, and what its compilation may take."""

    size: int = 64 << 20
    """Bytes of a module."""
    seconds: float = 120.0
    memory: int = 2 << 30
    """Bytes, besides those of the interpreter."""


_PR_SET_PDEATHSIG = 1
"""prctl(2): which signal comes when the process that started this one ends."""

COMPILED, INVALID, UNSUPPORTED = b"CIU"
"""How an answer begins: a compiled module follows, or why there is none."""

_PYTHON = Path("/usr/bin/python3")
"""The interpreter where it doesn't know its own place, as process 1 of a machine."""

_START = (
    "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings['path'];"
    " from slight_py.compilation import main; main(settings)"
)
"""What the interpreter runs. It is told where to import from, so it need not look for packages."""


class _Process:
    """The process, at work."""

    def __init__(self, modules: Sequence[bytes], limits: CompileLimits, settings: Mapping[str, Any]) -> None:
        """Raises UnsupportedModule for modules that are too large."""
        size = sum(map(len, modules))
        if size > limits.size:
            raise UnsupportedModule(f"it has {size:,} bytes, and the limit is {limits.size:,} (--max-module)")
        self._wasm = b"".join(modules)
        self._limits = limits
        common = {
            "path": _path(),
            "seconds": limits.seconds,
            "memory": limits.memory,
            "sizes": [len(each) for each in modules],
        }
        self._process = subprocess.Popen(
            [sys.executable or str(_PYTHON), "-I", "-S", "-c", _START, json.dumps(common | dict(settings))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def compiled(self) -> bytes:
        """Waits for the compiled modules. Raises InvalidModule, or UnsupportedModule for what takes too much."""
        try:
            answer, _ = self._process.communicate(self._wasm, self._limits.seconds)
        except subprocess.TimeoutExpired:
            raise UnsupportedModule(
                f"to compile it takes more than {self._limits.seconds:g} seconds (--compile-timeout)"
            ) from None
        finally:
            self.cancel()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
        if self._process.returncode:
            # An allocation that fails ends the process, and a system without memory kills it.
            raise UnsupportedModule(
                f"to compile it takes more than {self._limits.memory >> 20} MiB of memory (--compile-memory), or more "
                "than the system has"
            )
        if answer[0] == COMPILED:
            return answer[1:]
        raise (UnsupportedModule if answer[0] == UNSUPPORTED else InvalidModule)(answer[1:].decode())

    def cancel(self) -> None:
        self._process.kill()


class Compilation:
    """A compilation under way."""

    def __init__(
        self, engine: Engine, wasm: bytes | Sequence[bytes], limits: CompileLimits, shape: Shape | None = None
    ) -> None:
        """Compiles a module, or all modules of a component, whose instances take `shape` in a store. The limits hold
        for them together.

        Raises UnsupportedModule for a module that is too large.
        """
        self._engine = engine
        settings = {
            "engine": asdict(engine.limits),
            "target": engine.target,
            "with_slots": engine.with_slots,
            "shape": asdict(shape or Shape()),
        }
        self._process = _Process([wasm] if isinstance(wasm, bytes) else wasm, limits, settings)

    def result(self) -> Module:
        """Waits for the compiled module. Raises InvalidModule, or UnsupportedModule for one that takes too much. It is
        called once."""
        return self.results()[0]

    def results(self) -> list[Module]:
        """Waits for all modules. As `result`."""
        return self._engine.load_together(self._process.compiled())

    def cancel(self) -> None:
        """Ends the compilation if it is still under way: `result` returns then, wherever it waits."""
        self._process.cancel()


def compile_apart(engine: Engine, wasm: bytes, limits: CompileLimits) -> Module:
    """Compiles a module. Raises InvalidModule, or UnsupportedModule for one that is too large or takes too much."""
    return Compilation(engine, wasm, limits).result()


def compile_together(engine: Engine, wasms: Sequence[bytes], shape: Shape, limits: CompileLimits) -> list[Module]:
    """Compiles the modules of a component. Raises what `compile_apart` does."""
    return Compilation(engine, wasms, limits, shape).results()


def compile_ahead(wasm: bytes, limits: CompileLimits) -> bytes:
    """The machine code of a module for the native machine: see ahead.py. Raises what `compile_apart` does."""
    return _Process([wasm], limits, {"ahead": True}).compiled()


def _path() -> list[str]:
    """Where the process imports from: what this one does, and where its packages were found by other means."""
    return list(dict.fromkeys([str(Path(__file__).parents[1]), str(capi.package.parent), *sys.path]))


# In the process.


def main(settings: dict[str, Any]) -> None:
    _bound(settings["seconds"], settings["memory"])
    content = sys.stdin.buffer.read()
    ends = list(accumulate(settings["sizes"]))
    wasms = [content[end - size : end] for size, end in zip(settings["sizes"], ends, strict=True)]
    try:
        answer = bytes((COMPILED,)) + _compiled(wasms, settings)
    except UnsupportedModule as error:
        answer = bytes((UNSUPPORTED,)) + str(error).encode()
    except InvalidModule as error:
        if os.strerror(errno.ENOMEM) in str(error):
            sys.exit(1)
        answer = bytes((INVALID,)) + str(error).encode()
    except MemoryError:
        sys.exit(1)
    sys.stdout.buffer.write(answer)


def _compiled(wasms: list[bytes], settings: dict[str, Any]) -> bytes:
    if "ahead" in settings:
        from slight_py import ahead

        return ahead.compile_ahead(wasms[0])
    # One instance: how many there may be is of no matter to the compiled module.
    limits = replace(Limits(**settings["engine"]), instances=1)
    engine = Engine(limits, settings["target"], settings["with_slots"])
    return serialize(engine.compile_together(wasms, Shape(**settings["shape"])))


def _bound(seconds: float, memory: int) -> None:
    """Sets the limits that hold though nobody watches, and has this process go first where the system has no memory."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # of data and stack: proc(5)
    # The limit is of what is allocated: of address space, the engine reserves more than any limit.
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    processors = math.ceil(seconds) * (os.cpu_count() or 1) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (processors, processors))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
