"""The encodings that texts of a component have in its memory, as its canonical options say.

The rules are those of the component model's `CanonicalABI.md`, `load_string` and `store_string`. A text travels as a
pointer and a number of code units, in which the topmost bit may say which of two encodings it is.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Encoding: TypeAlias = Literal["utf8", "utf16", "latin1+utf16"]
"""The canonical option `string-encoding`."""

UTF16_TAG = 1 << 31
"""The bit of the number of code units that says, with latin1+utf16, that the text is in UTF-16."""

MAX_BYTES = (1 << 28) - 1
"""How long a text may be, in bytes."""

ALIGNMENTS: dict[Encoding, int] = {"utf8": 1, "utf16": 2, "latin1+utf16": 2}
"""What the pointer has to be a multiple of, in bytes."""


def codec_of(units: int, encoding: Encoding) -> tuple[str, int]:
    """The codec of a text, as Python names it, and its length in bytes."""
    if encoding == "utf8":
        return "utf-8", units
    if encoding == "utf16":
        return "utf-16-le", 2 * units
    if units & UTF16_TAG:
        return "utf-16-le", 2 * (units ^ UTF16_TAG)
    return "latin-1", units


def encode(text: str, encoding: Encoding) -> tuple[bytes, int]:
    """The bytes of a text, and the number of code units that travels with their address.

    Raises UnicodeEncodeError for a text with a surrogate.
    """
    if encoding == "utf8":
        data = text.encode()
        return data, len(data)
    if encoding == "latin1+utf16":
        try:
            data = text.encode("latin-1")
        except UnicodeEncodeError:
            data = text.encode("utf-16-le")
            return data, len(data) // 2 | UTF16_TAG
        return data, len(data)
    data = text.encode("utf-16-le")
    return data, len(data) // 2
