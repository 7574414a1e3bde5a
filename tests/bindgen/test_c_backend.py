"""Guests in C: what holds for them beyond the round trips of `test_roundtrip.py`."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

from bindgen.backends import BackendError, c
from bindgen.backends.c_calls import signature
from bindgen.backends.c_layout import agrees
from bindgen.backends.c_names import Names
from bindgen.plan import ABI, shape
from bindgen.runtime import Err, Import, Ok, Some, guest_resource_imports, host_resource_imports
from bindgen.wit_parser import load, load_many
from bindgen.wit_parser.model import Interface
from slight_py.engine import Program, describe
from tests.bindgen.echo_c import COUNT_BLOCKS, COUNTED, compile_c, compile_echo, zig_cc
from tests.bindgen.roundtrip import Caller, bindings, engine, in_python
from tests.bindgen.values import same

ROOT = Path(__file__).parents[2]
WIT = ROOT / "wit"
CASES = Path(__file__).parent / "cases"


def interface(directory: Path, text: str, name: str = "x") -> Interface:
    path = directory / f"{name}.wit"
    path.write_text(text)
    return load(path)


def put(directory: Path, files: dict[str, str]) -> list[Path]:
    """Writes files; returns the sources among them."""
    for name, text in files.items():
        (directory / name).write_text(text)
    return [directory / name for name in files if name.endswith(".c")]


def run(
    wasm: Path, exports: ModuleType, links: Iterable[tuple[Import, object]], body: Callable[[Caller], Awaitable[None]]
) -> None:
    """Runs `body` with an instance of a guest. `exports` is the module of the interface that it calls."""
    module = engine().compile(wasm.read_bytes())
    program = Program(engine(), module, {(each.module, each.name): (each, host) for each, host in links})
    functions = describe(module).functions
    callables = {name: call for name in functions if (call := getattr(exports, in_python(name), None))}

    async def main() -> None:
        async with asyncio.timeout(60):
            instance = await program.instantiate(None, reused=True)
            try:
                await instance.call(functions["_initialize"], ())
                await body(Caller(instance, functions, callables))
            finally:
                instance.close()

    asyncio.run(main())


# What compiles.

NO_C_LIBRARY = """\
#include <stddef.h>

static char memory[1 << 16];
static size_t used;

void *realloc(void *ptr, size_t size);
void free(void *ptr);
_Noreturn void abort(void);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

void *realloc(void *ptr, size_t size) {
    (void)size;
    return ptr ? ptr : memory + (used += 16);
}

void free(void *ptr) {
    (void)ptr;
}

