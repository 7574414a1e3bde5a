"""`slight-py image run --vmm uhyve`: uhyve's command line, its output and exit code, and what there is not under it.

A program stands for uhyve here, which says what it was called with: no image boots under the KVM of every machine.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from slight_py.errors import UsageError
from tests.command import Done, environment, is_alive, scratch, slight_py, wait_until
from tests.guests import example, slightfile
from tests.unikernel import native_kernels
from unikernel import build, flavours, image, uhyve
from unikernel.image import Image
from unikernel.options import RunOptions
from unikernel.uhyve import Tap
from unikernel.volumes import Volume

SECONDS = 60.0
OPTIONS = RunOptions(memory=64 << 20)


@pytest.fixture(scope="module")
def built() -> Image:
    """An image that asks for a value."""
    path = scratch() / "for-uhyve.img"
    kernel = native_kernels.write(scratch() / "kernel-for-uhyve")
    build.build(
        example("keyvalue-demo-c"), slightfile("keyvalue-demo-c", "redis"), path,
        flavour=flavours.named("native"), kernel=kernel,
    )  # fmt: skip
    return image.read(path)


def with_uhyve(folder: Path, script: str) -> dict[str, str]:
    """An environment whose uhyve is a shell script."""
    program = folder / "uhyve"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "REDIS_ADDRESS": "redis://h"}


def run(built: Image, *words: str, env: dict[str, str]) -> Done:
    given = ("--net", "--pass", "REDIS_ADDRESS", *words)
    return slight_py("image", "run", built.path, "--vmm", "uhyve", *given, env=env, seconds=SECONDS)


# What uhyve is called with.


def test_the_command_line_has_memory_files_and_what_the_image_is_given(built: Image) -> None:
    options = replace(OPTIONS, env={"GREETING": "good day"}, args=("one two", "three"))
    mapped = [Volume(Path("/tmp/data.csv"), PurePosixPath("/files/data.csv"), False, True)]
    words = uhyve.arguments(built, options, {"REDIS_ADDRESS": "redis://h"}, mapped, None)
    at = words.index(str(built.path))
    assert words[:at] == [
        *("--config", "/dev/null", "--memory-size", "64MiB", "--file-mapping", "/tmp/data.csv:/files/data.csv"),
    ]
    # The kernel gets the words joined by blanks, and takes them apart as a shell does.
    line = shlex.split(" ".join(words[at + 1 :]))
    assert line == [
        *("REDIS_ADDRESS=redis://h", "SLIGHT_FILE=/files/data.csv", "SLIGHT_ENV_GREETING=good day"),
        "SLIGHT_ARGS='one two' three",
    ]
    assert shlex.split(line[-1].removeprefix("SLIGHT_ARGS=")) == ["one two", "three"]


def test_the_command_line_has_the_limits_that_are_not_the_usual_ones(built: Image, tmp_path: Path) -> None:
    done = run(
        built, "--max-body", "1M", "--access-log", "json", "--request-timeout", "30", "--max-memory", "256M",
        env=with_uhyve(tmp_path, 'for word; do last=$word; done; eval "echo $last"'),
    )  # fmt: skip
    assert done.code == 0, done
    name, _, value = done.out.strip().partition("=")
    assert name == "SLIGHT_OPTIONS"
    # How much memory an instance gets where nobody says depends on the machine's.
    assert json.loads(value) == {"max_body": 1 << 20, "access_log": "json", "max_memory": 256 << 20}


def test_a_directory_is_mapped_with_the_files_that_are_in_it(built: Image, tmp_path: Path) -> None:
    for name in ("two words", "a.csv"):
        (tmp_path / name).touch()
    volume = Volume(tmp_path, PurePosixPath("/data"), False, False)
    words = uhyve.arguments(built, OPTIONS, {}, [volume], None)
    assert words[words.index("--file-mapping") + 1] == f"{tmp_path}:/data"
    line = shlex.split(" ".join(words[words.index(str(built.path)) + 1 :]))
    assert line == ["SLIGHT_FILE=/data/a.csv", "SLIGHT_FILE=/data/two words"]


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        (["inner"], "under uhyve a directory has files alone, and in this one is the directory inner; name each"),
        ([], "it has no files, and uhyve maps in nothing else"),
    ],
)
def test_a_directory_that_the_machine_would_not_see_whole_is_refused(
    built: Image, tmp_path: Path, inside: list[str], why: str
) -> None:
    folder = tmp_path / "data"
    for each in (folder, *(folder / name for name in inside)):
        each.mkdir()
    done = run(built, "--volume", f"{folder}:/data:ro", env=with_uhyve(tmp_path, "exit 0"))
    assert done.code == 2
    assert done.errors[0].startswith(f"slight-py: error: --volume {folder}:/data: {why}")


def test_what_uhyve_has_no_room_for_is_refused(built: Image, tmp_path: Path) -> None:
    given = ["word" * 100] * (uhyve.ROOM // 400)
    done = run(built, "--", *given, env=with_uhyve(tmp_path, "exit 0"))
    assert done.code == 2
    assert "what the machine is told is longer than 12,000 bytes, for which uhyve has no room" in done.err
    assert run(built, "--", *given[:20], env=with_uhyve(tmp_path, "exit 0")).code == 0


def test_a_tap_device_comes_with_the_machines_address(built: Image) -> None:
    tap = Tap("tap7", ipaddress.IPv4Interface("172.16.0.2/20"), ipaddress.IPv4Address("172.16.0.1"))
    words = uhyve.arguments(built, OPTIONS, {}, [], tap)
    assert words[words.index("--net") + 1] == "tap:tap7"
    assert words[-1] == "ip=172.16.0.2::172.16.0.1:255.255.240.0::eth0:off"


def test_without_an_address_the_machine_asks_for_one(built: Image) -> None:
    words = uhyve.arguments(built, OPTIONS, {}, [], Tap("tap7"))
    assert words[-1] == str(built.path)


# What comes of it.


def test_output_and_exit_code_are_uhyves(built: Image, tmp_path: Path) -> None:
    done = run(built, "--env", "A=b", env=with_uhyve(tmp_path, 'echo "called with $*"; exit 7'))
    assert done.code == 7
    assert f"{built.path} REDIS_ADDRESS=redis://h SLIGHT_ENV_A=b" in done.out
    assert "what the image is given is on uhyve's command line, which others on this host can see" in done.err


def test_a_uhyve_that_panics_is_a_failure(built: Image, tmp_path: Path) -> None:
    script = "echo \"thread 'main' panicked at vm.rs:1:\" >&2; echo 'Error: no such thing' >&2; exit 101"
    done = run(built, env=with_uhyve(tmp_path, script))
    assert done.code == 1
    assert re.search(r"uhyve: .+; --vmm qemu boots the image as well", done.err)


def test_what_uhyve_says_first_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uhyve, "KVM", tmp_path)
    said = b"thread 'main' panicked at vm.rs:1:\nError: no such \x1b[2J thing\nnote: run with `RUST_BACKTRACE=1`\n"
    assert uhyve._why(said, 101) == r"Error: no such \x1b[2J thing"
    stopped = b"thread '<unnamed>' panicked at src/linux/x86_64/kvm_cpu.rs:623:25:\nInternalError\nthread 'main' ...\n"
    assert uhyve._why(stopped, 101) == "KVM stopped the machine: InternalError"
    assert uhyve._why(b"", -9) == "it was ended by signal 9"


def test_an_application_may_end_with_the_code_of_a_panic(built: Image, tmp_path: Path) -> None:
    done = run(built, env=with_uhyve(tmp_path, "exit 101"))
    assert done.code == 101


@contextmanager
def sleeping(built: Image, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command while its uhyve sleeps, and the process of that."""
    env = environment(**with_uhyve(folder, "echo $$; exec sleep 60"))
    words = [sys.executable, "-m", "slight_py", "image", "run", built.path, "--vmm", "uhyve", "--net"]
    with subprocess.Popen(
        [*words, "--pass", "REDIS_ADDRESS"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_ends_it(built: Image, tmp_path: Path, number: signal.Signals, code: int) -> None:
    with sleeping(built, tmp_path) as (process, hypervisor):
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(SECONDS) == code
        assert time.monotonic() - begin < 30
        assert not is_alive(hypervisor)


def test_a_terminal_that_is_closed_is_nothing_to_it_under_nohup(built: Image, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the command inherits it, as it does from nohup
    try:
        with sleeping(built, tmp_path) as (process, hypervisor):
            process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert process.poll() is None
            assert is_alive(hypervisor)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_does_not_outlive_the_command(built: Image, tmp_path: Path) -> None:
    with sleeping(built, tmp_path) as (process, hypervisor):
        assert is_alive(hypervisor)
        process.kill()
        process.wait(SECONDS)
        wait_until(lambda: not is_alive(hypervisor), "the end of uhyve")


def test_a_uhyve_that_can_not_be_started_is_named(built: Image, tmp_path: Path) -> None:
    env = with_uhyve(tmp_path, "")
    (tmp_path / "uhyve").write_bytes(b"\x7fELF, and no more of it")
    done = run(built, env=env)
    assert done.code == 2
    assert f"{tmp_path}/uhyve: it can't be started: Exec format error; install it: cargo install uhyve" in done.err


def test_where_there_is_none_the_command_to_install_it_is_named(built: Image, tmp_path: Path) -> None:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "REDIS_ADDRESS": "redis://h",
    }
    done = run(built, env=env)
    assert done.code == 2
    assert "uhyve is not installed; install it: cargo install uhyve" in done.err


def test_where_there_is_no_kvm_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uhyve, "KVM", tmp_path / "kvm")
    assert uhyve._why(b"thread 'main' panicked at lib.rs:1:\nError(2)", 101) == (
        f"{tmp_path}/kvm is missing, or not for you to use"
    )


# What there is not.


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-p", "8080:3000"], "-p: uhyve forwards no ports"),
        (["--snapshot", "file"], "--snapshot: uhyve takes no snapshots"),
        (["--restore", "file"], "--restore: uhyve takes no snapshots"),
        (["--accel", "tcg"], "--accel tcg: uhyve emulates no processor"),
        (["--memory", "15M"], "--memory: under uhyve a machine has a multiple of 2M, and at least 16M"),
        (["--cpus", "2"], "--cpus: a native image uses one processor"),
        (["--on-demand", "-p", "1:1"], "--on-demand takes QEMU"),
    ],
)
def test_what_there_is_not_is_refused(built: Image, tmp_path: Path, words: list[str], why: str) -> None:
    done = run(built, *words, env=with_uhyve(tmp_path, "exit 0"))
    assert done.code == 2
    assert why in done.err


def test_a_tap_device_is_for_uhyve(built: Image) -> None:
    done = slight_py("image", "run", built.path, "--tap", "tap0", seconds=SECONDS)
    assert done.code == 2
    assert "--tap is for --vmm uhyve" in done.err


@pytest.mark.parametrize("text", ["", "tap0:1.2.3.4/24", "tap0:1.2.3.4/40:1.2.3.1", "tap0:host/24:1.2.3.1"])
def test_a_tap_device_that_is_none_is_refused(built: Image, text: str) -> None:
    done = slight_py("image", "run", built.path, "--vmm", "uhyve", "--tap", text, seconds=SECONDS)
    assert done.code == 2
    assert "is not NAME or NAME:ADDRESS/BITS:GATEWAY" in done.err


def test_a_linux_image_is_refused(built: Image, tmp_path: Path) -> None:
    linux = replace(built, manifest=replace(built.manifest, flavour="linux"))
    with pytest.raises(UsageError, match="--vmm uhyve boots native images, and this is one of Linux"):
        uhyve._check(linux, OPTIONS)
