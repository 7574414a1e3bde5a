"""Real servers for tests, each a process on a free port of 127.0.0.1: `with SomeServer() as server: ...`."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

HOST = "127.0.0.1"


class Server:
    """A server with its files in a temporary directory. A subclass says in `command` how it is started."""

    START_SECONDS: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{type(self).__name__.lower()}-")
        self.directory = Path(self._temporary.name)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """The environment of the program; None for that of the tests."""
        return None

    def is_ready(self) -> bool:
        """Whether it can be used: it accepts connections, unless a subclass knows better."""
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._temporary.cleanup()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, also after `stop` or `kill`, on the same port. Returns when it can be used."""
        assert self._process is None
        with open(self.directory / "log", "ab") as log:
            command, environment = self.command(), self.environment()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=environment
            )
        deadline = time.monotonic() + self.START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{command[0]} did not start:\n{(self.directory / 'log').read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it as an administrator does."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends it as a crash does. Does nothing where it's not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for 127.0.0.1."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=slight-py test"]
    command += ["-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(command, check=True, capture_output=True)
