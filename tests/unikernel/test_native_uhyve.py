"""Native images under the real uhyve, where there is KVM, which it takes: without, the command says so."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import uhyve as installed
from tests.command import Done, running, slight_py, wait_until
from tests.guests import example
from tests.unikernel.test_native_run import as_a_process, built, demo, probe
from unikernel import uhyve
from unikernel.image import Image

SECONDS = 60.0


_CLONE_NEWNET = 0x40000000
"""unshare(2): a network of its own."""


def environment() -> dict[str, str]:
    return {"PATH": f"{installed.program().parent}:{os.environ['PATH']}"}


def run(found: Image, *words: str | Path) -> Done:
    return slight_py("image", "run", found.path, "--vmm", "uhyve", *words, env=environment(), seconds=SECONDS)


def has_kvm() -> bool:
    return os.access(uhyve.KVM, os.R_OK | os.W_OK)


def check(done: Done, expected: Done) -> None:
    """What is said on standard error is on uhyve's output, too: it has one console for both."""
    if not has_kvm():
        assert done.code == 1
        assert f"{uhyve.KVM} is missing, or not for you to use; --vmm qemu boots the image as well" in done.err
        return
    assert done.code == expected.code, done
    assert sorted(done.out.splitlines()) == sorted((expected.out + expected.err).splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ("--", "arguments", "one two", "it's", ""),
        ("--env", "GREETING=good day", "--env", "QUOTES=\"'", "--", "environment"),
        ("--", "exit", "7"),
        ("--", "trap"),
    ],
)
def test_a_program_sees_and_says_what_it_does_as_a_process(words: tuple[str, ...]) -> None:
    check(run(built(probe()), *words), as_a_process(probe(), *words))


def test_keys_and_values_are_kept_in_memory() -> None:
    app = example("keyvalue-demo-c")
    check(run(built(app)), as_a_process(app))


def test_a_file_that_is_mapped_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("a,b\n" * 3000)
    check(run(built(probe()), "--map", file, "--", "read", "/files/data.csv"), Done(0, file.read_text(), ""))


def test_the_files_of_a_directory_that_is_mapped_can_be_read(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"this is {name}\n" * 2000)
    words = ("--volume", f"{tmp_path}:/data:ro", "--", "read", "/data/two")
    check(run(built(probe()), *words), Done(0, (tmp_path / "two").read_text(), ""))


# On the network.


def in_network(test: Callable[[], None]) -> None:
    """Runs a test in a network of its own, which a machine shares with this process: it has the device tap0, with an
    address. Raises PermissionError where only another user may make one."""

    def enter() -> None:
        # A thread's network is its own, and that of the processes that it starts.
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "a network of its own")
        for words in (
            ("tuntap", "add", "tap0", "mode", "tap"),
            ("addr", "add", "172.16.0.1/24", "dev", "tap0"),
            ("link", "set", "tap0", "up"),
        ):
            subprocess.run(["ip", *words], check=True)
        test()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(enter).result()


def test_a_server_is_reached_at_its_address_on_the_tap_device() -> None:
    def test() -> None:
        words = ("image", "run", demo().path, "--vmm", "uhyve", "--tap", "tap0:172.16.0.2/24:172.16.0.1")
        with running(*words, env=environment()) as server:
            server.host, server.port = "172.16.0.2", 3000
            wait_until(lambda: "serving at" in server.out, "the server", SECONDS)
            assert server.get("/hello")[:2] == (200, b"hello")
            kept = os.urandom(200_000).hex().encode()
            assert server.request("PUT", "/set", kept)[0] == 204
            assert server.get("/get")[:2] == (200, kept)
            server.send(signal.SIGTERM)
            assert server.wait() == 128 + signal.SIGTERM

    if has_kvm() and Path("/dev/net/tun").exists() and os.geteuid() == 0:
        in_network(test)
        return
    # There it can't be: uhyve has no KVM, or doesn't get the device.
    done = run(demo(), "--tap", "tap0:172.16.0.2/24:172.16.0.1")
    assert done.code == 1
    assert re.search(r"/dev/kvm is missing, or not for you to use|ap device", done.err), done.err
