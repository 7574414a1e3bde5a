"""The kernel of an image: built from Debian's source once and kept, or Debian's own, or the user's.

Ours is `kernel.config` and nothing else. Debian's cloud kernel is for a machine without a compiler: it has its
drivers in modules, finds virtio devices through ACPI alone, and knows neither 9p nor `ip=` on its command line.
"""

from __future__ import annotations

import bz2
import contextlib
import ctypes
import hashlib
import logging
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

from slight_py.cache import directory, locked
from slight_py.errors import UsageError
from unikernel import elf

Progress: TypeAlias = Callable[[str], None]
Source: TypeAlias = Literal["built", "cloud", "given"]

FRAGMENT = Path(__file__).with_name("kernel.config")
SOURCES = Path("/usr/src")
SOURCE_PACKAGE = "linux-source"
CLOUD_PACKAGE = "linux-image-cloud-amd64"

TOOLS = {"make": "make", "gcc": "gcc", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc", "tar": "tar",
         "xz": "xz-utils"}  # fmt: skip
"""What a build runs, and Debian's packages of them."""

BUILD_SECONDS = 3600.0
"""A build takes three minutes on two cores; one that takes this long has gone wrong."""

FETCH_SECONDS = 600.0
BUILD_BYTES = 2 << 30
"""What a build needs in the directory for temporary files."""

CLOUD_MODULES = ("virtio_mmio", "virtio_console", "virtio_rng", "virtio_net", "virtio_blk", "virtio_pci", "overlay",
                 "vmw_vsock_virtio_transport")  # fmt: skip
"""The drivers that an image needs of Debian's kernel; what they depend on comes with them."""

SMP = ("CONFIG_SMP=y", "CONFIG_NR_CPUS=32")

_REPRODUCIBLE = {"KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "slight-py", "KBUILD_BUILD_HOST":
                 "slight-py", "KBUILD_BUILD_VERSION": "1", "LOCALVERSION": "", "LC_ALL": "C"}  # fmt: skip
_LOG = logging.getLogger("slight_py")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A PVH kernel, ready for an image."""

    path: Path
    """The uncompressed ELF file, of whole pages; its bytes 64 to 511 are zero, for a partition table."""
    version: str
    source: Source
    sha256: str
    modules: tuple[Path, ...]
    """What init has to load, in this order. Empty for ours."""
    config: Path | None
    """What it was configured with, where that is known."""


def obtain(smp: bool = False, progress: Progress = _LOG.info, kind: Literal["any", "built", "cloud"] = "any") -> Kernel:
    """Our kernel, from the cache or built now; Debian's where there is no compiler.

    `smp` asks for one that uses more than one processor, as Debian's always does. `progress` gets a line for each
    thing that takes time. Where root lacks something that Debian has, it is installed; others are told the command.
    Raises UsageError: something is missing, or the build failed.
    """
    with _locked(progress) as cache:
        if kind == "cloud" or (kind == "any" and shutil.which("gcc") is None):
            if kind == "any":
                progress("there is no C compiler: using Debian's cloud kernel, which is larger and starts more slowly")
            return _cloud(cache, progress)
        return _built(cache, smp, progress)


def kept() -> Kernel | None:
    """Ours from the cache, if `obtain` would build nothing."""
    tar = _source_tar()
    try:
        return None if tar is None else _load(directory("kernels") / f"built-{_key(tar, False)}")
    except (OSError, UsageError):
        return None


def given(path: Path) -> Kernel:
    """The user's kernel: a PVH vmlinux, or a bzImage that holds one. Raises UsageError for anything else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the kernel can't be read: {error.strerror}") from None
    if not elf.is_elf(data):
        data = _uncompressed(data, str(path))
    if not elf.has_pvh_note(data, str(path)):
        raise UsageError(f"{path}: this kernel can't be started by the PVH protocol; build it with CONFIG_PVH=y")
    with _locked(_LOG.info) as cache:
        kept = cache / f"given-{hashlib.sha256(data).hexdigest()[:16]}"
        return _load(kept) or _keep(kept, data, str(path))


# The cache: a directory a kernel, which is complete once it has its name.


@contextlib.contextmanager
def _locked(progress: Progress) -> Iterator[Path]:
    """The cache of kernels, for one process at a time: another one may be building what this one needs."""
    try:
        cache = directory("kernels")
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(cache / "lock", lambda: progress("waiting for another slight-py, which is getting a kernel")):
            yield cache
    except OSError as error:
        raise UsageError(f"no kernel can be made and kept: {error}; is the disk full, or not yours?") from None