_Noreturn void abort(void) {
    __builtin_trap();
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    for (size_t i = 0; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}
"""

HARD_NAMES = """\
/// A comment that ends: */ and one that begins: /* and one more, \\
use { error as err } from hard-errors
/// Of the C library, or of the bindings.
flags size { max, min }
enum int { min, max, %bool, int8-c }
record %record { int: u8, %union: char, errno: size, ptr: list<int>, null: err, size-t: s8, uint32-t: u64 }
variant error { tag(u8), is-err(string), value(%record), default(error-t) }
type error-t = option<option<list<error-tag>>>
union error-tag { unit, u8, tuple<>, string }
record nothing { a: unit, b: tuple<unit> }
resource thing {
    static new: func(self: nothing) -> thing
    drop: func(ok: error, err: thing, area: list<error>) -> expected<error, error>
    clone: func() -> nothing
    rep: func(result: thing) -> expected<unit, nothing>
}
error-free: func(value: error, function: u8, blocks: u8) -> error
error-dup: func(uint8-t: u8, abi-string-t: string, load-y: list<error>)
record-t: func(arguments: %record, a: %record, b: %record, c: %record, d: list<error>) -> list<nothing>
"""


def all_interfaces(directory: Path) -> list[Interface]:
    """Every interface that there is, and some with names that are hard on C."""
    (directory / "hard-errors.wit").write_text("variant error { %unit, %string(string), tag }")
    (directory / "string.wit").write_text("use { error } from hard-errors\nlength: func(a: error) -> u64")
    (directory / "size.wit").write_text(HARD_NAMES)
    (directory / "abi.wit").write_text("record %string { a: string }\ncopy: func(a: list<%string>) -> u8")
    good = [*WIT.glob("*.wit"), *WIT.glob("compat/*.wit"), *directory.glob("*.wit")]
    good += [path for path in CASES.glob("*.wit*") if path.with_name(f"{path.name}.expected").exists()]
    return list(load_many(sorted(good)))


@pytest.mark.parametrize("side", ["imports", "exports"])
def test_bindings_of_every_interface_need_no_c_library_and_draw_no_warning(side: str, tmp_path: Path) -> None:
    interfaces = all_interfaces(tmp_path)
    files = c.write(interfaces, []) if side == "imports" else c.write([], interfaces)
    sources = put(tmp_path, {**files, "no_c_library.c": NO_C_LIBRARY})
    module = tmp_path / "all.wasm"
    # Everything is kept, so that the linker looks for all that is called.
    flags = ["-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry", "-Wl,--no-gc-sections"]
    zig_cc(*flags, "-o", module, *sources)
    info = describe(engine().compile(module.read_bytes()))
    assert {"canonical_abi_realloc", "canonical_abi_free"} <= info.functions.keys()
    assert {each.module for each in info.imports} <= {"canonical_abi", *(each.name for each in interfaces)}
    expected = (
        {ABI.name(function) for each in interfaces for function in each.functions} if side == "imports" else set()
    )
    assert expected <= {each.name for each in info.imports}


def test_bindings_are_the_same_every_time(tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command: list[str | Path] = [sys.executable, "-m", "bindgen", "c", "--import", WIT / "keyvalue.wit"]
        command += ["--export", WIT / "http-handler.wit", "--out-dir", out]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
        texts.append({path.name: path.read_text() for path in out.iterdir()})
    assert texts[0] == texts[1]
    stems = ("canonical_abi", "keyvalue", "http_handler", "http_types")
    assert texts[0].keys() == {f"{stem}.{suffix}" for stem in stems for suffix in "ch"}


def test_documentation_stands_before_what_it_is_about(tmp_path: Path) -> None:
    text = """\
/// About it all.

/// About the type.
variant v {
    /// About the case.
    a(u8),
}
/// About the function, which ends with */ and goes on.
f: func()
"""
    header = c.write([interface(tmp_path, text)], [])["x.h"]
    assert header.startswith("/* About it all.\n")
    assert "/* About the type. */\ntypedef struct {\n    uint8_t tag;\n    uint8_t a;\n} x_v_t;\n" in header
    assert "    /* About the case. */\n    X_V_A,\n" in header
    assert "/* About the function, which ends with * / and goes on. */\nvoid x_f(void);\n" in header


def test_long_names_compile(tmp_path: Path) -> None:
    long = "-".join(["long"] * 30)
    text = f"flags {long} {{ {long} }}\nvariant v {{ {long}(string), other(list<u8>) }}\n"
    text += f"{long}: func({long}: v, other: list<v>, %flags: {long}) -> expected<v, {long}>\n"
    found = interface(tmp_path, text)
    for side, files in (("import", c.write([found], [])), ("export", c.write([], [found]))):
        (tmp_path / side).mkdir()
        compile_c(put(tmp_path / side, files), tmp_path / side / "guest.wasm")


def test_a_guest_cannot_both_import_and_export_a_resource(tmp_path: Path) -> None:
    both = interface(tmp_path, "resource r")
    with pytest.raises(BackendError, match="'x'"):
        c.write([both], [both])


# Names.


def test_a_name_that_is_taken_gets_an_underscore(tmp_path: Path) -> None:
    text = "variant error { a(string) }\nerror-free: func()\nresource r { drop: func() }"
    imported = interface(tmp_path, text)
    names = Names([imported])
    resource = imported.resources[0]
    assert names.function(imported.functions[0]) == "x_error_free"
    assert names.helper("free", imported.types[0]) == "x_error_free_"
    assert names.function(resource.functions[0]) == "x_r_drop"
    assert names.helper("drop", resource) == "x_r_drop_"


def test_two_interfaces_never_share_a_name(tmp_path: Path) -> None:
    one = interface(tmp_path, "c: func()\ntype d = u8", "a-b")
    other = interface(tmp_path, "b-c: func()\ntype b-d = u8", "a")
    names = Names([other, one])
    assert {names.function(each.functions[0]) for each in (one, other)} == {"a_b_c", "a_b_c_"}
    assert {names.type(each.types[0]) for each in (one, other)} == {"a_b_d_t", "a_b_d_t_"}


@pytest.mark.parametrize(
    ("name", "text", "taken"),
    [
        ("size", "type size = u8", "size_t"),
        ("int", "enum int { max }", "INT_MAX"),
        ("quick", "exit: func()", "quick_exit"),
        ("abi", "record %string { a: u8 }", "abi_string_t"),
        ("canonical-abi", "realloc: func()", "canonical_abi_realloc"),
    ],
)
def test_names_of_the_c_library_and_of_the_bindings_are_left_alone(
    name: str, text: str, taken: str, tmp_path: Path
) -> None:
    header = c.write([interface(tmp_path, text, name)], [])
    own = "".join(text for file, text in header.items() if file not in ("canonical_abi.h", "canonical_abi.c"))
    assert taken not in re.findall(r"\w+", own)


@pytest.mark.parametrize("name", ["string", "time", "canonical-abi"])
def test_no_header_takes_the_place_of_another(name: str, tmp_path: Path) -> None:
    stem = name.replace("-", "_")
    files = c.write([interface(tmp_path, "f: func()", name)], [])
    assert files.keys() == {"canonical_abi.h", "canonical_abi.c", f"{stem}_.h", f"{stem}_.c"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("key", "key"),
        ("time-to-live", "time_to_live"),
        ("int", "int_"),
        ("ok", "ok_"),
        ("size-t", "size_t_"),
        ("abi-copy", "abi_copy_"),
    ],
)
def test_a_parameter_hides_nothing(name: str, expected: str, tmp_path: Path) -> None:
    imported = interface(tmp_path, f"f: func(%{name}: u8)")
    ((found, _),) = signature(Names([imported]), imported.functions[0]).params
    assert found == expected


# Layout.


@pytest.mark.parametrize(
    ("spelled", "same"),
    [
        ("tuple<u8, u64, u8>", True),
        ("option<string>", True),
        ("list<expected<u8, list<u16>>>", True),
        ("f", True),
        # The host doesn't round 5 up to the alignment of 2, and C does.
        ("five", False),
        ("tuple<u8, list<five>>", False),
        ("option<five>", False),
    ],
)
def test_layouts_are_told_apart(spelled: str, same: bool, tmp_path: Path) -> None:
    flags = ", ".join(f"f{number}" for number in range(33))
    text = f"flags f {{ {flags} }}\nvariant five {{ a(u16), b(tuple<u8, u8, u8, u8>) }}\ntype t = {spelled}"
    assert agrees(shape(interface(tmp_path, text).types[-1])) is same


def test_an_area_holds_all_that_a_value_reaches_over(tmp_path: Path) -> None:
    """A u16 has the payloads begin at 2, so the three bytes end at 5, though the size is 4; after 17 bytes, at 23."""
    params = ", ".join(f"p{number}: u8" for number in range(17))
    text = f"variant beyond {{ a(tuple<u8, u8, u8>), b(u16) }}\nf: func({params}, last: beyond) -> beyond"
    source = c.write([interface(tmp_path, text)], [])["x.c"]
    assert "_Alignas(2) uint8_t arguments[23];" in source
    assert "_Alignas(2) uint8_t area[5];" in source
    source = c.write([], [interface(tmp_path, text)])["x.c"]
    assert "static _Alignas(2) uint8_t area[5];" in source


# Handles of the host.

HANDLES = """\
record holder { first: u8, it: thing, many: list<thing>, perhaps: option<thing> }
variant joined { nobody, it(thing), wide(u64), both(tuple<thing, float32>) }
variant five { a(u16), b(tuple<u8, u8, u8, u8>) }
"""

HANDLE_FUNCTIONS = """\
one: func(a: thing) -> thing
two: func(a: thing, b: thing) -> tuple<thing, thing>
held: func(a: holder) -> holder
listed: func(a: list<joined>) -> list<joined>
perhaps: func(a: option<option<thing>>) -> option<option<thing>>
tried: func(a: list<expected<thing, list<thing>>>) -> list<expected<thing, list<thing>>>
fives: func(a: list<five>) -> list<five>
"""


class Thing:
    """A resource of the host."""


class Echo:
    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def answer(*arguments: object) -> object:
            return arguments[0] if len(arguments) == 1 else arguments

        return answer


@pytest.fixture(scope="module")
def handles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ModuleType]]:
    """A guest that hands handles on, and its bindings."""
    directory = tmp_path_factory.mktemp("handles")
    (directory / "host-side.wit").write_text(f"resource thing\n{HANDLES}{HANDLE_FUNCTIONS}")
    (directory / "guest-side.wit").write_text(f"use * from host-side\n{HANDLE_FUNCTIONS}")
    imported, exported = load_many([directory / "host-side.wit", directory / "guest-side.wit"])
    return compile_echo([imported], [exported], directory), bindings(directory, [imported], [exported])


def with_handles(handles: tuple[Path, dict[str, ModuleType]], body: Callable[[Caller], Awaitable[None]]) -> None:
    wasm, modules = handles
    definitions = (*modules["host_side"].IMPORTS, *host_resource_imports("thing"))
    run(wasm, modules["guest_side"], [(each, Echo()) for each in definitions], body)


def test_handles_travel_inside_every_type(handles: tuple[Path, dict[str, ModuleType]]) -> None:
    types = handles[1]["host_side"]
    one, two = Thing(), Thing()

    async def body(call: Caller) -> None:
        assert await call("one", one) is one
        assert await call("two", one, two) == (one, two)
        for holder in (types.Holder(255, one, [two, one, two], None), types.Holder(0, two, [], one)):
            assert await call("held", holder) == holder
        joined = [types.JoinedNobody(), types.JoinedIt(two), types.JoinedWide(2**64 - 1), types.JoinedBoth((one, -0.5))]
        assert await call("listed", joined) == joined
        assert await call("perhaps", None) is None
        assert (await call("perhaps", Some(one))).value is one
        tried = await call("tried", [Ok(one), Err([two, one]), Err([])])
        assert [each.value for each in tried] == [one, [two, one], []]
        assert await call.live_blocks() == 0

    with_handles(handles, body)


def test_the_handles_that_a_guest_is_called_with_are_dropped(handles: tuple[Path, dict[str, ModuleType]]) -> None:
    """What stays are the handles that it returned, which an import gave it."""
    thing = Thing()

    async def body(call: Caller) -> None:
        for _ in range(3):
            await call("two", thing, thing)
            held = len(call.instance.handles)
            await call("listed", [])
            assert len(call.instance.handles) == held
        assert held <= 6

    with_handles(handles, body)


def test_a_payload_that_reaches_into_the_next_element_is_whole_in_the_last(
    handles: tuple[Path, dict[str, ModuleType]],
) -> None:
    types = handles[1]["host_side"]
    reaching = types.FiveB((1, 2, 3, 4))

    async def body(call: Caller) -> None:
        plain = [types.FiveA(65_535), types.FiveA(0), types.FiveA(1)]
        assert await call("fives", [*plain, reaching]) == [*plain, reaching]
        # Its fourth byte is the fifth element's tag, as the binary interface has it.
        assert await call("fives", [reaching, types.FiveA(7)]) == [types.FiveB((1, 2, 3, 0)), types.FiveA(7)]
        assert await call.live_blocks() == 0

    with_handles(handles, body)


# A guest that does more than hand on: resources of its own, handlers, copies, flags.

COUNTERS = """\
/// A number that the guest keeps.
resource counter {
    static start: func(at: u32) -> counter
    add: func(n: u32) -> u32
    /// Itself again, and a list of a counter that starts where this one is and, once more, itself.
    split: func() -> tuple<counter, list<counter>>
}

record labelled {
    label: string,
    counter: option<counter>,
}

/// A counter of all that those count, which must have labels.
merge: func(those: list<labelled>) -> expected<counter, string>

live: func() -> u32

record family {
    names: list<string>,
    rest: list<expected<tuple<u8, list<string>>, many>>,
}

flags many { FLAGS }

/// The value, and a copy of it.
doubled: func(value: family) -> tuple<family, family>

/// The flags, and the one after the last that is set.
next: func(value: many) -> many
""".replace("FLAGS", ", ".join(f"f{number}" for number in range(70)))

GUEST = r"""
#include <stdlib.h>

#include "counters.h"
#include "http_handler.h"

static uint32_t live;

static counters_counter_t counter_start(uint32_t at) {
    uint32_t *count = malloc(sizeof *count);
    if (!count) abort();
    *count = at;
    live++;
    return counters_counter_new(count);
}

static void counter_end(void *rep) {
    live--;
    free(rep);
}

static uint32_t counter_add(counters_counter_t self, uint32_t n) {
    uint32_t *count = counters_counter_rep(self);
    *count += n;
    n = *count;
    counters_counter_drop(self);
    return n;
}

static abi_tuple2_counters_counter_list_counters_counter_t counter_split(counters_counter_t self) {
    uint32_t *count = counters_counter_rep(self);
    counters_counter_t *list = canonical_abi_realloc(NULL, 0, _Alignof(counters_counter_t), 2 * sizeof *list);
    list[0] = counter_start(*count);
    list[1] = counters_counter_clone(self);
    return (abi_tuple2_counters_counter_list_counters_counter_t){self, {list, 2}};
}

static bool merge(abi_list_counters_labelled_t those, counters_counter_t *ok, abi_string_t *err) {
    uint32_t sum = 0;
    bool labelled = true;
    for (size_t i = 0; i < those.len; i++) {
        if (those.ptr[i].label.len == 0) labelled = false;
        if (those.ptr[i].counter.is_some) sum += *(uint32_t *)counters_counter_rep(those.ptr[i].counter.value);
    }
    abi_list_counters_labelled_free(those);
    if (labelled) *ok = counter_start(sum);
    else *err = abi_string_dup(abi_string("a counter has no label"));
    return labelled;
}

static uint32_t count_live(void) {
    return live;
}

static abi_tuple2_counters_family_counters_family_t doubled(counters_family_t value) {
    return (abi_tuple2_counters_family_counters_family_t){value, counters_family_dup(value)};
}

static counters_many_t next(counters_many_t value) {
    unsigned number = COUNTERS_MANY_F69;
    while (number && !counters_many_has(value, number - 1)) number--;
    return counters_many_with(value, number);
}

static bool handle_echo(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    ok->status = 200;
    ok->headers = (abi_option_list_tuple2_string_string_t){true, http_types_headers_dup(req.headers)};
    ok->body = req.body;
    req.body.is_some = false;
    http_types_request_free(req);
    return true;
}

static bool handle_refuse(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)ok;
    *err = (http_types_http_error_t){.tag = HTTP_TYPES_HTTP_ERROR_INVALID_URL, .invalid_url = req.uri};
    req.uri = abi_string("");
    http_types_request_free(req);
    return false;
}

