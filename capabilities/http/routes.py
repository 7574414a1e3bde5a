"""Routes: the table that a guest fills, and the matcher that a server compiles from it.

A route is a path of segments. `:name` matches one segment that isn't empty, `*` matches one or more, anything else
matches itself. A slash at the end of a route or of a path makes no difference. Segments are compared after
percent-decoding, one by one, so `%2F` never separates two of them; a route is plain text and is not decoded.

Where several routes match, the segments decide from the left: a literal one before `:name`, `:name` before `*`, and a
`*` takes no more segments than it must. Of two routes of the same form, the one that was registered first answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from bindgen.runtime import Err
from capabilities.bindings.http_types import HttpRouterErrorInvalidUrl, HttpRouterErrorUnexpectedError

METHODS = ("GET", "PUT", "POST", "DELETE")
"""The methods that routes are registered for."""

MAX_PATTERN = 2_000
"""The longest route in characters, its base included."""

MAX_ROUTES = 1_000
"""The most routes of one table. A guest may keep every table that it makes, so each must stay cheap."""


class Route(NamedTuple):
    """A method, a pattern with its base, and the name of the function that answers."""

    method: str
    pattern: str
    handler: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RouteTable:
    """Routes below a base. It never changes: adding a route makes a new table, which shares the old one's routes."""

    base: str = ""
    """What every pattern begins with, without a slash at the end."""
    size: int = 0
    """How many routes there are."""
    _last: Route | None = None
    _before: RouteTable | None = None

    @classmethod
    def with_base(cls, base: str) -> RouteTable:
        """A table without routes. Raises `Err[HttpRouterErrorInvalidUrl]` where `base` can't begin a route."""
        _check(base)
        return cls(base.removesuffix("/"))

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes in the order of their registration."""
        return tuple(self._newest_first())[::-1]

    def _newest_first(self) -> Iterator[Route]:
        table: RouteTable | None = self
        while table is not None and table._last is not None:
            yield table._last
            table = table._before

    def add(self, method: str, route: str, handler: str) -> RouteTable:
        """This table and one more route, `route` being what follows the base.

        Raises `Err[HttpRouterErrorInvalidUrl]` for a pattern that makes no sense, and
        `Err[HttpRouterErrorUnexpectedError]` past MAX_ROUTES.
        """
        if method not in METHODS:
            raise ValueError(f"{method!r} is not a method that routes have")
        if self.size >= MAX_ROUTES:
            raise Err(HttpRouterErrorUnexpectedError(f"a router holds up to {MAX_ROUTES} routes"))
        if route and not route.startswith("/"):
            raise _invalid(route, "it must begin with '/'")
        pattern = self.base + route
        _check(pattern)
        return RouteTable(self.base, self.size + 1, Route(method, pattern, handler), self)

    def compile(self) -> Matcher:
        """What finds the route of a request."""
        return Matcher(self.routes)

    def to_json(self) -> str:
        """The table as text, for another process."""
        start = len(self.base)
        return json.dumps([self.base, [[r.method, r.pattern[start:], r.handler] for r in self.routes]])

    @classmethod
    def from_json(cls, text: str) -> RouteTable:
        """The table that `to_json` wrote."""
        base, routes = json.loads(text)
        table = cls.with_base(base)
        for method, route, handler in routes:
            table = table.add(method, route, handler)
        return table


class Match(NamedTuple):
    """A route and what its parameters matched, by name in the route's order; `*` is the name of a `*`."""

    handler: str
    params: tuple[tuple[str, str], ...]


class MethodNotAllowed(NamedTuple):
    """The path has routes, and none for the method."""

    allowed: tuple[str, ...]
    """The methods that it does answer, HEAD and OPTIONS among them."""


class NotFound(NamedTuple):
    """No route has the path."""


Found: TypeAlias = Match | MethodNotAllowed | NotFound

_NOT_FOUND = NotFound()


class Matcher:
    """Routes made ready for look-up: those without parameters in a dictionary, all of them in a tree a method."""

    __slots__ = ("_exact", "_trees")

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._exact: dict[str, dict[str, Match]] = {method: {} for method in METHODS}
        self._trees: dict[str, _Node] = {method: _Node() for method in METHODS}
        for method, pattern, handler in routes:
            segments = _split(pattern)
            self._trees[method].insert(segments, handler)
            for path in _literal_paths(segments):
                self._exact[method].setdefault(path, Match(handler, ()))
        self._exact["HEAD"] = self._exact["GET"]
        self._trees["HEAD"] = self._trees["GET"]

    def match(self, method: str, path: str) -> Found:
        """Finds the route for a request's path as it was sent, without query.

        Raises ValueError where a segment is not UTF-8 once it's decoded.
        """
        exact = self._exact.get(method)
        if exact is not None and (match := exact.get(path)) is not None:
            return match
        segments = _split(path)
        if "%" in path:
            segments = [_decode(segment) for segment in segments]
        tree = self._trees.get(method)
        if tree is not None and (match := tree.find(segments)) is not None:
            return match
        others = (name for name in METHODS if self._trees[name] is not tree)
        allowed = [name for name in others if self._trees[name].find(segments) is not None]
        if not allowed:
            return _NOT_FOUND
        if "GET" in allowed:
            allowed.insert(1, "HEAD")
        return MethodNotAllowed((*allowed, "OPTIONS"))


