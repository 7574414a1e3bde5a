"""The command line of QEMU, and the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slight_py.errors import UsageError
from tests.unikernel.fake_guest import make_manifest
from unikernel import machine
from unikernel.image import Image
from unikernel.machine import Machine, Share

IMAGE = Image(Path("/images/app.img"), make_manifest(), 1 << 20)
MACHINE = Machine(IMAGE, 256 << 20, 1, "tcg", "stdio")


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_image_is_the_kernel_and_the_disk():
    words = machine.arguments(MACHINE)
    assert value(words, "-kernel") == "/images/app.img"
    assert value(words, "-blockdev") == "driver=file,node-name=disk,read-only=on,filename=/images/app.img"
    assert "root=/dev/vda1 rootfstype=erofs ro" in value(words, "-append")


def test_an_initramfs_is_the_root_in_place_of_the_disk():
    words = machine.arguments(replace(MACHINE, initrd=Path("/tmp/initrd")))
    assert value(words, "-initrd") == "/tmp/initrd"
    assert "root=" not in value(words, "-append")
    assert "-blockdev" not in words


def test_a_machine_reaches_nothing_unless_its_user_opens_the_network():
    asks = replace(MACHINE, image=replace(IMAGE, manifest=make_manifest(needs_network=True)))
    assert "restrict=on" in value(machine.arguments(asks), "-netdev")
    assert "restrict=off" in value(machine.arguments(replace(asks, network=True)), "-netdev")


def test_commas_in_paths_are_not_commas_between_options():
    image = replace(IMAGE, path=Path("/a,b/app.img"))
    share = Share("volume0", Path("/c,d"), writable=False)
    words = machine.arguments(replace(MACHINE, image=image, shares=[share]))
    assert value(words, "-blockdev").endswith("filename=/a,,b/app.img")
    assert "path=/c,,d," in value(words, "-fsdev")


def test_a_share_for_reading_is_read_only_to_qemu():
    shares = [Share("volume0", Path("/data"), writable=True), Share("volume1", Path("/more"), writable=False)]
    words = machine.arguments(replace(MACHINE, shares=shares))
    first, second = (words[at + 1] for at, word in enumerate(words) if word == "-fsdev")
    assert "readonly" not in first
    assert second.endswith(",readonly=on")


def test_serial_ports_have_their_names_and_chardevs():
    words = machine.arguments(replace(MACHINE, serial=[("slight.control", "socket,fd=7")]))
    assert "socket,id=slight.control,fd=7" in words
    assert "virtserialport,chardev=slight.control,id=slight.control,name=slight.control" in words


def test_without_qemu_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sudo apt install qemu-system-x86"):
        machine.find()
