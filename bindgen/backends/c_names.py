"""What things are called in generated C.

One C program has one namespace, so the names of all interfaces that are written together come from one `Names`: where
two would be the same, the later one gets an underscore. A type without a name in WIT is called after what it is made
of, and is the same C type in every interface.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Sequence

from bindgen.backends.c_layout import canonical, flags_count
from bindgen.backends.c_text import SHARED_FILES
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Function,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
)

_NUMBERS = {
    Primitive.BOOL: "bool",
    Primitive.U8: "uint8_t",
    Primitive.U16: "uint16_t",
    Primitive.U32: "uint32_t",
    Primitive.U64: "uint64_t",
    Primitive.S8: "int8_t",
    Primitive.S16: "int16_t",
    Primitive.S32: "int32_t",
    Primitive.S64: "int64_t",
    Primitive.FLOAT32: "float",
    Primitive.FLOAT64: "double",
    Primitive.CHAR: "uint32_t",
}

PREDEFINED: dict[Type, str] = {
    Primitive.STRING: "abi_string",
    ListOf(Primitive.U8): "abi_bytes",
    ListOf(Primitive.STRING): "abi_strings",
}
"""Types that `canonical_abi.h` defines."""

# fmt: off
_KEYWORDS = frozenset([
    "alignas", "alignof", "asm", "auto", "bool", "break", "case", "char", "const", "constexpr", "continue", "default",
    "do", "double", "else", "enum", "extern", "false", "float", "for", "goto", "if", "inline", "int", "long", "nullptr",
    "register", "restrict", "return", "short", "signed", "sizeof", "static", "static_assert", "struct", "switch",
    "thread_local", "true", "typedef", "typeof", "typeof_unqual", "union", "unsigned", "void", "volatile", "while",
    # Macros of the standard library in lower case that take no arguments.
    "complex", "errno", "imaginary", "math_errhandling", "noreturn", "stderr", "stdin", "stdout", "unix", "linux",
])

_TAKEN_BY_C = frozenset([
    "blkcnt_t", "blksize_t", "clock_t", "clockid_t", "cnd_t", "dev_t", "div_t", "double_t", "errno_t", "fexcept_t",
    "fenv_t", "float_t", "fpos_t", "gid_t", "id_t", "imaxdiv_t", "ino_t", "int16_t", "int32_t", "int64_t", "int8_t",
    "intmax_t", "intptr_t", "iovec_t", "key_t", "ldiv_t", "lldiv_t", "locale_t", "max_align_t", "mbstate_t", "mode_t",
    "mtx_t", "nlink_t", "off_t", "pid_t", "ptrdiff_t", "regex_t", "regmatch_t", "regoff_t", "rsize_t", "sig_atomic_t",
    "sigset_t", "size_t", "socklen_t", "ssize_t", "stack_t", "suseconds_t", "thrd_t", "time_t", "timer_t", "tss_t",
    "uid_t", "uint16_t", "uint32_t", "uint64_t", "uint8_t", "uintmax_t", "uintptr_t", "useconds_t", "wchar_t",
    "wctrans_t", "wctype_t", "wint_t", "aligned_alloc", "at_quick_exit", "call_once", "clock_getres", "clock_gettime",
    "clock_nanosleep", "posix_memalign", "quick_exit",
])

"""Types of the C library, and its functions with an underscore."""

_TAKEN_BY_MACROS = frozenset([
    "CHAR_BIT", "CHAR_MAX", "CHAR_MIN", "EXIT_FAILURE", "EXIT_SUCCESS", "INT_MAX", "INT_MIN", "LONG_MAX",
    "LONG_MIN", "NAME_MAX", "PATH_MAX", "PIPE_BUF", "RAND_MAX", "SEEK_CUR", "SEEK_END", "SEEK_SET", "SHRT_MAX",
    "SHRT_MIN", "TMP_MAX", "UINT_MAX", "ULONG_MAX",
])
"""Macros of the C library with one underscore, of those that are no limit of a type above."""

_HEADERS = frozenset([
    "aio", "alloca", "ar", "assert", "byteswap", "canonical_abi", "complex", "cpio", "crypt", "ctype", "dirent",
    "dlfcn", "elf", "endian", "err", "errno", "fcntl", "features", "fenv", "float", "fmtmsg", "fnmatch", "ftw",
    "getopt", "glob", "grp", "iconv", "ifaddrs", "inttypes", "iso646", "langinfo", "libgen", "limits", "link",
    "locale", "malloc", "math", "memory", "monetary", "mqueue", "netdb", "nl_types", "paths", "poll", "pthread",
    "pty", "pwd", "regex", "resolv", "sched", "search", "semaphore", "setjmp", "shadow", "signal", "spawn", "stdalign",
    "stdarg", "stdatomic", "stdbit", "stdbool", "stdckdint", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn",
    "string", "strings", "stropts", "syscall", "sysexits", "syslog", "tar", "termios", "tgmath", "threads", "time",
    "uchar", "ucontext", "ulimit", "unistd", "utime", "utmp", "values", "wait", "wchar", "wctype", "wordexp",
])
"""Headers that a C library may have: one of ours by that name would take its place."""

_TAKEN_BY_ABI = frozenset(re.findall(r"\b(?:canonical_)?abi_\w+", SHARED_FILES["canonical_abi.h"]))

LOCALS = frozenset(["area", "arguments", "blocks", "err", "flat", "function", "ok", "result", "self"])
# fmt: on

_HELPERS = ("abi_", "canonical_abi_", "import_", "lift_", "load_", "lower_", "store_")
"""How the names of functions begin that a generated function calls."""

_LONGEST = 80
"""A name that says what a type is made of is cut to a hash of it beyond that."""


def functions_of(interface: Interface) -> list[Function]:
    """The free functions, then those of each resource."""
    return [*interface.functions, *(each for resource in interface.resources for each in resource.functions)]


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`; a keyword of C gets an underscore."""
    text = name.replace("-", "_").lower()
    return text + "_" if text in _KEYWORDS else text


