"""The bindings of guests in Rust: what rustc, clippy and rustfmt say of them, and what a guest of them does.

That values come back as they were is for test_roundtrip.py; here are the types that it leaves out, and resources.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen.backends import BackendError, rust
from bindgen.runtime import Err, Ok, guest_resource_imports, host_resource_imports
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from slight_py.engine import ExportedFunction, Instance, Program, describe
from tests.bindgen.echo_rust import TARGET, compile_echo, compile_rust, find_rustc
from tests.bindgen.roundtrip import Caller, Case, bindings, engine, in_python
from tests.bindgen.values import same, values

WIT = Path(__file__).resolve().parent.parent.parent / "wit"

# Interfaces that ask for everything, under names that Rust has other uses for.


def numbered(prefix: str, count: int, payloads: Sequence[str] = ("",)) -> str:
    return ", ".join(f"{prefix}{number}{payloads[number % len(payloads)]}" for number in range(count))


TYPES = f"""
/// Documentation with `code`, <T>, "quotes", \\ and a\ttab
///
///     indented
type %string = string
type result = expected<u8, string>
type some = option<option<u8>>
type vec = list<%string>
type guest = u32
record self {{ %type: u8, self: string, fn: option<string>, match: result, %async: bool }}
record empty {{ }}
record units {{ a: unit, b: u8, c: empty, d: tuple<>, e: unit }}
enum drop {{ impl, self, none, some, ok, err }}
enum one {{ only }}
enum big {{ {numbered("c", 300)} }}
flags no-flags {{ }}
flags some-flags {{ %bool, self, empty, contains }}
flags hundred {{ {numbered("f", 100)} }}
variant huge {{ {numbered("v", 260, ["(u8)", "(string)", "(float64)", ""])} }}
variant no-payload {{ a, b, c(unit) }}
variant floats {{ a, b(float32), c(float64), d(tuple<float32, float32>) }}
variant one-float {{ a, b(float32) }}
union numbers {{ u8, float32, u64, float64, string, option<u64>, unit, tuple<float32, u8, float64> }}
variant inside {{ a(float32), b(expected<u8, u64>), c(option<option<float64>>), d(tuple<string, numbers>), e(floats) }}
variant nested {{ a(numbers), b(option<numbers>), c(expected<numbers, inside>), d(inside), e }}
record deep {{ a: nested, b: list<nested>, c: option<list<option<deeper>>> }}
record deeper {{ x: floats, y: tuple<u8, floats, tuple<u16, tuple<some-flags, hundred>>> }}
type wide = tuple<u8, string, u16, float64, u8, u8, u8, u8, u8, u8, u8, u8, s64>
type wider = tuple<string, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, wide, list<wide>>
record tuple13 {{ a: tuple<{", ".join(["u8"] * 13)}> }}
record single {{ x: drop }}
/// Errors of every kind.
variant error {{ %string(string), self(self), drop(drop), %list(list<u8>), nothing, %unit(unit), inner(inner-error) }}
record inner-error {{ code: u32, message: string }}
enum code-error {{ first-thing, second-thing }}
flags flag-error {{ a, b }}
union union-error {{ string, u32, list<u8>, code-error, unit }}
variant trouble {{ small(u8), large(string) }}
record a-record-with-quite-a-long-name {{ a-field-with-quite-a-long-name: list<tuple<string, option<list<nested>>>> }}
"""

NAMES = [
    *("%string", "result", "some", "vec", "guest", "self", "empty", "units", "drop", "one", "big", "no-flags"),
    *("some-flags", "hundred", "huge", "no-payload", "floats", "one-float", "numbers", "inside", "nested", "deep"),
    *("deeper", "wide", "wider", "tuple13", "single", "error", "inner-error", "code-error", "flag-error"),
    *("union-error", "trouble", "a-record-with-quite-a-long-name"),
]

FUNCTIONS = "\n".join(
    [
        *(f"take-{name.lstrip('%')}: func(value: {name}, tag: option<{name}>, at: list<{name}>)" for name in NAMES),
        *(f"give-{name.lstrip('%')}: func() -> expected<{name}, error>" for name in NAMES),
        *(f"echo-{name.lstrip('%')}: func(function: {name}) -> {name}" for name in NAMES),
        *(
            f"pass-{name.lstrip('%')}: func(result: expected<{name}, {name}>, import: unit, loan: tuple<{name}, u8>)"
            f" -> tuple<{name}, option<{name}>>"
            for name in NAMES
        ),
        "%type: func(%type: string, type-len: u32, params: nested, this: one-float) -> trouble",
        "fails: func() -> expected<u8, trouble>",
        f"forty: func({numbered('p', 40, [f': {name}' for name in ('u8', *NAMES[:9])])}) -> u8",
        f"sixteen: func({numbered('p', 16, [': u32'])}) -> u64",
        f"seventeen: func({numbered('p', 17, [': float32'])}) -> float32",
        f"sixteen-and-result: func({numbered('p', 16, [': u32'])}) -> string",
        "a-function-with-quite-a-long-name: func(a-parameter-with-quite-a-long-name: a-record-with-quite-a-long-name,"
        " another-parameter-with-quite-a-long-name: nested) -> expected<a-record-with-quite-a-long-name, union-error>",
        "self: func(self: self) -> self",
        "import: func()",
        "export: func()",
        "main: func()",
        "colliding: func(a-b: inner-a, a: outer-a)",
        "scalars: func(a: s8, b: s16, c: s32, d: s64, e: bool, f: char, g: float32, h: float64) -> s8",
        *(f"give-{name}: func() -> {name}" for name in ("bool", "char", "u8", "u16", "s16", "s32", "s64", "float64")),
        "units-only: func(a: option<unit>, b: expected<_, _>, c: list<unit>) -> option<unit>",
        "more-units: func() -> expected<_, _>",
        "one-item: func(a: tuple<u8>) -> tuple<u8>",
        "no-items: func(a: tuple<>) -> tuple<>",
        "record inner-a { c: option<u8>, d: string }",
        "record outer-a { b-c: option<u8>, d: string }",
        "",
    ]
)

HANDLES = """
record holder { one: thing, more: list<thing>, maybe: option<thing>, other: expected<thing, string> }
record just { one: thing }
type things = list<thing>
lend: func(a: thing, b: list<thing>, c: holder, d: option<thing>, e: expected<thing, u8>, f: tuple<thing, u8>) -> thing
pass-holder: func(a: holder) -> holder
pass-just: func(a: just) -> just
pass-tuple: func(a: tuple<just>) -> tuple<just>
pass-things: func(a: things) -> option<things>
"""

RESOURCE = f"""
/// Documented.
resource thing {{
    /// Too.
    static new: func() -> thing
    static default: func() -> expected<thing, error>
    static thing: func(self: string, this: u32, %handle: u8) -> option<thing>
    clone: func() -> thing
    drop: func(drop: drop) -> expected<_, error>
    %handle: func(%handle: u32, this: string, self: u8) -> u32
    to-string: func() -> string
    len: func() -> u32
    is-empty: func(a: u32) -> bool
    next: func() -> u8
    downcast: func(others: list<thing>) -> nested
    lots: func({numbered("p", 12, [": string"])}) -> tuple<u8, string>
    static lots-of-them: func({numbered("p", 12, [": string"])}) -> tuple<u8, thing>
}}
resource methods-only {{ get: func() -> u8 }}
resource bare
type guest-bare = u8
"""

FILES = {
    "names.wit": TYPES,
    "imported.wit": "use * from names\n" + FUNCTIONS + RESOURCE + HANDLES,
    "renamed.wit": """
