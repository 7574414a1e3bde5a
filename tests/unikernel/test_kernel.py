"""The kernel: its configuration, where it comes from, and that it starts."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gzip
import hashlib
import lzma
import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slight_py import cache
from slight_py.errors import UsageError
from unikernel import elf, kernel
from unikernel.kernel import Kernel
from unikernel.machine import tsc_khz

SECONDS = 60.0

INIT = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    struct dirent **names;
    char link[512];
    mkdir("/sys", 0755);
    mount("sys", "/sys", "sysfs", 0, "");
    int found = scandir("/modules", &names, 0, alphasort);
    for (int at = 0; at < found; at++) {
        char path[512];
        snprintf(path, sizeof path, "/modules/%s", names[at]->d_name);
        int file = open(path, O_RDONLY);
        if (names[at]->d_name[0] != '.' && syscall(SYS_finit_module, file, "", 0) != 0) perror(path);
    }
    printf("processors %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    found = scandir("/sys/bus/virtio/devices", &names, 0, alphasort);
    for (int at = 0; at < found; at++) {
        snprintf(link, sizeof link, "/sys/bus/virtio/devices/%s/driver", names[at]->d_name);
        char driver[512] = "";
        if (readlink(link, driver, sizeof driver - 1) > 0) printf("driver %s\n", driver);
    }
    fflush(stdout);
    reboot(RB_AUTOBOOT);
    return 0;
}
"""
"""A static init, which loads modules, tells of processors and of virtio devices with a driver, and reboots."""

DEVICES = (
    "-netdev user,id=net,restrict=on -device virtio-net-device,netdev=net -device virtio-rng-device "
    "-drive id=disk,file=fat:{folder},format=raw,if=none,readonly=on -device virtio-blk-device,drive=disk "
    "-device virtio-serial-device"
)
DRIVERS = {"virtio_net", "virtio_rng", "virtio_blk", "virtio_console"}


