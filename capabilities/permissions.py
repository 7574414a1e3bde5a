"""What a slightfile allows a module to do with what it has opened, for the families that tell actions apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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


def allowed(rules: Iterable[Rule], module: str) -> dict[str, tuple[str, ...]]:
    """What rules allow a module, by action."""
    found: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        for action, patterns in rule.patterns.items():
            mine = patterns if not rule.modules or module in rule.modules else ()
            found[action] = found.get(action, ()) + mine
    return found


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
                notices.tell(
                    f"{self.place}{self.family}: the module asked to {action} {quote(each)}, which the slightfile does "
                    f"not allow it; add [[capability.allow]] with modules = [{_toml(self.module)}] and "
                    f"{action} = [{_toml(each)}]"
                )
                raise NotAllowed(f"the slightfile does not allow this module to {action} {quote(each)}")

    def _allows(self, action: str, topic: str) -> bool:
        patterns = allowed(self.rules, self.module).get(action, ())
        return not self.rules or any(matches(pattern, topic) for pattern in patterns)


def _toml(text: str) -> str:
    """A text as it is written in a slightfile; one that is long is cut, as nobody would write it."""
    return json.dumps(text[:80], ensure_ascii=False)


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
