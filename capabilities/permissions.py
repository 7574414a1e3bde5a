"""What a slightfile allows a module to do with what it has opened, for the families that tell actions apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capabilities import notices
from capabilities.errors import CapabilityError
from capabilities.grants import quote


class NotAllowed(CapabilityError):
    """The slightfile doesn't allow the module to do that."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A [[capability.allow]]: what the modules may do that it is for, or all modules where it names none."""

    modules: tuple[str, ...]
    """Names of the modules' files."""
    patterns: dict[str, tuple[str, ...]]
    """By action (`publish`), what it may be done with: names in which `*` stands for any text, none too."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one module may do under one name of a capability."""

    place: str
    """Where the slightfile grants that name, as messages begin."""
    family: str
    module: str
    rules: tuple[Rule, ...]
    """Without any, the module may do everything."""

    def check(self, action: str, topic: str, also: Sequence[str] = ()) -> None:
        """Raises NotAllowed, and tells the user once, unless an action is allowed with a topic, and with those that
        are `also` reached through it."""
        for each in (topic, *also):
            if not self._allows(action, each):
                name = quote(each)
                notices.tell(
                    f"{self.place}{self.family}: {self.module} asked to {action} {name}, which the slightfile doesn't "
                    f'allow it; add [[capability.allow]] with modules = ["{self.module}"] and {action} = [{name}]'
                )
                raise NotAllowed(f"the slightfile doesn't allow this module to {action} {name}")

    def _allows(self, action: str, topic: str) -> bool:
        return not self.rules or any(
            matches(pattern, topic)
            for rule in self.rules
            if not rule.modules or self.module in rule.modules
            for pattern in rule.patterns.get(action, ())
        )


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one that a pattern stands for: each `*` in it is any text.

    It takes time in proportion to both lengths at most, whatever a guest chooses as the name.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
