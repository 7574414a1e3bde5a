"""A real PostgreSQL for tests: `with PostgresServer() as postgres: ... postgres.url ...`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

from tests.servers import HOST, Server, make_certificate


@cache
def programs() -> Path:
    """The directory of PostgreSQL's programs, the newest version's of those that Debian has installed."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found and (initdb := shutil.which("initdb")):
        found = [Path(initdb).resolve().parent]
    assert found, "PostgreSQL is missing; type: sudo apt install postgresql"
    return max(found, key=lambda each: (len(str(each)), str(each)))


class PostgresServer(Server):
    """postgres on a free port of 127.0.0.1, with its data in a temporary directory. Its superuser is `owner`.

    It refuses to run as root, and then runs as the user `nobody`. With `tls` it has a certificate of its own
    (`certificate`), and accepts connections without TLS as well.
    """

    START_SECONDS = 30.0

    PASSWORD = "se/cret"

    def __init__(self, *options: str, tls: bool = False) -> None:
        super().__init__()
        self._options = options
        self._data = self.directory / "data"
        self._data.mkdir(mode=0o700)
        self.certificate = self.directory / "certificate.pem" if tls else None
        if self.certificate is not None:
            make_certificate(self.certificate, self._key)
        (self.directory / "password").write_text(self.PASSWORD)
        self._own()
        command = [programs() / "initdb", "-D", self._data, "-U", "owner", "--no-sync", "--auth=scram-sha-256"]
        command += ["--pwfile", self.directory / "password", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*self._as_user, *command], check=True, capture_output=True, cwd=self.directory)

    @property
    def url(self) -> str:
        """What POSTGRES_CONNECTION_URL is for this server."""
        return self.url_of("owner", self.PASSWORD)

    def url_of(self, user: str, password: str, database: str = "postgres") -> str:
        password = password.replace("/", "%2F")
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def psql(self, statement: str) -> str:
        """What psql prints for a statement, unaligned and without headers."""
        command = [programs() / "psql", "-XAtq", "-d", self.url, "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    @property
    def _key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def _as_user(self) -> list[str]:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []

    def _own(self) -> None:
        """Gives the files to the user that it runs as."""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for each in (self.directory, *self.directory.iterdir()):
                os.chown(each, nobody.pw_uid, nobody.pw_gid)

    def command(self) -> list[str]:
        command = [str(programs() / "postgres"), "-D", str(self._data), "-h", HOST, "-p", str(self.port)]
        settings = ["fsync=off", f"unix_socket_directories={self.directory}", *self._options]
        if self.certificate is not None:
            settings += ["ssl=on", f"ssl_cert_file={self.certificate}", f"ssl_key_file={self._key}"]
        return [*self._as_user, *command, *(word for each in settings for word in ("-c", each))]

    def is_ready(self) -> bool:
        command = [programs() / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def stop(self) -> None:
        """Ends it as an administrator does who doesn't wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends it at once, without a word to anybody. Its processes would go on for a while after SIGKILL."""
        if self._process is not None:
            self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
        self._process = None
