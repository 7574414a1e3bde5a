"""`slight-py image build --native`: what the file is made of, that it's the same each time, and what is refused."""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slight_py import ahead, compilation
from slight_py.errors import UsageError
from tests.command import scratch, slight_py
from tests.guests import example, slightfile
from tests.unikernel import native_kernels
from tests.unikernel.native_kernels import DATA_SEGMENT, END, NOTE_SEGMENT, SPARE, TEXT_SEGMENT
from unikernel import build, elf, flavours, image, inspection
from unikernel.elf import Segment
from unikernel.flavours.native import payload
from unikernel.flavours.native.payload import Payload
from unikernel.image import Image
from unikernel.manifest import app_from_json

NATIVE = flavours.named("native")


@pytest.fixture(scope="module")
def kernel() -> Path:
    return native_kernels.write(scratch() / "native-kernel")


@pytest.fixture(scope="module")
def built(kernel: Path) -> Image:
    """The image of the HTTP demo, with keys and values in Redis."""
    path = scratch() / "native.img"
    build.build(
        example("http-server-demo-c"), slightfile("http-server-demo-c", "redis"), path, flavour=NATIVE, kernel=kernel
    )
    return image.read(path)


def refused(app: Path, grants: Path | None, kernel: Path, tmp_path: Path) -> list[str]:
    """The lines that a build ends with."""
    place = tmp_path / "app.img"
    with pytest.raises(UsageError) as caught:
        build.build(app, grants, place, flavour=NATIVE, kernel=kernel)
    assert not place.exists()
    return list(caught.value.lines)


def lines_of_capabilities(grants: Path) -> list[int]:
    """Where a slightfile has its capabilities."""
    lines = grants.read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if line == "[[capability]]"]


# The file.


