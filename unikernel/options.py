"""How an image is run: what the command line says, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unikernel.volumes import Asked


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`docs/image.md` has what each means."""

    memory: int = 256 << 20
    """Bytes."""
    cpus: int = 1
    ports: tuple[tuple[str, int, int], ...] = ()
    """Address and port of the host, port in the machine."""
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    volumes: tuple[Asked, ...] = ()
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    slightfile: Path | None = None
    """Where the values come from that the image leaves out. It opens the network, too, if it grants what needs it."""
    passed: tuple[str, ...] = ()
    """The environment variables that the image may have as such values."""
    network: bool = False
    """Whether the image may reach the host and the network."""
    channel: Path | None = None
    snapshot: Path | None = None
    restore: Path | None = None
    boot_timeout: float = 60.0
    """Seconds until the runtime in the machine is up."""
    verbose: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What is said of `slight_py.limits.ALL`, by name, but for `verbose`."""
