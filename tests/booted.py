"""Native images, built and booted under QEMU's emulation by the command, for tests that speak to what they run."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

from tests.command import COMMAND, EMULATED, environment, scratch
from unikernel import build, flavours

ENDED = "the machine has ended"
"""What is heard after the last line."""


def image_of(app: Path, slightfile: str) -> Path:
    """A native image of a module with what a slightfile says, which lives as long as the tests run."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    path = folder / "slightfile.toml"
    path.write_text(f'specversion = "0.2"\n{slightfile}')
    build.build(app, path, folder / "app.img", flavour=flavours.named("native"))
    return folder / "app.img"


class Booted:
    """A machine at work, and what is written on standard error meanwhile."""

    def __init__(self, image: Path, *options: str, hear: Callable[[str], None], **values: str) -> None:
        """`hear` is called with each line, in a thread. `values` are environment variables of the command."""
        command = [*COMMAND, "image", "run", "--accel", "tcg", *options, str(image)]
        self._process = subprocess.Popen(
            command, env=environment(**values), stdin=PIPE, stdout=subprocess.DEVNULL, stderr=PIPE, text=True
        )
        self.pid = self._process.pid
        self._hear = hear
        self._hearing = threading.Thread(target=self._listen)
        self._hearing.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._hear(line.removesuffix("\n"))
        self._hear(ENDED)

    def tell(self, *lines: str) -> None:
        """Writes lines to the application's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def terminate(self) -> None:
        """Ends the machine as a user or a service manager does."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, and QEMU with it."""
        self._process.kill()
        self.close()

    def close(self) -> int:
        """Ends the application's standard input, and waits for its end. Returns the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(EMULATED)
        finally:
            self._process.kill()
            self._hearing.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
