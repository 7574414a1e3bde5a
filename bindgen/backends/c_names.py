"""What things are called in generated C.

One C program has one namespace, so the names of all interfaces that are written together come from one `Names`: where
two would be the same, the later one gets an underscore, and no variable hides any of them. A type without a name in WIT
is called after what it is made of, and is the same C type in every interface.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from functools import cache

from bindgen.backends.c_layout import canonical, is_copyable
from bindgen.backends.c_text import SHARED_FILES
from bindgen.backends.scope import Scope, snake
from bindgen.plan import Case, Choice, Part, Parts, Shape, shape
from bindgen.wit_parser.model import (
    ExpectedOf,
    Function,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    functions_of,
    labels,
    mentioned,
    spelling,
    written_with,
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
    *(f"{name[:-2]}_{what}".upper() for name in _TAKEN_BY_C for what in ("c", "max", "min", "width")),
])
"""Macros of the C library with one underscore, and what it says of the types above."""

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

_LOCALS = frozenset(["area", "arguments", "blocks", "err", "flat", "function", "ok", "result", "self"])
# fmt: on

_LONGEST = 80
"""A name that says what a type is made of is cut to a hash of it beyond that."""


def field(whole: Shape, part: Part | Case) -> str:
    """What holds a part of a record or tuple, or the payload of a case."""
    return "value" if isinstance(whole.type, OptionOf) else _fields(whole)[part.name]


@cache
def _fields(whole: Shape) -> dict[str, str]:
    those = whole.parts if isinstance(whole, Parts) else whole.cases if isinstance(whole, Choice) else ()
    names = Scope([*_KEYWORDS, "tag"] if isinstance(whole, Choice) else _KEYWORDS)
    return {each.name: names.fresh(f"f{each.name}" if each.name.isdigit() else snake(each.name)) for each in those}


def tag_field(choice: Choice) -> str:
    """What says which case a variant is of."""
    return {OptionOf: "is_some", ExpectedOf: "is_err"}.get(type(choice.type), "tag")


class Names:
    """The names in the bindings of some interfaces."""

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        self._files = Scope(_HEADERS, same=str.casefold)
        self._program = Scope(["CANONICAL_ABI_H", *_KEYWORDS, *_TAKEN_BY_C, *_TAKEN_BY_MACROS, *_TAKEN_BY_ABI])
        self.claim = self._program.claim
        # All that a user of the bindings may write, in this order whoever asks first.
        for interface in interfaces:
            self._name_interface(interface)
        for interface in interfaces:
            self._name_what_belongs_to_types(interface)
            for function in functions_of(interface):
                self.export_macro(function)

    def _name_interface(self, interface: Interface) -> None:
        """Types, functions and constants."""
        stem = self._files.claim(interface, snake(interface.name))
        self.claim(("guard", interface), f"{stem.upper()}_H")
        for definition in interface.types:
            self.type(definition)
        for resource in interface.resources:
            self.type(resource)
        for function in interface.functions:
            repeated = f"{snake(interface.name)}_{snake(function.name)}"
            self.claim(function, repeated if function.name == interface.name else _prefixed(interface, function.name))
        for resource in interface.resources:
            for function in resource.functions:
                self.claim(function, f"{self.base(resource)}_{snake(function.name)}")
        for definition in interface.types:
            for number, label in enumerate(labels(definition)):
                wish = f"{self.base(definition)}_{snake(label.name)}"
                self.claim(("constant", definition, number), wish.upper())

    def _name_what_belongs_to_types(self, interface: Interface) -> None:
        """What frees, copies and makes values, and the types that have no name in the interface."""
        for resource in interface.resources:
            for operation in ("drop", "new", "rep", "clone"):
                self.helper(operation, resource)
            self.destructor_macro(resource)
        types = deque(mentioned(interface))
        seen: set[Type] = set()
        while types:
            type_ = types.popleft()
            if type_ in seen or shape(type_).is_empty or isinstance(type_, Primitive | Resource):
                continue
            seen.add(type_)
            self.type(type_)
            if shape(type_).owns:
                self.helper("free", type_)
            if is_copyable(shape(type_)):
                self.helper("dup", type_)
            types += written_with(type_)

    def stem(self, interface: Interface) -> str:
        """The name of an interface's files, without `.h` or `.c`."""
        return self._files[interface]

    def guard(self, interface: Interface) -> str:
        return self._program["guard", interface]

    def function(self, function: Function) -> str:
        """The name that a call of an imported function has, and with which those of an exported one begin."""
        return self._program[function]

    def constant(self, definition: TypeDef, number: int) -> str:
        """The name of a flag, or of the tag of a case."""
        return self._program["constant", definition, number]

    def base(self, type_: Type) -> str:
        """What the names of a type that isn't a number begin with: before `_t`, `_free`."""
        if isinstance(type_, TypeDef | Resource):
            return _prefixed(type_.interface, type_.name)
        return PREDEFINED.get(canonical(type_)) or f"abi_{self._slug(canonical(type_))}"

    def _slug(self, type_: Type) -> str:
        if isinstance(type_, TypeDef | Resource):
            return self.base(type_)
        if type_ in PREDEFINED:
            return PREDEFINED[type_].removeprefix("abi_")
        head, inner = spelling(type_)
        if isinstance(type_, TupleOf):
            head += str(len(inner))
        text = "_".join([head, *map(self._slug, inner)])
        return text if len(text) <= _LONGEST else f"{head}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def type(self, type_: Type) -> str:
        """The C type of a type that isn't empty."""
        number = _NUMBERS.get(type_) if isinstance(type_, Primitive) else None
        return number or self._of_type("{}_t", type_)

    def export_macro(self, function: Function) -> str:
        """The macro that exports a C function as `function`."""
        return self.claim(("export", function), f"{self.function(function)}_export".upper())

    def destructor_macro(self, resource: Resource) -> str:
        """The macro that exports what is called when nobody holds a resource any more."""
        return self.claim(("destructor", resource), f"{self.base(resource)}_destructor_export".upper())

    def helper(self, operation: str, type_: Type) -> str:
        """The name of what does something with values of a type: `free`, `dup`, `drop` and so on."""
        return self._of_type(f"{{}}_{operation}", type_)

    def static(self, operation: str, type_: Type) -> str:
        """The name of a function that is private to a source file: `load`, `store`, `lift`, `lower`."""
        return self._of_type(f"{operation}_{{}}", type_)

    def _of_type(self, pattern: str, type_: Type) -> str:
        """A name that is made of that of a type. Only what has a definition is another type under another name."""
        key = type_ if isinstance(type_, TypeDef | Resource) else canonical(type_)
        wish = pattern.format(self.base(key))
        return wish if key in PREDEFINED else self.claim((pattern, key), wish)

    def locals(self) -> Scope:
        """The names in a function: those of its own variables are taken."""
        return self._program.nested(_LOCALS)


def _prefixed(interface: Interface, name: str) -> str:
    """The name of something with that of its interface before it, unless it begins with that anyway."""
    begins = name == interface.name or name.startswith(f"{interface.name}-")
    return snake(name if begins else f"{interface.name}-{name}")