use { error as result, drop as impl, self as self } from names
use { thing } from imported
get: func() -> u8
%type: func(a: result, b: impl) -> self
sixteen: func(a: u8) -> option<thing>
""",
    "exported.wit": "use * from names\n" + FUNCTIONS + RESOURCE + HANDLES,
    "lent.wit": "use * from names\nuse { thing, bare } from imported\n" + HANDLES + "take: func(a: bare) -> bare",
    "methods.wit": "resource a { get: func() -> u8 }",
    "alias.wit": "/// Nothing else.\ntype a = u32",
    "größe.wit": "record maß { größe: u8, 名前: string }\nänderung: func(maß: maß) -> maß",
}
IMPORTED = ("imported", "renamed", "größe")
EXPORTED = ("exported", "lent", "methods", "alias")


def load_all(directory: Path, renamed: Sequence[str] = ()) -> tuple[list[Interface], list[Interface]]:
    """All of these and the project's own interfaces: those that are imported, and those that are exported. `renamed`
    are resources that the guest's side calls something else than the host's."""
    for name, text in FILES.items():
        for resource in renamed if name == "exported.wit" else ():
            text = re.sub(rf"\b{resource}\b", f"own-{resource}", text)
        (directory / name).write_text(text)
    own = [WIT / f"{name}.wit" for name in ("keyvalue", "http-server", "compat/kv")]
    imports = load_many([*(directory / f"{name}.wit" for name in IMPORTED), *own])
    own = [WIT / f"{name}.wit" for name in ("http-handler", "http-server-export")]
    return imports, load_many([*(directory / f"{name}.wit" for name in EXPORTED), *own])


def write_all(directory: Path) -> list[str]:
    """Writes the bindings of all of these; returns the names of the modules."""
    files = rust.write(*load_all(directory))
    for name, text in files.items():
        (directory / name).write_text(text)
    (directory / "rustfmt.toml").write_text('max_width = 120\nuse_small_heuristics = "Max"\n')
    return [name.removesuffix(".rs") for name in files]


@pytest.fixture(scope="module")
def crate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bindings of everything, and two crates of them: a library, and a program that uses nothing."""
    directory = tmp_path_factory.mktemp("everything")
    modules = write_all(directory)
    for root, declaration in (("lib.rs", "pub mod"), ("main.rs", "mod")):
        lines = [f'#[path = "{name}.rs"]\n{declaration} {name};\n' for name in modules]
        (directory / root).write_text("".join([*lines, "fn main() {}\n" if root == "main.rs" else ""]))
    return directory


