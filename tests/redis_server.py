"""A real Redis for tests: `with RedisServer() as redis: ... redis.address ...`."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
START_SECONDS = 10.0


class RedisServer:
    """redis-server on a free port of 127.0.0.1, with its files in a temporary directory. It keeps nothing on disk.

    With `tls` it speaks TLS only, with a certificate of its own for 127.0.0.1 (`certificate`). With `unix_socket` it
    listens on a socket (`socket_path`) beside its port. `options` are further arguments: `"--maxmemory", "2mb"`.
    """

    def __init__(
        self, *options: str, password: str | None = None, tls: bool = False, unix_socket: bool = False
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="redis-")
        self.directory = Path(self._temporary.name)
        self.port = free_port()
        self.password = password
        self.certificate = self.directory / "certificate.pem" if tls else None
        self.socket_path = self.directory / "redis.sock" if unix_socket else None
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        if self.certificate is not None:
            make_certificate(self.certificate, self._key)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._temporary.cleanup()

    @property
    def address(self) -> str:
        """What REDIS_ADDRESS is for this server."""
        user = "" if self.password is None else f":{self.password}@"
        if self.certificate is not None:
            return f"rediss://{user}{HOST}:{self.port}?ssl_ca_certs={self.certificate}"
        return f"redis://{user}{HOST}:{self.port}"

    @property
    def socket_address(self) -> str:
        """The same over the Unix socket."""
        user = "" if self.password is None else f":{self.password}@"
        return f"unix://{user}{self.socket_path}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, also after `stop` or `kill`: empty, on the same port. Returns when it accepts connections."""
        assert self._process is None
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis-server did not start:\n{(self.directory / 'log').read_text()}")
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

    def cli(self, *command: str | bytes) -> bytes:
        """What redis-cli prints for a command, less the last newline."""
        access = ["-h", HOST, "-p", str(self.port)]
        if self.password is not None:
            access += ["--no-auth-warning", "-a", self.password]
        if self.certificate is not None:
            access += ["--tls", "--cacert", str(self.certificate)]
        answer = subprocess.run(["redis-cli", *access, *command], check=True, capture_output=True, timeout=10)
        return answer.stdout.removesuffix(b"\n")

    @property
    def _key(self) -> Path:
        return self.directory / "key.pem"

    def _command(self) -> list[str]:
        command = ["redis-server", "--bind", HOST, "--dir", str(self.directory), "--save", "", "--appendonly", "no"]
        if self.certificate is None:
            command += ["--port", str(self.port)]
        else:
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self._key)]
        if self.password is not None:
            command += ["--requirepass", self.password]
        if self.socket_path is not None:
            command += ["--unixsocket", str(self.socket_path)]
        return [*command, *self._options]

    def _accepts(self) -> bool:
        if self.socket_path is not None and not self.socket_path.exists():
            return False
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True


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
