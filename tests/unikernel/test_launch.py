"""A machine and the command that runs it: streams, exit codes, signals, ports, and machines that fail."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.unikernel import fake_guest
from tests.unikernel.fake_guest import TIME
from tests.unikernel.test_snapshot import ask, free_port
from unikernel import acceleration
from unikernel.image import Image


def test_the_guests_exit_code_is_the_commands(fake: Image):
    done = fake_guest.run(fake, "--", "exit", "7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_the_guest_is_told_what_was_given(fake: Image):
    done = fake_guest.run(fake, "--env", "GREETING=hello", "--max-memory", "64M", "--", "boot", "two")
    assert done.returncode == 0
    assert b'"env":{"GREETING":"hello"},"args":["boot","two"]' in done.stdout
    assert b'"max_memory":67108864' in done.stdout
    assert done.stderr == b"and this on stderr\n"


def test_standard_input_passes_through_to_its_end(fake: Image):
    given = os.urandom(3_000_000)
    done = fake_guest.run(fake, "--", "cat", "5", given=given)
    assert done.returncode == 5, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(given).digest()


def test_nothing_is_lost_where_a_slow_reader_comes_after_the_end(fake: Image):
    size = 5_242_880
    with fake_guest.running(fake, "--", "spew", str(size)) as process:
        assert process.stdout is not None
        time.sleep(3)
        written = process.stdout.read()
        assert process.wait(TIME) == 0
    assert len(written) == size
    assert written.endswith(b"%07x\n" % (size // 8 - 1))


def test_a_reader_that_goes_ends_the_guest(fake: Image):
    with fake_guest.running(fake, "--", "serve", "3000", f"127.0.0.1:{free_port()}", until="serving") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIME) == 0
    with fake_guest.running(fake, "--", "spew", "5000000") as process:
        assert process.stdout is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(TIME) == 128 + signal.SIGPIPE


def test_a_reader_that_goes_before_the_runtime_is_up_ends_the_machine(mute: Image):
    with fake_guest.running(mute) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"no hello\n"
        process.stdout.close()
        assert process.wait(TIME) == 128 + signal.SIGPIPE
        assert process.stderr is not None
        reason = b"the reader of standard output has gone before the runtime in the machine was up"
        assert process.stderr.read() == b"slight-py: " + reason + b"\n"
    assert fake_guest.machines_of(mute) == []


def test_mistakes_that_the_guest_finds_are_errors_of_the_command(fake: Image):
    done = fake_guest.run(fake, "--", "errors")
    assert (done.returncode, done.stderr) == (2, b"slight-py: error: one\nslight-py: error: two\n")


def test_what_is_no_text_is_refused(fake: Image):
    for words in (("--env", b"A=\xff"), ("--", b"\xff")):
        done = fake_guest.run(fake, *map(os.fsdecode, words))
        assert (done.returncode, done.stderr.partition(b";")[0]) == (
            2,
            b"slight-py: error: an argument, a variable or a value is not UTF-8",
        )


# Signals.


def test_a_signal_reaches_the_guest(fake: Image):
    with fake_guest.running(fake, "--", "signal", until="ready") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME) == 130
    assert fake_guest.machines_of(fake) == []


def test_a_third_signal_ends_a_guest_that_does_not_listen(fake: Image):
    with fake_guest.running(fake, "--", "deaf") as process:
        time.sleep(3)
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert process.wait(TIME) == 143


def test_a_guest_that_talks_without_end_and_does_not_listen_is_ended_all_the_same(fake: Image):
    with fake_guest.running(fake, "--", "flood") as process:
        time.sleep(6)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) < 200_000
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert process.wait(TIME) == 2
        assert process.stderr is not None
        assert b"serves at more than 64 ports" in process.stderr.read()


def test_a_terminal_that_is_closed_ends_the_guest_in_order(fake: Image):
    with fake_guest.running(fake, "--", "signal", until="ready") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(TIME) == 143
    assert fake_guest.machines_of(fake) == []


def test_a_terminal_that_is_closed_is_nothing_to_a_guest_under_nohup(fake: Image):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the command inherits it, as it does from nohup
    try:
        with fake_guest.running(fake, "--", "signal", until="ready") as process:
            process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(TIME) == 130
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_guest_that_does_not_end_is_ended_with_a_message(fake: Image):
    with fake_guest.running(fake, "--drain-timeout", "1", "--", "signal", "1", until="ready") as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"has not ended within 11 s" in process.stderr.read()
        assert process.wait(TIME) == 1


def test_the_machine_does_not_outlive_the_command(fake: Image):
    with fake_guest.running(fake, "--", "signal", until="ready") as process:
        assert len(fake_guest.machines_of(fake)) == 1
        process.kill()
        process.wait()
        time.sleep(0.5)
        assert fake_guest.machines_of(fake) == []


# Ports.


@pytest.mark.parametrize("asked", ["127.0.0.1", "[::1]", "localhost", "no.such.name"])
def test_the_port_that_is_served_is_forwarded(fake: Image, asked: str):
    port = free_port()
    with fake_guest.running(
        fake, "--", "serve", "3000", f"{asked}:{port}", until=f"slight-py: serving at 127.0.0.1:{port}"
    ) as process:
        assert b"200 OK" in ask(port)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME) == 0


def test_a_port_that_is_given_replaces_the_one_that_is_asked_for(fake: Image):
    asked, given = free_port(), free_port()
    words = ("-p", f"{given}:3000", "--", "serve", "3000", f"127.0.0.1:{asked}")
    with fake_guest.running(fake, *words, until=f"serving at 127.0.0.1:{given}"):
        assert b"200 OK" in ask(given)
        with pytest.raises(ConnectionRefusedError):
            ask(asked)


@pytest.mark.parametrize("given", [True, False])
def test_a_port_that_is_taken_is_named(fake: Image, given: bool):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        words = ("-p", f"{port}:3000") if given else ()
        done = fake_guest.run(fake, *words, "--", "serve", "3000", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert done.stderr.decode() == (
        f"slight-py: error: can't listen on 127.0.0.1:{port}: something else listens there; "
        "forward another port with -p OTHER:3000\n"
    )


# The channel.


def test_a_channel_is_a_socket_for_one_client_after_another(service: Image, tmp_path: Path):
    folder = tmp_path / "channel"
    with fake_guest.running(service, "--verbose", "--channel", folder, "--", "shout", until="entered") as process:
        for number in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(folder / "command.sock"))
                client.sendall(b"hello %d" % number)
                assert client.recv(100) == b"HELLO %d" % number
            time.sleep(0.2)
        assert [stat.S_IMODE(each.stat().st_mode) & 0o077 for each in folder.iterdir()] == [0, 0]
        second = fake_guest.run(service, "--channel", folder)
        assert b"is another machine's, which runs" in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME) == 130
    assert list(folder.iterdir()) == []


def test_a_socket_that_nobody_listens_at_is_replaced_and_nothing_else(service: Image, tmp_path: Path):
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "command.sock"))
    assert fake_guest.run(service, "--channel", tmp_path).returncode == 0
    with fake_guest.running(service, "--verbose", "--channel", tmp_path, "--", "shout", until="entered") as process:
        process.kill()
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == 2
    assert fake_guest.run(service, "--channel", tmp_path).returncode == 0
    (tmp_path / "data.sock").write_text("mine")
    done = fake_guest.run(service, "--channel", tmp_path)
    assert done.returncode == 2
    assert b"is not a socket" in done.stderr
    assert (tmp_path / "data.sock").read_text() == "mine"


# Machines that fail.


def test_a_kernel_that_panics_is_named_with_its_words(fake: Image):
    done = fake_guest.run(fake, "--", "panic")
    assert done.returncode == 1
    assert b"the kernel panicked: Attempted to kill init!" in done.stderr


@pytest.mark.parametrize("memory", ["24M", "40M", "64M"])
def test_too_little_memory_is_named_as_such(fake: Image, memory: str):
    done = fake_guest.run(fake, "--memory", memory, "--", "memory")
    assert done.returncode in (1, 2)
    assert b"more" in done.stderr
    assert f"--memory {memory}".encode() in done.stderr


def test_a_guest_that_says_nothing_is_given_up(mute: Image):
    done = fake_guest.run(mute, "--boot-timeout", "3")
    assert done.returncode == 1
    assert b"is not up after 3 s" in done.stderr


def test_a_guest_that_stops_answering_is_ended(fake: Image):
    done = fake_guest.run(fake, "--", "deaf")
    assert done.returncode == 1
    assert b"has not answered for 30 s" in done.stderr


def test_a_guest_that_sends_no_messages_is_ended_and_its_bytes_are_not_shown(fake: Image):
    done = fake_guest.run(fake, "--", "garbage")
    assert done.returncode == 1
    assert b"sends what is no message" in done.stderr
    assert b"\x1b" not in done.stderr


def test_a_qemu_that_dies_is_named(fake: Image):
    with fake_guest.running(fake, "--", "signal", until="ready") as process:
        [qemu] = fake_guest.machines_of(fake)
        os.kill(qemu, signal.SIGKILL)
        assert process.stderr is not None
        assert b"QEMU was ended by signal 9" in process.stderr.read()
        assert process.wait(TIME) == 1


def test_a_command_that_was_stopped_itself_does_not_blame_the_guest(fake: Image):
    port = free_port()
    with fake_guest.running(fake, "--", "serve", "3000", f"127.0.0.1:{port}", until="serving") as process:
        time.sleep(5.5)
        process.send_signal(signal.SIGSTOP)
        time.sleep(12)
        process.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert process.poll() is None
        assert b"200 OK" in ask(port)


# Under which accelerator.


def test_kvm_that_failed_is_not_tried_again_before_the_next_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    qemu = tmp_path / "qemu"
    qemu.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(acceleration, "_KVM", qemu)
    assert acceleration.worth_a_try(qemu)
    acceleration.remember_failure(qemu)
    assert not acceleration.worth_a_try(qemu)
    qemu.write_text("a newer one")
    assert acceleration.worth_a_try(qemu)


def test_kvm_is_not_blamed_for_an_image_that_boots_nowhere(mute: Image, tmp_path: Path):
    words = fake_guest.command(mute, "--boot-timeout", "3")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(words, env=environment, timeout=TIME, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert list(tmp_path.rglob("kvm-fails")) == []


def test_without_kvm_a_machine_runs_all_the_same(fake: Image, tmp_path: Path):
    # Whether KVM works here or not: the same machine, the same end.
    words = fake_guest.command(fake, "--", "exit", "4")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    assert subprocess.run(words, env=environment, timeout=TIME, check=False, stdin=subprocess.DEVNULL).returncode == 4
