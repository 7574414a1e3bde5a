"""What `slight-py doctor` says of images: what builds them, and what boots them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from slight_py.doctor import Finding, apt, program
from slight_py.errors import UsageError
from slight_py.toolchains import said
from unikernel import kernel, native, uhyve
from unikernel.acceleration import TRIAL
from unikernel.native import toolchain

_KVM = Path("/dev/kvm")


def examine() -> Iterator[Finding]:
    """Looks at what builds and boots images. Where there may be KVM, a machine is started under it."""
    yield program("image", "mkfs.erofs", "-V", "images can't be built", "erofs-utils")
    qemu = program("image", "qemu-system-x86_64", "--version", "images can't be booted", "qemu-system-x86")
    yield qemu
    yield program("image", "qemu-img", "--version", "there is no --format qcow2", "qemu-utils")
    yield _kernel()
    yield _native_kernel()
    yield _uhyve()
    yield _kvm(Path(shutil.which("qemu-system-x86_64") or ""), qemu.ready)


def _kernel() -> Finding:
    """A kernel that is kept, or what builds one."""
    packages = kernel.missing_packages()
    if packages:
        return Finding("image", "kernel", False, "it can't be built", apt(*packages))
    built = kernel.kept() is not None
    return Finding("image", "kernel", True, "built" if built else "is built with the first image, in some minutes")


def _native_kernel() -> Finding:
    """The kernel of native images, or what builds it."""
    if native.kept() is not None:
        return Finding("image", "native kernel", True, "built")
    if toolchain.can_be_had():
        return Finding("image", "native kernel", True, "is built with the first native image, in some minutes")
    return Finding("image", "native kernel", False, "it can't be built", toolchain.INSTALL)


def _uhyve() -> Finding:
    try:
        return Finding("image", "uhyve", True, said(uhyve.find(), "--version"))
    except UsageError:
        return Finding("image", "uhyve", False, "there is no --vmm uhyve", uhyve.INSTALL)


def _kvm(qemu: Path, installed: bool) -> Finding:
    """Whether a machine boots under KVM: that /dev/kvm can be opened says little."""
    slow = "processors are emulated, about ten times slower"
    lack, mend = "", ""
    if not _KVM.exists():
        lack, mend = "no /dev/kvm", "turn virtualization on, in the firmware or of the virtual machine that this is"
    elif not os.access(_KVM, os.R_OK | os.W_OK):
        lack, mend = "/dev/kvm is not for you", 'sudo usermod -aG kvm "$USER", then log in again'
    elif not installed or (built := kernel.kept()) is None:
        return Finding("image", "KVM", True, "/dev/kvm is there; whether a machine boots shows with the first image")
    elif not _boots(qemu, built):
        lack, mend = "/dev/kvm is there, and no machine boots with it", "turn nested virtualization on, if this is a VM"
    return Finding("image", "KVM", not lack, f"{lack}; {slow}" if lack else "a machine boots", mend)


def _boots(qemu: Path, built: kernel.Kernel) -> bool:
    """Whether a machine says its first word under KVM: the kernel's first line."""
    options = "-accel kvm -machine microvm -cpu host -m 128M -nodefaults -no-user-config -display none -no-reboot"
    console = ["-serial", "stdio", "-append", "earlyprintk=ttyS0 console=ttyS0 panic=-1"]
    command = [str(qemu), *options.split(), *console, "-kernel", str(built.path)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=TRIAL, check=False)
        said = done.stdout
    except subprocess.TimeoutExpired as expired:
        said = expired.stdout or b""
    except OSError:
        return False
    return b"Linux version" in said
