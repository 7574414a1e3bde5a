"""What an image says of itself, as JSON: what is in it, what it was made with, and what its application is granted.

The whole, `Manifest`, is at the end of the image file, for launchers. The machine itself reads `app.json`, which is
the same without the parts of the image, of which it is one: an `AppManifest`. Either may have been written by anybody:
what is read is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

from unikernel.tables import Table

Flavour: TypeAlias = Literal["linux", "native"]
"""What an image's application runs on: Linux and this runtime, or the kernel in native/, which has a runtime in it."""

Cpu: TypeAlias = Literal["portable", "native"]

KernelSource: TypeAlias = Literal["built", "cloud", "given"]

RootType: TypeAlias = Literal["erofs", "initramfs", "payload"]
"""A file system that the kernel mounts or unpacks; or, in a native image, what a boot loader puts behind the kernel."""


@dataclass(frozen=True, slots=True)
class App:
    """The module or component that the image runs. `sha256` and `size` are those of the .wasm file, `entry` is where it
    begins: a function of a module, an interface of a component. `serves` is whether it may answer requests."""

    name: str
    sha256: str
    size: int
    entry: str
    serves: bool


@dataclass(frozen=True, slots=True)
class Config:
    """A value of a grant's configuration: `value` where it is in the image, else the name `source` that it is handed
    over under at boot. In JSON it is `{"value": …}` or `{"from": …}`."""

    value: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        assert (self.value is None) != (self.source is None)


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of the slightfile. What a class in a Python file needs lies in /app/custom/N, where N is the entry's
    number, from 0."""

    resource: str
    family: str
    name: str
    line: int
    configs: Mapping[str, Config]
    allow: Mapping[str, tuple[str, ...]] | None = None
    """What the module may do with it: names by action, with `*` for any text. None is everything."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """`sha256` is of the kernel as it is in the image, with zeros for the bytes that are the image's own."""

    version: str
    source: KernelSource
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Root:
    """What the application is in. `offset` counts from the beginning of the image."""

    type: RootType
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the image by what it is for, with the bytes that it takes there."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppManifest:
    """What the machine itself reads. `app` and `slightfile` are None in an image of the function service."""

    flavour: Flavour
    slight_py: str
    python: str
    wasmtime: str
    """Versions."""
    cpu: Cpu
    app: App | None
    slightfile: str | None
    """Its name, for messages."""
    specversion: str
    grants: tuple[Grant, ...]
    packages: Mapping[str, str]
    """Versions of the packages of others, by name."""
    needs_network: bool

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the values that are handed over at boot, sorted."""
        configs = (config for grant in self.grants for config in grant.configs.values())
        return tuple(sorted({config.source for config in configs if config.source is not None}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(AppManifest):
    """What is in an image."""

    kernel: Kernel
    root: Root
    parts: tuple[Part, ...]


# Writing.


def to_json(manifest: AppManifest) -> str:
    """The manifest with all that it has; the other end is `from_json`, or `app_from_json`."""
    plain = asdict(manifest)
    for grant, plain_grant in zip(manifest.grants, plain["grants"], strict=True):
        plain_grant["configs"] = {key: _plain_config(config) for key, config in grant.configs.items()}
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def app_json(manifest: AppManifest) -> str:
    """What of a manifest goes into the machine, as app.json."""
    return to_json(AppManifest(**{field.name: getattr(manifest, field.name) for field in fields(AppManifest)}))


def _plain_config(config: Config) -> dict[str, str | None]:
    return {"from": config.source} if config.value is None else {"value": config.value}


# Reading.


def from_json(text: str | bytes) -> Manifest:
    """Raises ValueError, with what is wrong, for what is no manifest of this version."""
    top = _parsed(text)
    kernel, root = top.table("kernel"), top.table("root")
    return Manifest(
        **_app_fields(top),
        kernel=Kernel(
            kernel.text("version"),
            kernel.choice("source", "built", "cloud", "given"),
            kernel.number("size"),
            kernel.hash("sha256"),
        ),
        root=Root(
            root.choice("type", "erofs", "initramfs", "payload"),
            root.number("offset"),
            root.number("size"),
            root.hash("sha256"),
        ),
        parts=tuple(Part(part.text("name"), part.number("size")) for part in top.tables("parts")),
    )


def app_from_json(text: str | bytes) -> AppManifest:
    """The same for what `app_json` wrote."""
    return AppManifest(**_app_fields(_parsed(text)))


def _parsed(text: str | bytes) -> Table:
    try:
        return Table(json.loads(text), "the manifest")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _app_fields(top: Table) -> dict[str, Any]:
    app = top.optional_table("app")
    return {
        "flavour": top.choice("flavour", "linux", "native"),
        "slight_py": top.text("slight_py"),
        "python": top.text("python"),
        "wasmtime": top.text("wasmtime"),
        "cpu": top.choice("cpu", "portable", "native"),
        "app": _app(app) if app else None,
        "slightfile": top.optional_text("slightfile"),
        "specversion": top.choice("specversion", "0.1", "0.2"),
        "grants": tuple(_grant(table) for table in top.tables("grants")),
        "packages": top.texts("packages"),
        "needs_network": top.flag("needs_network"),
    }


def _app(table: Table) -> App:
    return App(
        table.text("name"), table.hash("sha256"), table.number("size"), table.text("entry"), table.flag("serves")
    )


def _grant(table: Table) -> Grant:
    allow = table.optional_table("allow")
    return Grant(
        table.text("resource"),
        table.text("family"),
        table.text("name"),
        table.number("line"),
        {key: _config(value) for key, value in table.table("configs").tables_by_name().items()},
        None if allow is None else allow.lists_of_texts(),
    )


def _config(table: Table) -> Config:
    value, source = table.optional_text("value"), table.optional_text("from")
    if (value is None) == (source is None):
        raise ValueError(f"{table.what} must have a value, or the name that it comes from")
    return Config(value, source)
