"""The image file: what is written is read again, and what is no whole image is named as what it is."""

from __future__ import annotations

import errno
import hashlib
import struct
from dataclasses import fields, replace
from pathlib import Path

import pytest

from slight_py.errors import UsageError
from unikernel import image
from unikernel.manifest import App, Config, Grant, Kernel, Manifest, Part, Root, app_from_json, app_json, to_json

ROOT = b"a root file system" * 500
KERNEL = bytearray(8192)
struct.pack_into("<16sHHIQQQIHHHHHH", KERNEL, 0, b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
struct.pack_into("<IIQQQQQQ", KERNEL, 64, 1, 5, 4096, 1 << 24, 1 << 24, 4096, 4096, 4096)

MANIFEST = Manifest(
    flavour="linux",
    slight_py="0.1.0",
    python="3.11.2",
    wasmtime="50.0.1",
    cpu="portable",
    app=App("app.wasm", "0" * 64, 1234, "_start", serves=False),
    slightfile="slightfile.toml",
    specversion="0.2",
    grants=(
        Grant("http", "http", "a „name“", 3, {"CORS_MAX_AGE": Config(value="60")}),
        Grant("keyvalue.redis", "keyvalue", "*", 7, {"REDIS_ADDRESS": Config(source="ADDRESS")}),
    ),
    kernel=Kernel("6.1", "built", len(KERNEL), hashlib.sha256(KERNEL).hexdigest()),
    root=Root("erofs", 8192, len(ROOT), hashlib.sha256(ROOT).hexdigest()),
    parts=(Part("kernel", len(KERNEL)),),
    packages={"aiohttp": "3.14.5"},
    needs_network=True,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.img"
    image.write(path, bytes(KERNEL), ROOT, MANIFEST)
    return path


def error(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        image.verify(image.read(path))
    return str(caught.value)


def test_an_image_says_what_was_written_into_it(path: Path) -> None:
    found = image.read(path)
    image.verify(found)
    assert found.manifest == MANIFEST
    assert found.size == path.stat().st_size
    assert found.size % image.BLOCK == 0
    assert found.manifest.sources == ("ADDRESS",)


def test_an_image_is_a_kernel_and_a_disk_with_one_partition(path: Path) -> None:
    content = path.read_bytes()
    assert content[: image.FRONT] == bytes(KERNEL[: image.FRONT])
    assert content[image.END : len(KERNEL)] == bytes(KERNEL[image.END :])
    assert content[510:512] == b"\x55\xaa"
    first, count = struct.unpack_from("<II", content, 446 + 8)
    assert content[446 + 4] == 0x83
    assert content[462:510] == bytes(48)
    assert content[first * 512 :][: len(ROOT)] == ROOT
    assert len(ROOT) <= count * 512 <= len(content) - first * 512


def test_an_initramfs_is_no_partition(tmp_path: Path) -> None:
    path = tmp_path / "app.img"
    image.write(path, bytes(KERNEL), ROOT, replace(MANIFEST, root=replace(MANIFEST.root, type="initramfs")))
    assert path.read_bytes()[440:512] == bytes(72)
    assert image.read(path).root.type == "initramfs"


@pytest.mark.parametrize("size", [512, 5000, 8192 + len(ROOT), -1])
def test_an_image_cut_short_is_named_as_such(path: Path, size: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:size])
    cut = len(content[:size])
    assert error(path) == (
        f"{path}: the image is cut short: it has {cut:,} of {len(content):,} bytes; copy or build it again"
    )


@pytest.mark.parametrize("content", [b"", b"hello", bytes(10_000), bytes(KERNEL), bytes(KERNEL[:450])])
def test_what_is_no_image_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "app.img"
    path.write_bytes(content)
    assert error(path) == f"{path}: this is not an image that slight-py image build made"


def test_a_module_is_told_what_makes_an_image_of_it(tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(b"\0asm\1\0\0\0")
    assert error(path) == f"{path}: this is a module; `slight-py image build {path}` makes an image of it"


def test_a_file_that_is_missing_or_a_directory_is_named(tmp_path: Path) -> None:
    assert error(tmp_path / "none.img") == f"{tmp_path}/none.img: it can't be read: No such file or directory"
    assert error(tmp_path) == f"{tmp_path}: it can't be read: Is a directory"


def test_an_image_of_another_format_is_to_be_built_again(path: Path) -> None:
    damage(path, 408, b"\1")
    assert error(path) == f"{path}: an image of format 1, and this slight-py reads format 2; build it again"


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_damage_shows_wherever_it_is(path: Path) -> None:
    good = path.read_bytes()
    manifest = good.index(b'{\n "flavour"')
    for offset, what in (
        (200, "its kernel is not the one that it was built with"),
        (5000, "its kernel is not the one that it was built with"),
        (450, "its partition table is not that of its manifest"),
        (9000, "its root file system is not the one that it was built with"),
        (manifest, "its manifest can't be read: it is not JSON"),
    ):
        path.write_bytes(good)
        damage(path, offset, b"~")
        assert error(path) == f"{path}: the image is damaged: {what}; copy or build it again"


def test_a_longer_file_is_damaged(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    assert "it has 4 bytes behind its end" in error(path)


@pytest.mark.parametrize("offset", [424, 432], ids=["place", "length"])
def test_a_manifest_outside_of_the_file_is_not_looked_for(path: Path, offset: int) -> None:
    damage(path, offset, b"\xff" * 8)
    assert "its manifest lies outside of it" in error(path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"python": "3.11.2"', '"python": 3.11', "the manifest has no 'python', or one of another kind"),
        ('"wasmtime": "50.0.1"', '"vasmtime": ""', "the manifest has no 'wasmtime', or one of another kind"),
        ('"flavour": "linux"', '"flavour": "hurd"', "is 'hurd', which is none of linux, native"),
        ('"flavour": "linux",', "", "the manifest has no 'flavour', or one of another kind"),
        ('"cpu": "portable"', '"cpu": "fast"', "is 'fast', which is none of portable, native"),
        ('"size": 1234', '"size": -1', "'size' of 'app' of the manifest is out of range"),
        ('"size": 1234', '"size": true', "'app' of the manifest has no 'size'"),
        ('"from": "ADDRESS"', '"value": null', "must have a value, or the name that it comes from"),
        ('"0000', '"zzzz', "'sha256' of 'app' of the manifest is not a SHA-256 hash"),
        ('"type": "erofs"', '"type": 7', "'root' of the manifest has no 'type'"),
        ('"offset": 8192', '"offset": 8191', "its parts lie outside of it"),
        ('"offset": 8192', '"offset": 4096', "its parts lie outside of it"),
        ('"grants": [', '"grants": [3, ', "an entry of 'grants' is not a table"),
    ],
)
def test_a_manifest_that_is_not_as_it_must_be_is_refused(path: Path, old: str, new: str, what: str) -> None:
    text = to_json(MANIFEST)
    assert old in text
    changed = text.replace(old, new, 1).encode()
    content = path.read_bytes()
    at = content.index(b'{\n "flavour"')
    damage(path, at, changed.ljust(len(content) - at, b"\0"))
    damage(path, 432, struct.pack("<Q", len(changed)))
    assert what in error(path)


def test_what_is_nested_without_end_is_refused(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b'{\n "flavour"')
    path.write_bytes(content[:at] + b"[" * 1_000_000)
    damage(path, 416, struct.pack("<QQQ", at + 1_000_000, at, 1_000_000))
    assert "its manifest can't be read" in error(path)


def test_what_the_machine_reads_says_nothing_of_where_it_lies(path: Path) -> None:
    text = app_json(MANIFEST)
    assert '"from": "ADDRESS"' in text
    assert '"kernel"' not in text
    assert '"root"' not in text


def test_the_machine_reads_what_was_written_for_it() -> None:
    found = app_from_json(app_json(MANIFEST))
    for field in fields(found):
        assert getattr(found, field.name) == getattr(MANIFEST, field.name)
    assert found.app == App("app.wasm", "0" * 64, 1234, "_start", serves=False)
    assert found.grants == MANIFEST.grants


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"flavour": "linux"}'])
def test_what_is_no_manifest_of_a_machine_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        app_from_json(text)


def test_a_kernel_needs_room_for_the_partition_table() -> None:
    path = Path("vmlinux")
    image.check_kernel(path, bytes(KERNEL))
    for change in (b"x" + bytes(111), bytes(111) + b"x"):
        with pytest.raises(UsageError, match="bytes 400 to 512, where an image has its partition table"):
            image.check_kernel(path, bytes(KERNEL[:400]) + change + bytes(KERNEL[512:]))
    from_the_start = bytearray(KERNEL)
    struct.pack_into("<Q", from_the_start, 64 + 8, 0)
    with pytest.raises(UsageError, match="bytes 400 to 512"):
        image.check_kernel(path, bytes(from_the_start))
    with pytest.raises(UsageError, match="this is not an ELF file"):
        image.check_kernel(path, b"MZ" + bytes(KERNEL[2:]))


def test_an_image_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "app.img"
    path.write_bytes(b"the one before")
    with pytest.raises(TypeError), image.replacing(path) as file:
        file.write("no bytes")
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UsageError, match=r"app.img: it can't be written: No space left"), image.replacing(path):
        raise full
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match=f"there is no directory {tmp_path}/none; create it"):
        image.write(tmp_path / "none" / "app.img", bytes(KERNEL), ROOT, MANIFEST)
