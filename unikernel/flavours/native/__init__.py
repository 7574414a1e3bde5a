"""A kernel of our own with wasmtime's runtime in it: no Linux, no Python. Its sources are in `unikernel/native`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slight_py.errors import UsageError
from unikernel import manifest
from unikernel.flavours import OUT_OF_MEMORY, Order, linux

if TYPE_CHECKING:
    from slight_py.runner import AnyChecked, RunConfig
    from slight_py.slightfile import Grant, Slightfile
    from unikernel.application import Application
    from unikernel.image import Image
    from unikernel.machine import Machine
    from unikernel.options import RunOptions

_REDIS = ("keyvalue.redis", "kv.redis")
_HAS = ("http", "keyvalue.memory", *_REDIS)
"""The resource types that the kernel has."""

_INSTEAD = {"keyvalue": "keyvalue.memory or keyvalue.redis"}
"""What can stand in the place of others, by family."""

_WITHOUT = "build without --native"

_PANIC = re.compile(r"panic: (.*)")
_MEMORY = re.compile(r"out of memory")


class Native:
    """The flavour of `image build --native`."""

    name: manifest.Flavour = "native"
    memory = 64 << 20

    def check_order(self, order: Order) -> None:
        refused = []
        if order.app is None:
            refused.append(
                "a function service compiles its modules in the machine, and native images have no compiler; name a "
                f"module, or {_WITHOUT}"
            )
        if tuple(order.formats) != ("img",):
            refused.append(
                f"--format: a native image is one file, which every launcher takes; leave --format out, or {_WITHOUT}"
            )
        if order.cpu != "portable":
            refused.append(
                "--cpu native: the modules of native images are for every x86-64 with SSE 4.2; leave --cpu out, or "
                f"{_WITHOUT}"
            )
        if order.smp:
            refused.append(f"--smp: native images use one processor; leave --smp out, or {_WITHOUT}")
        if order.kernel == "cloud":
            refused.append(
                f"--kernel cloud: native images have a kernel of their own; leave --kernel out, or {_WITHOUT}"
            )
        if refused:
            raise UsageError(*refused)

    def check_module(self, path: Path, wasm: bytes) -> None:
        from slight_py import modules

        if modules.is_component(wasm):
            raise UsageError(
                f"{path}: components aren't in native images; {_WITHOUT}, or build it as a module, for wasm32-wasip1"
            )

    def lacks(self, grant: Grant, known: Mapping[str, str]) -> str | None:
        name = grant.resource.name
        if name in _REDIS and "REDIS_ADDRESS" in known:
            return _redis_lacks(name, known["REDIS_ADDRESS"])
        if name in _HAS:
            return None
        instead = _INSTEAD.get(grant.family.name)
        elsewhere = linux.Linux().lacks(grant, known)
        if elsewhere is not None:
            return f"{name} isn't in native images; " + (f"use {instead}" if instead else f"in others, {elsewhere}")
        return f"{name} isn't in native images; {_WITHOUT}" + (f", or use {instead}" if instead else "")

    def check_backend(self, grant: Grant, slightfile: Slightfile, known: Mapping[str, str]) -> None:
        # The kernel has them all: no package of Python's is needed for them.
        if grant.resource.name in _REDIS and "REDIS_ADDRESS" in known:
            from capabilities.errors import ConfigError
            from capabilities.keyvalue.redis import parse_address

            try:
                parse_address(known["REDIS_ADDRESS"])
            except ConfigError as error:
                raise UsageError(f"{slightfile.place(grant)}{grant.resource.name}: {error}") from None

    def load(self, config: RunConfig, wasm: bytes, cpu: manifest.Cpu, link_all: bool) -> tuple[AnyChecked, bytes]:
        from slight_py import ahead, linker, modules, runner
        from slight_py.engine import InvalidModule

        compiled = modules.compiled_ahead(config.app, wasm, config.compilation)
        try:
            info = ahead.described(compiled)
        except InvalidModule as error:
            raise UsageError(f"{config.app}: what it imports can't be read on this machine: {error}") from None
        return runner.Checked(info, linker.check(config.app, info, config.slightfile, link_all)), compiled

    def places(self, order: Order) -> list[Path]:
        return [order.output]

    def write(self, order: Order, application: Application) -> Iterator[Path]:
        from unikernel.flavours.native import packing

        yield packing.write(order, application)

    def check_run(self, image: Image, options: RunOptions) -> None:
        refused = []
        if options.cpus > 1:
            refused.append("--cpus: a native image uses one processor; leave --cpus out")
        refused += [
            f"--volume {host}:{guest}: native images can't write to volumes; add :ro, or {_WITHOUT}"
            for host, guest, writable in options.volumes
            if writable
        ]
        if refused:
            raise UsageError(*(f"{image.path}: {line}" for line in refused))

    def board(self, machine: Machine) -> str:
        # What the kernel has no use for costs time at boot.
        return "microvm,acpi=off,pit=off,pic=off,rtc=off"

    def boot(self, machine: Machine) -> list[str]:
        line = self.command_line(machine.image.root.type)
        return ["-kernel", str(machine.image.path), *(["-append", line] if line else [])]

    def command_line(self, root: manifest.RootType) -> str:
        return ""

    def last_words(self, lines: Sequence[str]) -> str | None:
        if any(_MEMORY.search(line) for line in lines):
            return OUT_OF_MEMORY
        panics = [found[1] for line in lines if (found := _PANIC.search(line))]
        return f"the kernel panicked: {panics[0]}" if panics else None

    def kernel_text(self, kernel: manifest.Kernel) -> str:
        return {"built": f"native, of slight-py {kernel.version}"}.get(kernel.source, "native, given by --kernel")


def _redis_lacks(name: str, address: str) -> str | None:
    """What to say of a Redis at an address that native images don't reach; nothing of the address but its scheme."""
    try:
        scheme = urlsplit(address).scheme
    except ValueError:
        return None  # which the backend's own check has said
    if scheme == "rediss":
        return f"{name} with TLS (rediss://) isn't in native images; {_WITHOUT}, or use a redis:// address"
    if scheme == "unix":
        return f"{name} at a socket (unix://) isn't in native images; use a redis:// address"
    return None
