"""Native images under the real uhyve, where there is KVM, which it takes: without, the command says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import uhyve as installed
from tests.command import Done, slight_py
from tests.guests import example
from tests.unikernel.test_native_run import as_a_process, built, probe
from unikernel import uhyve
from unikernel.image import Image

SECONDS = 60.0


def run(found: Image, *words: str | Path) -> Done:
    env = {"PATH": f"{installed.program().parent}:{os.environ['PATH']}"}
    return slight_py("image", "run", found.path, "--vmm", "uhyve", *words, env=env, seconds=SECONDS)


def check(done: Done, expected: Done) -> None:
    """What is said on standard error is on uhyve's output, too: it has one console for both."""
    if not os.access(uhyve.KVM, os.R_OK | os.W_OK):
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
