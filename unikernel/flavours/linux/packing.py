"""The files of a Linux image: kernel, root file system and manifest, in one format and another."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from slight_py.errors import UsageError
from unikernel import application as applications
from unikernel import image, rootfs
from unikernel import kernel as kernels
from unikernel.application import Application
from unikernel.contents import PARTS, Contents
from unikernel.flavours import Order
from unikernel.manifest import Kernel as KernelFacts
from unikernel.manifest import Manifest, Part
from unikernel.rootfs import Tree

if TYPE_CHECKING:
    from unikernel.kernel import Kernel


def write(order: Order, application: Application) -> Iterator[Path]:
    """Writes an image in each of the formats. Raises UsageError."""
    if isinstance(order.kernel, Path):
        kernel = kernels.given(order.kernel)
    else:
        kernel = kernels.obtain(order.smp, order.progress, "cloud" if order.kernel == "cloud" else "any")
    root = Contents(application, kernel)
    manifest = applications.manifest_of(
        application,
        flavour="linux",
        cpu=order.cpu,
        python=platform.python_version(),
        kernel=KernelFacts(kernel.version, kernel.source, 0, ""),
        root="initramfs" if kernel.modules else "erofs",
        packages=dict(sorted(root.packages.items())),
    )
    root.add_app(manifest)
    yield from _written(root, kernel, manifest, order.output, order.formats)


def places(output: Path, form: str) -> list[Path]:
    """The files of an image in one of the formats."""
    if form == "img":
        return [output]
    stem = output.with_suffix("") if output.suffix == ".img" else output
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ("vmlinux", form.removeprefix("kernel+"))]


def _written(
    root: Contents, kernel: Kernel, manifest: Manifest, output: Path, formats: Sequence[str]
) -> Iterator[Path]:
    content = kernel.path.read_bytes()
    image.check_kernel(kernel.path, content)
    if "qcow2" in formats and manifest.root.type != "erofs":
        raise UsageError(f"{output}: Debian's kernel can't mount a disk by itself; build with --format kernel+initrd")
    for form in formats:
        first, *others = places(output, form)
        if form == "img":
            _write_image(root, content, manifest, first)
        else:
            with image.replacing(first) as file:
                file.write(content)
        for disk in others:
            if form == "qcow2":
                _write_qcow2(root, content, manifest, disk)
            else:
                with image.replacing(disk) as file:
                    file.write(rootfs.initramfs(root.tree))
        yield from (first, *others)


def _write_image(root: Contents, kernel: bytes, manifest: Manifest, output: Path) -> None:
    packed, parts = _packed(root, rootfs.erofs if manifest.root.type == "erofs" else rootfs.initramfs)
    image.write(output, kernel, packed, image.complete(manifest, kernel, packed, parts))


def _write_qcow2(root: Contents, kernel: bytes, manifest: Manifest, output: Path) -> None:
    tool = rootfs.find_tool("qemu-img", "qemu-utils")
    with rootfs.scratch() as folder:
        raw, converted = folder / "raw", folder / "qcow2"
        _write_image(root, kernel, manifest, raw)
        rootfs.run_tool(tool, "convert", "-f", "raw", "-O", "qcow2", str(raw), str(converted))
        with image.replacing(output) as file:
            file.write(converted.read_bytes())


def _packed(root: Contents, pack: Callable[[Tree], bytes]) -> tuple[bytes, list[Part]]:
    """The root file system, and its size by part: that of one with nothing but the part."""
    names = [name for name in PARTS if name in root.parts.values()]
    with ThreadPoolExecutor() as pool:
        packed, *parts = pool.map(pack, [root.tree, *map(root.only, names)])
    return packed, [Part(name, len(part)) for name, part in zip(names, parts, strict=True)]