class _Leaf(NamedTuple):
    """The end of a route: its handler, and the names of the parameters on the way to it."""

    handler: str
    names: tuple[str, ...]


_Capture: TypeAlias = "tuple[_Capture | None, int, int]"
"""What a parameter took: the captures before it, its first segment, the one after its last."""


class _Node:
    """A place in the tree of routes: what may come next, and the route that ends here."""

    __slots__ = ("is_star", "leaf", "literals", "param", "star")

    def __init__(self, is_star: bool = False) -> None:
        self.literals: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.star: _Node | None = None
        self.is_star = is_star
        self.leaf: _Leaf | None = None

    def insert(self, segments: list[str], handler: str) -> None:
        node = self
        names: list[str] = []
        for segment in segments:
            if segment == "*":
                names.append("*")
                node.star = node = node.star or _Node(is_star=True)
            elif segment.startswith(":"):
                names.append(segment[1:])
                node.param = node = node.param or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.leaf is None:
            node.leaf = _Leaf(handler, tuple(names))

    def find(self, segments: list[str]) -> Match | None:
        """The best route for the segments.

        A depth-first search with a stack of its own, as both routes and paths are long at will. A place that was
        reached once and led nowhere is not tried again, so its time is linear in the segments for any one tree.
        """
        count = len(segments)
        stack: list[tuple[_Node, int, _Capture | None]] = [(self, 0, None)]
        tried: set[tuple[_Node, int]] = set()
        while stack:
            node, at, captured = stack.pop()
            if at == count:
                if node.leaf is not None:
                    return _as_match(node.leaf, segments, captured)
                continue
            if (node, at) in tried:
                continue
            tried.add((node, at))
            segment = segments[at]
            # What is pushed last is tried first.
            if node.is_star and captured is not None:
                end = at + 1 if node.literals or node.param or node.star else count
                stack.append((node, end, (captured[0], captured[1], end)))
            if node.star is not None:
                stack.append((node.star, at + 1, (captured, at, at + 1)))
            if node.param is not None and segment:
                stack.append((node.param, at + 1, (captured, at, at + 1)))
            literal = node.literals.get(segment)
            if literal is not None:
                stack.append((literal, at + 1, captured))
        return None


def _as_match(leaf: _Leaf, segments: list[str], captured: _Capture | None) -> Match:
    values = []
    while captured is not None:
        captured, start, end = captured
        values.append("/".join(segments[start:end]))
    return Match(leaf.handler, tuple(zip(leaf.names, reversed(values), strict=True)))


def _split(path: str) -> list[str]:
    """The segments of a path that begins with a slash, or is empty. One slash at the end is not a segment."""
    if path in ("", "/"):
        return []
    return path[1:].removesuffix("/").split("/")


def _decode(segment: str) -> str:
    """Percent-decoding; what isn't an escape is itself. Raises UnicodeDecodeError, which is a ValueError."""
    return unquote_to_bytes(segment).decode() if "%" in segment else segment


def _literal_paths(segments: list[str]) -> Iterator[str]:
    """The paths, as they are sent, that are the route of these segments and no other: none, one or two."""
    if any(segment == "*" or segment.startswith(":") or "%" in segment for segment in segments):
        return
    path = "/" + "/".join(segments)
    if not segments or segments[-1]:
        yield path
    if segments:
        yield path + "/"


def _check(pattern: str) -> None:
    """Raises `Err[HttpRouterErrorInvalidUrl]` for a pattern that is no path of segments."""
    if len(pattern) > MAX_PATTERN:
        raise Err(HttpRouterErrorInvalidUrl(f"a route has up to {MAX_PATTERN} characters, this one {len(pattern)}"))
    if pattern and not pattern.startswith("/"):
        raise _invalid(pattern, "it must begin with '/'")
    if any(char < " " or char == "\x7f" for char in pattern):
        raise _invalid(pattern, "it holds a control character")
    if "?" in pattern or "#" in pattern:
        raise _invalid(pattern, "it is matched against the path alone, without a query")
    names = [segment[1:] for segment in _split(pattern) if _is_param(pattern, segment)]
    if len(names) != len(set(names)):
        raise _invalid(pattern, "two of its parameters have one name")


def _is_param(pattern: str, segment: str) -> bool:
    """Whether a segment is a `:name`. Raises the same as `_check`."""
    name = segment.removeprefix(":")
    if segment == ":":
        raise _invalid(pattern, "':' needs a name")
    if segment != "*" and ("*" in name or ":" in name):
        raise _invalid(pattern, "':name' and '*' stand for whole segments")
    if segment.startswith(":") and "." in name:
        raise _invalid(pattern, "the name of a parameter can't hold '.'")
    return segment.startswith(":")


def _invalid(pattern: str, why: str) -> Err[HttpRouterErrorInvalidUrl]:
    return Err(HttpRouterErrorInvalidUrl(f"the route {pattern[:MAX_PATTERN]!r}: {why}"))
