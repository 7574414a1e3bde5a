"""JSON objects of which nothing is known yet: their members are taken as what they must be."""

from __future__ import annotations

from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=str)


class Table:
    """A JSON object. Each method takes members of it, and raises ValueError, with what is wrong."""

    def __init__(self, value: object, what: str) -> None:
        """`what` it is to the reader of a message."""
        if not isinstance(value, dict):
            raise ValueError(f"{what} is not a table")
        self._value: dict[str, object] = value
        self.what = what

    def _of(self, key: str, kind: type) -> Any:
        value = self._value.get(key)
        # bool is an int of Python's, and not of JSON's.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{self.what} has no {key!r}, or one of another kind")
        return value

    def text(self, key: str) -> str:
        text: str = self._of(key, str)
        return text

    def optional_text(self, key: str) -> str | None:
        return None if self._value.get(key) is None else self.text(key)

    def choice(self, key: str, *choices: Choice) -> Choice:
        text = self.text(key)
        for choice in choices:
            if choice == text:
                return choice
        raise ValueError(f"{key!r} of {self.what} is {text!r}, which is none of {', '.join(choices)}")

    def number(self, key: str) -> int:
        """A whole number that is not negative and fits in 63 bits."""
        number: int = self._of(key, int)
        if not 0 <= number < 1 << 63:
            raise ValueError(f"{key!r} of {self.what} is out of range")
        return number

    def flag(self, key: str) -> bool:
        flag: bool = self._of(key, bool)
        return flag

    def hash(self, key: str) -> str:
        """A SHA-256 hash in hexadecimal."""
        text = self.text(key)
        if len(text) != 64 or text.strip("0123456789abcdef"):
            raise ValueError(f"{key!r} of {self.what} is not a SHA-256 hash")
        return text

    def texts(self, key: str) -> dict[str, str]:
        """A table all of whose members are texts."""
        table = self.table(key)
        return {name: table.text(name) for name in table._value}

    def lists_of_texts(self) -> dict[str, tuple[str, ...]]:
        """All members of this table, each of which must be a list of texts."""
        lists: dict[str, tuple[str, ...]] = {}
        for key in self._value:
            texts: list[object] = self._of(key, list)
            lists[key] = tuple(text for text in texts if isinstance(text, str))
            if len(lists[key]) != len(texts):
                raise ValueError(f"{key!r} of {self.what} holds what is no text")
        return lists

    def table(self, key: str) -> Table:
        return Table(self._value.get(key), f"{key!r} of {self.what}")

    def optional_table(self, key: str) -> Table | None:
        return None if self._value.get(key) is None else self.table(key)

    def tables(self, key: str) -> list[Table]:
        """A list of tables."""
        return [Table(value, f"an entry of {key!r}") for value in self._of(key, list)]

    def tables_by_name(self) -> dict[str, Table]:
        """All members of this table, each of which must be a table."""
        return {key: self.table(key) for key in self._value}