def test_the_same_input_gives_the_same_bytes(built: Image, kernel: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.img"
    app, grants = example("http-server-demo-c"), slightfile("http-server-demo-c", "redis")
    done = slight_py("image", "build", app, "-c", grants, "--native", "--kernel", kernel, "-o", again, seconds=60)
    assert done.code == 0, done.err
    assert again.read_bytes() == built.path.read_bytes()


def test_a_boot_loader_puts_the_payload_behind_the_kernel(built: Image, kernel: Path) -> None:
    content = built.path.read_bytes()
    segments = elf.segments(content, "app.img")
    assert segments[:2] == [TEXT_SEGMENT, DATA_SEGMENT]
    loaded = segments[2]
    assert loaded.type == elf.PT_LOAD
    assert loaded.physical == loaded.address == (END + 4095) // 4096 * 4096
    assert (loaded.offset, loaded.size) == (built.root.offset, built.root.size)
    assert loaded.size == loaded.memory
    assert loaded.offset % 4096 == loaded.physical % 4096 == 0
    # The code and data are as they were.
    assert content[4096:12288] == kernel.read_bytes()[4096:12288]


def test_it_has_no_section_headers(built: Image) -> None:
    header = struct.unpack_from("<16sHHIQQQIHHHHHH", built.path.read_bytes())
    assert (header[6], header[11], header[12], header[13]) == (0, 0, 0, 0)


def test_the_machine_finds_its_manifest_and_the_module(built: Image) -> None:
    packed = built.path.read_bytes()[built.root.offset :][: built.root.size]
    found = payload.unpack(packed)
    assert found.module == ahead.compile_ahead(example("http-server-demo-c").read_bytes())
    begin = struct.unpack_from("<Q", packed, 40)[0]
    assert begin % 4096 == 0
    manifest = app_from_json(found.manifest)
    assert manifest.flavour == "native"
    assert [grant.resource for grant in manifest.grants] == ["http", "keyvalue.redis"]
    assert manifest.app is not None
    assert manifest.app.entry == built.manifest.app.entry


def test_secrets_stay_outside(built: Image, kernel: Path, tmp_path: Path) -> None:
    secret = "redis://:s3cr3t-of-mine@127.0.0.1:6379"
    grants = tmp_path / "slightfile.toml"
    grants.write_text(slightfile("keyvalue-demo-c", "redis").read_text().replace("${envvars.REDIS_ADDRESS}", secret))
    assert secret in grants.read_text()
    said: list[str] = []
    path = tmp_path / "app.img"
    build.build(example("keyvalue-demo-c"), grants, path, flavour=NATIVE, kernel=kernel, progress=said.append)
    assert b"s3cr3t" not in path.read_bytes()
    assert image.read(path).manifest.sources == ("REDIS_ADDRESS",)
    assert any("--pass REDIS_ADDRESS" in line for line in said)


def test_inspect_shows_flavour_kernel_and_module(built: Image, kernel: Path) -> None:
    text = inspection.as_text(inspection.inspect(built))
    assert "flavour: native" in text
    assert "kernel: native, given by --kernel, 12,288 bytes" in text
    assert "wasmtime 50.0.1" in text
    module = len(ahead.compile_ahead(example("http-server-demo-c").read_bytes()))
    assert re.search(rf"module +{module:,}\n", text)
    assert "Python" not in text
    assert "command line" not in text


@pytest.mark.parametrize("where", [600, -1])
def test_a_changed_byte_is_found(built: Image, tmp_path: Path, where: int) -> None:
    """One of the kernel, and one of the application."""
    content = bytearray(built.path.read_bytes())
    content[where if where > 0 else built.root.offset + 5000] ^= 1
    changed = tmp_path / "changed.img"
    changed.write_bytes(content)
    what = "kernel" if where > 0 else "application"
    with pytest.raises(UsageError, match=f"its {what} is not the one that it was built with"):
        image.verify(image.read(changed))


def test_an_image_that_is_cut_short_is_named(built: Image, tmp_path: Path) -> None:
    cut = tmp_path / "cut.img"
    cut.write_bytes(built.path.read_bytes()[:-4096])
    done = slight_py("image", "run", cut, seconds=60)
    assert done.code == 2
    assert "the image is cut short" in done.err


# Payloads.


def test_a_payload_is_read_as_it_was_written() -> None:
    for size in (0, 1, 4096, 5000):
        found = Payload(b"m" * size, b"c" * size)
        packed = payload.pack(found)
        assert len(packed) % 4096 == 0
        assert payload.unpack(packed) == found


@pytest.mark.parametrize("at", [0, 8, 16, 24, 32, 40, 48])
def test_a_payload_that_lies_about_its_parts_is_refused(at: int) -> None:
    packed = bytearray(payload.pack(Payload(b"{}", b"code")))
    struct.pack_into("<Q", packed, at, 1 << 62)
    with pytest.raises(ValueError, match=r"it has no payload's header|its payload is of format|its parts lie outside"):
        payload.unpack(bytes(packed))


# Kernels.


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ((TEXT_SEGMENT, DATA_SEGMENT, NOTE_SEGMENT), "has no place for an application"),
        ((TEXT_SEGMENT, DATA_SEGMENT, SPARE, SPARE, NOTE_SEGMENT), "has no place for an application"),
        ((SPARE, NOTE_SEGMENT), "has no place for an application"),
        ((TEXT_SEGMENT, DATA_SEGMENT, SPARE), "has no place for an application"),
        (
            (TEXT_SEGMENT, replace(DATA_SEGMENT, physical=(1 << 32) - (1 << 16)), SPARE, NOTE_SEGMENT),
            "there are not as many below 4 GiB",
        ),
        ((replace(TEXT_SEGMENT, offset=1 << 20), SPARE, NOTE_SEGMENT), "the ELF file is cut short"),
        ((replace(TEXT_SEGMENT, offset=0), SPARE, NOTE_SEGMENT), "has something of its own in its bytes 400 to 512"),
    ],
)
def test_a_kernel_without_a_place_for_an_application_is_refused(
    segments: tuple[Segment, ...], why: str, tmp_path: Path
) -> None:
    path = native_kernels.write(tmp_path / "kernel", *segments)
    (line,) = refused(example("keyvalue-demo-c"), slightfile("keyvalue-demo-c"), path, tmp_path)
    assert line.startswith(f"{path}: ")
    assert why in line


# What is refused, by name.


@pytest.mark.parametrize(
    ("app", "backend", "line"),
    [
        (
            "keyvalue-demo-c", "filesystem",
            "keyvalue.filesystem isn't in native images; build without --native, or use keyvalue.memory or "
            "keyvalue.redis",
        ),
        (
            "keyvalue-demo-c", "dynamodb",
            "keyvalue.awsdynamodb isn't in native images; use keyvalue.memory or keyvalue.redis",
        ),
        (
            "messaging-demo-publisher-c", "filesystem",
            "messaging.filesystem isn't in native images; build without --native",
        ),
    ],
)  # fmt: skip
def test_a_capability_that_the_kernel_lacks_is_refused(
    app: str, backend: str, line: str, kernel: Path, tmp_path: Path
) -> None:
    grants = slightfile(app, backend)
    found = refused(example(app), grants, kernel, tmp_path)
    assert found == [f"{grants}:{number}: {line}" for number in lines_of_capabilities(grants)]


def test_all_that_is_lacking_is_said_at_once(kernel: Path, tmp_path: Path) -> None:
    grants = tmp_path / "slightfile.toml"
    names = ("http-client", "configs.envvars", "blobstore.filesystem", "keyvalue.memory", "sql.sqlite")
    grants.write_text(
        'specversion = "0.2"\n'
        + "".join(f'[[capability]]\nresource = "{name}"\nname = "{name}"\n' for name in names if name != "http-client")
    )
    lines = refused(example("keyvalue-demo-c"), grants, kernel, tmp_path)
    assert lines == [
        f"{grants}:2: configs.envvars isn't in native images; in others, configs.envvars reads this system's "
        "environment; for an image, use configs.memory",
        f"{grants}:5: blobstore.filesystem isn't in native images; build without --native",
        f"{grants}:11: sql.sqlite isn't in native images; build without --native",
    ]


