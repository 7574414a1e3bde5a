"""Machines in files, and back."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from slight_py.errors import UsageError
from tests.unikernel import fake_guest
from unikernel import snapshot
from unikernel.image import Image


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.fixture(scope="module")
def taken(fake: Image, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A snapshot of a machine that serves, and the port that it asked for."""
    path, port = tmp_path_factory.mktemp("snapshots") / "machine", free_port()
    done = fake_guest.run(fake, "--snapshot", path, "--", "serve", "3000", f"127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    return path, port


def test_a_snapshot_is_its_owners_alone(taken: tuple[Path, int]):
    assert stat.S_IMODE(taken[0].stat().st_mode) == 0o600
    assert [each.name for each in taken[0].parent.iterdir()] == ["machine"]


def test_a_restored_machine_serves_again_and_again(fake: Image, taken: tuple[Path, int]):
    path, port = taken
    for _ in range(2):
        with fake_guest.running(fake, "--restore", path, until=f"serving at 127.0.0.1:{port}") as process:
            # The control channel works as well: the guest was given the time, and hears a signal.
            assert b"heard a resume" in ask(port)
            process.send_signal(signal.SIGTERM)
            assert process.wait(fake_guest.TIME) == 0


def test_a_restored_machine_serves_where_it_is_told_to(fake: Image, taken: tuple[Path, int]):
    port = free_port()
    words = ("--restore", taken[0], "-p", f"{port}:3000")
    with fake_guest.running(fake, *words, until=f"serving at 127.0.0.1:{port}"):
        assert b"200 OK" in ask(port)
        with pytest.raises(ConnectionRefusedError):
            ask(taken[1])


def test_another_machine_than_the_one_that_was_saved_is_refused(fake: Image, mute: Image, taken: tuple[Path, int]):
    done = fake_guest.run(mute, "--restore", taken[0], "--memory", "128M", "--cpus", "2", "--accel", "kvm")
    assert done.returncode == 2
    image, memory, cpus, accel = done.stderr.decode().splitlines()
    assert "of another image" in image
    assert "--memory 256M" in memory
    assert "--cpus 1" in cpus
    assert "under TCG" in accel


def test_machines_of_one_snapshot_go_their_own_ways(fake: Image, taken: tuple[Path, int]):
    ports = (free_port(), free_port())
    before = taken[0].stat().st_mtime_ns
    with (
        fake_guest.running(fake, "--restore", taken[0], "-p", f"{ports[0]}:3000", until="serving"),
        fake_guest.running(fake, "--restore", taken[0], "-p", f"{ports[1]}:3000", until="serving"),
    ):
        for port in ports:
            assert b"200 OK" in ask(port)
    assert taken[0].stat().st_mtime_ns == before


def test_a_snapshot_takes_no_room_for_memory_that_was_never_used(taken: tuple[Path, int]):
    assert taken[0].stat().st_blocks * 512 < 64 << 20 < 256 << 20 < taken[0].stat().st_size


def test_a_snapshot_cut_short_is_refused(taken: tuple[Path, int], tmp_path: Path):
    short = tmp_path / "short"
    with taken[0].open("rb") as file:
        short.write_bytes(file.read(100_000))
        with pytest.raises(UsageError, match="not a whole one"):
            snapshot.read(short)
        file.seek(-4096, os.SEEK_END)
        short.write_bytes(file.read())
        with pytest.raises(UsageError, match="has 4,096 of"):
            snapshot.read(short)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a snapshot"),
        (b"\x7fELF", "not a snapshot"),
        (b"slight-py snapshot 1\n", "damaged"),
        (b'slight-py snapshot 1\n{"size": 5}', "damaged"),
        (b"slight-py snapshot 1\n[1]", "damaged"),
    ],
)
def test_a_file_that_is_no_snapshot_is_refused(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        snapshot.read(tmp_path / "file")


def test_an_application_that_does_not_serve_leaves_no_snapshot(fake: Image, tmp_path: Path):
    done = fake_guest.run(fake, "--snapshot", tmp_path / "machine", "--", "exit", "3")
    assert done.returncode == 1
    assert b"ended before it served, with exit code 3" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_machine_with_a_volume_is_not_saved(fake: Image, tmp_path: Path):
    done = fake_guest.run(fake, "--snapshot", tmp_path / "machine", "--volume", f"{tmp_path}:/data")
    assert done.returncode == 2
    assert b"exclude each other" in done.stderr
