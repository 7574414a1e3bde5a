"""The parts of a request as all versions of wasi:http have them: methods, schemes, and texts that are parts of URLs."""

from __future__ import annotations

import re
from typing import Any

from capabilities.http.cors import TOKEN

_PATH = re.compile(r"\*|[/?][!\"$-~]*|")
_AUTHORITY = re.compile(
    r"(?:[!$&'()*+,;=:._~0-9A-Za-z%-]*@)?(?:\[[0-9A-Fa-fvV:.]+\]|[!$&'()*+,;=._~0-9A-Za-z%-]+)(?::[0-9]{0,5})?"
)
LONGEST = 8_190
"""Characters of a path, an authority or a scheme: as many as a whole URL that is sent may have. They are kept."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


class Parts:
    """The cases of `method` and `scheme` of one version."""

    __slots__ = ("_methods", "_names", "_schemes", "_types")

    def __init__(self, types: Any) -> None:
        """`types` is the generated module of that version's `types`."""
        self._types = types
        self._methods = {name: getattr(types, f"Method{name.title()}")() for name in _METHODS}
        self._names = {type(case): name for name, case in self._methods.items()}
        self._schemes = {"http": types.SchemeHTTP(), "https": types.SchemeHTTPS()}

    def method(self, name: str) -> Any:
        """The case for a method."""
        return self._methods.get(name) or self._types.MethodOther(name)

    def method_name(self, method: Any) -> str:
        """The method of a case, which a guest may have made. Raises ValueError where it is none."""
        if isinstance(method, self._types.MethodOther):
            name: str = method.value
            if not name or len(name) > 100 or not TOKEN.issuperset(name):
                raise ValueError("no method")
            return name
        return self._names[type(method)]

    def scheme(self, name: str) -> Any:
        """The case for a scheme."""
        return self._schemes.get(name) or self._types.SchemeOther(name)

    def scheme_name(self, scheme: Any) -> str:
        """The scheme of a case, which a guest may have made. Raises ValueError where it is none."""
        if isinstance(scheme, self._types.SchemeOther):
            name: str = scheme.value
            if len(name) > LONGEST or not _SCHEME.fullmatch(name):
                raise ValueError("no scheme")
            return name
        return "http" if isinstance(scheme, self._types.SchemeHTTP) else "https"


def check_path(text: str | None) -> None:
    """Raises ValueError for what is no path with a query, or a long one: RFC 3986 section 3.3 and 3.4."""
    if text is not None and (len(text) > LONGEST or not _PATH.fullmatch(text)):
        raise ValueError("no path with a query")


def check_authority(text: str | None) -> None:
    """Raises ValueError for what is no authority, or a long one: RFC 3986 section 3.2."""
    if text is not None and (len(text) > LONGEST or not _AUTHORITY.fullmatch(text)):
        raise ValueError("no authority")


def url_of(scheme: str | None, authority: str, path: str | None) -> str:
    """A whole URL, by HTTPS where there is no scheme."""
    path = path or "/"
    return f"{scheme or 'https'}://{authority}{'' if path[0] == '/' else '/'}{path}"