def newc(files: dict[str, bytes]) -> bytes:
    """An initramfs in cpio's `newc` format, which the kernel's `Documentation/driver-api/early-userspace/` describes.

    Names that end in `/` are directories. /dev/console is added, for the output of init.
    """
    archive = bytearray()

    def add(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        archive.extend(b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0")
        archive.extend(bytes(-len(archive) % 4) + content)
        archive.extend(bytes(-len(archive) % 4))

    add("dev", 0o040755)
    add("dev/console", 0o020600, device=(5, 1))
    for name, content in files.items():
        add(name.rstrip("/"), 0o040755 if name.endswith("/") else 0o100755, content)
    add("TRAILER!!!", 0)
    return bytes(archive)


@functools.cache
def ours() -> Kernel:
    return kernel.obtain(progress=print)


@functools.cache
def debians() -> Kernel:
    return kernel.obtain(progress=print, kind="cloud")


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("init")
    (folder / "init.c").write_text(INIT)
    command = ["gcc", "-static", "-Os", "-s", "-o", folder / "init", folder / "init.c"]
    subprocess.run(command, check=True, timeout=SECONDS)
    return (folder / "init").read_bytes()


def boot(
    kernel_path: Path,
    initramfs: bytes,
    folder: Path,
    *more: str,
    machine: str = "acpi=off",
    memory: str = "256M",
    words: str = "",
) -> list[str]:
    """What the serial port says, until the machine reboots."""
    (folder / "initramfs").write_bytes(initramfs)
    (folder / "empty").mkdir(exist_ok=True)
    command = ["qemu-system-x86_64", "-M", f"microvm,{machine}", "-cpu", "max", "-accel", "tcg", "-m", memory]
    command += ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"]
    command += ["-kernel", str(kernel_path), "-initrd", str(folder / "initramfs")]
    command += ["-append", f"console=ttyS0 quiet panic=-1 reboot=t {words}", *more]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def devices(folder: Path) -> list[str]:
    return DEVICES.format(folder=folder / "empty").split()


# The configuration.


def test_every_line_of_the_fragment_has_a_reason():
    for line in kernel.FRAGMENT.read_text().splitlines():
        assert not line or line.startswith("# ") or re.fullmatch(r"CONFIG_\w+=\S+ +# \S.{3,}", line), line


def test_no_option_is_named_twice():
    names = [option.partition("=")[0] for option in kernel.options(smp=True)]
    assert len(names) == len(set(names))


def test_every_option_of_the_fragment_is_in_the_kernel_that_was_built():
    config = ours().config
    assert config is not None
    assert kernel.not_taken(config.read_text()) == []


def test_the_kernel_has_no_modules_no_pci_no_acpi_and_no_smp():
    config = ours().config
    assert config is not None
    taken = config.read_text().splitlines()
    for name in ("MODULES", "PCI", "SMP"):
        assert f"# CONFIG_{name} is not set" in taken
    assert "CONFIG_ACPI=y" not in taken
    assert ours().modules == ()


def test_an_option_that_kconfig_dropped_is_named():
    config = "\n".join(option for option in kernel.options() if option != "CONFIG_VIRTIO_NET=y")
    assert kernel.not_taken(config + "\n# CONFIG_VIRTIO_NET is not set\n") == ["CONFIG_VIRTIO_NET=y"]
    assert kernel.not_taken(config, smp=True)[-2:] == list(kernel.SMP)


# Ours.


def test_our_kernel_starts_a_static_init_and_drives_virtio_devices(init, tmp_path):
    (tmp_path / "empty").mkdir()
    output = boot(ours().path, newc({"init": init}), tmp_path, *devices(tmp_path))
    assert "processors 1" in output
    assert {line.rpartition("/")[2] for line in output if line.startswith("driver ")} == DRIVERS


def test_our_kernel_takes_a_compressed_initramfs(init, tmp_path):
    assert "processors 1" in boot(ours().path, gzip.compress(newc({"init": init})), tmp_path)


def test_a_kernel_without_a_root_panics_and_ends_at_once(tmp_path):
    output = boot(ours().path, newc({}), tmp_path)
    assert any("Kernel panic" in line for line in output)


def test_our_kernel_is_small_and_has_room_for_a_partition_table():
    data = ours().path.read_bytes()
    assert len(data) < 6 << 20
    assert len(data) % elf.PAGE == 0
    assert not any(data[64:512])
    assert elf.has_pvh_note(data, "ours")
    assert ours().sha256 == hashlib.sha256(data).hexdigest()
    assert ours().source == "built"
    assert re.match(r"\d+\.\d+\.\d+", ours().version)


def test_a_kernel_that_is_kept_is_not_built_again(monkeypatch):
    first = ours()
    monkeypatch.setattr(kernel, "_build", None)
    assert kernel.obtain() == first


def test_what_a_kernel_is_built_from_decides_where_it_is_kept(tmp_path, monkeypatch):
    tar = tmp_path / "linux-source-0.1.tar.xz"
    tar.write_bytes(b"one")
    keys = [kernel._key(tar, smp=False), kernel._key(tar, smp=True)]
    tar.write_bytes(b"another")
    keys.append(kernel._key(tar, smp=False))
    fragment = tmp_path / "kernel.config"
    fragment.write_text("CONFIG_64BIT=y  # for the test\n")
    monkeypatch.setattr(kernel, "FRAGMENT", fragment)
    keys.append(kernel._key(tar, smp=False))
    assert len(set(keys)) == 4
    fragment.write_text("CONFIG_64BIT=y  # for another reason\n")
    assert kernel._key(tar, smp=False) == keys[3]


def test_a_kernel_is_waited_for_while_another_process_gets_it():
    ours()
    said = threading.Event()
    with (cache.directory("kernels") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=kernel.obtain, kwargs={"progress": lambda line: said.set()})
        waiting.start()
        assert said.wait(SECONDS)
        assert waiting.is_alive()
    waiting.join(SECONDS)
    assert not waiting.is_alive()


# What goes wrong in a build.


@pytest.fixture
def small_source(tmp_path, monkeypatch) -> Path:
    """A source whose `make` does what the test wants, and a cache for what comes of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "SOURCES", tmp_path)
    folder = tmp_path / "linux-source-0.1"
    folder.mkdir()
    return folder


def pack_source(folder: Path, makefile: str) -> None:
    (folder / "Makefile").write_text(makefile)
    tar = folder.with_name(f"{folder.name}.tar.xz")
    subprocess.run(["tar", "-cJf", tar, "-C", folder.parent, folder.name], check=True, timeout=SECONDS)


def test_a_build_that_fails_names_the_file_with_its_output(small_source):
    pack_source(small_source, "allnoconfig:\n\techo > .config\nvmlinux:\n\techo no such luck; false\n")
    with pytest.raises(UsageError) as failed:
        kernel.obtain(progress=lambda line: None)
    log = re.search(r"its output is in (\S+)", failed.value.lines[0])
    assert log
    assert "no such luck" in Path(log[1]).read_text()
    assert "--kernel" in failed.value.lines[1]


def test_a_build_that_hangs_is_ended_with_all_its_processes(small_source, tmp_path, monkeypatch):
    pack_source(small_source, f"allnoconfig:\n\tsleep 600 & echo $$! > {tmp_path}/pid; wait\n")
    monkeypatch.setattr(kernel, "BUILD_SECONDS", 2.0)
    with pytest.raises(UsageError, match="no end within 2 s"):
        kernel.obtain(progress=lambda line: None)
    end = time.monotonic() + SECONDS
    while is_running((tmp_path / "pid").read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    """Whether a process is there and not merely waiting for its parent to learn of its end."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_options_that_a_source_does_not_know_are_named(small_source):
    pack_source(small_source, "allnoconfig:\n\techo CONFIG_64BIT=y > .config\nvmlinux:\n\tfalse\n")
    said: list[str] = []
    with pytest.raises(UsageError):
        kernel.obtain(progress=said.append)
    assert "linux-source-0.1.tar.xz does not take CONFIG_PVH=y" in said
    assert not any("CONFIG_64BIT" in line for line in said)


def test_what_is_missing_is_named_with_the_command_to_install_it(small_source, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setitem(kernel.TOOLS, "no-such-tool", "package-of-it")
    with pytest.raises(UsageError, match=r"sudo apt install linux-source .*package-of-it"):
        kernel.obtain()


def test_too_little_room_is_found_before_the_build(small_source, monkeypatch):
    pack_source(small_source, "")
    monkeypatch.setattr(kernel, "BUILD_BYTES", 1 << 60)
    with pytest.raises(UsageError, match="set TMPDIR"):
        kernel.obtain()


# Debian's.


def test_debians_kernel_loads_its_modules_and_finds_virtio_devices_through_acpi(init, tmp_path):
    assert debians().source == "cloud"
    modules = {f"modules/{path.name}": path.read_bytes() for path in debians().modules}
    initramfs = newc({"init": init, "modules/": b"", **modules})
    (tmp_path / "empty").mkdir()
    clock = f"tsc_early_khz={tsc_khz()}"
    output = boot(
        debians().path, initramfs, tmp_path, *devices(tmp_path), machine="acpi=on", memory="512M", words=clock
    )
    assert not any(line.startswith("/modules") for line in output), output
    assert {line.rpartition("/")[2] for line in output if line.startswith("driver ")} == DRIVERS


def test_modules_come_after_what_they_depend_on():
    names = [path.stem.partition("-")[2] for path in debians().modules]
    assert names.index("virtio_ring") < names.index("virtio") < names.index("virtio_mmio")
    assert names.index("failover") < names.index("net_failover") < names.index("virtio_net")


def test_without_a_compiler_debians_kernel_is_used_and_the_user_is_told(monkeypatch, tmp_path):
    expected = debians()
    found = kernel.shutil.which
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None if name == "gcc" else found(name))
    said: list[str] = []
    assert kernel.obtain(progress=said.append) == expected
    assert "no C compiler" in said[0]


# The user's.


def bzimage(payload: bytes, protocol: int = 0x20F) -> bytes:
    """A bzImage of a setup program of one sector, which does nothing, and a payload."""
    data = bytearray(1024)
    data[0x1F1] = 1
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, protocol)
    struct.pack_into("<II", data, 0x248, 0, len(payload))
    return bytes(data) + payload


def compressed(way: str, data: bytes) -> bytes:
    size = struct.pack("<I", len(data))
    if way == "gzip":
        return gzip.compress(data)
    if way == "xz":
        return lzma.compress(data) + size
    room = ctypes.create_string_buffer(2 * len(data))
    if way == "lz4":
        written = ctypes.CDLL("liblz4.so.1").LZ4_compress_default(data, room, len(data), len(room))
        return b"\x02\x21\x4c\x18" + struct.pack("<I", written) + room.raw[:written] + size
    compress = ctypes.CDLL("libzstd.so.1").ZSTD_compress
    compress.restype = ctypes.c_size_t
    compress.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    written = compress(room, len(room), data, len(data), 1)
    return room.raw[:written] + size


@pytest.fixture(scope="module")
def vmlinux() -> bytes:
    return ours().path.read_bytes()


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("way", ["gzip", "xz", "lz4", "zstd"])
def test_a_bzimage_gives_the_kernel_inside(vmlinux, own_cache, way):
    (own_cache / "bzImage").write_bytes(bzimage(compressed(way, vmlinux)))
    (own_cache / "vmlinux").write_bytes(vmlinux)
    packed, plain = kernel.given(own_cache / "bzImage"), kernel.given(own_cache / "vmlinux")
    assert packed == plain
    assert (packed.source, packed.version) == ("given", ours().version)


WRONG = {
    "text": (b"this is a text, no kernel\n" * 100, "neither an ELF file"),
    "empty": (b"", "neither an ELF file"),
    "old": (bzimage(gzip.compress(b"x"), protocol=0x204), "too old"),
    "cut short": (bzimage(bytes(5000))[:3000], "cut short: it has 3000 bytes of at least 6024"),
    "lzop": (bzimage(b"\x89LZO" + bytes(100)), "not known"),
    "broken gzip": (bzimage(b"\x1f\x8b" + bytes(100)), "does not unpack"),
    "broken xz": (bzimage(b"\xfd7zXZ\0" + bytes(100)), "does not unpack"),
    "broken lz4": (bzimage(b"\x02\x21\x4c\x18" + b"\xff" * 100), "does not unpack"),
    "broken zstd": (bzimage(b"\x28\xb5\x2f\xfd" + bytes(100)), "does not unpack"),
    "huge zstd": (bzimage(b"\x28\xb5\x2f\xfd" + b"\xff" * 100), "does not unpack"),
    "no kernel inside": (bzimage(gzip.compress(b"a text")), "no ELF file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_kernel_is_refused_with_what_is_wrong(own_cache, name):
    data, what = WRONG[name]
    path = own_cache / "vmlinuz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=re.escape(what)) as refused:
        kernel.given(path)
    assert refused.value.lines[0].startswith(f"{path}: ")


def test_a_kept_kernel_that_is_cut_short_is_made_again(own_cache, vmlinux):
    (own_cache / "vmlinux").write_bytes(vmlinux)
    first = kernel.given(own_cache / "vmlinux")
    first.path.write_bytes(vmlinux[:100_000])
    assert kernel.given(own_cache / "vmlinux") == first
    assert first.path.read_bytes() == vmlinux


def test_a_cache_that_is_no_directory_is_a_usage_error(tmp_path, monkeypatch, vmlinux):
    (tmp_path / "vmlinux").write_bytes(vmlinux)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="no kernel can be made and kept"):
        kernel.given(tmp_path / "vmlinux")


def test_an_elf_file_without_the_pvh_note_is_refused(own_cache):
    with pytest.raises(UsageError, match="CONFIG_PVH=y"):
        kernel.given(Path(sys.executable).resolve())


def test_a_kernel_that_is_not_there_is_named(own_cache):
    with pytest.raises(UsageError, match=r"missing: the kernel can't be read: No such file"):
        kernel.given(own_cache / "missing")
