"""The names that a guest may open, for the families whose capabilities are opened by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from capabilities import notices, registry
from capabilities.errors import CapabilityError

B = TypeVar("B")


class NotGranted(CapabilityError):
    """The slightfile doesn't grant the name."""


class Grants(Generic[B]):
    """The backends of one family, by the names that they are granted under; `*` stands for any other name.

    `noun` is what the family's things are called in messages: "store", "database".
    """

    __slots__ = ("_backends", "_family", "_noun")

    def __init__(self, family: str, noun: str, backends: Mapping[str, B]) -> None:
        self._family = family
        self._noun = noun
        self._backends = backends

    def of(self, name: str) -> B:
        """Raises NotGranted, and tells the user once, for a name that isn't granted."""
        backend = self._backends.get(name) or self._backends.get("*")
        if backend is None:
            raise self._refusal(name)
        return backend

    def _refusal(self, name: str) -> NotGranted:
        granted = ", ".join(quote(each) for each in self._backends) or "none"
        resource = next(iter(registry.available(self._family)), None)
        add = f' with resource = "{resource.name}" and name = {quote(name)}' if resource else ""
        notices.tell(
            f"{self._family}: the module asked for the {self._noun} {quote(name)}, which the slightfile does not grant "
            f"(it grants {granted}); add [[capability]]{add}"
        )
        return NotGranted(f"no {self._noun} {quote(name)} is granted; granted: {granted}")


def quote(text: str) -> str:
    """A guest's text as messages show it: on one line, and short."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