COUNTERS_COUNTER_START_EXPORT("counter::start", counter_start)
COUNTERS_COUNTER_ADD_EXPORT("counter::add", counter_add)
COUNTERS_COUNTER_SPLIT_EXPORT("counter::split", counter_split)
COUNTERS_COUNTER_DESTRUCTOR_EXPORT(counter_end)
COUNTERS_MERGE_EXPORT("merge", merge)
COUNTERS_LIVE_EXPORT("live", count_live)
COUNTERS_DOUBLED_EXPORT("doubled", doubled)
COUNTERS_NEXT_EXPORT("next", next)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-echo", handle_echo)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-refuse", handle_refuse)
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ModuleType]]:
    directory = tmp_path_factory.mktemp("guest")
    (directory / "counters.wit").write_text(COUNTERS)
    exports = list(load_many([directory / "counters.wit", WIT / "http-handler.wit"]))
    files = {**c.write([], exports), "guest.c": GUEST, "counted.c": f'#include "canonical_abi.h"\n\n{COUNTED}'}
    # The guest's own blocks aren't the bindings'.
    files["guest.c"] = f"#undef realloc\n#undef free\n{GUEST}"
    wasm = compile_c(put(directory, files), directory / "guest.wasm", COUNT_BLOCKS)
    return wasm, bindings(directory, [], exports)