def _load(kept: Path) -> Kernel | None:
    """A kept kernel, if it is there and whole."""
    if not kept.is_dir():
        return None
    try:
        data = (kept / "vmlinux").read_bytes()
        elf.segments(data, kept.name)
    except (OSError, UsageError):  # the machine went down while it was being written
        shutil.rmtree(kept)
        return None
    # The banner, which a kernel also gives as /proc/version.
    version = re.search(rb"Linux version ([\w.+~-]+) ", data)
    config = kept / "config"
    return Kernel(
        kept / "vmlinux",
        version[1].decode() if version else "unknown",
        _source(kept),
        hashlib.sha256(data).hexdigest(),
        tuple(sorted((kept / "modules").glob("*"))),
        config if config.exists() else None,
    )


def _source(kept: Path) -> Source:
    sources: dict[str, Source] = {"built": "built", "cloud": "cloud", "given": "given"}
    return sources[kept.name.partition("-")[0]]


def _keep(
    kept: Path, vmlinux: bytes, name: str, modules: Sequence[tuple[str, bytes]] = (), config: bytes | None = None
) -> Kernel:
    """Puts a kernel into the cache, in one step."""
    packed = elf.pack(vmlinux, name)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, kept.name)
        (made / "modules").mkdir(parents=True)
        (made / "vmlinux").write_bytes(packed)
        for number, (module, content) in enumerate(modules):
            (made / "modules" / f"{number:02}-{module}.ko").write_bytes(content)
        if config is not None:
            (made / "config").write_bytes(config)
        made.rename(kept)
    kernel = _load(kept)
    assert kernel is not None
    return kernel


# Ours.


def options(smp: bool = False) -> tuple[str, ...]:
    """The fragment's lines as kconfig takes them, without comments and reasons."""
    lines = (line.partition("#")[0].strip() for line in FRAGMENT.read_text().splitlines())
    return (*filter(None, lines), *(SMP if smp else ()))


def _built(cache: Path, smp: bool, progress: Progress) -> Kernel:
    tar = _source_tar()
    missing = missing_packages()
    if missing:
        _install(missing, progress)
        tar = _source_tar()
    if tar is None or (missing := missing_packages()):
        raise UsageError(
            f"a kernel can't be built: {' '.join(missing) or SOURCE_PACKAGE} did not help; use --kernel FILE"
        )
    kept = cache / f"built-{_key(tar, smp)}"
    return _load(kept) or _build(tar, kept, smp, progress)


def _source_tar() -> Path | None:
    """The newest source of Debian's that is installed."""

    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    return max(SOURCES.glob("linux-source-*.tar.xz"), key=version, default=None)


