"""Keys for services that don't take every text: plain keys are stored as they are, all others in an escaped form.

An escaped key starts with `~~`. The rest is the key, percent-encoded as in a URL (RFC 3986) with `~` in place of `%`:
`a/b` is `~~a~2Fb`, the empty key is `~~`. A key that starts with `~~` itself is never plain, so no two are confused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from capabilities.keyvalue import InvalidKey, encode

_MARK = "~~"


@dataclass(frozen=True, slots=True)
class Escaping:
    """What a service takes: `plain` matches the whole of each key that it takes as it is, `limit` is how long what is
    stored may be, in bytes of UTF-8 or, with `in_characters`, in those."""

    plain: re.Pattern[str]
    limit: int
    in_characters: bool = False

    def escape(self, key: str) -> str:
        """The form in which a key is stored. Raises InvalidKey where it would be too long."""
        encode(key)
        stored = key
        if key.startswith(_MARK) or not self.plain.fullmatch(key):
            stored = _MARK + quote(key, safe="").replace("~", "%7E").replace("%", "~")
        if len(stored if self.in_characters else stored.encode()) > self.limit:
            unit = "characters" if self.in_characters else "bytes"
            raise InvalidKey(f"the key is too long: with what is escaped in it, it may have {self.limit} {unit}")
        return stored

    def unescape(self, stored: str) -> str | None:
        """The key that is stored in this form; None where it is that of none, as others may have stored it."""
        if not stored.startswith(_MARK):
            return stored if self.plain.fullmatch(stored) else None
        try:
            key = unquote(stored[len(_MARK) :].replace("~", "%"), errors="strict")
            return key if self.escape(key) == stored else None
        except (UnicodeDecodeError, InvalidKey):
            return None
