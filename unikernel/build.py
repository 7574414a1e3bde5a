"""`slight-py image build`: checks an application, and has a flavour make an image of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from slight_py.compilation import CompileLimits
from slight_py.errors import UsageError
from unikernel import application as applications
from unikernel import flavours, image
from unikernel.application import Application
from unikernel.flavours import Flavour, Order, Progress
from unikernel.manifest import Cpu


def build(
    app: Path | None,
    slightfile: Path | None,
    output: Path,
    *,
    flavour: Flavour | None = None,
    formats: Sequence[str] = ("img",),
    cpu: Cpu = "portable",
    kernel: Path | Literal["cloud"] | None = None,
    smp: bool = False,
    link_all: bool = False,
    compilation: CompileLimits | None = None,
    progress: Progress = lambda line: None,
) -> list[Path]:
    """Builds an image of a flavour, Linux where none is given, and returns the files that were written.

    `Order` says what the others mean. Raises UsageError.
    """
    flavour = flavour or flavours.named("linux")
    order = Order(
        app=app,
        slightfile=slightfile,
        output=output,
        formats=formats,
        cpu=cpu,
        kernel=kernel,
        smp=smp,
        link_all=link_all,
        compilation=compilation or CompileLimits(),
        progress=progress,
    )
    flavour.check_order(order)
    for place in flavour.places(order):
        _check_place(place, order)
    application = applications.load(app, slightfile, cpu, link_all, compilation, flavour) if app else Application()
    for line in applications.left_out(application):
        progress(line)
    return list(flavour.write(order, application))


def _check_place(place: Path, order: Order) -> None:
    """Raises UsageError for a place where no image can be put, or where something lies that it is made from."""
    image.check_place(place)
    sources = (order.app, order.slightfile, order.kernel)
    for source in (source for source in sources if isinstance(source, Path)):
        if place.exists() and source.exists() and place.samefile(source):
            raise UsageError(f"{place}: the image would take the place of what it is made from; name another with -o")