def missing_packages() -> list[str]:
    """The packages of Debian's that a kernel can't be built without, and that are not installed."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if "gcc" not in missing:
        for header, package in (("libelf.h", "libelf-dev"), ("stdio.h", "libc6-dev")):
            asked = ["gcc", "-E", "-include", header, "-x", "c", os.devnull]
            if subprocess.run(asked, capture_output=True, timeout=FETCH_SECONDS, check=False).returncode:
                missing.append(package)
    return missing if _source_tar() else [SOURCE_PACKAGE, *missing]


def _install(packages: Sequence[str], progress: Progress) -> None:
    what = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UsageError(
            f"what the kernel is built with is missing; type: sudo apt install {what}",
            "or name a kernel that you have, with --kernel FILE",
        )
    progress(f"installing {what}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], env=quiet)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)


def _key(tar: Path, smp: bool) -> str:
    """What decides how a kernel comes out."""
    asked = ["dpkg-query", "-W", "-f", "${Version}", tar.name.removesuffix(".tar.xz")]
    try:
        identity = _run(asked)
    except UsageError:  # not Debian's: a copy of its source
        with tar.open("rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()
    tools = [_run([tool, "--version"]).partition("\n")[0] for tool in ("gcc", "ld")]
    parts = [tar.name, identity, *tools, *options(smp), *_REPRODUCIBLE.values()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(tar: Path, kept: Path, smp: bool, progress: Progress) -> Kernel:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < BUILD_BYTES:
        raise UsageError(
            f"building the kernel takes {BUILD_BYTES >> 20} MiB in {tempfile.gettempdir()}, which has {free >> 20} MiB"
            " free; set TMPDIR to a directory that has more"
        )
    progress("building the kernel, once: this takes some minutes")
    log = kept.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="slight-py-kernel-") as scratch, log.open("wb") as output:
        asked = Path(scratch, "asked")
        asked.write_text("\n".join(options(smp)) + "\n")
        make = ["make", f"-j{len(os.sched_getaffinity(0))}"]
        _step(["tar", "-xf", str(tar), "-C", scratch, "--strip-components=1"], scratch, output)
        _step([*make, f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"], scratch, output)
        config = Path(scratch, ".config").read_text()
        for option in not_taken(config, smp):
            progress(f"{tar.name} does not take {option}")
        _step([*make, "vmlinux"], scratch, output)
        vmlinux = Path(scratch, "vmlinux").read_bytes()
    log.unlink()
    return _keep(kept, vmlinux, tar.name, config=config.encode())


def not_taken(config: str, smp: bool = False) -> list[str]:
    """The options that a configuration (the text of a `.config`) lacks: kconfig drops what it doesn't know, and what
    depends on something that is off."""
    taken = set(config.splitlines())
    return [option for option in options(smp) if option not in taken]


def _step(command: Sequence[str], scratch: str, output: IO[bytes]) -> None:
    """Runs a part of the build in a session of its own, which ends with it."""
    output.write(f"$ {' '.join(command)}\n".encode())
    output.flush()
    # The user's own settings of kbuild and make must not change what comes out.
    env = {"PATH": os.environ.get("PATH", os.defpath), **_REPRODUCIBLE}
    running = subprocess.Popen(
        command, cwd=scratch, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    try:
        code: int | str = running.wait(BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        code = f"no end within {BUILD_SECONDS:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    if code != 0:
        raise UsageError(
            f"the kernel does not build: `{' '.join(command[:1])}` ended with {code}; its output is in {output.name}",
            "or name a kernel that you have, with --kernel FILE",
        )


def _run(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a command prints. Raises UsageError with the last line of what it says where it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, "LC_ALL": "C", **(env or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError(f"a kernel can't be had: there is no {command[0]}; use --kernel FILE") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"`{' '.join(command)}` has not ended within {FETCH_SECONDS:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("W:")]
        raise UsageError(f"`{' '.join(command)}` failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


# Debian's.


def _cloud(cache: Path, progress: Progress) -> Kernel:
    package = _cloud_package(progress)
    key = hashlib.sha256(" ".join((package, *CLOUD_MODULES)).encode())
    kept = cache / f"cloud-{key.hexdigest()[:16]}"
    if kernel := _load(kept):
        return kernel
    progress(f"downloading {package}")
    with tempfile.TemporaryDirectory(prefix="slight-py-kernel-") as scratch:
        tree = Path(scratch, "tree")
        _run(["apt-get", "download", "-qq", package], cwd=Path(scratch))
        package_file = next(Path(scratch).glob("*.deb"))
        _run(["dpkg-deb", "-x", str(package_file), str(tree)])
        image = next((tree / "boot").glob("vmlinuz-*"))
        vmlinux = _uncompressed(image.read_bytes(), image.name)
        config = next((tree / "boot").glob("config-*")).read_bytes()
        return _keep(kept, vmlinux, image.name, _modules(tree), config)


def _cloud_package(progress: Progress) -> str:
    """The package that holds the kernel, which changes its name with every version, as PACKAGE=VERSION."""

    show = ("apt-cache", "show", "--no-all-versions")

    def ask() -> str | None:
        # The package without a version in its name holds nothing, and depends on the one that does.
        found = re.search(r"^Depends: (linux-image-\S+)", _run([*show, CLOUD_PACKAGE]), re.MULTILINE)
        version = found and re.search(r"^Version: (\S+)", _run([*show, found[1]]), re.MULTILINE)
        return f"{found[1]}={version[1]}" if found and version else None

    with contextlib.suppress(UsageError):
        if package := ask():
            return package
    if os.geteuid() == 0:
        progress("fetching Debian's list of packages")
        _run(["apt-get", "update", "-qq"])
        if package := ask():
            return package
    raise UsageError(
        f"apt knows no {CLOUD_PACKAGE}; type: sudo apt update",
        f"or install a compiler, for a kernel of our own: sudo apt install {SOURCE_PACKAGE} {' '.join(TOOLS.values())}"
        " libelf-dev",
        "or name a kernel that you have, with --kernel FILE",
    )


def _modules(tree: Path) -> list[tuple[str, bytes]]:
    """The drivers by name, each after what it depends on.

    Every module says itself what that is (`depends=` among what modinfo(8) shows); depmod has not run here.
    """
    paths = {_module_name(path): path for path in sorted((tree / "lib" / "modules").rglob("*.ko*"))}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        # What no file has is in the kernel itself.
        if name in ordered or name not in paths:
            return
        content = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends = re.search(rb"\bdepends=([\w,-]*)\0", content)
        for each in depends[1].decode().split(",") if depends else ():
            add(each.replace("-", "_"))
        ordered[name] = content

    for name in CLOUD_MODULES:
        add(name)
    return list(ordered.items())


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


# A bzImage: a small program that unpacks the ELF file behind it.

_DECOMPRESS: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"\x1f\x8b": lambda packed, size: zlib.decompress(packed, wbits=31),
    b"\xfd7zXZ\0": lambda packed, size: lzma.decompress(packed),
    b"\x5d\0\0": lambda packed, size: lzma.decompress(packed, lzma.FORMAT_ALONE),
    b"BZh": lambda packed, size: bz2.decompress(packed),
    b"\x02\x21\x4c\x18": lambda packed, size: _lz4(packed),
    b"\x28\xb5\x2f\xfd": lambda packed, size: _zstd(packed, size),
}


def _uncompressed(data: bytes, name: str) -> bytes:
    """The ELF file in a bzImage, whose header is described by Linux's `Documentation/x86/boot.rst`."""
    if data[0x202:0x206] != b"HdrS" or len(data) < 0x250:
        raise UsageError(f"{name}: this is no kernel for x86-64: neither an ELF file (vmlinux) nor a bzImage")
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    offset, length = struct.unpack_from("<II", data, 0x248)
    # The setup program comes first, in sectors; an old bzImage has 4 of them and says 0.
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    if protocol < 0x208:
        raise UsageError(f"{name}: this bzImage is too old (boot protocol before 2.08, Linux 2.6.26)")
    if start + length > len(data):
        raise UsageError(f"{name}: the bzImage is cut short: it has {len(data)} bytes of at least {start + length}")
    payload = data[start : start + length]
    decompress = next((each for magic, each in _DECOMPRESS.items() if payload.startswith(magic)), None)
    if decompress is None:
        raise UsageError(f"{name}: the bzImage is compressed in a way that is not known; give its vmlinux")
    # The size follows the compressed data, in 4 bytes, which are gzip's own there and in no other format's.
    packed = payload if payload.startswith(b"\x1f\x8b") else payload[:-4]
    try:
        found = decompress(packed, int.from_bytes(payload[-4:], "little"))
    except (zlib.error, lzma.LZMAError, ValueError, OSError, EOFError) as error:
        raise UsageError(f"{name}: the kernel in the bzImage does not unpack: {error}") from None
    if not elf.is_elf(found):
        raise UsageError(f"{name}: there is no ELF file in the bzImage; give its vmlinux")
    return found


