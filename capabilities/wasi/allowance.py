"""How much of the host's memory a guest may hold by what it makes there: headers, and bodies that go nowhere yet.

Handles cost a guest next to nothing, and it may have tens of thousands. Whoever runs a guest gives it an allowance for
a request, or for a program's life: `of_guest.set(Allowance())`. What the guest makes is counted in that of its context.
"""

from __future__ import annotations

from contextvars import ContextVar

from bindgen.runtime import GuestFault

LIMIT = 64 << 20
"""Bytes."""


class Allowance:
    """Bytes that a guest may hold in all."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self.held = 0
        """Bytes that it holds now."""

    def take(self, size: int) -> None:
        """Counts so many bytes more. Raises GuestFault where that would be too much."""
        if self.held + size > self._limit:
            raise GuestFault(
                f"the guest has the host hold up to {self.held + size} bytes for it, more than the {self._limit} that "
                "it may; it must drop something first"
            )
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


of_guest: ContextVar[Allowance] = ContextVar("of_guest", default=Allowance())  # noqa: B039 - one for whoever sets none
"""That of the guest whose call is answered."""
