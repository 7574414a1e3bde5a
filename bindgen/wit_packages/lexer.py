"""Text to tokens, as `bindgen.wit_parser.lexer` makes them: what today's WIT has in place of the tokens of 2022.

From https://github.com/WebAssembly/component-model/blob/main/design/mvp/WIT.md#lexical-structure.
"""

from __future__ import annotations

import re

from bindgen.wit_parser.lexer import MAX_NAME, Dialect, Wrong, why_no_word

# fmt: off
KEYWORDS = frozenset([
    "_", "as", "async", "bool", "borrow", "char", "constructor", "enum", "error-context", "export", "f32", "f64",
    "flags", "from", "func", "future", "import", "include", "interface", "list", "map", "option", "own", "package",
    "record", "resource", "result", "s16", "s32", "s64", "s8", "static", "stream", "string", "tuple", "type", "u16",
    "u32", "u64", "u8", "use", "variant", "with", "world",
])
# fmt: on
"""What a name is only with a `%` before it."""

PUNCTUATION = frozenset(["=", ",", ":", ";", "(", ")", "{", "}", "<", ">", "*", "/", ".", "@", "->"])

_PIECE = re.compile(
    r"""
    [ \t\r\n]+
  | "(?:[^"\\\n]|\\.)*"
  | [0-9]+(?:\.[0-9]+)+ (?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)? (?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?   # a version
  | %?(?:[\w\x80-\U0010ffff]|-(?!>))+       # a name, perhaps: anything that is not ASCII is judged afterwards
  | -> | [=,:;(){}<>*/.@%"]
  | [^ \t\r\n=,:;(){}<>*/.@%"\w\x80-\U0010ffff-]+
    """,
    re.VERBOSE | re.ASCII,
)
_NAME = re.compile(r"%?(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*)(?:-(?:[a-z0-9]+|[A-Z0-9]+))*")
_STRING = re.compile(r'"(?:[^"\\]|\\(?:[tnr"\'\\]|[0-9a-fA-F]{2}|u\{[0-9a-fA-F]{1,6}\}))*"')
_NUMBER = r"(?:0|[1-9][0-9]*)"
_VERSION = re.compile(
    # From semver.org, with what a version is before a release and what it is built with in groups.
    rf"(?P<numbers>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
    rf"(?:-(?P<before>(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def is_version(text: str) -> bool:
    """Whether a token is a semantic version."""
    return len(text) <= MAX_NAME and _VERSION.fullmatch(text) is not None


def precedence(version: str) -> tuple[object, ...]:
    """What versions are compared by, as semver.org asks; raises ValueError where `is_version` is false."""
    match = _VERSION.fullmatch(version)
    if not match:
        raise ValueError(f"{version!r} is not a version")
    numbers = tuple(map(int, match["numbers"].split(".")))
    if match["before"] is None:
        return *numbers, 1
    # Numbers come before words.
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in match["before"].split(".")]
    return *numbers, 0, tuple(parts)


def _why_wrong(text: str) -> Wrong | None:
    if text in PUNCTUATION or text in KEYWORDS:
        return None
    if text[0] == '"':
        return _why_no_string(text)
    if text[0].isdecimal() and text.isascii():
        return _why_no_number(text)
    if len(text) <= MAX_NAME and _NAME.fullmatch(text):
        return None
    return why_no_word(text) or (0, len(text), f"`{text}` is not a name", _why_no_name(text.removeprefix("%")))


def _why_no_string(text: str) -> Wrong | None:
    if text == '"':
        return 0, 1, "this string has no end", 'expected `"` in the same line'
    if not _STRING.fullmatch(text):
        return (
            0,
            len(text),
            "this is not a string",
            "after `\\`, there is one of `tnr\"'\\`, `u{...}` or a byte in hexadecimal",
        )
    return None


def _why_no_number(text: str) -> Wrong | None:
    """A number that is no version, such as the length of a list, has digits only."""
    if is_version(text) or (text.isdecimal() and len(text) <= MAX_NAME):
        return None
    if "." in text:
        return (
            0,
            len(text),
            f"`{text[:MAX_NAME]}` is not a version",
            "a version is like `1.2.3` or `1.2.3-rc.1` (semver.org)",
        )
    return 0, len(text), f"`{text[:MAX_NAME]}` is not a name", "a name begins with a letter"


def _why_no_name(name: str) -> str:
    """Names are words with `-` between them; a word is in lower case, or in upper case."""
    if "_" in name:
        hint = "names have `-` between words"
        better = re.sub("-+", "-", name.replace("_", "-")).strip("-")
        return f"{hint}: `{better}`" if _NAME.fullmatch(better) else hint
    if any(word != word.lower() and word != word.upper() for word in name.split("-")):
        words = re.sub(r"(?<=[^\W_])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
        hint = "a word of a name is in lower case, or in upper case"
        return f"{hint}: `{words}`" if _NAME.fullmatch(words) else hint
    if not name.isascii():
        return "names are in ASCII"
    return "a name is words of letters and digits with `-` between them, and begins with a letter"


DIALECT = Dialect(KEYWORDS, PUNCTUATION, _PIECE, _why_wrong, has_file_docs=False)