def check(command: Sequence[str | Path], directory: Path) -> None:
    """Asserts that a tool succeeds and has nothing to say."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def tool(name: str) -> Path:
    found = shutil.which(name)
    assert found, f"{name} is missing: apt install rustfmt rust-clippy"
    return Path(found)


CRATES = pytest.mark.parametrize("root", ["lib.rs", "main.rs"])
COMPILE = ["--edition", "2021", "--emit", "metadata", "--out-dir", "out", "-D", "warnings"]


def crate_type(root: str) -> list[str]:
    return ["--crate-type", "lib" if root == "lib.rs" else "bin", root]


@CRATES
def test_rustc_has_nothing_to_warn_of(crate: Path, root: str) -> None:
    check([find_rustc(), *COMPILE, "--target", TARGET, *crate_type(root)], crate)


@CRATES
def test_clippy_has_nothing_to_warn_of(crate: Path, root: str) -> None:
    clippy = tool("clippy-driver")
    ask: list[str | Path] = [clippy.with_name("rustc"), "--print", "sysroot"]
    sysroot = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    check([clippy, *COMPILE, "--sysroot", sysroot, *crate_type(root)], crate)


def test_rustfmt_has_nothing_to_do(crate: Path) -> None:
    files = [path for path in sorted(crate.glob("*.rs")) if path.name not in ("lib.rs", "main.rs")]
    check([tool("rustfmt"), "--edition", "2021", "--check", *files], crate)


def test_the_same_interfaces_give_the_same_files(crate: Path, tmp_path: Path) -> None:
    for name in write_all(tmp_path):
        assert (tmp_path / f"{name}.rs").read_bytes() == (crate / f"{name}.rs").read_bytes()


@pytest.mark.parametrize(
    ("file", "name", "traits"),
    [
        ("names", "One", "Clone, Copy, Debug, PartialEq, Eq"),
        ("names", "Hundred", "Clone, Copy, Debug, PartialEq, Eq"),
        ("names", "Floats", "Clone, Copy, Debug, PartialEq"),
        ("names", "Self_", "Clone, Debug, PartialEq, Eq"),
        ("names", "Numbers", "Clone, Debug, PartialEq"),
        ("lent", "Just", "Debug"),
        ("imported", "Thing", "Debug"),
    ],
)
def test_a_type_has_the_traits_that_its_parts_allow(crate: Path, file: str, name: str, traits: str) -> None:
    assert re.search(rf"#\[derive\({traits}\)\]\npub \w+ {name}\b", (crate / f"{file}.rs").read_text())


def test_what_is_on_an_err_side_or_is_called_an_error_is_one(tmp_path: Path) -> None:
    (tmp_path / "shared.wit").write_text("enum trouble { a }\nrecord fine { a: u8 }\nvariant io-error { a, b(string) }")
    (tmp_path / "failing.wit").write_text(
        """use { trouble, fine } from shared
