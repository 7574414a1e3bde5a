"""The file of a native image: the kernel, the application as its payload, and the manifest for launchers."""

from __future__ import annotations

from pathlib import Path

from slight_py import __version__
from slight_py.errors import UsageError
from unikernel import application as applications
from unikernel import image
from unikernel.application import Application
from unikernel.flavours import Order
from unikernel.flavours.native import payload
from unikernel.flavours.native.payload import Payload
from unikernel.manifest import Kernel, Part, app_json


def write(order: Order, application: Application) -> Path:
    """Writes an image. Raises UsageError."""
    given = order.kernel if isinstance(order.kernel, Path) else None
    path, kernel = _kernel(given)
    manifest = applications.manifest_of(
        application,
        flavour="native",
        cpu=order.cpu,
        python="",
        kernel=Kernel("" if given else __version__, "given" if given else "built", 0, ""),
        root="payload",
        packages={},
    )
    packed = payload.pack(Payload(app_json(manifest).encode(), application.compiled))
    prepared = payload.kernel_for(kernel, len(packed), str(path))
    image.check_kernel(path, prepared)
    module = len(application.compiled)
    parts = (Part("module", module), Part("manifest", len(packed) - module))
    image.write(order.output, prepared, packed, image.complete(manifest, prepared, packed, parts))
    return order.output


def _kernel(given: Path | None) -> tuple[Path, bytes]:
    """A kernel and where it is. Raises UsageError."""
    if given is None:
        from unikernel import native

        path = native.kernel()
    else:
        path = given
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