UNPACKED_LIMIT = 1 << 29


def _lz4(packed: bytes) -> bytes:
    """LZ4's legacy frames, which the kernel uses: blocks of 8 MiB at most once unpacked, each after its length.

    Raises ValueError. The library is there wherever apt is, which is linked with it; likewise for Zstandard.
    """
    library = _library("liblz4.so.1")
    room = ctypes.create_string_buffer(8 << 20)
    found = bytearray()
    at = 4
    while at + 4 <= len(packed):
        (length,) = struct.unpack_from("<I", packed, at)
        block = packed[at + 4 : at + 4 + length]
        size = library.LZ4_decompress_safe(block, room, len(block), len(room))
        if size < 0 or len(found) > UNPACKED_LIMIT:
            raise ValueError("a block of it is broken")
        found += room.raw[:size]
        at += 4 + length
    return bytes(found)


def _zstd(packed: bytes, size: int) -> bytes:
    if size > UNPACKED_LIMIT:
        raise ValueError(f"it says that it has {size} bytes")
    library = _library("libzstd.so.1")
    library.ZSTD_decompress.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    library.ZSTD_decompress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(size)
    got: int = library.ZSTD_decompress(room, size, packed, len(packed))
    if got != size:
        raise ValueError("its data are broken")
    return room.raw


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise ValueError(f"{name} is missing, which unpacks it; give its vmlinux") from None
