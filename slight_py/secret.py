"""`slight-py secret`: the user's secrets in a slightfile.

The file is changed in place, in one step, and keeps its comments and its form. What is in it beside the secrets need
not be right: a secret may be what is missing.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capabilities.configs.vault import PREFIX, VaultError, encrypt
from slight_py.cache import replacing
from slight_py.errors import UsageError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

NAME_LIMIT = 4096
"""How long a secret's name may be, in bytes."""

VALUE_LIMIT = 1024 * 1024
"""How long a secret may be, in bytes."""


def set_secret(path: Path, name: str, value: str) -> None:
    """Puts a secret into the slightfile at `path`, in place of the one of that name. Raises UsageError."""
    if not name or len(name.encode()) > NAME_LIMIT or not name.isprintable():
        raise UsageError(f"-k: the name of a secret is 1 to {NAME_LIMIT} bytes of printable text")
    if not value:
        raise UsageError("the value is empty; give it with -v, or on standard input")
    if len(value.encode()) > VALUE_LIMIT:
        raise UsageError(f"the value is too long: a secret may have {VALUE_LIMIT} bytes")
    document = _read(path)
    try:
        encrypted = encrypt(name, value)
    except VaultError as error:
        raise UsageError(str(error)) from None
    import tomlkit

    entries = _entries(path, document)
    entry = next((entry for entry in entries if entry.get("name") == name), None)
    if entry is None:
        entry = tomlkit.table()
        entry["name"] = name
        if "secret_settings" not in document:
            document.add(tomlkit.nl())
            entries = document["secret_settings"] = tomlkit.aot()
        entry["value"] = encrypted
        entries.append(entry)
    entry["value"] = encrypted
    _write(path, document)


def remove_secret(path: Path, name: str) -> None:
    """Takes a secret out of the slightfile. Raises UsageError, also where there is none of that name."""
    document = _read(path)
    entries = _entries(path, document)
    places = [place for place, entry in enumerate(entries) if entry.get("name") == name]
    if not places:
        names = ", ".join(sorted(secret_names(path))) or "none"
        raise UsageError(f"{path}: there is no secret {name!r}; the file has {names}")
    for place in reversed(places):
        del entries[place]
    if not entries:
        del document["secret_settings"]
    _write(path, document)


def secret_names(path: Path) -> list[str]:
    """The names of the secrets in the slightfile, in its order. Raises UsageError."""
    return [str(entry.get("name")) for entry in _entries(path, _read(path))]


def old_secrets(path: Path) -> list[str]:
    """The names of the secrets that Spiderlightning's slight has written, which are to be set again."""
    return [str(entry.get("name")) for entry in _entries(path, _read(path)) if not _is_ours(entry.get("value"))]


def _is_ours(value: object) -> bool:
    return isinstance(value, str) and value.startswith(PREFIX)


def value_from(option: str | None) -> str:
    """The value that was given by the option, or else what is typed, or comes, on standard input."""
    if option is not None and option != "-":
        return option
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("value: ")
    try:
        value = sys.stdin.buffer.read(VALUE_LIMIT + 2).decode()
    except UnicodeDecodeError:
        raise UsageError("the value on standard input is not UTF-8 text") from None
    return value.removesuffix("\n").removesuffix("\r")


def _read(path: Path) -> TOMLDocument:
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ModuleNotFoundError:
        raise UsageError("secrets need the Python package tomlkit: pip install 'slight-py[secrets]'") from None
    try:
        return tomlkit.parse(path.read_bytes().decode())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the path of a slightfile with -c") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; give the path of a slightfile with -c") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except TOMLKitError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None


def _entries(path: Path, document: TOMLDocument) -> Any:
    """The [[secret_settings]], which can be changed in place. Raises UsageError."""
    entries = document.get("secret_settings", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path}: secret_settings must be an array of tables; write it as [[secret_settings]]")
    return entries


def _write(path: Path, document: TOMLDocument) -> None:
    path = path.resolve()  # a symbolic link stays one
    try:
        with replacing(path) as file:
            file.write(document.as_string().encode())
            file.flush()
            os.fsync(file.fileno())
            shutil.copymode(path, file.name)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
