"""Secrets in a slightfile: how they are encrypted, and the key that they are encrypted with.

A secret is encrypted with AES-256-GCM (NIST SP 800-38D) from the package `cryptography`, with the secret's name as
associated data: a value that was changed, or moved to another name, is refused. In the file it is the text
`slight-py:1:` and the Base64 of the 12 random bytes of the nonce and of what the cipher gives.

The key is the user's, one for all slightfiles: 32 random bytes in a file of mode 600 in the user's configuration
directory, by the XDG Base Directory Specification. Whoever has it and a slightfile can read the secrets in it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "slight-py:1:"
"""What an encrypted value begins with: the form, and its version."""

_KEY_BYTES = 32
_NONCE_BYTES = 12


class VaultError(Exception):
    """Why a secret can't be read or written, in one line, and what to do about it. No secret is in it."""


def encrypt(name: str, value: str) -> str:
    """The text for a slightfile. The key is made where there is none yet. Raises VaultError."""
    aead = _cipher(_key(make=True))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = nonce + aead.encrypt(nonce, value.encode(), name.encode())
    return PREFIX + base64.b64encode(sealed).decode()


def decrypt(name: str, text: str) -> str:
    """The value of the secret `name`, given its text in a slightfile.

    Raises VaultError, which does not name the secret.
    """
    again = f"set it again: slight-py secret -c FILE -k {name}"
    if not text.startswith(PREFIX):
        raise VaultError(f"it is in the form of Spiderlightning's slight, which is not read; {again}")
    from cryptography.exceptions import InvalidTag

    aead = _cipher(_key(make=False))
    try:
        sealed = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        return aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()).decode()
    except (binascii.Error, InvalidTag, ValueError):
        raise VaultError(f"it was changed, or encrypted with another key than yours; {again}") from None


def key_path() -> Path:
    """Where the user's key is. Raises VaultError for a user without a home."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or ".")
    if not base.is_absolute():  # which the specification says to ignore
        try:
            base = Path.home() / ".config"
        except RuntimeError:
            raise VaultError("there is no home directory for the key of your secrets; set XDG_CONFIG_HOME") from None
    return base / "slight-py" / "secrets.key"


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError:
        raise VaultError("secrets need the Python package cryptography: pip install 'slight-py[secrets]'") from None
    return AESGCM(key)


def _key(make: bool) -> bytes:
    """The user's key. Raises VaultError, also where others can read it."""
    path = key_path()
    try:
        if make:
            _make_key(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            key = file.read(_KEY_BYTES + 1)
    except FileNotFoundError:
        raise VaultError(f"there is no key at {path}; copy it from where the secrets were encrypted") from None
    except OSError as error:
        raise VaultError(f"the key of your secrets, {path}, can't be used: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise VaultError(f"others can read the key of your secrets; type: chmod 600 {path} (it must be yours)")
    if len(key) != _KEY_BYTES:
        raise VaultError(f"{path} is not a key of slight-py; put the right one there, or remove it to have one made")
    return key


def _make_key(path: Path) -> None:
    """Puts a new key at `path`, whole and at once, unless there is one."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # somebody else was faster
            os.link(fresh, path)
    finally:
        os.unlink(fresh)
