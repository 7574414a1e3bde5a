"""What is wrong with a component."""

from __future__ import annotations

from capabilities.http.access import printable


class ComponentError(Exception):
    """A component that is not run, and why: one sentence, which says at which byte of the file."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(at, problem)
        self.at = at
        """The offset in the file, in bytes."""
        self.problem = printable(problem)
        """Of one line; names in it are the component's, and are escaped and cut where they must be."""

    def __str__(self) -> str:
        return f"component: at byte {self.at:#x}: {self.problem}"


class InvalidComponent(ComponentError):
    """The bytes are no component, or one that breaks a rule of the component model."""


class UnsupportedComponent(ComponentError):
    """The component uses what this version doesn't have, or is larger than it takes."""
