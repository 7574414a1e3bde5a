"""wasi:cli 0.2: arguments, variables, standard streams, and the end."""

from __future__ import annotations

from typing import Any

from bindgen.runtime import Err
from capabilities.wasi.io import BytesInput, InputStream, OutputStream
from slight_py.engine import Exit
from slight_py.wasi.preview2.state import State
from slight_py.wasi.preview2.streams import StandardInput, StandardOutput
from slight_py.wasi.stdio import INPUT, OUTPUTS

_OUT, _ERR = 1, 2


class Environment:
    """Answers `wasi:cli/environment`."""

    def __init__(self, state: State) -> None:
        self._context = state.context

    async def get_environment(self) -> list[tuple[str, str]]:
        return self._context.variables

    async def get_arguments(self) -> list[str]:
        return self._context.arguments

    async def initial_cwd(self) -> str | None:
        """None: a guest finds its directories by their names."""
        return None


class ExitHost:
    """Answers `wasi:cli/exit`."""

    async def exit(self, status: Any) -> None:
        """Ends the instance: code 0 for `Ok`, 1 for `Err`."""
        raise Exit(1 if isinstance(status, Err) else 0)

    async def exit_with_code(self, status_code: int) -> None:
        raise Exit(status_code)


class Stdin:
    """Answers `wasi:cli/stdin`."""

    def __init__(self, state: State) -> None:
        self._given = state.context.stdin

    async def get_stdin(self) -> InputStream:
        return StandardInput(INPUT) if self._given else BytesInput(b"")


class Stdout:
    """Answers `wasi:cli/stdout`."""

    async def get_stdout(self) -> OutputStream:
        return StandardOutput(OUTPUTS[_OUT])


class Stderr:
    """Answers `wasi:cli/stderr`."""

    async def get_stderr(self) -> OutputStream:
        return StandardOutput(OUTPUTS[_ERR])


class TerminalInput:
    """The resource `terminal-input`: it has no methods yet."""


class TerminalOutput:
    """The resource `terminal-output`: it has no methods yet."""


class TerminalStdin:
    """Answers `wasi:cli/terminal-stdin`."""

    def __init__(self, state: State) -> None:
        self._given = state.context.stdin

    async def get_terminal_stdin(self) -> TerminalInput | None:
        return TerminalInput() if self._given and INPUT.is_terminal else None


class TerminalStdout:
    """Answers `wasi:cli/terminal-stdout`."""

    async def get_terminal_stdout(self) -> TerminalOutput | None:
        return TerminalOutput() if OUTPUTS[_OUT].is_terminal else None


class TerminalStderr:
    """Answers `wasi:cli/terminal-stderr`."""

    async def get_terminal_stderr(self) -> TerminalOutput | None:
        return TerminalOutput() if OUTPUTS[_ERR].is_terminal else None
