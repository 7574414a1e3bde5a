"""`slight-py image run --on-demand`: real machines for whoever connects."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import free_port
from tests.unikernel import fake_guest
from tests.unikernel.fake_guest import TIME, machines_of
from tests.unikernel.test_snapshot import ask
from unikernel.image import Image

READY = "with a machine when somebody connects"
IDLE = "1"


def wait_for_machines(used: Image, number: int) -> None:
    deadline = time.monotonic() + TIME
    while len(machines_of(used)) != number:
        assert time.monotonic() < deadline, f"there are {len(machines_of(used))} machines"
        time.sleep(0.05)


def test_one_machine_serves_all_that_connect_and_ends_when_they_have_left(fake: Image) -> None:
    port = free_port()
    words = ("--on-demand", "-p", f"{port}:3000", "--idle", IDLE, "--", "serve", "3000", f"127.0.0.1:{free_port()}")
    with fake_guest.running(fake, *words, until=READY) as process:
        assert machines_of(fake) == []
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, port) for _ in range(8)]
            wait_for_machines(fake, 1)
            assert all(b"200 OK" in each.result() for each in asked)
        wait_for_machines(fake, 0)
        # And again, for who comes later. A signal ends it all.
        assert b"200 OK" in ask(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIME) == 0
        assert machines_of(fake) == []
        with pytest.raises(ConnectionRefusedError):
            ask(port)


def test_a_machine_goes_on_from_a_snapshot(fake: Image, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "snapshot"
    done = fake_guest.run(fake, "--snapshot", path, "--", "serve", "3000", f"127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    words = ("--on-demand", "-p", f"{port}:3000", "--idle", IDLE, "--restore", path)
    with fake_guest.running(fake, *words, until=READY):
        assert b"heard a resume" in ask(port)
        wait_for_machines(fake, 0)
        assert b"heard a resume" in ask(port)


def test_an_application_that_does_not_serve_costs_a_client_its_connection_alone(fake: Image) -> None:
    port = free_port()
    words = ("--on-demand", "-p", f"{port}:3000", "--", "exit", "3")
    with fake_guest.running(fake, *words, until=READY) as process:
        for _ in range(2):
            assert ask(port) == b""
            assert process.stderr is not None
            line = process.stderr.readline().decode()
            assert line.endswith(f"{fake.path}: the application ended with exit code 3 before it served\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME) == 0


def test_a_machine_that_does_not_come_up_is_one_line_each_time(mute: Image) -> None:
    port = free_port()
    words = ("--on-demand", "-p", f"{port}:3000", "--boot-timeout", "2")
    with fake_guest.running(mute, *words, until=READY) as process:
        for _ in range(2):
            with ThreadPoolExecutor(3) as pool:
                assert list(pool.map(ask, [port] * 3)) == [b""] * 3
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME) == 0
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
    assert len(lines) == 2
    assert all("the runtime in the machine is not up after 2 s" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "--on-demand listens at the ports that -p names; name one, as in -p 3000"),
        (("-p", "3000", "--snapshot", "file"), "--snapshot and --on-demand exclude each other"),
        (("-p", "3000", "--memory", "1M"), "the kernel alone reaches up to"),
    ],
)
def test_what_can_be_put_right_is_said_before_anybody_connects(fake: Image, words: tuple[str, ...], why: str) -> None:
    done = fake_guest.run(fake, "--on-demand", *words)
    assert done.returncode == 2
    assert why in done.stderr.decode()


def test_a_port_that_is_taken_is_named(fake: Image) -> None:
    port = free_port()
    with fake_guest.running(fake, "--on-demand", "-p", str(port), until=READY):
        done = fake_guest.run(fake, "--on-demand", "-p", str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port} can't be listened at" in done.stderr.decode()