def with_guest(guest: tuple[Path, dict[str, ModuleType]], name: str, body: Callable[[Caller], Awaitable[None]]) -> None:
    wasm, modules = guest
    run(wasm, modules[name], [(each, None) for each in guest_resource_imports("counter")], body)


def test_a_guest_keeps_resources_of_its_own(guest: tuple[Path, dict[str, ModuleType]]) -> None:
    async def body(call: Caller) -> None:
        first, second = await call("counter::start", 5), await call("counter::start", 2**32 - 1)
        assert await call("counter::add", first, 2) == 7
        assert await call("counter::add", first, 0) == 7
        assert await call("counter::add", second, 1) == 0
        assert await call("live") == 2
        await second.drop()
        assert await call("live") == 1

    with_guest(guest, "counters", body)


def test_a_resource_of_the_guest_lives_as_long_as_someone_has_a_handle(
    guest: tuple[Path, dict[str, ModuleType]],
) -> None:
    async def body(call: Caller) -> None:
        counter = await call("counter::start", 40)
        same, (copy, same_again) = await call("counter::split", counter)
        assert await call("counter::add", same_again, 2) == 42
        assert await call("counter::add", same, 0) == 42
        assert await call("counter::add", copy, 0) == 40
        await counter.drop()
        await same.drop()
        assert await call("live") == 2
        assert await call("counter::add", same_again, 1) == 43
        await same_again.drop()
        await copy.drop()
        assert await call("live") == 0

    with_guest(guest, "counters", body)