record detail { a: u8 }
type alias = detail
union inside { u8 }
union harmless { u8 }
f: func(a: list<expected<fine, trouble>>) -> option<expected<harmless, alias>>
g: func(a: tuple<expected<_, inside>>)
"""
    )
    files = rust.write(load_many([tmp_path / "failing.wit"]), [])
    found = {name: re.findall(r"impl std::error::Error for (\w+) \{\}", text) for name, text in files.items()}
    assert found == {"canonical_abi.rs": [], "shared.rs": ["Trouble", "IoError"], "failing.rs": ["Detail", "Inside"]}


def test_documentation_is_carried_over(tmp_path: Path) -> None:
    (tmp_path / "documented.wit").write_text(
        """/// Of the interface.

/// Of the record.
record r {
    /// Of the field.
    f: u8,
}
/// Of the variant.
variant v {
    /// Of the case.
    c,
}
/// Of the resource.
resource x {
    /// Of the method.
    m: func()
}
/// Of the function,
/// two lines.
f: func()
"""
    )
    text = rust.write(load_many([tmp_path / "documented.wit"]), [])["documented.rs"]
    assert text.startswith("//! Of the interface.\n")
    for before, after in {
        "/// Of the record.\n": "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct R {",
        "    /// Of the field.\n": "    pub f: u8,",
        "/// Of the variant.\n": "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum V {",
        "    /// Of the case.\n": "    C,",
        "/// Of the resource.\n": "#[derive(Debug)]\npub struct X {",
        "    /// Of the method.\n": "    pub fn m(&self) {",
        "/// Of the function,\n/// two lines.\n": "pub fn f() {",
    }.items():
        assert before + after in text


def test_a_resource_is_not_both_the_hosts_and_the_guests(tmp_path: Path) -> None:
    (tmp_path / "both.wit").write_text("resource thing")
    both = load_many([tmp_path / "both.wit"])
    with pytest.raises(BackendError, match="can't both import and export 'both'"):
        rust.write(both, both)


# Values of the shapes that test_roundtrip.py leaves out. Here, each interface has types of its own.

ECHOED = [
    "big",
    "hundred",
    "huge",
    "numbers",
    "inside",
    "nested",
    "deep",
    "wide",
    "wider",
    "tuple13",
    "self",
    "list<nested>",
]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    functions = [f"echo{number}: func(a: {type_}) -> {type_}\n" for number, type_ in enumerate(ECHOED)]
    types = TYPES.replace("unit,", "u8,").replace("flags no-flags { }\n", "").replace("d: tuple<>", "d: tuple<u8>")
    return Case(tmp_path_factory.mktemp("echo"), "", types + "".join(functions), compile_echo)


@pytest.mark.parametrize("number", range(len(ECHOED)), ids=ECHOED)
def test_a_value_comes_back_as_it_was_and_leaves_nothing_behind(case: Case, number: int) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(values(case.exported.functions[number].params[0].type, case.module_of), min_size=3, max_size=6))
    def check_all(some: list[Any]) -> None:
        async def body(call: Caller) -> None:
            for value in some:
                before = await call.live_blocks()
                assert same(await call(f"echo{number}", value), value)
                assert await call.live_blocks() == before

        case.run(body)

    check_all()


# Resources, errors, and handlers: a guest that does something.

STORES = """
/// Each case has something else to show.
variant problem { missing(string), full, code(u8), deep(detail-error), list(list<u8>) }
enum detail-error { not-there-yet, gone }

resource store {
    static open: func(name: string) -> expected<store, problem>
    name: func() -> string
    is: func(other: store) -> bool
}

record shelf { first: store, rest: list<store>, maybe: option<store>, other: expected<store, string> }

