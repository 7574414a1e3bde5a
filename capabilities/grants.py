"""The names that a guest may open, for the families whose capabilities are opened by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from capabilities import notices, registry
from capabilities.errors import CapabilityError
from capabilities.families import ResourceType

B = TypeVar("B")

QUOTED = 80
"""How many characters of a guest's text are shown."""

NAMES = 10
"""How many of the granted names are told."""


class NotGranted(CapabilityError):
    """The slightfile doesn't grant the name."""


class Granted(dict[str, B]):
    """The backends of one family, by the names that a slightfile grants them under, and where it does."""

    def __init__(self, backends: Mapping[str, B], path: str, lines: Mapping[str, int], resource: ResourceType) -> None:
        """`lines` has the line of each name in the file at `path`, `resource` the resource type of the first."""
        super().__init__(backends)
        self.path = path
        self.lines = lines
        self.resource = resource


class Grants(Generic[B]):
    """The backends of one family, by the names that they are granted under; `*` stands for any other name.

    `noun` is what the family's things are called in messages: "store", "database". Where the backends are `Granted`,
    the messages for the user say where.
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
        notices.tell(
            f"{self._place()}{self._family}: the module asked for the {self._noun} {quote(name)}, which the slightfile "
            f"does not grant (it grants {self._with_lines() or 'none'}); add [[capability]]{self._keys(name)}"
        )
        return NotGranted(f"no {self._noun} {quote(name)} is granted; granted: {granted}")

    # For the user alone: a guest is not told where the slightfile is.

    def _place(self) -> str:
        return f"{self._backends.path}: " if isinstance(self._backends, Granted) else ""

    def _with_lines(self) -> str:
        lines = self._backends.lines if isinstance(self._backends, Granted) else {}
        names = [quote(each) + (f" in line {lines[each]}" if lines.get(each) else "") for each in self._backends]
        return ", ".join(names if len(names) <= NAMES else [*names[:NAMES], f"and {len(names) - NAMES} more"])

    def _keys(self, name: str) -> str:
        """What is to be written below a [[capability]] that grants the name."""
        if isinstance(self._backends, Granted):
            resource: ResourceType | None = self._backends.resource
        else:
            resource = next(iter(registry.available(self._family)), None)
        keys = [f'resource = "{resource.name}"'] if resource else []
        keys += [f"name = {toml(name)}"] if len(name) <= QUOTED else []
        if isinstance(self._backends, Granted) and resource and resource.required:
            keys.append(f"[capability.configs] as in line {next(iter(self._backends.lines.values()))}")
        return f" with {' and '.join(keys)}" if keys else ""


def quote(text: str) -> str:
    """A guest's text as messages show it: on one line, and short."""
    return repr(text if len(text) <= QUOTED else f"{text[:QUOTED]}…")


def toml(text: str) -> str:
    """A text as a slightfile has it, on one line and in characters that can be seen."""
    return '"' + "".join(_escaped(each) for each in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04X}" if ord(character) < 0x10000 else f"\\U{ord(character):08X}"
