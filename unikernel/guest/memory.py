"""How much memory the machine has left. Process 1 imports this before anything else, so it is kept light."""

from __future__ import annotations


def available() -> int:
    """How many bytes the system can give now."""
    with open("/proc/meminfo") as file:
        facts = dict(line.split(":") for line in file)
    amount, _, _ = facts["MemAvailable"].strip().partition(" ")
    return int(amount) << 10


def check(room: int) -> None:
    """Raises MemoryError where the system can't give as many bytes: it would read its own programs from the disk over
    and over, and be taken for hung."""
    if available() < room:
        raise MemoryError
