"""`slight-py image build`: packs an application with a kernel and the runtime, in one format and another."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slight_py import __version__
from slight_py.errors import UsageError
from unikernel import application as applications
from unikernel import image, rootfs
from unikernel.application import Application
from unikernel.contents import PARTS, Contents
from unikernel.manifest import Kernel as KernelFacts
from unikernel.manifest import Manifest, Part, Root
from unikernel.rootfs import Tree

if TYPE_CHECKING:
    from slight_py.compilation import CompileLimits
    from unikernel.kernel import Kernel

Progress = Callable[[str], None]


def build(
    app: Path | None,
    slightfile: Path | None,
    output: Path,
    *,
    formats: Sequence[str] = ("img",),
    cpu: Literal["portable", "native"] = "portable",
    kernel: Path | Literal["cloud"] | None = None,
    smp: bool = False,
    link_all: bool = False,
    compilation: CompileLimits | None = None,
    progress: Progress = lambda line: None,
) -> list[Path]:
    """Builds an image, in each of the `formats`, and returns the files that were written.

    Without an `app` it is a function service, which gets its modules when it runs. `kernel` is one in place of ours, or
    `cloud` for Debian's. `progress` is told what the user should know. Raises UsageError.
    """
    from unikernel import kernel as kernels

    given = kernel if isinstance(kernel, Path) else None
    for place in (place for each in formats for place in _places(output, each)):
        image.check_place(place)
        for each in filter(None, (app, slightfile, given)):
            if place.exists() and each.exists() and place.samefile(each):
                raise UsageError(
                    f"{place}: the image would take the place of what it is made from; name another with -o"
                )
    application = applications.load(app, slightfile, cpu, link_all, compilation) if app else Application()
    for line in applications.left_out(application):
        progress(line)
    if given is not None:
        taken = kernels.given(given)
    else:
        taken = kernels.obtain(smp, progress, "cloud" if kernel == "cloud" else "any")
    root = Contents(application, taken)
    manifest = _manifest(application, cpu, taken, root.packages)
    root.add_app(manifest)
    return list(_written(root, taken, manifest, output, formats))


def _manifest(
    application: Application, cpu: Literal["portable", "native"], kernel: Kernel, packages: Mapping[str, str]
) -> Manifest:
    """The manifest, without what is known of the parts when they are packed."""
    path = application.slightfile.path
    return Manifest(
        flavour="linux",
        slight_py=__version__,
        python=platform.python_version(),
        wasmtime=version("wasmtime"),
        cpu=cpu,
        app=application.facts,
        slightfile=path.name if path else None,
        specversion=application.slightfile.specversion,
        grants=application.grants,
        kernel=KernelFacts(kernel.version, kernel.source, 0, ""),
        root=Root("initramfs" if kernel.modules else "erofs", 0, 0, ""),
        parts=(),
        packages=dict(sorted(packages.items())),
        needs_network=any(not grant.resource.local for grant in application.slightfile.grants),
    )


def _written(
    root: Contents, kernel: Kernel, manifest: Manifest, output: Path, formats: Sequence[str]
) -> Iterator[Path]:
    """Writes an image in each of the formats."""
    content = kernel.path.read_bytes()
    image.check_kernel(kernel.path, content)
    if "qcow2" in formats and manifest.root.type != "erofs":
        raise UsageError(f"{output}: Debian's kernel can't mount a disk by itself; build with --format kernel+initrd")
    for each in formats:
        first, *others = _places(output, each)
        if each == "img":
            _write_image(root, content, manifest, first)
        else:
            with image.replacing(first) as file:
                file.write(content)
        for disk in others:
            if each == "qcow2":
                _write_qcow2(root, content, manifest, disk)
            else:
                with image.replacing(disk) as file:
                    file.write(rootfs.initramfs(root.tree))
        yield from (first, *others)


def _places(output: Path, form: str) -> list[Path]:
    """The files of an image in one of the formats."""
    if form == "img":
        return [output]
    stem = output.with_suffix("") if output.suffix == ".img" else output
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ("vmlinux", form.removeprefix("kernel+"))]


def _write_image(root: Contents, kernel: bytes, manifest: Manifest, output: Path) -> None:
    packed, parts = _packed(root, rootfs.erofs if manifest.root.type == "erofs" else rootfs.initramfs)
    blank = kernel[: image.FRONT] + bytes(image.END - image.FRONT) + kernel[image.END :]
    offset = image.padded(len(kernel))
    manifest = replace(
        manifest,
        kernel=replace(manifest.kernel, size=len(kernel), sha256=hashlib.sha256(blank).hexdigest()),
        root=replace(manifest.root, offset=offset, size=len(packed), sha256=hashlib.sha256(packed).hexdigest()),
        parts=(Part("kernel", len(kernel)), *parts),
    )
    image.write(output, kernel, packed, manifest)


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
