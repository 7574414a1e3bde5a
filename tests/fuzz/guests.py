"""Guests that lie: whatever they import they call with any pointers, lengths and handles, and what they export for the
host's use (the allocator, handlers, destructors) does not keep what docs/abi.md asks of it."""

from __future__ import annotations

import random
from struct import pack

from capabilities.bindings import http_server, keyvalue, kv
from slight_py.engine import WASI
from tests import wat

# fmt: off
PREVIEW_1 = {
    "args_get": "ii", "args_sizes_get": "ii", "clock_res_get": "ii", "clock_time_get": "iIi", "environ_get": "ii",
    "environ_sizes_get": "ii", "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i",
    "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii", "fd_pwrite": "iiiIi", "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii",
    "fd_seek": "iIii", "fd_sync": "i", "fd_tell": "ii", "fd_write": "iiii", "path_create_directory": "iii",
    "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi", "path_link": "iiiiiii",
    "path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii", "path_rename": "iiiiii",
    "path_symlink": "iiiii", "path_unlink_file": "iii", "poll_oneoff": "iiii", "proc_exit": "i", "proc_raise": "i",
    "random_get": "ii", "sched_yield": "", "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
# fmt: on
"""Parameters by function. All have an errno as their result but `proc_exit`, which has none."""

IMPORTS: list[tuple[str, str, str, str]] = [
    *((each.module, each.name, each.params, each.result) for each in http_server.IMPORTS),
    *((each.module, each.name, each.params, each.result) for each in keyvalue.IMPORTS),
    *((each.module, each.name, each.params, each.result) for each in kv.IMPORTS),
    *(("canonical_abi", f"resource_drop_{name}", "i", "") for name in ("router", "server", "keyvalue", "kv")),
    *(("canonical_abi", f"resource_{verb}_thing", "i", "i") for verb in ("new", "get", "clone")),
    ("canonical_abi", "resource_drop_thing", "i", ""),
    *((WASI, name, params, "" if name == "proc_exit" else "i") for name, params in PREVIEW_1.items()),
]
"""Module, name, parameters and result of everything there is to import."""

_OWNERS = {
    "resource_drop_router": "http-server", "resource_drop_server": "http-server",
    "resource_drop_keyvalue": "keyvalue", "resource_drop_kv": "kv",
}  # fmt: skip
"""The interfaces of resources, by the function that drops one."""

_TYPES = {"i": "i32", "I": "i64"}
_TEXTS = (b"store", b"key", b"/a/:b", b"handle-lie", b"127.0.0.1:0", b"..", b"\xff\xfe", b"\0", b"", b"file")
_TEXT_AT, _STRUCTS_AT, _OUT_AT = 1024, 2048, 4096
_HANDLES_AT = 5120
_RESOURCES = ("keyvalue", "kv", "router", "server", "thing")
_OPENING = ("open", "new", "new-with-base", "serve")
"""Methods whose result is a first handle."""
_EDGES = (0, 1, 3, 65535, 65536, 65532, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4, 2**32 - 65536)


def _handle(resource: str) -> str:
    """The last handle of a resource: result 0, and 4 bytes after it the handle."""
    return f"(i32.load (i32.const {_HANDLES_AT + 16 * _RESOURCES.index(resource) + 4}))"


class _Text:
    """The text of one module as it grows."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wild = rng.choice((0.02, 0.1, 0.5))
        """How much of what it says is a lie: one that always lies doesn't get far."""
        self.imports = rng.sample(IMPORTS, rng.choice((1, 3, 8, 20)))
        if rng.random() < 0.7:
            self.imports += [each for each in IMPORTS if each[0] == rng.choice(("keyvalue", "http-server", "kv"))]
        # Resources are those of the interfaces that a module imports functions from: others aren't provided.
        known = {each[0] for each in self.imports}
        self.imports = [each for each in dict.fromkeys(self.imports) if _OWNERS.get(each[1], each[0]) in known]
        self.imports = self.imports or IMPORTS[:1]
        self.texts: list[tuple[int, int]] = []

    def number(self) -> int:
        rng = self.rng
        if rng.random() < self.wild:
            return rng.choice(_EDGES) if rng.random() < 0.7 else rng.getrandbits(32)
        return rng.choice(
            (0, 1, 2, 3, 4, 8, 16, _OUT_AT, _OUT_AT + 8 * rng.randrange(64), _STRUCTS_AT + rng.randrange(256))
        )

    def arguments(self, module: str, name: str, params: str) -> list[str]:
        """Values for the parameters of an import; most of them are what they should be, so that the lies that there are
        get far."""
        if self.rng.random() < self.wild:
            return [f"({_TYPES[each]}.const {self.number()})" for each in params]
        if module in (WASI, "canonical_abi"):
            return self._of_preview_1(name, params) if module == WASI else [_handle(name.rpartition("_")[2])]
        resource, _, method = name.partition("::")
        head = [] if method in ("open", "new", "new-with-base", "serve") else [_handle(resource)]
        tail = [_handle("router")] if method == "serve" else []
        tail.append(f"(i32.const {_HANDLES_AT + 16 * _RESOURCES.index(resource) if method in _OPENING else _OUT_AT})")
        texts = self.texts if self.rng.random() < self.wild else self.texts[:6]
        pairs = [self.rng.choice(texts) for _ in range((len(params) - len(head) - len(tail)) // 2)]
        return [*head, *(f"(i32.const {each})" for pair in pairs for each in pair), *tail]

    def _of_preview_1(self, name: str, params: str) -> list[str]:
        """A descriptor first, then small numbers and addresses."""
        rng = self.rng
        found = (
            [f"(i32.const {rng.choice((0, 1, 2, 3, 3, 3, 4, 5))})"] if params and name[:2] in ("fd", "pa", "so") else []
        )
        for kind in params[len(found) :]:
            near = rng.choice((0, 1, 1, 2, 3, 16, _STRUCTS_AT, _STRUCTS_AT + 8, _OUT_AT, _OUT_AT + 64, _TEXT_AT))
            long = rng.choice((0, 1, -1, 2**63 - 1, -(2**63), rng.getrandbits(20)))
            found.append(f"(i64.const {long})" if kind == "I" else f"(i32.const {near})")
        return found

    def call(self, number: int | None = None) -> str:
        if number is None:
            number = self.rng.randrange(len(self.imports))
        module, name, params, result = self.imports[number]
        made = f"(call $import{number} {' '.join(self.arguments(module, name, params))})"
        if name == "resource_new_thing":
            return f"(i32.store (i32.const {_HANDLES_AT + 16 * _RESOURCES.index('thing') + 4}) {made})"
        return f"(drop {made})" if result else made

    def statement(self, depth: int = 0) -> str:
        rng = self.rng
        match rng.randrange(20):
            case 0:
                return f"(i32.store (i32.const {self.number()}) (i32.const {self.number()}))"
            case 1:
                return f"(drop (memory.grow (i32.const {rng.choice((0, 1, 16, 1000, 65536))})))"
            case 2 if depth < 2:
                return wat.times(rng.choice((2, 100, 3000)), self.statement(depth + 1))
            case 3 if rng.random() < 0.1:
                return rng.choice((wat.FOREVER, "(unreachable)"))
            case 4 if rng.random() < 0.3:
                return f"(drop (call $realloc {' '.join(f'(i32.const {self.number()})' for _ in range(4))}))"
            case _:
                return self.call()

    def body(self, most: int) -> str:
        """Statements, most often after calls that open one of each resource."""
        opening = ""
        if self.rng.random() < 0.8:
            numbers = [number for number, each in enumerate(self.imports) if each[1].partition("::")[2] in _OPENING[:2]]
            numbers += [number for number, each in enumerate(self.imports) if each[1] == "resource_new_thing"]
            opening = " ".join(self.call(number) for number in numbers)
        return f"{opening} " + " ".join(self.statement() for _ in range(self.rng.randrange(most + 1)))

    def realloc(self) -> str:
        """The allocator: honest half of the time."""
        rng = self.rng
        if rng.random() < 0.5:
            return wat.REALLOC
        fate = rng.choice((
            f"(i32.const {rng.choice(_EDGES)})", "(i32.const 4096)", "(unreachable)", f"{wat.FOREVER} (i32.const 0)",
            f"{self.call()} (i32.const 8192)", "(drop (memory.grow (i32.const 100))) (i32.const 65536)",
            "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))", "(i32.const 8193)",
            "(call $realloc (local.get 0) (local.get 1) (local.get 2) (local.get 3))",
        ))  # fmt: skip
        head = '(func $realloc (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (local $n i32)'
        return f"{head} {fate})"

    def frees(self) -> str:
        rng = self.rng
        fate = rng.choice(("", "", "(unreachable)", wat.FOREVER, self.call(), "(drop (memory.grow (i32.const 1)))"))
        if rng.random() < 0.2:
            return ""
        return f'(func (export "canonical_abi_free") (param i32 i32 i32) (local $n i32) {fate})'

    def response(self) -> bytes:
        rng = self.rng
        lie = rng.random() < self.wild * 2
        return wat.response(
            rng.choice((200, 404, 0, 999, 65535)) if lie else 200,
            headers=(_STRUCTS_AT, rng.choice((0, 1, 3, 2**32 - 1, 100_000) if lie else (0, 1))),
            body=(rng.choice(_EDGES), rng.choice(_EDGES)) if lie else (1024, 64),
            expected=rng.choice((0, 1, 2, 255)) if lie else 0,
            headers_tag=rng.choice((0, 1, 2, 255)) if lie else 1,
        )

    def data(self) -> str:
        at = _TEXT_AT
        for text in _TEXTS:
            self.texts.append((at, len(text)))
            at += len(text)
        structs = b"".join(
            pack("<II", *self.rng.choice(self.texts)) if self.rng.random() > self.wild else self.rng.randbytes(8)
            for _ in range(64)
        )
        return wat.data(128, self.response()) + wat.data(_TEXT_AT, *_TEXTS) + wat.data(_STRUCTS_AT, structs)


def make(rng: random.Random) -> str:
    """The text of a module, with `handle-hello`, which is honest, `handle-lie`, and an entry point."""
    text = _Text(rng)
    data = text.data()
    imports = "".join(
        f'(import "{module}" "{name}" (func $import{number}'
        f"{' (param ' + ' '.join(_TYPES[each] for each in params) + ')' if params else ''}"
        f"{f' (result {_TYPES[result]})' if result else ''}))"
        for number, (module, name, params, result) in enumerate(text.imports)
    )
    returned = "(i32.const 128)" if rng.random() > text.wild else f"(i32.const {rng.choice(_EDGES)})"
    fields = [
        data, text.realloc(), text.frees(), wat.HELLO,
        wat.handler(f"{text.body(20)} {returned}", "handle-lie"),
        f'(func (export "_start") (local $n i32) {text.body(20)})',
        f'(func (export "canonical_abi_drop_thing") (param i32) (local $n i32) {text.body(2)})',
    ]  # fmt: skip
    if rng.random() < 0.1:
        fields.append(f'(func (export "_initialize") (local $n i32) {text.body(5)})')
    if rng.random() < 0.05:
        fields.append(f"(func $begin (local $n i32) {text.body(3)}) (start $begin)")
    memory = rng.choice((wat.MEMORY,) * 20 + ("(memory 1)",))
    return "\n".join((imports, memory, *fields))