def test_what_a_module_imports_is_refused_where_there_is_no_slightfile(kernel: Path, tmp_path: Path) -> None:
    app = example("messaging-demo-publisher-c")
    (line,) = refused(app, None, kernel, tmp_path)
    assert line == f"{app}: messaging.memory isn't in native images; build without --native"


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "rediss://:s3cr3t@example.com:6380",
            "keyvalue.redis with TLS (rediss://) isn't in native images; build without --native, or use a redis:// "
            "address",
        ),
        (
            "unix:///run/redis.sock",
            "keyvalue.redis at a socket (unix://) isn't in native images; use a redis:// address",
        ),
    ],
)
def test_a_redis_that_the_kernel_does_not_reach_is_refused(
    address: str, line: str, kernel: Path, tmp_path: Path
) -> None:
    grants = with_address(address, tmp_path)
    found = refused(example("keyvalue-demo-c"), grants, kernel, tmp_path)
    assert found == [f"{grants}:{number}: {line}" for number in lines_of_capabilities(grants)]
    assert "s3cr3t" not in "".join(found)


def with_address(address: str, tmp_path: Path) -> Path:
    """A slightfile that spells a Redis out."""
    grants = tmp_path / "slightfile.toml"
    grants.write_text(slightfile("keyvalue-demo-c", "redis").read_text().replace("${envvars.REDIS_ADDRESS}", address))
    return grants


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("redis://:s3cr3t@", "it has no host"),
        ("redis://:s3cr3t@localhost/one", "its database is not a number"),
        ("http://:s3cr3t@localhost", "it starts with none of redis://, rediss:// and unix://"),
    ],
)
def test_an_address_of_no_redis_is_refused(address: str, why: str, kernel: Path, tmp_path: Path) -> None:
    grants = with_address(address, tmp_path)
    first, *_ = lines_of_capabilities(grants)
    line = f"{grants}:{first}: keyvalue.redis: REDIS_ADDRESS is not the address of a Redis: {why}"
    assert refused(example("keyvalue-demo-c"), grants, kernel, tmp_path) == [line]


def test_a_redis_takes_no_package_of_pythons(kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    for address in ("redis://localhost:6379/1", "${envvars.REDIS_ADDRESS}"):
        place = tmp_path / "app.img"
        grants = with_address(address, tmp_path)
        build.build(example("keyvalue-demo-c"), grants, place, flavour=NATIVE, kernel=kernel)
        assert "keyvalue.redis" in [grant.resource for grant in image.read(place).manifest.grants]


def test_a_module_is_compiled_once(kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    class Counted(compilation._Process):
        def __init__(self, *words: Any) -> None:
            compiled.append(words)
            super().__init__(*words)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "_Process", Counted)
    build.build(example("keyvalue-demo-c"), None, tmp_path / "app.img", flavour=NATIVE, kernel=kernel)
    assert len(compiled) == 1


def test_a_component_is_refused(kernel: Path, tmp_path: Path) -> None:
    app = tmp_path / "component.wasm"
    app.write_bytes(b"\0asm\x0d\0\1\0")
    (line,) = refused(app, None, kernel, tmp_path)
    assert line == (
        f"{app}: components aren't in native images; build without --native, or build it as a module, for wasm32-wasip1"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--smp"], "--smp: native images use one processor"),
        (["--kernel", "cloud"], "--kernel cloud: native images have a kernel of their own"),
        (["--cpu", "native"], "--cpu native: the modules of native images are for every x86-64 with SSE 4.2"),
        (["--format", "qcow2"], "--format: a native image is one file"),
    ],
)
def test_options_of_other_images_are_refused(words: list[str], why: str, tmp_path: Path) -> None:
    app = example("keyvalue-demo-c")
    done = slight_py("image", "build", app, "--native", *words, "-o", tmp_path / "app.img", seconds=60)
    assert done.code == 2
    assert f"error: {why}" in done.err
    assert "build without --native" in done.err


def test_a_function_service_is_refused(tmp_path: Path) -> None:
    done = slight_py("image", "build", "--native", "-o", tmp_path / "app.img", seconds=60)
    assert done.code == 2
    assert "native images have no compiler; name a module, or build without --native" in done.err


# Options of `image run`.


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cpus", "2"], "--cpus: a native image uses one processor"),
        (["--volume", "/tmp:/data"], "--volume /tmp:/data: native images can't write to volumes; add :ro"),
    ],
)
def test_what_a_native_machine_lacks_is_refused(built: Image, words: list[str], why: str) -> None:
    done = slight_py("image", "run", built.path, "--net", "--pass", "REDIS_ADDRESS", *words, seconds=60)
    assert done.code == 2
    assert f"error: {built.path}: {why}" in done.err
