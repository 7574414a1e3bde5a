"""Interfaces whose names are all words that mean something in a language, or in the bindings that are generated for it.

The words come from the languages' keywords, from what the backends reserve, and from the generated text itself: a name
that a backend begins to use tomorrow is among them then.
"""

from __future__ import annotations

import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from bindgen import runtime
from bindgen.backends import c, c_names, python, python_names, rust, rust_host, rust_names
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface

LANGUAGES = ("python", "c", "rust")

MARK = "zz"
"""What the sample's own names contain: they are words for nothing."""

_LABELS = ", ".join(f"{MARK}{number}" for number in range(65))

_TYPES = f"""
record zz-record {{ zz-a: u8, zz-b: string, zz-c: list<u64> }}
variant zz-variant {{ zz-a(zz-record), zz-b(float32), zz-c(u64), zz-d(list<string>), zz-e }}
enum zz-enum {{ zz-a, zz-b, zz-c }}
flags zz-flags {{ zz-a, zz-b, zz-c }}
flags zz-many {{ {_LABELS} }}
union zz-union {{ string, u8 }}
type zz-alias = list<tuple<string, u16>>
"""

_FUNCTIONS = """
use * from zz-types
resource zz-{resource} {{
    static zz-open: func(a: string, b: option<zz-{resource}>) -> expected<zz-{resource}, zz-variant>
    zz-look: func(c: list<zz-variant>) -> option<string>
    zz-pass: func()
}}
zz-flat: func(d: zz-variant, e: zz-flags, f: zz-many, g: zz-enum, h: zz-record, i: zz-union) -> bool
zz-stored: func(a: zz-record, b: list<zz-record>, c: list<list<string>>, d: tuple<u8, float32, float64>, e: zz-alias)
  -> list<zz-record>
zz-plain: func(a: u8, b: char, c: s16) -> s64
zz-coded: func(a: zz-{resource}) -> expected<_, zz-enum>
zz-text: func() -> expected<string, list<u8>>
zz-numbers: func(a: list<u64>) -> zz-many
zz-wide: func(a: tuple<u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8>) -> zz-union
"""
"""One of everything that the backends have text for."""

_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")


def words(language: str, directory: Path) -> list[str]:
    """The words of a language and of its bindings, spelled as names of WIT. None of those begins with `_`."""
    if language == "python":
        found = {*keyword.kwlist, *keyword.softkwlist, *_builtins(), *vars(runtime), *vars(runtime.GuestResource)}
        found |= {*vars(int), *_reserved(python_names), *_identifiers(python.write(*_samples(directory)))}
    elif language == "c":
        found = _reserved(c_names) | _identifiers(c.write(*_samples(directory)))
    else:
        write = rust_host.write if language == "rust-host" else rust.write
        found = _reserved(rust_names) | _identifiers(write(*_samples(directory)))
    kebab = {_kebab(word) for word in found if not word.startswith("_") and MARK not in word.lower()}
    return sorted(filter(_NAME.fullmatch, kebab))


def _builtins() -> set[str]:
    """The names of Python's functions and types, but for exceptions."""
    return {
        name
        for name, value in vars(builtins).items()
        if not (isinstance(value, type) and issubclass(value, BaseException))
    }


def _samples(directory: Path) -> tuple[list[Interface], list[Interface]]:
    """An interface to import, and one to export."""
    directory.mkdir()
    (directory / "zz-types.wit").write_text(_TYPES)
    paths = [directory / "zz-host.wit", directory / "zz-guest.wit"]
    for path, resource in zip(paths, ("thing", "own"), strict=True):
        path.write_text(_FUNCTIONS.format(resource=resource))
    imported, exported = load_many(paths)
    return [imported], [exported]


def _reserved(module: ModuleType) -> set[str]:
    """The words in the sets of a module of names."""
    sets = [value for value in vars(module).values() if isinstance(value, set | frozenset)]
    return {word for value in sets for word in value if isinstance(word, str)}


def _identifiers(files: dict[str, str]) -> set[str]:
    """What the code in files is made of, and the names of the files."""
    found = {name.partition(".")[0] for name in files}
    for name, text in files.items():
        if name.endswith(".py"):
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            found.update(token.string for token in tokens if token.type == tokenize.NAME)
        else:
            found.update(_IDENTIFIER.findall(_COMMENT_OR_STRING.sub(" ", text)))
    return found


def _kebab(word: str) -> str:
    """`TypeAlias` and `type_alias` as `type-alias`. Not a name where a part begins with a digit."""
    parts = [part for piece in word.rstrip("_").split("_") for part in (_PART.findall(piece) or [piece])]
    return "-".join(parts).lower() if "".join(parts) == word.rstrip("_").replace("_", "") else ""


# Interfaces of such words: what a guest imports and what it exports, in pairs of the same functions in one order.

KINDS = {
    "record": "record %{a} {{ %{a}: string, %{b}: u8 }}",
    "variant": "variant %{a} {{ %{a}(string), %{b}(u64), %{c} }}",
    "enum": "enum %{a} {{ %{a}, %{b}, %{c} }}",
    "flags": "flags %{a} {{ %{a}, %{b}, %{c} }}",
    "union": "union %{a} {{ string, u8 }}",
    "alias": "type %{a} = list<tuple<string, u16>>",
}
"""A type of each kind whose name is a word, and so are the names within it."""

