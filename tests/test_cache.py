"""What is kept from one run to the next: one process at a time makes it, and others find it made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slight_py import cache
from slight_py.errors import UsageError
from tests.command import EMULATED, ROOT, SECONDS
from tests.rust_toolchain import cargo
from unikernel import native
from unikernel.native import toolchain

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from slight_py.cache import locked
with locked(Path(sys.argv[1]), lambda: None):
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    print(child.pid, flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has a lock when this begins, and a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_lock_is_waited_for_and_whoever_waits_is_told(tmp_path: Path) -> None:
    waits, got = threading.Event(), threading.Event()

    def take() -> None:
        with cache.locked(tmp_path / "lock", waits.set):
            got.set()

    with holder(tmp_path / "lock") as other:
        thread = in_thread(take)
        assert waits.wait(SECONDS)
        assert not got.is_set()
        other.terminate()
        assert got.wait(SECONDS)
        thread.join(SECONDS)


def test_a_lock_that_nobody_has_is_not_waited_for(tmp_path: Path) -> None:
    for _ in range(2):
        with cache.locked(tmp_path / "lock", lambda: pytest.fail("nobody has it")):
            pass


def test_a_process_that_is_killed_leaves_the_lock_to_others_whatever_it_has_started(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as other:
        other.kill()
        other.wait(SECONDS)
        with cache.locked(tmp_path / "lock", lambda: pytest.fail("its process has it still")):
            pass


def test_a_kernel_that_another_process_builds_meanwhile_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "build", lambda *asked: pytest.fail("it is there"))
    folder = cache.directory("kernels")
    folder.mkdir(parents=True)
    waits = threading.Event()
    found: list[Path] = []
    with holder(folder / "native.lock") as other:
        thread = in_thread(lambda: found.append(native.kernel(lambda line: waits.set())))
        assert waits.wait(SECONDS)
        built = folder / f"native-{native.key()}.elf"
        built.write_bytes(b"a kernel")
        other.kill()
        thread.join(SECONDS)
    assert found == [built]


def test_a_kernel_whose_sources_change_while_it_is_built_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = ["first"]

    def build(*asked: object) -> bytes:
        sources[0] = "second"
        return b"of the first, or the second"

    monkeypatch.setattr(native, "key", lambda: sources[0])
    monkeypatch.setattr(native, "build", build)
    with pytest.raises(UsageError, match="have changed while it was built; try again"):
        native.kernel()
    assert not list(cache.directory("kernels").glob("*.elf"))


def test_a_rust_that_another_process_unpacks_meanwhile_is_not_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "_unpack", lambda: pytest.fail("it is there"))
    monkeypatch.setattr(toolchain.shutil, "which", lambda program: f"/usr/bin/{program}")
    folder = toolchain.unpacked()
    folder.parent.mkdir(parents=True)
    waits = threading.Event()
    said: list[str] = []
    with holder(folder.with_suffix(".lock")) as other:

        def unpack() -> None:
            toolchain.unpack(lambda line: (said.append(line), waits.set()))

        thread = in_thread(unpack)
        assert waits.wait(SECONDS)
        (folder / "usr" / "bin").mkdir(parents=True)
        (folder / "usr" / "bin" / "cargo").touch()
        (folder / "usr" / "lib" / "rustlib" / "src" / "rust" / "library").mkdir(parents=True)
        other.kill()
        thread.join(SECONDS)
    assert said == ["waiting for another slight-py, which is getting a Rust"]


def test_what_was_built_of_another_clone_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    """Cargo would: the files of the second one are older than what it built of the first."""
    program, own = cargo()
    said = []
    for number, name in enumerate(("first", "second")):
        clone = tmp_path / name
        (clone / "src").mkdir(parents=True)
        (clone / "Cargo.toml").write_text('[package]\nname = "clone"\nversion = "0.1.0"\nedition = "2021"\n')
        (clone / "src" / "main.rs").write_text(f'fn main() {{ print!("{name}") }}\n')
        for path in clone.rglob("*"):
            os.utime(path, (number, number))
        clean = [program, "clean", "--package", "clone"]
        with toolchain.only_of(name, tmp_path / "built", clean, clone, own, print):
            build = [program, "build", "--quiet", "--offline", "--target-dir", tmp_path / "built"]
            subprocess.run(build, cwd=clone, env=own, check=True, timeout=EMULATED)
            said.append(subprocess.check_output([tmp_path / "built" / "debug" / "clone"], text=True))
    assert said == ["first", "second"]
