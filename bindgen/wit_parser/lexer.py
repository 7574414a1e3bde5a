"""Text to tokens.

A token is its text: punctuation, a keyword, or a name as it is written. Comments vanish, but for the documentation.
The time is linear in the length of the text, and small: the work is done by a few regular expressions. What differs
between the WIT of 2022 and that of today is a `Dialect`; the one here is that of 2022.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import NoReturn, TypeAlias

from bindgen.wit_parser.source import Reporter, Source, Span

# fmt: off
KEYWORDS = frozenset([
    "_", "as", "async", "bool", "char", "enum", "expected", "flags", "float32", "float64", "from", "func", "future",
    "handle", "interface", "list", "option", "record", "resource", "s16", "s32", "s64", "s8", "static", "stream",
    "string", "tuple", "type", "u16", "u32", "u64", "u8", "union", "unit", "use", "variant",
])
# fmt: on
"""What a name is only with a `%` before it."""

PUNCTUATION = frozenset(["=", ",", ":", ";", "(", ")", "{", "}", "<", ">", "*", "->"])

MAX_TOKENS = 100_000
"""Many times what any interface needs. It keeps the time that a hostile file takes well below a second."""

MAX_NAME = 200
"""In characters."""

_COMMENT = re.compile(r"//[^\n]*|/\*")
_COMMENT_MARK = re.compile(r"/\*|\*/")
_PIECE = re.compile(
    r"""
    [ \t\r\n]+
  | %?(?:[\w\x80-\U0010ffff]|-(?!>))+       # a name, perhaps: anything that is not ASCII is judged afterwards
  | -> | [=,:;(){}<>*%]
  | [^ \t\r\n=,:;(){}<>*%\w\x80-\U0010ffff-]+
    """,
    re.VERBOSE | re.ASCII,
)
_NAME = re.compile(r"%?[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")

# Characters that make a text look like another one: control codes, but for tabs and line ends; those that override
# the direction of writing (CVE-2021-42574); and those that Unicode deprecates or discourages.
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_BIDIRECTIONAL = "\u202a-\u202e\u2066-\u2069"
_DISCOURAGED = "\u0149\u0673\u0f77\u0f79\u17a3\u17a4\u17b4\u17b5"
_FORBIDDEN = re.compile(f"([{_CONTROL}])|([{_BIDIRECTIONAL}])|[{_DISCOURAGED}]")

Wrong: TypeAlias = tuple[int, int, str, str]
"""What is wrong with a token: where in it, how long that is, the message and a hint, which may be empty."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the tokens of a language are."""

    keywords: frozenset[str]
    punctuation: frozenset[str]
    piece: re.Pattern[str]
    """Matches at each place of a text: a run of space, what may be a token, or what is none."""
    why_wrong: Callable[[str], Wrong | None]
    """What is wrong with a piece that is no space; None for a token."""
    has_file_docs: bool
    """Whether documentation at the beginning of a file is that of the file, and not of what follows."""


class Tokens:
    """The tokens of a file, and the documentation between them."""

    def __init__(
        self,
        source: Source,
        dialect: Dialect,
        texts: list[str],
        starts: list[int],
        wrong: frozenset[str],
        docs: list[Span],
    ) -> None:
        self.source = source
        self.dialect = dialect
        self.texts = texts
        self.wrong = wrong
        """Those of them that are no tokens at all, which has been reported."""
        self._starts = starts
        self._docs = docs
        self._doc_starts = [start for start, _ in docs]
        head = self._head() if dialect.has_file_docs else 0
        self.docs = _text_of_docs(source, docs[:head])
        """What documents the file: comments at its very beginning, before an empty line or a `use`."""
        self._taken = docs[head - 1][1] if head else 0

    def span(self, index: int) -> Span:
        """Where a token is; for the index after the last one, the end of the text."""
        if index >= len(self.texts):
            end = len(self.source.code.rstrip())
            return end, end
        return self._starts[index], self._starts[index] + len(self.texts[index])

    def docs_before(self, index: int) -> str:
        """The documentation right before a token."""
        last = bisect_left(self._doc_starts, self.span(index)[0])
        first = last
        begin = max(self._taken, self.span(index - 1)[1] if index else 0)
        while first and self._doc_starts[first - 1] >= begin:
            first -= 1
        return _text_of_docs(self.source, self._docs[first:last]) if first < last else ""

    def _head(self) -> int:
        """How many of the first documentation comments are the file's."""
        first = self.span(0)[0] if self.texts else len(self.source.code) + 1
        leading = bisect_left(self._doc_starts, first)
        for count in range(1, leading + 1):
            end = self._docs[count - 1][1]
            following = self._doc_starts[count] if count < leading else first
            if _BLANK_LINE.search(self.source.code, end, following):
                return count
        return leading if not self.texts or self.texts[0] == "use" else 0


def lex(source: Source, reporter: Reporter, dialect: Dialect | None = None) -> Tokens:
    """The tokens of `source`, in the dialect of 2022 where none is given.

    What is wrong with characters, names and comments is reported. Raises WitError if there are more than MAX_TOKENS,
    or so many comments.
    """
    dialect = dialect or DIALECT
    forbidden = _report_forbidden_characters(source, reporter)
    code, docs = _without_comments(source, reporter)
    # There is at most one piece of space between two tokens: so many pieces hold one token too many, if there are.
    pieces = dialect.piece.findall(code)[: 2 * MAX_TOKENS + 2]
    distinct = {piece for piece in set(pieces) if piece[0] not in " \t\r\n"}
    is_token = [piece in distinct for piece in pieces]
    texts = list(compress(pieces, is_token))
    starts = list(compress(accumulate(map(len, pieces), initial=0), is_token))
    reasons = {text: reason for text in distinct if (reason := dialect.why_wrong(text))}
    for text, start in zip(texts, starts, strict=True) if reasons else ():
        if text in reasons and forbidden.isdisjoint(range(start, start + len(text))):
            offset, length, message, hint = reasons[text]
            reporter.report(source.say((start + offset, start + offset + length), message, hint))
    if len(texts) > MAX_TOKENS:
        _refuse_the_rest(source, starts[MAX_TOKENS], "tokens", reporter)
    return Tokens(source, dialect, texts, starts, frozenset(reasons), docs)


