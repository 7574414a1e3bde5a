"""The command itself: `slight_py(...)` runs it to its end, `with serving(...) as server:` for as long as it serves."""

from __future__ import annotations

import atexit
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from slight_py import cache as kept

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "guests_src"
BINDINGS = ROOT / "examples" / "bindings" / "c"

HTTP = ("canonical_abi", "http_types", "http_server", "http_handler")
USED_BINDINGS = {
    "server": HTTP,
    "blobs": (*HTTP, "blob_types", "blob_store"),
    "bridge": (*HTTP, "keyvalue"),
    "keyvalue_line": ("canonical_abi", "keyvalue"),
    "messenger": (*HTTP, "messaging"),
}
"""The bindings that guests in tests/guests_src are built with."""

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "slight_py")

SECONDS = 20.0
"""How long anything here may take, on a machine that has more to do."""

EMULATED = 90.0
"""The same for a machine whose processor is emulated."""


@cache
def scratch() -> Path:
    """A directory for as long as the tests run."""
    directory = tempfile.TemporaryDirectory(prefix="slight-py-tests-")
    atexit.register(directory.cleanup)
    (Path(directory.name) / "cache/slight-py").mkdir(parents=True)
    # The kernel of images takes minutes to build, and the engine for JavaScript is fetched: these are left for the next
    # time.
    for name in ("kernels", "javascript"):
        folder = kept.directory(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (Path(directory.name) / "cache/slight-py" / name).symlink_to(folder)
    return Path(directory.name)


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: not the user's own, and with a cache of modules that the tests share."""
    kept = {name: value for name in ("PATH", "LANG", "TMPDIR") if (value := os.environ.get(name)) is not None}
    own = {"HOME": str(scratch()), "XDG_CACHE_HOME": str(scratch() / "cache"), "PYTHONPATH": str(ROOT)}
    return kept | own | more


def guest(name: str) -> Path:
    """Where `build_guest` puts the module of a guest in tests/guests_src."""
    return scratch() / f"{name}.wasm"


@cache
def build_guest(name: str) -> None:
    """Raises AssertionError, with what the compiler says."""
    sources = [SOURCES / f"{name}.c", *(BINDINGS / f"{each}.c" for each in USED_BINDINGS.get(name, ()))]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-std=c17", "-Oz", "-Werror"]
    done = subprocess.run([*command, f"-I{BINDINGS}", "-o", guest(name), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of standard error."""
        return self.err.splitlines()


def slight_py(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    seconds: float = SECONDS,
) -> Done:
    """Runs the command to its end. `env` is added to its environment."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=cwd or scratch(), env=environment(**(env or {})), input=stdin,
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def at_once(run: Callable[[T], Done], items: Iterable[T]) -> list[Done]:
    """Runs a command for each of the items, all at the same time; returns how they ended, in the items' order."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(run, items))


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """By name in lower case."""


class Server:
    """A command at work, and what it serves at `port` of `host`."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.process = process
        self.pid = process.pid
        self._out = out
        self._err = err

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until standard error holds a line like `pattern`."""
        found = self.wait_for_either(pattern)
        assert found is not None, f"it ended with {self.process.returncode}: {self.err}"
        return found

    def wait_for_either(self, pattern: str, seconds: float = SECONDS) -> re.Match[str] | None:
        """Waits until standard error holds a line like `pattern`, or the command has ended."""
        found: re.Match[str] | None = None

        def look() -> bool:
            nonlocal found
            ended = self.process.poll() is not None
            found = re.search(pattern, self.err, re.MULTILINE)
            return found is not None or ended

        wait_until(look, f"{pattern!r} on standard error", seconds)
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Waits for its end; returns the exit code."""
        return self.process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it as a user or a service manager does; returns the exit code."""
        self.send(number)
        return self.wait()

    @property
    def children(self) -> list[int]:
        """The processes that it has started, and that have not ended."""
        lists = [each.read_text() for each in Path(f"/proc/{self.pid}/task").glob("*/children")]  # one a thread
        return [pid for pid in map(int, " ".join(lists).split()) if is_alive(pid)]

    @property
    def workers(self) -> list[int]:
        return [pid for pid in self.children if b"--multiprocessing-fork" in command_line(pid)]

    @property
    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """The answer to a request, on a connection of its own unless there is one."""
        used = connection or self.connect()
        try:
            used.request(method, path, body, dict(headers or {}))
            response = used.getresponse()
            return Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
        finally:
            if connection is None:
                used.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    @property
    def refuses(self) -> bool:
        """Whether nobody listens at the port."""
        try:
            socket.create_connection((self.host, self.port), SECONDS).close()
        except ConnectionRefusedError:
            return True
        return False


@contextmanager
def serving(
    app: Path, *arguments: str | Path, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Server]:
    """`slight-py run APP ARGUMENTS`, once it serves. The guest takes the address from the variable ADDRESS."""
    with running("run", app, "--env", "ADDRESS=127.0.0.1:0", *arguments, env=env, **options) as server:
        server.port = int(server.wait_for(r"^slight-py: serving at 127\.0\.0\.1:(\d+)")[1])
        yield server


@contextmanager
def running(*arguments: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Server]:
    """A command, in a process group of its own, which is ended with the block. Its standard input stays open.

    `options` are those of Popen.
    """
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        options.setdefault("cwd", directory)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, *arguments], env=environment(**(env or {})), stdin=subprocess.PIPE,
                stdout=options.pop("stdout", stdout),
                stderr=options.pop("stderr", stderr), start_new_session=True, **options,
            )  # fmt: skip
        try:
            yield Server(process, out, err)
        finally:
            with suppress(ProcessLookupError):  # the group has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def wait_until(holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Waits until `holds`. Raises AssertionError, which names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} seconds"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether there is a process that has not ended; one that nobody has waited for yet has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def connections(pid: int, port: int) -> int:
    """How many connections to a port of 127.0.0.1 a process has at its end."""
    established = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "01" and int(local.partition(":")[2], 16) == port:
            established.add(f"socket:[{inode}]")
    return sum(target in established for target in _open_files(pid))


def _open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process lead to. One that is closed meanwhile is left out."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(descriptor)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
