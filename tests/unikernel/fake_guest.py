"""Images whose process 1 is `fake_guest.c`: what a launcher sees of a guest, without a runtime in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from unikernel import image, kernel
from unikernel.image import Image
from unikernel.manifest import App, Grant, Kernel, Manifest, Root

SOURCE = Path(__file__).with_suffix(".c")

TIME = 90.0
"""Seconds after which a machine of a test is ended. The longest one boots twice and is idle for a while."""


@cache
def _init(folder: Path) -> Path:
    init = folder / "init"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-w"]
    subprocess.run([*command, "-o", init, SOURCE], check=True, timeout=300)
    return init


def build(folder: Path, name: str, *, mute: bool = False, service: bool = False) -> Image:
    """Writes FOLDER/NAME.img and returns it. A `mute` guest never says hello, but prints."""
    root = folder / f"{name}.root"
    for each in ("sbin", "dev", "proc", "sys", "mnt", *(["mute"] if mute else [])):
        (root / each).mkdir(parents=True)
    (root / "sbin" / "init").write_bytes(_init(folder).read_bytes())
    (root / "sbin" / "init").chmod(0o755)
    packed = folder / f"{name}.erofs"
    subprocess.run(["mkfs.erofs", "-T0", packed, root], check=True, timeout=60, capture_output=True)
    content = packed.read_bytes()
    used = kernel.obtain()
    boots = used.path.read_bytes()
    path = folder / f"{name}.img"
    manifest = make_manifest(
        app=None if service else App("fake.wasm", "0" * 64, 0, "main", serves=False),
        kernel=Kernel(used.version, used.source, len(boots), used.sha256),
        root=Root("erofs", image.padded(len(boots)), len(content), hashlib.sha256(content).hexdigest()),
    )
    image.write(path, boots, content, manifest)
    return image.read(path)


def make_manifest(
    app: App | None = None,
    kernel: Kernel = Kernel("6.1", "built", 0, "0" * 64),  # noqa: B008 - frozen
    root: Root = Root("erofs", 0, 0, "0" * 64),  # noqa: B008 - frozen
    needs_network: bool = False,
    grants: tuple[Grant, ...] = (),
) -> Manifest:
    return Manifest(
        flavour="linux", slight_py="0", python="none", wasmtime="none", cpu="portable", app=app, slightfile=None,
        specversion="0.2", grants=grants, kernel=kernel, root=root, parts=(), packages={}, needs_network=needs_network,
    )  # fmt: skip


def command(used: Image, *words: str | Path) -> list[str | Path]:
    """`slight-py image run`; words after `--` are the guest's, and the first one is what it does."""
    return [sys.executable, "-m", "slight_py", "image", "run", used.path, *words]


def run(used: Image, *words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs an image to its end, with `given` as standard input."""
    return subprocess.run(command(used, *words), input=given, capture_output=True, timeout=TIME, check=False)


@contextmanager
def running(used: Image, *words: str | Path, until: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """An image at work, once a line with `until` has come on standard error. It is killed at the end."""
    with subprocess.Popen(
        command(used, *words),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            seen = b""
            while until.encode() not in seen:
                line = process.stderr.readline()
                assert line, seen.decode()
                seen += line
            yield process
        finally:
            process.kill()


def machines_of(used: Image) -> list[int]:
    """The processes of QEMU that run an image."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu-system" in words[0] and os.fsencode(used.path) in words:
                found.append(int(each.name))
    return found
