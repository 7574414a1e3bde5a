"""The machine's file systems. Process 1 imports this before anything else, so it is kept light.

Numbers come from Linux's header `linux/mount.h`.
"""

from __future__ import annotations

import os
from contextlib import suppress

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE = 1, 2, 4, 8, 4096, 8192

HOSTNAME = "slight"

MSIZE = 262144
"""Bytes of a 9p message, and so of the largest read of a file in one go. The kernel's limit for virtio is 512000."""


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    import ctypes

    texts = [text.encode() for text in (source, target, kind)]
    if ctypes.CDLL(None, use_errno=True).mount(*texts, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def mount_system() -> None:
    """What every Linux has. Raises OSError."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # The kernel mounts it over a disk, and not over an initramfs.
    if not os.path.exists("/dev/urandom"):
        mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID)
    for path in ("/tmp", "/run"):
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV)
    with suppress(OSError), open("/proc/sys/kernel/hostname", "w") as file:  # a kernel without sysctl has none
        file.write(HOSTNAME)


def make_root_writable() -> None:
    """Where the root is read-only, has it take what is written into memory. Call it before files are opened there."""
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        return
    upper, work, root = "/run/root/upper", "/run/root/work", "/run/root/merged"
    for path in (upper, work, root):
        os.makedirs(path)
    mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    for path in ("/proc", "/sys", "/dev", "/tmp"):
        mount(path, root + path, "", MS_MOVE)
    # The overlay's own layers are in /run, so that stays where it is and is seen in a second place.
    mount("/run", f"{root}/run", "", MS_BIND)
    os.chroot(root)
    os.chdir("/")


def mount_volume(tag: str, path: str, writable: bool) -> str:
    """Mounts a directory of the host, and returns where. Raises UsageError."""
    from slight_py.errors import UsageError

    place = os.path.normpath(os.path.join("/", path))
    try:
        os.makedirs(place, exist_ok=True)
        if os.stat(place).st_dev == os.stat("/").st_dev and os.listdir(place):
            raise UsageError(f"--volume: {path} is a directory of the machine's own; choose another place")
        # No cache: what the host changes is seen at once, and nothing is lost where the machine is ended.
        options = f"trans=virtio,version=9p2000.L,msize={MSIZE},cache=none"
        mount(tag, place, "9p", MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY), options)
    except OSError as error:
        raise UsageError(f"--volume: {path} can't be mounted: {error.strerror}") from None
    return place
