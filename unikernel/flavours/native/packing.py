"""The file of a native image: the kernel, the application as its payload, and the manifest for launchers."""

from __future__ import annotations

from pathlib import Path

from slight_py import __version__
from slight_py.errors import UsageError
from unikernel import application as applications
from unikernel import image, native
from unikernel.application import Application
from unikernel.flavours import Order, Progress
from unikernel.flavours.native import payload
from unikernel.flavours.native.payload import Payload
from unikernel.manifest import Kernel, Part, app_json


def write(order: Order, application: Application) -> Path:
    """Writes an image. Raises UsageError."""
    given = order.kernel if isinstance(order.kernel, Path) else None
    path, kernel = _kernel(given, order.progress)
    image.check_kernel(path, kernel)
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
    module = len(application.compiled)
    parts = (Part("module", module), Part("manifest", len(packed) - module))
    image.write(order.output, prepared, packed, image.complete(manifest, prepared, packed, parts))
    return order.output


def _kernel(given: Path | None, progress: Progress) -> tuple[Path, bytes]:
    """The kernel's place and content: ours, unless another is given. Raises UsageError."""
    path = given or native.kernel(progress)
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