def test_a_guest_takes_its_own_resources_inside_lists(guest: tuple[Path, dict[str, ModuleType]]) -> None:
    labelled = guest[1]["counters"].Labelled

    async def body(call: Caller) -> None:
        one, two = await call("counter::start", 1), await call("counter::start", 2)
        merged = await call("merge", [labelled("one", one), labelled("none", None), labelled("two", two)])
        assert await call("counter::add", merged, 0) == 3
        with pytest.raises(Err) as caught:
            await call("merge", [labelled("", one)])
        assert caught.value.value == "a counter has no label"
        for each in (one, two, merged):
            await each.drop()
        assert await call("live") == 0
        assert await call.live_blocks() == 0

    with_guest(guest, "counters", body)


def test_a_copy_is_deep(guest: tuple[Path, dict[str, ModuleType]]) -> None:
    types = guest[1]["counters"]

    async def body(call: Caller) -> None:
        rest = [Ok((1, ["a", ""])), Err(types.Many(3)), Ok((2, []))]
        for family in (types.Family(["", "ä", "x" * 1000], rest), types.Family([], [])):
            assert same(await call("doubled", family), (family, family))
            # Both are freed by now: had they shared a block, it would have been freed twice.
            assert await call.live_blocks() == 0

    with_guest(guest, "counters", body)


