"""What guests are given of the system: arguments, variables, directories, standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slight_py.errors import UsageError
from slight_py.wasi.files import Files, Granted


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the host that a guest may use."""

    host: Path
    guest: str
    writable: bool = True


@dataclass(frozen=True, slots=True)
class WasiSettings:
    """What a guest gets from WASI. Standard output and error are the process's own."""

    args: Sequence[str] = ()
    """The first one is the program's name."""
    env: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[Directory] = ()


def check(settings: WasiSettings) -> None:
    """Raises UsageError for what no guest can be given."""
    for directory in settings.directories:
        if not directory.host.is_dir():
            raise UsageError(f"--dir: {directory.host} is not a directory")
        if not os.access(directory.host, os.R_OK | os.X_OK):
            raise UsageError(f"--dir: {directory.host} can't be read")
    for text in (*settings.args, *settings.env, *settings.env.values()):
        if "\0" in text:
            raise UsageError(f"{text!r}: an argument or a variable can't hold a NUL character")


class Context:
    """What instances are given, as they get it. It is the same for all of them; each has descriptors of its own."""

    def __init__(self, settings: WasiSettings, stdin: bool = False) -> None:
        """With `stdin`, the process's standard input is the guest's."""
        self.arguments = [_text(each) for each in settings.args]
        self.variables = [(_text(name), _text(value)) for name, value in settings.env.items()]
        self.args = Texts(settings.args)
        self.env = Texts(f"{name}={value}" for name, value in settings.env.items())
        self._directories = [
            Granted(str(each.host), each.guest.encode(), each.writable) for each in settings.directories
        ]
        self.stdin = stdin

    def files(self) -> Files:
        """The descriptors of a new instance."""
        return Files(self._directories, self.stdin)


def _text(text: str) -> str:
    """What a component is told, whose texts are Unicode: bytes that are none are replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class Texts:
    """Texts as C has them, one after the other."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode(errors="surrogateescape") + b"\0" for text in texts]
        self.content = b"".join(encoded)
        self.starts: list[int] = []
        """Where each begins."""
        at = 0
        for each in encoded:
            self.starts.append(at)
            at += len(each)


NOTHING = Context(WasiSettings())
"""Nothing but output."""
