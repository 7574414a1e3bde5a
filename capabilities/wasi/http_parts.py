"""The parts of a request as all versions of wasi:http have them: methods, schemes, and texts that are parts of URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from bindgen.runtime import Err
from capabilities.http.cors import TOKEN
from capabilities.wasi.http_errors import Failed

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

    __slots__ = ("_methods", "_names", "_schemes", "types")

    def __init__(self, types: Any) -> None:
        """`types` is the generated module of that version's `types`."""
        self.types = types
        self._methods = {name: getattr(types, f"Method{name.title()}")() for name in _METHODS}
        self._names = {type(case): name for name, case in self._methods.items()}
        self._schemes = {"http": types.SchemeHTTP(), "https": types.SchemeHTTPS()}

    def method(self, name: str) -> Any:
        """The case for a method."""
        return self._methods.get(name) or self.types.MethodOther(name)

    def method_name(self, method: Any) -> str:
        """The method of a case, which a guest may have made. Raises ValueError where it is none."""
        if isinstance(method, self.types.MethodOther):
            name: str = method.value
            if not name or len(name) > 100 or not TOKEN.issuperset(name):
                raise ValueError("no method")
            return name
        return self._names[type(method)]

    def scheme(self, name: str) -> Any:
        """The case for a scheme."""
        return self._schemes.get(name) or self.types.SchemeOther(name)

    def scheme_name(self, scheme: Any) -> str:
        """The scheme of a case, which a guest may have made. Raises ValueError where it is none."""
        if isinstance(scheme, self.types.SchemeOther):
            name: str = scheme.value
            if len(name) > LONGEST or not _SCHEME.fullmatch(name):
                raise ValueError("no scheme")
            return name
        return "http" if isinstance(scheme, self.types.SchemeHTTP) else "https"


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


@contextmanager
def refusing() -> Iterator[None]:
    """Raises Err[None] in the place of ValueError."""
    try:
        yield
    except ValueError:
        raise Err(None) from None


class Asked:
    """What a request asks for, and where. A class that derives from it is the resource of one version, and has the
    functions that read this, whose names differ."""

    __slots__ = ("_authority", "_path", "_scheme", "method_name")

    PARTS: ClassVar[Parts]
    """Of that version."""

    def __init__(self) -> None:
        self.method_name = "GET"
        self._path: str | None = None
        self._scheme: str | None = None
        self._authority: str | None = None

    async def set_method(self, method: Any) -> None:
        with refusing():
            self.method_name = self.PARTS.method_name(method)

    async def set_path_with_query(self, path_with_query: str | None) -> None:
        with refusing():
            check_path(path_with_query)
        self._path = path_with_query

    async def set_scheme(self, scheme: Any) -> None:
        with refusing():
            self._scheme = None if scheme is None else self.PARTS.scheme_name(scheme)

    async def set_authority(self, authority: str | None) -> None:
        with refusing():
            check_authority(authority)
        self._authority = authority

    @property
    def url(self) -> str:
        """For whoever sends it. Raises Failed where there is none."""
        if self._authority is None:
            raise Failed(self.PARTS.types.ErrorCodeHTTPRequestURIInvalid())
        return url_of(self._scheme, self._authority, self._path)
