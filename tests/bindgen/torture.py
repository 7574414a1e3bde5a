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
from random import Random
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
record zzrecord {{ zza: u8, zzb: string, zzc: list<u64> }}
variant zzvariant {{ zza(zzrecord), zzb(float32), zzc(u64), zzd(list<string>), zze }}
enum zzenum {{ zza, zzb, zzc }}
flags zzflags {{ zza, zzb, zzc }}
flags zzmany {{ {_LABELS} }}
union zzunion {{ string, u8 }}
type zzalias = list<tuple<string, u16>>
"""

_FUNCTIONS = """
use * from zztypes
resource zz{resource} {{
    static zzopen: func(zza: string, zzb: option<zz{resource}>) -> expected<zz{resource}, zzvariant>
    zzlook: func(zzc: list<zzvariant>) -> option<string>
    zzpass: func()
}}
zzflat: func(zzd: zzvariant, zze: zzflags, zzf: zzmany, zzg: zzenum, zzh: zzrecord, zzi: zzunion) -> bool
zzstored: func(zza: zzrecord, zzb: list<zzrecord>, zzc: list<list<string>>, zzd: tuple<u8, float32>, zze: zzalias)
  -> list<zzrecord>
zzplain: func(zza: u8, zzb: char, zzc: s16) -> s64
zzcoded: func(zza: zz{resource}) -> expected<_, zzenum>
zztext: func() -> expected<string, list<u8>>
zznumbers: func(zza: list<u64>) -> zzmany
zzwide: func(zza: tuple<u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8>) -> zzunion
"""
"""One of everything that the backends have text for."""

_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")


@dataclass(frozen=True, slots=True)
class Words:
    """What means something in a language and in its bindings, spelled as names of WIT. None of them begins with `_`."""

    whole: list[str]
    before: list[str]
    """What the bindings put before a name, to make another one of it."""
    after: list[str]
    """What they put behind it."""


def words(language: str, directory: Path) -> Words:
    """The words of a language. `directory` is a new one, for interfaces as samples."""
    found: set[str]
    if language == "python":
        found = {*keyword.kwlist, *keyword.softkwlist, *_builtins(), *vars(runtime), *vars(runtime.GuestResource)}
        found |= {*vars(int), *_reserved(python_names), *_identifiers(python.write(*_samples(directory)))}
    elif language == "c":
        found = _reserved(c_names) | _identifiers(c.write(*_samples(directory)))
    else:
        written = (rust_host if language == "rust-host" else rust).write(*_samples(directory))
        if language == "rust-host":
            del written["canonical_abi.rs"]  # it is long, and no other module sees the names within it
        found = _reserved(rust_names) | _identifiers(written)
    kebab = {_kebab(word) for word in found if not word.startswith("_")}
    made = [word.split("-") for word in kebab if MARK in word]
    marks = [[number for number, part in enumerate(parts) if MARK in part] for parts in made]
    before = {"-".join(parts[: where[0]]) for parts, where in zip(made, marks, strict=True)}
    after = {"-".join(parts[where[-1] + 1 :]) for parts, where in zip(made, marks, strict=True)}
    return Words(*(sorted(filter(_NAME.fullmatch, some)) for some in (kebab - set(map("-".join, made)), before, after)))


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
    (directory / "zztypes.wit").write_text(_TYPES)
    paths = [directory / "zzhost.wit", directory / "zzguest.wit"]
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
    "record": "record %{name} {{ %{a}: string, %{b}: u8 }}",
    "variant": "variant %{name} {{ %{a}(string), %{b}(u64), %{c} }}",
    "enum": "enum %{name} {{ %{a}, %{b}, %{c} }}",
    "flags": "flags %{name} {{ %{a}, %{b}, %{c} }}",
    "union": "union %{name} {{ string, u8 }}",
    "alias": "type %{name} = list<tuple<string, u16>>",
}
"""Types of each kind, but for their names and those within them."""

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
    return "".join(f"{KINDS[kind].format(name=a, a=a, b=b, c=c_)}\n" for a, b, c_ in named)


def _users(these: Sequence[str]) -> str:
    """For each word a parameter of the type of that name, and for every fifth a function of its name."""
    lines = []
    for first in range(0, len(these), 5):
        some = these[first : first + 5]
        params, types = ", ".join(f"%{a}: %{a}" for a in some), ", ".join(f"%{a}" for a in some)
        lines.append(f"%{some[0]}: func({params}) -> tuple<{types}>\n")
    return "".join(lines)


def _functions(these: Sequence[str]) -> str:
    """For every other word a function. Each word is the name of a few parameters, and of one among many."""
    lines = []
    for number in range(0, len(these), 2):
        places = range(20) if number % 20 == 0 else (place * place for place in range(5))
        names = [_turned(these, number + place)[0] for place in places]
        lines.append(f"%{these[number]}: func{_signature(number, list(dict.fromkeys(names)))}\n")
    return "".join(lines)


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


# Interfaces of words that have to do with one another.

ALIKE = [
    ["ß", "ss", "s-s"],
    ["ﬁ", "fi", "f-i"],
    ["ſ", "s"],
    ["ǅ", "ǆ", "dž"],
    ["東京", "東-京"],
    ["ς", "σ"],
    ["ı", "i"],
    ["µ", "μ"],
    ["ⅷ", "viii", "v-i-i-i"],
    ["ａ", "a", "ª"],
    ["e-f", "ef", "e", "f"],
]
"""Names that are one in upper case, in lower case, without `-`, or in a normal form of Unicode other than NFC."""


def related(random: Random, known: Words) -> list[str]:
    """A dozen names, made of a few words by what the bindings make names with."""
    stems = random.choice(ALIKE) if random.random() < 0.3 else random.sample(known.whole, 2)
    made = [f"{stem}-{after}" for stem in stems for after in (*known.after, *stems)]
    made += [f"{before}-{stem}" for stem in stems for before in known.before]
    made = [name for name in dict.fromkeys(made) if name not in stems]
    others = random.sample(known.whole, 12)
    return list(dict.fromkeys([*stems, *random.sample(made, min(len(made), 9)), *others]))[:12]


def combined(random: Random, known: Words, groups: int) -> Torture:
    """A few groups of interfaces, the names in each of which are related, and so are those of the interfaces."""
    made = Torture({}, {}, {})
    for _ in range(groups):
        names = related(random, known)
        taken = {*made.imports, *made.exports, *made.used}
        types, host, guest = random.sample([name for name in names if name not in taken], 3)
        kinds, resources = names[:8], names[8:10]
        made.used[types] = "".join(_some_type(random, name, names) for name in kinds)
        functions = [f"%{name}: func{_some_signature(random, names, [*kinds, *resources])}\n" for name in names]
        made.imports[host] = f"use * from %{types}\n{''.join(functions)}"
        made.exports[guest] = f"use * from %{host}\n{''.join(functions)}"
        for number, resource in enumerate(resources):
            static, method = (_some_signature(random, names, kinds) for _ in range(2))
            one, other = random.sample(names, 2)
            made.imports[host] += f"resource %{resource} {{ static %{one}: func{static}   %{other}: func{method} }}\n"
            passed = method.replace("(", f"(r: %{resource}, ", 1)
            made.exports[guest] += f"static-of{number}: func{static}\nmethod-of{number}: func{passed}\n"
    return made


def combined_resources(random: Random, known: Words, groups: int) -> Torture:
    """Resources of a guest, the names of each few of which are related."""
    host, guest = "", ""
    taken: set[str] = set()
    for _ in range(groups):
        names = related(random, known)
        for resource in [name for name in names if name not in taken][:5]:
            taken.add(resource)
            static, method = (_some_signature(random, names, []) for _ in range(2))
            made, (one, other) = static.partition(" -> ")[0], random.sample(names, 2)
            host += f"f{len(taken)}: func{made}\ng{len(taken)}: func{method}\n"
            guest += f"resource %{resource} {{ static %{one}: func{made} -> %{resource}   %{other}: func{method} }}\n"
    return Torture({"host": host}, {random.choice(sorted(taken)): guest})


def _some_type(random: Random, name: str, names: Sequence[str]) -> str:
    members = dict(zip("abc", random.sample(names, 3), strict=True))
    return KINDS[random.choice([*KINDS])].format(name=name, **members) + "\n"


def _some_signature(random: Random, names: Sequence[str], types: Sequence[str]) -> str:
    """Parameters of a few of the names, and all of them as the result."""
    params = random.sample(names, random.randint(1, 5))
    chosen = [
        random.choice([*("string", "u32", "list<u8>", "option<string>"), *(f"%{each}" for each in types)])
        for _ in params
    ]
    listed = ", ".join(f"%{name}: {type_}" for name, type_ in zip(params, chosen, strict=True))
    return f"({listed}) -> tuple<{', '.join(chosen)}>"