def _refuse_the_rest(source: Source, start: int, what: str, reporter: Reporter) -> NoReturn:
    message = f"the file is too long: this is after {MAX_TOKENS:,} {what}"
    reporter.give_up(source.say((start, start + 1), message))


def _report_forbidden_characters(source: Source, reporter: Reporter) -> set[int]:
    """Returns where they are."""
    found = set()
    for match in _FORBIDDEN.finditer(source.code):
        what = "a control code"
        if match[2]:
            what = "a character that changes the direction of writing"
        elif not match[1]:
            what = "a character that Unicode discourages"
        reporter.report(source.say(match.span(), f"{_character(match[0])} is {what}, and not allowed"))
        found.add(match.start())
    return found


def _without_comments(source: Source, reporter: Reporter) -> tuple[str, list[Span]]:
    """The code with spaces in place of comments, and where the comments are that document something."""
    code = source.code
    parts: list[str] = []
    docs = []
    end = 0
    while match := _COMMENT.search(code, end):
        start = match.start()
        if len(parts) == 2 * MAX_TOKENS:
            _refuse_the_rest(source, start, "comments", reporter)
        parts.append(code[end:start])
        end = match.end() if match[0] != "/*" else _end_of_block_comment(code, start)
        if end < 0:
            reporter.report(source.say(match.span(), "this comment has no end", "expected `*/`"))
            end = len(code)
        parts.append(" " * (end - start))
        if code.startswith(("///", "/**"), start) and code[start:end] != "/**/":
            docs.append((start, end))
    parts.append(code[end:])
    return "".join(parts), docs


def _end_of_block_comment(code: str, start: int) -> int:
    """Block comments nest. -1 if there is no end."""
    depth = 0
    for match in _COMMENT_MARK.finditer(code, start):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    return -1


def _text_of_docs(source: Source, spans: list[Span]) -> str:
    return "\n".join(_text_of_doc(source.code[start:end]) for start, end in spans).strip("\n")


def _text_of_doc(comment: str) -> str:
    """A comment without its marks. Line comments keep what they are indented by, after one space."""
    if comment.startswith("//"):
        return comment.lstrip("/").removeprefix(" ").rstrip()
    lines = comment[3:-2].replace("\r\n", "\n").split("\n")
    if len(lines) == 1:
        return lines[0].strip()
    rest = [line.strip() for line in lines[1:]]
    if all(line.startswith("*") for line in rest[:-1] if line):
        lines[1:] = [line.removeprefix("*").removeprefix(" ") for line in rest]
    return "\n".join(line.rstrip() for line in inspect.cleandoc("\n".join(lines)).split("\n"))


def _why_wrong(text: str) -> Wrong | None:
    if text in PUNCTUATION or text in KEYWORDS:
        return None
    if len(text) <= MAX_NAME and _NAME.fullmatch(text):
        return None
    if wrong := why_no_word(text):
        return wrong
    hint = _why_no_name(text.removeprefix("%"))
    return (0, len(text), f"`{text}` is not a name", hint) if hint else None


def why_no_word(text: str) -> Wrong | None:
    """What is wrong with a name whatever the rules for names are: a character that is none of a word, or its length."""
    name = text.removeprefix("%")
    for offset, char in enumerate(name[:MAX_NAME], len(text) - len(name)):
        # Joiners can't be seen. Unicode 15.1 and with it Python 3.13 count them among the characters of a name.
        if char in "\u200c\u200d" or (char != "-" and not f"a{char}".isidentifier()):
            hint = "names are not quoted; one that is a keyword is written `%name`" if char == '"' else ""
            return offset, 1, f"{_character(char)} has no place in WIT", hint
    if len(text) > MAX_NAME:
        return 0, len(text), f"this name has more than {MAX_NAME} characters", ""
    return None


def _why_no_name(name: str) -> str:
    """Names are words in lower case with `-` between them, in Unicode's normalization form C."""
    if any(char.isupper() or char == "_" for char in name):
        words = re.sub(r"(?<=[^\W_])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()
        kebab = re.sub("-+", "-", words).strip("-")
        hint = "names are in lower case, with `-` between words"
        return f"{hint}: `{kebab}`" if _NAME.fullmatch(kebab) else hint
    if not all(word.isidentifier() and not unicodedata.combining(word[0]) for word in name.split("-")):
        return "each word of a name begins with a letter"
    if not unicodedata.is_normalized("NFC", name):
        return "names are in Unicode's normalization form C"
    return ""


DIALECT = Dialect(KEYWORDS, PUNCTUATION, _PIECE, _why_wrong, has_file_docs=True)


def _character(char: str) -> str:
    """How a message names a character."""
    code = f"U+{ord(char):04X}"
    if char.isprintable() and not char.isspace():
        return f"`{char}`" if char.isascii() else f"`{char}` ({code})"
    return f"{code} ({unicodedata.name(char)})" if unicodedata.name(char, "") else code