/// The host takes a look.
names: func(shelf: shelf) -> list<string>
/// The host hands over.
build: func(names: list<string>) -> shelf
""".replace(" list(list", " %list(list")

API = """
use { store, shelf, problem } from stores

read: func(shelf: shelf) -> list<string>
pass: func(shelf: shelf) -> shelf
keep: func(store: store) -> option<store>
ask-twice: func(name: string) -> expected<string, problem>
is-itself: func(name: string) -> bool
in-words: func(problem: problem) -> string

resource counter {
    static new: func(start: u32) -> counter
    add: func(number: u32) -> u32
    /// A new counter of the sum of this one and others.
    plus: func(others: list<counter>) -> counter
    twin: func() -> counter
}
record counters { one: counter, more: list<counter>, maybe: option<counter> }
sum: func(counters: counters) -> u32
reverse: func(counters: counters) -> counters
store-away: func(counter: counter) -> option<counter>
counters-alive: func() -> u32
"""

GUEST = """
mod api;
mod canonical_abi;
mod http_handler;
mod http_server_export;
mod http_types;
mod stores;

use std::cell::{Cell, RefCell};

use api::{Counter, Counters, GuestCounter, Problem, Shelf, Store};
use http_handler::{HttpError, Request, Response};

thread_local! {
    static KEPT: RefCell<Option<Store>> = RefCell::new(None);
    static STORED: RefCell<Option<Counter>> = RefCell::new(None);
    static ALIVE: Cell<u32> = Cell::new(0);
}

struct Count(Cell<u32>);

impl Count {
    fn handle(start: u32) -> Counter {
        ALIVE.with(|alive| alive.set(alive.get() + 1));
        Counter::new(Count(Cell::new(start)))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        ALIVE.with(|alive| alive.set(alive.get() - 1));
    }
}

fn count(counter: &Counter) -> u32 {
    Counter::downcast::<Count>(counter).unwrap().0.get()
}

impl GuestCounter for Count {
    fn new(start: u32) -> Counter {
        Count::handle(start)
    }

    fn add(&self, number: u32) -> u32 {
        self.0.set(self.0.get() + number);
        self.0.get()
    }

    fn plus(&self, others: Vec<Counter>) -> Counter {
        Count::handle(self.0.get() + others.iter().map(count).sum::<u32>())
    }

    fn twin(&self) -> Counter {
        STORED.with(|stored| stored.borrow().clone().unwrap())
    }
}

struct App;

impl api::Guest for App {
    type Counter = Count;

    fn read(shelf: Shelf) -> Vec<String> {
        let mut names = stores::names(&shelf);
        names.push(shelf.first.name());
        names
    }

    fn pass(shelf: Shelf) -> Shelf {
        shelf
    }

    fn keep(store: Store) -> Option<Store> {
        KEPT.with(|kept| kept.replace(Some(store)))
    }

    fn ask_twice(name: String) -> Result<String, Problem> {
        let shelf = stores::build(&[name.clone(), String::new(), name]);
        Ok(Store::open(&stores::names(&shelf).concat())?.name())
    }

    fn is_itself(name: String) -> bool {
        let store = Store::open(&name).unwrap();
        store.is(&store)
    }

    fn in_words(problem: Problem) -> String {
        let error: Box<dyn std::error::Error> = problem.into();
        error.to_string()
    }

    fn sum(counters: Counters) -> u32 {
        count(&counters.one) + counters.more.iter().chain(&counters.maybe).map(|it| it.add(0)).sum::<u32>()
    }

    fn reverse(mut counters: Counters) -> Counters {
        counters.more.reverse();
        counters
    }

    fn store_away(counter: Counter) -> Option<Counter> {
        STORED.with(|stored| stored.replace(Some(counter)))
    }

    fn counters_alive() -> u32 {
        ALIVE.with(Cell::get)
    }
}

api::export!(App);

fn hello(request: Request) -> Result<Response, HttpError> {
    match request.body {
        Some(body) => Ok(Response { status: 200, headers: Some(request.headers), body: Some(body) }),
        None => Err(HttpError::StatusError(411)),
    }
}

http_handler::export_handle_http!("handle-hello", hello);
http_handler::export_handle_http!("handle-teapot", |_| Ok(Response { status: 418, headers: None, body: None }));

