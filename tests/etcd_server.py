"""A real etcd for tests: `with EtcdServer() as etcd: ... etcd.endpoint ...`."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from tests.servers import HOST, Server, free_port, make_certificate


class EtcdServer(Server):
    """etcd on free ports of 127.0.0.1, with its data in a temporary directory, where it outlives a crash.

    With `tls` it speaks TLS only, with a certificate of its own for 127.0.0.1 (`certificate`).
    """

    START_SECONDS = 20.0

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self._peers = free_port()
        self.certificate = self.directory / "certificate.pem" if tls else None
        if self.certificate is not None:
            make_certificate(self.certificate, self._key)

    @property
    def endpoint(self) -> str:
        """What ETCD_ENDPOINT is for this server."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'http' if self.certificate is None else 'https'}://{self.endpoint}"

    def ctl(self, *command: str) -> str:
        """What etcdctl prints for a command."""
        words = ["etcdctl", "--endpoints", self.url, *command]
        if self.certificate is not None:
            words += ["--cacert", str(self.certificate)]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout

    @property
    def keys(self) -> list[str]:
        """All keys that it has."""
        return self.ctl("get", "", "--prefix", "--keys-only").split()

    @property
    def _key(self) -> Path:
        return self.directory / "key.pem"

    def command(self) -> list[str]:
        peers = f"http://{HOST}:{self._peers}"
        command = ["etcd", "--data-dir", str(self.directory / "data"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        command += ["--initial-cluster", f"default={peers}"]
        if self.certificate is not None:
            command += ["--cert-file", str(self.certificate), "--key-file", str(self._key)]
        return command

    def is_ready(self) -> bool:
        if self.certificate is not None:
            return super().is_ready()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False