def local(name: str) -> str:
    """A parameter's name. It must hide none of the types and functions that are used beside it."""
    text = snake(name)
    hides = text in LOCALS or text.endswith("_t") or text.startswith(_HELPERS)
    return text + "_" if hides else text


def field(type_: Type, number: int) -> str:
    """What holds the given field of a record or tuple, or the payload of the given case."""
    match type_:
        case TypeDef(kind=Record(fields)):
            return snake(fields[number].name)
        case TypeDef(kind=Variant(cases)):
            name = snake(cases[number].name)
            return "tag_" if name == "tag" else name
        case OptionOf():
            return "value"
        case ExpectedOf():
            return "err" if number else "ok"
    return f"f{number}"


def tag_field(type_: Type) -> str:
    """What says which case a variant is of."""
    return {OptionOf: "is_some", ExpectedOf: "is_err"}.get(type(type_), "tag")


class Names:
    """The names in the bindings of some interfaces."""

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        self._taken = {"CANONICAL_ABI_H", *_TAKEN_BY_C, *_TAKEN_BY_MACROS, *_TAKEN_BY_ABI}
        self._names: dict[Hashable, str] = {}
        self._stems: dict[Interface, str] = {}
        for interface in interfaces:
            self._name_interface(interface)

    def _name_interface(self, interface: Interface) -> None:
        """What a user of the bindings writes gets its names first."""
        stem = interface.name.replace("-", "_").lower()
        while stem in _HEADERS or stem in self._stems.values():
            stem += "_"
        self._stems[interface] = stem
        self.claim(("guard", interface), f"{stem.upper()}_H")
        for definition in interface.types:
            self._claim_base(definition, _prefixed(interface, definition.name))
        for resource in interface.resources:
            self._claim_base(resource, _prefixed(interface, resource.name))
        for function in functions_of(interface):
            if function.resource:
                wanted = f"{self.base(function.resource)}_{_plain(function.name)}"
            elif function.name == interface.name:
                wanted = f"{_plain(interface.name)}_{_plain(function.name)}"
            else:
                wanted = _prefixed(interface, function.name)
            self.claim(("function", function), wanted)
        for definition in interface.types:
            for number, label in enumerate(_labels(definition)):
                wanted = f"{self.base(definition)}_{_plain(label)}".upper()
                self.claim(("constant", definition, number), wanted)

    def claim(self, key: Hashable, wanted: str) -> str:
        """The name of `key` from now on: the wanted one, or one like it that nothing else has."""
        if key not in self._names:
            while wanted in self._taken:
                wanted += "_"
            self._taken.add(wanted)
            self._names[key] = wanted
        return self._names[key]

    def _claim_base(self, key: Hashable, wanted: str) -> str:
        while f"{wanted}_t" in self._taken:
            wanted += "_"
        self._taken.add(f"{wanted}_t")
        self._names[key] = wanted
        return wanted

    def stem(self, interface: Interface) -> str:
        """The name of an interface's files, without `.h` or `.c`."""
        return self._stems[interface]

    def guard(self, interface: Interface) -> str:
        return self._names["guard", interface]

    def function(self, function: Function) -> str:
        """The name that a call of an imported function has, and with which those of an exported one begin."""
        return self._names["function", function]

    def constant(self, definition: TypeDef, number: int) -> str:
        """The name of a flag, or of the tag of a case."""
        return self._names["constant", definition, number]

    def base(self, type_: Type) -> str:
        """What the names of a type that isn't a number begin with: before `_t`, `_free`."""
        if isinstance(type_, TypeDef | Resource):
            return self._names[type_]
        real = canonical(type_)
        if real in PREDEFINED:
            return PREDEFINED[real]
        if real not in self._names:
            self._claim_base(real, f"abi_{self._slug(real)}")
        return self._names[real]

    def _slug(self, type_: Type) -> str:
        match type_:
            case Primitive():
                return type_.value
            case TypeDef() | Resource():
                return self.base(type_)
            case _ if type_ in PREDEFINED:
                return PREDEFINED[type_].removeprefix("abi_")
            case ListOf(element):
                parts = ["list", self._slug(element)]
            case OptionOf(value):
                parts = ["option", self._slug(value)]
            case ExpectedOf(ok, err):
                parts = ["expected", self._slug(ok), self._slug(err)]
            case TupleOf(items):
                parts = [f"tuple{len(items)}", *map(self._slug, items)]
        text = "_".join(parts)
        return text if len(text) <= _LONGEST else f"{parts[0]}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def type(self, type_: Type) -> str:
        """The C type of a type that isn't empty."""
        number = _NUMBERS.get(type_) if isinstance(type_, Primitive) else None
        return number or f"{self.base(type_)}_t"

    def export_macro(self, function: Function) -> str:
        """The macro that exports a C function as `function`."""
        return self.claim(("export", function), f"{self.function(function)}_export".upper())

    def helper(self, operation: str, type_: Type) -> str:
        """The name of what does something with values of a type: `free`, `dup`, `drop` and so on."""
        if type_ in PREDEFINED:
            return f"{PREDEFINED[type_]}_{operation}"
        return self.claim((operation, type_), f"{self.base(type_)}_{operation}")

    def static(self, operation: str, type_: Type) -> str:
        """The name of a function that is private to a source file: `load`, `store`, `lift`, `lower`."""
        return self.claim((operation, type_), f"{operation}_{self.base(type_)}")


def flags_type(type_: TypeDef) -> str:
    """The number that holds up to 64 flags."""
    count = flags_count(type_)
    return next(f"uint{bits}_t" for bits in (8, 16, 32, 64) if count <= bits)


def _labels(definition: TypeDef) -> list[str]:
    """What gets constants: flags, and the cases that have tags."""
    match definition.kind:
        case Variant(cases) | Union(cases):
            return [case.name for case in cases]
        case Enum(labels) | Flags(labels):
            return [label.name for label in labels]
    return []


def _plain(name: str) -> str:
    """A name that is part of a longer one, so that it may be a keyword."""
    return name.replace("-", "_").lower()


def _prefixed(interface: Interface, name: str) -> str:
    """The name of something with that of its interface before it, unless it begins with that anyway."""
    if name == interface.name or name.startswith(f"{interface.name}-"):
        return _plain(name)
    return f"{_plain(interface.name)}_{_plain(name)}"
