"""Whether machines run under KVM here.

That /dev/kvm can be opened says little: in containers and nested machines QEMU may fail with it all the same, at
once or without an end. So a machine is tried, and where that fails it is remembered for as long as the host is up.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slight_py import cache

TRIAL = 10.0
"""Seconds within which a machine under KVM says hello, on any computer that can be worked with."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KVM = Path("/dev/kvm")


def worth_a_try(qemu: Path) -> bool:
    """Whether KVM is there, and has not failed before with this QEMU since the host was booted."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return False
    try:
        return _record().read_text() != _circumstances(qemu)
    except (OSError, UnicodeDecodeError):
        return True


def remember_failure(qemu: Path) -> None:
    """Spares later runs the try. What can't be written is not remembered."""
    with contextlib.suppress(OSError):
        record = _record()
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with cache.replacing(record) as file:
            file.write(_circumstances(qemu).encode())


def _record() -> Path:
    """Raises OSError for a user without a home."""
    return cache.directory("kvm-fails")


def _circumstances(qemu: Path) -> str:
    """What a verdict holds for: this boot of the host, and this QEMU (its file, as its version takes long to ask)."""
    status = qemu.stat()
    return f"{_BOOT_ID.read_text().strip()} {qemu} {status.st_size} {status.st_mtime_ns}\n"
