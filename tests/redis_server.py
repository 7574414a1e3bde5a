"""A real Redis for tests: `with RedisServer() as redis: ... redis.address ...`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers import HOST, Server, make_certificate


class RedisServer(Server):
    """redis-server on a free port of 127.0.0.1, with its files in a temporary directory. It keeps nothing on disk.

    With `tls` it speaks TLS only, with a certificate of its own for 127.0.0.1 (`certificate`). With `unix_socket` it
    listens on a socket (`socket_path`) beside its port. `options` are further arguments: `"--maxmemory", "2mb"`.
    """

    def __init__(
        self, *options: str, password: str | None = None, tls: bool = False, unix_socket: bool = False
    ) -> None:
        super().__init__()
        self.password = password
        self.certificate = self.directory / "certificate.pem" if tls else None
        self.socket_path = self.directory / "redis.sock" if unix_socket else None
        self._options = options
        if self.certificate is not None:
            make_certificate(self.certificate, self._key)

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

    def command(self) -> list[str]:
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

    def is_ready(self) -> bool:
        return (self.socket_path is None or self.socket_path.exists()) and super().is_ready()
