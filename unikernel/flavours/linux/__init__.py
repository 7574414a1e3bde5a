"""Linux, a Python interpreter and this runtime: all that `slight-py run` has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slight_py.errors import UsageError
from unikernel import manifest
from unikernel.flavours import OUT_OF_MEMORY, Order

if TYPE_CHECKING:
    from slight_py.runner import AnyChecked, RunConfig
    from slight_py.slightfile import Grant, Slightfile
    from unikernel.application import Application
    from unikernel.image import Image
    from unikernel.machine import Machine
    from unikernel.options import RunOptions

PORTABLE = "x86_64-unknown-linux-gnu"
"""What a portable module is compiled for: the instructions that every x86-64 processor has."""

_STAYS_HERE = {
    "configs.envvars": "reads this system's environment",
    "configs.usersecrets": "needs the key of your secrets, which is not for an image to have",
}
"""The resource types that mean something on this machine alone."""

_NEED_PACKAGES = (
    *("keyvalue.awsdynamodb", "kv.awsdynamodb", "keyvalue.azblob", "kv.azblob"),
    *("messaging.mosquitto", "messaging.nats", "messaging.confluent_apache_kafka"),
    *("configs.azapp", "blobstore.aws_s3", "blobstore.azblob"),
)
"""The resource types whose libraries this version does not put into images."""

_IN_IMAGES = {
    "keyvalue": "keyvalue.redis or keyvalue.filesystem",
    "messaging": "messaging.memory or messaging.filesystem",
    "configs": "configs.memory",
    "blob": "blobstore.filesystem",
}
"""What can stand in their places, by family."""

_MEMORY = re.compile(r"out of memory|oom-killer|deadlocked on memory|MemoryError|Cannot allocate memory", re.I)
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


class Linux:
    """The flavour that an image has unless another is asked for."""

    name: manifest.Flavour = "linux"
    memory = 256 << 20

    def check_order(self, order: Order) -> None:
        pass

    def check_module(self, path: Path, wasm: bytes) -> None:
        pass

    def lacks(self, grant: Grant, known: Mapping[str, str]) -> str | None:
        name = grant.resource.name
        if name in _STAYS_HERE:
            return f"{name} {_STAYS_HERE[name]}; for an image, use configs.memory"
        if name in _NEED_PACKAGES:
            return (
                f"{name} needs Python packages that this version does not put into images; for an image, use "
                f"{_IN_IMAGES[grant.family.name]}"
            )
        return None

    def check_backend(self, grant: Grant, slightfile: Slightfile, known: Mapping[str, str]) -> None:
        from capabilities import registry
        from capabilities.keyvalue.memory import MemoryStores
        from capabilities.registry import RegistryError
        from slight_py import linker
        from unikernel import application, closure

        if len(known) == len(grant.configs) and application.is_built_in(grant):
            linker.Backends(MemoryStores).of(grant, slightfile)
        elif grant.resource.name in application.REDIS and closure.find("redis") is None:
            raise UsageError(
                f"{slightfile.place(grant)}keyvalue.redis needs the Python package redis; install it: "
                "pip install 'slight-py[redis]'"
            )
        else:
            # Of what others wrote, more is not run here: to make a backend may take what there only is at boot.
            try:
                registry.load_backend(grant.resource)
            except RegistryError as error:
                raise UsageError(f"{slightfile.place(grant)}{grant.resource.name}: {error}") from error

    def load(self, config: RunConfig, wasm: bytes, cpu: manifest.Cpu, link_all: bool) -> tuple[AnyChecked, bytes]:
        from slight_py import runner
        from slight_py.engine import Engine, InvalidModule

        try:
            # Slots are for kernels that say which pages hold something, and Debian 12's is too old for that.
            engine = Engine(config.limits, PORTABLE if cpu == "portable" else None, with_slots=False)
        except InvalidModule as error:
            raise UsageError(str(error)) from None
        loaded = runner.load(config, link_all, engine)
        return loaded, loaded.serialize()

    def places(self, order: Order) -> list[Path]:
        from unikernel.flavours.linux import packing

        return [place for form in order.formats for place in packing.places(order.output, form)]

    def write(self, order: Order, application: Application) -> Iterator[Path]:
        from unikernel.flavours.linux import packing

        return packing.write(order, application)

    def check_run(self, image: Image, options: RunOptions) -> None:
        if image.manifest.kernel.source == "cloud" and options.volumes:
            raise UsageError(
                f"{image.path}: --volume takes a kernel that Debian's cloud kernel is not; build the image without "
                "--kernel cloud, where there is a C compiler"
            )

    def board(self, machine: Machine) -> str:
        # Debian's kernel finds virtio devices through ACPI alone.
        return f"microvm,acpi={'on' if machine.image.manifest.kernel.source == 'cloud' else 'off'}"

    def boot(self, machine: Machine) -> list[str]:
        from unikernel.machine import clock, escaped

        words = ["-kernel", str(machine.image.path)]
        if machine.initrd is None:
            words += ["-blockdev", f"driver=file,node-name=disk,read-only=on,filename={escaped(machine.image.path)}"]
            words += ["-device", "virtio-blk-device,drive=disk"]
        else:
            words += ["-initrd", str(machine.initrd)]
        line = self.command_line("erofs" if machine.initrd is None else "initramfs")
        return [*words, "-append", " ".join([line, *clock(machine)])]

    def command_line(self, root: manifest.RootType) -> str:
        from unikernel import image

        return image.command_line(root)

    def last_words(self, lines: Sequence[str]) -> str | None:
        if any(_MEMORY.search(line) for line in lines):
            return OUT_OF_MEMORY
        panics = [found[1] for line in lines if (found := _PANIC.search(line))]
        return f"the kernel panicked: {panics[0]}" if panics else None

    def kernel_text(self, kernel: manifest.Kernel) -> str:
        source = {"built": "built by slight-py", "cloud": "Debian's", "given": "given by --kernel"}[kernel.source]
        return f"Linux {kernel.version}, {source}"