impl http_server_export::Guest for App {
    fn on_server_init() -> Result<(), String> {
        Err("not today".to_string())
    }
}

http_server_export::export!(App);
"""


class HostStore:
    def __init__(self, name: str) -> None:
        self._name = name

    async def name(self) -> str:
        return self._name

    async def is_(self, other: HostStore) -> bool:
        return self is other


class Stores:
    """The host of the guest's import."""

    def __init__(self, stores: ModuleType) -> None:
        self._module = stores

    async def store_open(self, name: str) -> HostStore:
        if name == "lostlost":
            raise Err(self._module.ProblemMissing(name))
        return HostStore(name)

    async def names(self, shelf: Any) -> list[str]:
        maybe = [shelf.maybe] if shelf.maybe else []
        other = [shelf.other.value] if isinstance(shelf.other, Ok) else []
        return [await store.name() for store in (shelf.first, *shelf.rest, *maybe, *other)]

    async def build(self, names: list[str]) -> Any:
        first, *rest = map(HostStore, names)
        return self._module.Shelf(first, rest, None, Err("none"))


class Guest:
    """An instance of GUEST, and its bindings."""

    def __init__(
        self, instance: Instance, functions: dict[str, ExportedFunction], modules: dict[str, ModuleType]
    ) -> None:
        self.instance = instance
        self.functions = functions
        self.modules = modules

    async def __call__(self, name: str, *arguments: Any) -> Any:
        return await getattr(self.modules["api"], in_python(name))(self.instance, self.functions[name], *arguments)