@pytest.mark.parametrize("last", [0, 30, 31, 62, 63, 68])
def test_more_than_64_flags_are_told_apart(guest: tuple[Path, dict[str, ModuleType]], last: int) -> None:
    many = guest[1]["counters"].Many

    async def body(call: Caller) -> None:
        assert await call("next", many(1 << last | 1)) == many(3 << last | 1)

    with_guest(guest, "counters", body)


def test_functions_of_one_type_are_exported_under_names_of_their_own(
    guest: tuple[Path, dict[str, ModuleType]],
) -> None:
    wasm, modules = guest
    handle_http, types = modules["http_handler"].handle_http, modules["http_types"]
    exported = describe(engine().compile(wasm.read_bytes())).functions
    assert {"handle-echo", "handle-refuse"} <= exported.keys()
    assert "handle-http" not in exported

    async def body(call: Caller) -> None:
        request = types.Request(types.Method.PUT, "/ü?a=b", [("a", "1"), ("a", "")], [("name", "x")], bytes(range(256)))
        response = await handle_http(call.instance, exported["handle-echo"], request)
        assert response == types.Response(200, [("a", "1"), ("a", "")], bytes(range(256)))
        request.body = None
        assert (await handle_http(call.instance, exported["handle-echo"], request)).body is None
        with pytest.raises(Err) as caught:
            await handle_http(call.instance, exported["handle-refuse"], request)
        assert caught.value.value == types.HttpErrorInvalidUrl("/ü?a=b")
        assert await call.live_blocks() == 0

    with_guest(guest, "http_handler", body)
