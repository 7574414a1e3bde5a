"""The order of what needs each other, files as well as types, and the limits of types.

The front ends of both dialects have this in common.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from bindgen.wit_parser.model import (
    Alias,
    Function,
    Kind,
    Record,
    Type,
    TypeDef,
    Union,
    Variant,
    spelling,
)
from bindgen.wit_parser.parser import MAX_DEPTH

MAX_PARTS = 65_536
"""How many types a type may be made of, each counted as often as it occurs when all names are seen through."""

N = TypeVar("N")


def in_order(
    roots: Iterable[N], successors: Callable[[N], Iterable[N]], report_circle: Callable[[list[N]], None]
) -> list[N]:
    """`roots` and what follows from them, each after its own successors.

    `report_circle` gets every circle that is met, with its first node again at its end.
    """
    order: list[N] = []
    done: set[N] = set()
    path: dict[N, Iterator[N]] = {}
    for root in roots:
        if root not in done:
            path[root] = iter(successors(root))
        while path:
            node = next(reversed(path))
            for successor in path[node]:
                if successor in path:
                    nodes = list(path)
                    report_circle([*nodes[nodes.index(successor) :], successor])
                elif successor not in done:
                    path[successor] = iter(successors(successor))
                    break
            else:
                path.popitem()
                done.add(node)
                order.append(node)
    return order


def trail(names: list[str]) -> str:
    if len(names) > 8:
        names = [*names[:4], "…", *names[-3:]]
    return " → ".join(name if name == "…" else f"`{name}`" for name in names)


def similar(name: str, known: Iterable[str]) -> str:
    """A hint at a name that may be meant, or nothing. It looks at some hundred names at most, as there may be many."""
    similar_length = (it for it in islice(known, 1000) if abs(len(it) - len(name)) <= 2)
    close = difflib.get_close_matches(name, islice(similar_length, 100), n=1, cutoff=0.7)
    return f"did you mean `{close[0]}`?" if close else ""


class Measures:
    """How deep the types with a name are nested, and of how many types they are made."""

    def __init__(self) -> None:
        self._known: dict[TypeDef, tuple[int, int]] = {}

    def excess(self, definition: TypeDef | Function, types: Iterable[Type]) -> str:
        """What to say of a definition that is made of more `types` than allowed; else nothing.

        Those of the types that have a name must have been asked about before.
        """
        depth, parts = self._measure(types)
        if isinstance(definition, TypeDef):
            self._known[definition] = depth, parts
        else:
            depth -= 1  # a function is no level itself
        if depth <= MAX_DEPTH and parts <= MAX_PARTS:
            return ""
        limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_PARTS} parts"
        return f"`{definition.name}` has more than {limit} of types within types"

    def _measure(self, types: Iterable[Type]) -> tuple[int, int]:
        """Depth and parts of what is made of `types`."""
        depth = parts = 0
        for it in types:
            inner = self._known.get(it, (1, 1)) if isinstance(it, TypeDef) else self._measure(spelling(it)[1])
            depth = max(depth, inner[0])
            parts += inner[1]
        return depth + 1, parts + 1


def types_in(kind: Kind) -> Iterable[Type]:
    """The types that a definition is written with."""
    match kind:
        case Record(fields):
            return [field.type for field in fields]
        case Variant(cases) | Union(cases):
            return [case.type for case in cases if case.type is not None]
        case Alias(type_):
            return [type_]
        case _:
            return []
