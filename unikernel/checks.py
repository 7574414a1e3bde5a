"""Checks of what came as JSON from the other end of the control channel: each gives the value, or raises ControlError.

Process 1 of a machine imports this before anything else, so it is kept light.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 1 << 20
"""Bytes in a line of the channel, its end included."""


class ControlError(Exception):
    """What arrived is no message; str() says why, in printable text without what was sent."""


def unrepeated(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object by its members, none of which may be there twice."""
    unique = dict(members)
    if len(unique) != len(members):
        raise ControlError("an object has a member twice")
    return unique


def fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """An object with exactly these members."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ControlError(f"the fields are not {', '.join(names)}")
    return value


def items(value: Any) -> list[Any]:
    """A list of anything."""
    if not isinstance(value, list):
        raise ControlError("a list is none")
    return value


def table(value: Any) -> dict[str, str]:
    """An object whose members are all texts."""
    if not isinstance(value, dict):
        raise ControlError("a table of texts is none")
    return {whole_text(key): whole_text(member) for key, member in value.items()}


def text(value: Any, limit: int = LIMIT) -> str:
    """A text of at most so many signs."""
    if not isinstance(value, str) or len(value) > limit:
        raise ControlError("a text is none, or too long")
    return value


def whole_text(value: Any, limit: int = LIMIT) -> str:
    """A text that UTF-8 has a form for."""
    checked = text(value, limit)
    if not checked.isascii() and any("\ud800" <= sign <= "\udfff" for sign in checked):
        raise ControlError("a text has half of a surrogate pair")
    return checked


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ControlError("neither true nor false")
    return value


def number(value: Any, least: int, most: int) -> int:
    """A whole number, written as one: 1.0 and true are none."""
    if type(value) is not int or not least <= value <= most:
        raise ControlError(f"not a number from {least} to {most}")
    return value


def count(value: Any) -> int:
    """A whole number that every language's floating-point numbers have."""
    return number(value, 0, (1 << 53) - 1)


def nanoseconds(value: Any) -> int:
    return number(value, 0, (1 << 63) - 1)


def seconds(value: Any) -> float:
    """A time of less than 300 years."""
    # NaN and infinities, which Python reads as JSON, fail the comparison; `bool` is no time.
    if type(value) not in (int, float) or not 0 <= value < 1e10:
        raise ControlError("not a time in seconds")
    return float(value)


def seed(value: Any) -> bytes:
    """Bytes in base64, of at most 1,024 signs."""
    import binascii

    try:
        return binascii.a2b_base64(text(value, 1024), strict_mode=True)
    except ValueError:
        raise ControlError("the seed is not base64") from None


def network(value: Any) -> dict[str, str] | None:
    """The addresses of a machine, see control.md."""
    if value is None:
        return None
    members: dict[str, str] = fields(value, ("address", "gateway", "nameserver", "host"))
    address, slash, bits = text(members["address"], 18).partition("/")
    if not slash or not _is_decimal(bits, 32):
        raise ControlError("the address has no length of its network, from /0 to /32")
    for place in (address, members["gateway"], members["nameserver"], members["host"]):
        parts = text(place, 15).split(".")
        if len(parts) != 4 or not all(_is_decimal(part, 255) for part in parts):
            raise ControlError("an address of the network is not IPv4")
    return members


def _is_decimal(digits: str, most: int) -> bool:
    """Whether a number is written as it always is, without zeros in front."""
    return (
        digits.isascii()
        and digits.isdigit()
        and len(digits) <= 3
        and digits == str(int(digits))
        and int(digits) <= most
    )


def printable(text: str) -> str:
    """A text without what would move a terminal's cursor or can't be encoded."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