PARAMS = ("string", "u32", "option<string>", "list<u8>", "kept", "some", "float64", "s8", "list<kept>", "bare", "held")
"""Types that travel as one flat value, as pointer and length, as a handle, as a tag and slots."""

PARAM_TYPES = """
record kept { one: string, other: u8 }
variant some { one(string), two(u64), three }
enum bare { one, two }
"""

Files = Mapping[str, str]
"""Texts of interfaces, by name."""


@dataclass(frozen=True, slots=True)
class Torture:
    """Interfaces that a guest imports, those that it exports, and those that these use."""

    imports: Files
    exports: Files
    used: Files = field(default_factory=dict)

    def load(self, directory: Path) -> tuple[list[Interface], list[Interface]]:
        for name, text in {**self.imports, **self.exports, **self.used}.items():
            (directory / f"{name}.wit").write_text(text)
        found = load_many([directory / f"{name}.wit" for name in (*self.imports, *self.exports)])
        return found[: len(self.imports)], found[len(self.imports) :]


def everywhere(these: Sequence[str]) -> Torture:
    """Each word as the name of a type of each kind, of what is in it, of functions, and of parameters."""
    imports: dict[str, str] = {}
    exports: dict[str, str] = {}
    used = {f"types-{kind}": _types(kind, these) for kind in KINDS}
    for kind in KINDS:
        imports[f"host-{kind}"] = exports[f"guest-{kind}"] = f"use * from types-{kind}\n{_users(these)}"
    imports["host-params"] = f"resource held\n{PARAM_TYPES}{_functions(these)}"
    exports["guest-params"] = f"use {{ held }} from host-params\n{PARAM_TYPES}{_functions(these)}"
    imports["host-resources"] = "".join(
        f"resource %{a} {{ static %{a}: func{params} %{b}: func{other} }}\n" for a, b, params, other in _methods(these)
    )
    exports["guest-of-resources"] = "use * from host-resources\n" + "".join(
        f"%{a}: func{params}\n%of-{a}: func{other.replace('(', f'(handle-of: %{a}, ', 1)}\n"
        for a, b, params, other in _methods(these)
    )
    return Torture(imports, exports, used)


def own_resources(these: Sequence[str]) -> Torture:
    """Each word as the name of a resource of the guest, of a static function, and of a method."""
    return Torture(
        {"host": "".join(f"%{a}: func{params}\n%of-{a}: func{other}\n" for a, b, params, other in _methods(these))},
        {
            "guest": "".join(
                f"resource %{a} {{ static %{a}: func{params} -> %{a}   %{b}: func{other} }}\n"
                for a, b, params, other in _methods(these)
            )
        },
    )


def files(these: Sequence[str]) -> Torture:
    """Each word as the name of a file, and of the type in it."""
    texts = {
        word: f"record %{word} {{ %{word}: string }}\nf{number}: func(%{word}: %{word}) -> tuple<%{word}>\n"
        for number, word in enumerate(these)
    }
    return Torture(texts, texts)


def _turned(items: Sequence[str], by: int) -> list[str]:
    """The items, beginning with another one."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def _types(kind: str, these: Sequence[str]) -> str:
    """For each word a type of the kind, with words within it."""
    named = zip(these, _turned(these, 1), _turned(these, 2), strict=True)
    return "".join(f"{KINDS[kind].format(a=a, b=b, c=c_)}\n" for a, b, c_ in named)


def _users(these: Sequence[str]) -> str:
    """For each word a parameter of the type of that name, and for every third a function of its name."""
    lines = []
    for first in range(0, len(these), 3):
        some = these[first : first + 3]
        params, types = ", ".join(f"%{a}: %{a}" for a in some), ", ".join(f"%{a}" for a in some)
        lines.append(f"%{some[0]}: func({params}) -> tuple<{types}>\n")
    return "".join(lines)


def _functions(these: Sequence[str]) -> str:
    """For each word a function. Each is the name of a few parameters, and of one among many."""
    lines = []
    many = 20
    for number, word in enumerate(these):
        count = 4 if number % many else many
        names = [_turned(these, number + place * place)[0] for place in range(count)]
        lines.append(f"%{word}: func{_signature(number, list(dict.fromkeys(names)))}")
    return "\n".join(lines) + "\n"


def _methods(these: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """For each word, another one that follows, and two signatures."""
    others = _turned(these, 1)
    return [(a, b, f"(%{b}: string)", _signature_of_texts([a, b])) for a, b in zip(these, others, strict=True)]


def _signature_of_texts(names: Sequence[str]) -> str:
    return f"({', '.join(f'%{name}: string' for name in names)}) -> tuple<{', '.join(['string'] * len(names))}>"


def _signature(number: int, names: Sequence[str]) -> str:
    """Parameters of some names, and all of them as the result."""
    types = [PARAMS[(number + place) % len(PARAMS)] for place in range(len(names))]
    params = ", ".join(f"%{name}: {type_}" for name, type_ in zip(names, types, strict=True))
    return f"({params}) -> tuple<{', '.join(types)}>"