Run = Callable[[Callable[[Guest], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a coroutine with a fresh instance of GUEST."""
    directory = tmp_path_factory.mktemp("guest")
    (directory / "stores.wit").write_text(STORES)
    (directory / "api.wit").write_text(API)
    handlers = [WIT / "http-handler.wit", WIT / "http-server-export.wit"]
    stores, *exports = load_many([directory / "stores.wit", directory / "api.wit", *handlers])
    for name, text in rust.write([stores], exports).items():
        (directory / name).write_text(text)
    (directory / "guest.rs").write_text(GUEST)
    wasm = compile_rust(directory / "guest.rs", directory / "guest.wasm", "-O")
    modules = bindings(directory, [stores], exports)
    module = engine().compile(wasm.read_bytes())
    definitions = [*modules["stores"].IMPORTS, *host_resource_imports("store"), *guest_resource_imports("counter")]
    host = Stores(modules["stores"])
    program = Program(engine(), module, {(each.module, each.name): (each, host) for each in definitions})

    async def with_guest(body: Callable[[Guest], Awaitable[None]]) -> None:
        instance = await program.instantiate(reused=True)
        try:
            await body(Guest(instance, describe(module).functions, modules))
        finally:
            instance.close()

    return lambda body: asyncio.run(with_guest(body))


def shelf_of(guest: Guest) -> Any:
    stores = [HostStore(name) for name in "abcde"]
    return guest.modules["stores"].Shelf(stores[0], stores[1:3], stores[3], Ok(stores[4]))


def test_handles_that_the_guest_was_given_are_lent_to_imports_and_dropped_at_the_end(run: Run) -> None:
    async def body(guest: Guest) -> None:
        assert await guest("read", shelf_of(guest)) == ["a", "b", "c", "d", "e", "a"]
        assert len(guest.instance.handles) == 0

    run(body)


def test_handles_in_a_result_are_the_hosts_again(run: Run) -> None:
    async def body(guest: Guest) -> None:
        shelf = shelf_of(guest)
        assert await guest("pass", shelf) == shelf
        assert len(guest.instance.handles) == 0

    run(body)


def test_a_handle_that_the_guest_keeps_outlives_the_call(run: Run) -> None:
    async def body(guest: Guest) -> None:
        store = HostStore("kept")
        assert await guest("keep", store) is None
        assert len(guest.instance.handles) == 1
        assert await guest("keep", HostStore("other")) is store
        assert len(guest.instance.handles) == 1

    run(body)


def test_handles_from_an_import_are_dropped_and_its_errors_are_passed_on(run: Run) -> None:
    async def body(guest: Guest) -> None:
        assert await guest("ask-twice", "no") == "nono"
        with pytest.raises(Err) as caught:
            await guest("ask-twice", "lost")
        assert caught.value.value == guest.modules["stores"].ProblemMissing("lostlost")
        assert len(guest.instance.handles) == 0

    run(body)


def test_a_resource_may_be_lent_twice_at_once(run: Run) -> None:
    async def body(guest: Guest) -> None:
        assert await guest("is-itself", "me")
        assert len(guest.instance.handles) == 0

    run(body)


@pytest.mark.parametrize(
    ("case", "payload", "words"),
    [
        ("Missing", ("the key",), "missing: the key"),
        ("Full", (), "full"),
        ("Code", (7,), "code: 7"),
        ("Deep", (0,), "deep: not there yet"),
        ("List", (b"\x01\x02",), "list: [1, 2]"),
    ],
)
def test_an_error_says_in_words_what_it_is(run: Run, case: str, payload: tuple[Any, ...], words: str) -> None:
    async def body(guest: Guest) -> None:
        problem = getattr(guest.modules["stores"], f"Problem{case}")(*payload)
        assert await guest("in-words", problem) == words

    run(body)


def test_resources_of_the_guest_live_as_long_as_somebody_has_a_handle(run: Run) -> None:
    async def body(guest: Guest) -> None:
        one, two, three = [await guest("counter::new", number) for number in (1, 2, 3)]
        assert await guest("counters-alive") == 3
        assert await guest("counter::add", one, 10) == 11
        total = await guest("counter::plus", one, [two, three, three])
        assert await guest("counter::add", total, 0) == 19
        counters = guest.modules["api"].Counters(one, [two, three], total)
        assert await guest("sum", counters) == 35

        assert await guest("store-away", one) is None
        await one.drop()
        assert await guest("counters-alive") == 4
        twin = await guest("counter::twin", two)
        assert await guest("counter::add", twin, 1) == 12
        await twin.drop()
        again = await guest("store-away", two)
        await two.drop()
        assert await guest("counter::add", again, 1) == 13
        assert await guest("counters-alive") == 4
        for counter in (again, three, total):
            await counter.drop()
        assert await guest("counters-alive") == 1  # the one that the guest has stored

    run(body)


def test_handles_of_the_guests_own_resources_come_and_go_within_other_values(run: Run) -> None:
    async def body(guest: Guest) -> None:
        handles = [await guest("counter::new", number) for number in range(5)]
        answer = await guest("reverse", guest.modules["api"].Counters(handles[0], handles[1:4], handles[4]))
        assert [await guest("counter::add", each, 0) for each in (answer.one, *answer.more, answer.maybe)] == [
            0,
            3,
            2,
            1,
            4,
        ]
        for counter in (*handles, answer.one, *answer.more, answer.maybe):
            await counter.drop()
        assert await guest("counters-alive") == 0

    run(body)


def test_handlers_are_exported_under_names_of_their_own(run: Run) -> None:
    async def body(guest: Guest) -> None:
        types, handler = guest.modules["http_types"], guest.modules["http_handler"]
        for name in ("handle-hello", "handle-teapot"):
            signature = guest.functions[name].params, guest.functions[name].result
            assert signature == (handler.HANDLE_HTTP.params, handler.HANDLE_HTTP.result)
        assert "handle-http" not in guest.functions

        request = types.Request(types.Method.POST, "/a?b", [("x", "y")], [], b"body")
        response = await handler.handle_http(guest.instance, guest.functions["handle-hello"], request)
        assert response == types.Response(200, [("x", "y")], b"body")
        request.body = None
        with pytest.raises(Err) as caught:
            await handler.handle_http(guest.instance, guest.functions["handle-hello"], request)
        assert caught.value.value == types.HttpErrorStatusError(411)
        teapot = await handler.handle_http(guest.instance, guest.functions["handle-teapot"], request)
        assert teapot == types.Response(418, None, None)

    run(body)


def test_the_functions_of_a_guest_are_exported_together(run: Run) -> None:
    async def body(guest: Guest) -> None:
        export = guest.modules["http_server_export"]
        with pytest.raises(Err) as caught:
            await export.on_server_init(guest.instance, guest.functions["on-server-init"])
        assert caught.value.value == "not today"

    run(body)
