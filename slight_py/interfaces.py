"""`slight-py add`: the interfaces' WIT files, from this package, for a guest to be built against."""

from __future__ import annotations

import re
from pathlib import Path

from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from slight_py.errors import UsageError

VERSION = "0.5.1"
"""The version of Spiderlightning whose interfaces these are."""

FOLDER = Path(__file__).resolve().parents[1] / "wit"

WASI = FOLDER / "wasi"
"""The packages of WASI, which components import and export."""

_COMPANIONS = {"http-server": ("http-handler", "http-server-export")}
"""What a guest has no use for an interface without."""


def paths() -> list[Path]:
    """The files of the interfaces that there are: those of Spiderlightning. WASI's, in `wasi/`, are not for `add`."""
    found = [*FOLDER.glob("*.wit"), *(FOLDER / "compat").glob("*.wit")]
    return sorted(found, key=lambda path: path.stem)


def names() -> list[str]:
    """The interfaces that there are."""
    return [path.stem for path in paths()]


def split(text: str) -> str:
    """The interface that `INTERFACE` or `INTERFACE@vX.Y.Z` means. Raises UsageError."""
    name, at, version = text.partition("@")
    if name not in names():
        raise UsageError(f"there is no interface {name!r}; there are {', '.join(names())}")
    check_version(name, version if at else f"v{VERSION}")
    return name


def check_version(what: str, version: str) -> None:
    """Raises UsageError for another version than the one that there is."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", version):
        raise UsageError(f"{version!r} is not a version; write {what}@v{VERSION}")
    if version != f"v{VERSION}":
        raise UsageError(
            f"there is no {what} of {version}: this is Spiderlightning {VERSION}; write {what}@v{VERSION}, or {what}"
        )


def files(*interfaces: str) -> list[Path]:
    """The files of the interfaces and of those that they use, sorted by name."""
    wanted = [*interfaces, *(name for interface in interfaces for name in _COMPANIONS.get(interface, ()))]
    found: dict[str, Path] = {}

    def add(interface: Interface) -> None:
        found[interface.name] = interface.path
        for use in interface.uses:
            if use.target.interface.name not in found:
                add(use.target.interface)

    for interface in load_many([_path(name) for name in wanted]):
        add(interface)
    return [found[name] for name in sorted(found)]


def _path(name: str) -> Path:
    (path,) = (path for path in paths() if path.stem == name)
    return path


def add(text: str, parent: Path) -> Path:
    """Writes an interface into the folder INTERFACE_X.Y.Z of `parent`, as `slight add` does; returns the folder.

    Raises UsageError, also where a file of another text is there.
    """
    name = split(text)
    folder = parent / f"{name}_{VERSION}"
    try:
        copy(files(name), folder)
    except OSError as error:
        raise UsageError(f"{folder}: can't be written: {error.strerror}") from None
    return folder


def copy(sources: list[Path], folder: Path) -> None:
    """Copies files into a folder. Raises UsageError, and writes nothing, where one is there with another text."""
    for source in sources:
        there = folder / source.name
        if there.exists() and there.read_bytes() != source.read_bytes():
            raise UsageError(f"{there} is there already, and is not the interface's; remove it, or go elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        (folder / source.name).write_bytes(source.read_bytes())
