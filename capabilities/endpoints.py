"""What backends in a cloud have in common: packages, addresses, credentials, and why there is no connection."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from capabilities.errors import ConfigError

_LABEL = "(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*|[0-9a-f:.]*:[0-9a-f:.]*")
"""A name, which has a "_" in some private networks, or an address of either kind."""


def require(package: str, extra: str) -> None:
    """Raises ConfigError where a package is missing, which is imported later: that takes a while."""
    try:
        found = find_spec(package)
    except ModuleNotFoundError:  # not even what it is in
        found = None
    if found is None:
        raise ConfigError(f"the Python package {package} is missing: pip install 'slight-py[{extra}]'")


def credential(configs: Mapping[str, str], key: str) -> str:
    """The text of a key that must be there. Raises ConfigError where it's none that can be sent."""
    value = configs.get(key, "")
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(
            f"{key} is empty, or holds what no such value has: spaces, line ends, letters beyond ASCII", key
        )
    return value


def base64_credential(configs: Mapping[str, str], key: str) -> str:
    """The text of a key that must be there, in Base64. Raises ConfigError."""
    value = credential(configs, key)
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ConfigError(f"{key} is not Base64; copy it as the service's access keys show it", key) from None
    return value


def endpoint(configs: Mapping[str, str], key: str) -> str | None:
    """The address of a service, where one is given. Raises ConfigError."""
    value = configs.get(key)
    return None if value is None else address(value, key)


def address(value: str, key: str) -> str:
    """The address of a service, which a key has. Raises ConfigError."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        port, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.hostname or "") or port == 0 or " " in value:
        raise ConfigError(f"{key} is not an address: it is written https://HOST[:PORT]", key)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{key} has a user, a '?' or a '#': it is written https://HOST[:PORT]", key)
    return value.rstrip("/")


def host(url: str) -> str:
    """The host and port of an address, for messages."""
    return urlsplit(url).netloc


def reason(error: BaseException) -> str:
    """Why there is no connection, by what the system said to the library that wanted one."""
    seen: BaseException | None = error
    for _ in range(10):  # errors that name each other would have no end
        if seen is None:
            break
        if isinstance(seen, OSError) and isinstance(seen.errno, int) and seen.errno > 0:
            return os.strerror(seen.errno).lower()
        inner = getattr(seen, "inner_exception", None) or getattr(seen, "kwargs", {}).get("error")
        seen = inner or seen.__cause__ or seen.__context__
    return "the connection broke"
