"""The bindings of hosts in Rust: the round trips of the Python host, through guests in C and in Rust, and guests that
lie. A program is generated that holds all values, and says for each function how it went."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from bindgen.backends.rust_host_values import is_passed_by_value
from bindgen.backends.rust_names import params_of
from bindgen.plan import ABI
from bindgen.wit_parser.model import Function, Interface
from tests.bindgen import rust_host
from tests.bindgen.roundtrip import modules_of, parse
from tests.bindgen.test_lying_guests import GOOD, PAGE, memory_of, passes, returns
from tests.bindgen.test_lying_guests import lies as lies_about
from tests.bindgen.test_roundtrip import EDGES, LANGUAGES, MANY, SHAPES, TYPES, functions
from tests.bindgen.test_rust_backend import check, load_all, tool
from tests.bindgen.values import some, values


class Trips:
    """The sources of a host that sends values through a guest, and answers it with what it passes."""

    def __init__(self, directory: Path, imported: Interface, exported: Interface) -> None:
        self._imported, self._exported = imported, exported
        self._modules = modules_of(directory, [imported], [exported])
        self._ours, self._theirs = (rust_host.names_of(each, [imported], [exported]) for each in (imported, exported))

    def main(self) -> str:
        names = [function.name for function in self._exported.functions]
        arms = [f'"{name}" => calls::trip_{number}(&mut store, &instance).await,' for number, name in enumerate(names)]
        return f"""\
mod calls;
mod echo;

fn main() -> wasmtime::Result<()> {{
    let arguments: Vec<String> = std::env::args().collect();
    let engine = harness::engine()?;
    let module = harness::load(&engine, &arguments[1])?;
    let mut linker = wasmtime::Linker::new(&engine);
    host_side::add_to_linker(&mut linker, harness::host)?;
    harness::block_on(async {{
        for name in &arguments[2..] {{
            let (mut store, instance) = harness::instance(&linker, &module, echo::Echo).await?;
            let done = match name.as_str() {{
                {"".join(arms)}
                _ => Err(wasmtime::Error::msg("there is no such function")),
            }};
            match done {{
                Ok(count) => println!("{{name}}: {{count}} came back"),
                Err(error) => println!("{{name}}: {{error:#}}"),
            }}
        }}
        Ok(())
    }})
}}
"""

    def echo(self) -> str:
        """The host: it answers each function with its argument, or with all of them as a tuple."""
        methods = [self._method(function) for function in self._imported.functions]
        return f"""\
use super::canonical_abi as abi;
use super::host_side::*;
use super::shapes::*;

pub struct Echo;

impl Host for Echo {{
{"".join(methods)}
}}
"""

    def _method(self, function: Function) -> str:
        names = self._ours
        params = params_of(function)
        shown = ", ".join(["&self", *(f"{name}: {names.owned(type_)}" for name, type_ in params)])
        body = {
            "answers": "Ok(value)",
            "plain-error": 'Ok(if fails { Err("it was asked to".into()) } else { Ok(()) })',
            "bare": "Ok(if fails { Err(()) } else { Ok(()) })",
            "coded": 'Ok(if fails { Err(Colour::Blue) } else { Ok(vec!["a".into(), "".into(), "ü".into()]) })',
        }.get(function.name)
        if body is None:
            arguments = [name for name, _ in params]
            if len(arguments) == 1:
                body = f"Ok({arguments[0]})"
            else:
                body = f"Ok({rust_host.constructed(names, function.result, arguments) if arguments else '()'})"
        return f"""
    async fn {names.method(function)}({shown}) -> abi::Result<{names.owned(function.result)}> {{
        super::harness::turn().await;
        {body}
    }}
"""

    def calls(self) -> str:
        trips = [self._trip(number, function) for number, function in enumerate(self._exported.functions)]
        return f"""\
use super::guest_side::*;
use super::harness::{{self, Data}};
use super::echo::Echo;
use super::shapes::*;
use wasmtime::{{Instance, Result, Store}};

fn same<T: std::fmt::Debug>(answer: &T, value: &T) -> Result<()> {{
    let (answer, value) = (format!("{{answer:?}}"), format!("{{value:?}}"));
    if answer == value {{ Ok(()) }} else {{ Err(wasmtime::Error::msg(format!("{{answer}} is not {{value}}"))) }}
}}
{"".join(trips)}
"""

    def _trip(self, number: int, function: Function) -> str:
        """A function that sends each of some values and says how many came back as they were."""
        sent: list[str] = []
        for arguments, answer in self._values(function):
            passed = []
            for value, (_, type_) in zip(arguments, params_of(function), strict=True):
                passed.append(f"{'' if is_passed_by_value(type_) else '&'}{value}")
            sent.append(f"""
    let answer = function.call({", ".join(["store", *passed])}).await?;
    same(&answer, &{answer})?;""")
        return f"""
pub async fn trip_{number}(store: &mut Store<Data<Echo>>, instance: &Instance) -> Result<usize> {{
    let function = {self._theirs.exported(function)}::find(store, instance, "{function.name}")?;
    let before = harness::live_blocks(store, instance).await?;
{"".join(sent)}
    match harness::live_blocks(store, instance).await? {{
        after if after == before => Ok({len(sent)}),
        after => Err(wasmtime::Error::msg(format!("{{after}} blocks are left of {{before}}"))),
    }}
}}
"""

    def _values(self, function: Function) -> Iterator[tuple[list[str], str]]:
        """What to pass, and what has to come back."""
        names = self._theirs
        flips = {
            "plain-error": ("Ok::<(), String>(())", 'Err::<(), String>("it was asked to".into())'),
            "bare": ("Ok::<(), ()>(())", "Err::<(), ()>(())"),
            "coded": (
                'Ok::<Vec<String>, Colour>(vec!["a".into(), "".into(), "ü".into()])',
                "Err::<Vec<String>, Colour>(Colour::Blue)",
            ),
        }
        if function.name in flips:
            for fails, answer in zip(("false", "true"), flips[function.name], strict=True):
                yield [fails], answer
            return
        types = [param.type for param in function.params]
        passing: list[tuple[Any, ...]] = []
        some(st.tuples(*(values(type_, self._modules) for type_ in types)), 12, passing.append)
        if function.name.startswith("shape"):
            passing += [(value,) for value in EDGES.get(TYPES[int(function.name[5:])], [])]
        for arguments in passing:
            passed = [rust_host.expression(names, *each) for each in zip(types, arguments, strict=True)]
            if len(types) == 1:
                yield passed, passed[0]
            else:
                yield passed, rust_host.constructed(names, function.result, passed) if passed else "()"


@pytest.fixture(scope="module")
def interfaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interface, Interface]:
    return parse(tmp_path_factory.mktemp("wit"), SHAPES, functions())


@pytest.fixture(scope="module")
def host(interfaces: tuple[Interface, Interface], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that sends all values."""
    directory = tmp_path_factory.mktemp("host")
    imported, exported = interfaces
    trips = Trips(directory, imported, exported)
    sources = {"main.rs": trips.main(), "echo.rs": trips.echo(), "calls.rs": trips.calls()}
    return rust_host.build(directory, [imported], [exported], sources)


@pytest.fixture(scope="module", params=LANGUAGES)
def trips(
    request: pytest.FixtureRequest,
    host: Path,
    interfaces: tuple[Interface, Interface],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What the program says of each function, with a guest in one language."""
    directory = tmp_path_factory.mktemp(request.param)
    imported, exported = interfaces
    wasm = LANGUAGES[request.param]([imported], [exported], directory).read_bytes()
    module = rust_host.compile_ahead(wasm, directory / "echo.cwasm")
    names = [function.name for function in interfaces[1].functions]
    done = subprocess.run([host, module, *names], capture_output=True, text=True, check=True, timeout=120)
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


NAMES = [*(f"shape{number}" for number in range(len(TYPES))), *MANY, "answers", "plain-error", "bare", "coded"]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_comes_back_as_it_was_and_the_guest_frees_what_it_held(name: str, trips: dict[str, str]) -> None:
    assert trips[name].endswith(" came back"), trips[name]
    assert int(trips[name].split()[0]) >= (1 if name == "none" else 2)


# What the compiler and rustfmt say of bindings of everything.


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the bindings of every type, under names that Rust has other uses for."""
    directory = tmp_path_factory.mktemp("everything")
    return rust_host.build_without_std(directory, *load_all(directory, ["thing", "methods-only", "bare"]))


def test_bindings_need_no_standard_library_and_give_no_warning(everything: Path) -> None:
    assert (everything / "lib.rs").read_text().startswith("#![deny(warnings)]\n#![no_std]\n")


def test_rustfmt_has_nothing_to_do_for_hosts(everything: Path) -> None:
    (everything / "rustfmt.toml").write_text('max_width = 120\nuse_small_heuristics = "Max"\n')
    files = [path for path in sorted(everything.glob("*.rs")) if path.name not in ("lib.rs", "harness.rs")]
    check([tool("rustfmt"), "--edition", "2021", "--check", *files], everything)


# Guests that lie.


def lying(types: list[str]) -> str:
    """For each type a function that takes a lie, and one that returns it."""
    taking = [f"takes{number}: func(it: {type_})\n" for number, type_ in enumerate(types)]
    returning = [f"gives{number}: func() -> tuple<{type_}>\n" for number, type_ in enumerate(types)]
    return "".join([*taking, *returning])


LIAR = """\
use canonical_abi as abi;
use harness::Data;
use shapes::*;
use wasmtime::{Instance, Result, Store};

struct Host;

impl host_side::Host for Host {
METHODS
}

async fn give(store: &mut Store<Data<Host>>, instance: &Instance, number: usize) -> Result<()> {
    match number {
        CALLS
        _ => Err(wasmtime::Error::msg("there is no such function")),
    }
}

/// Reads from standard input what guests to run: the name of a file, and the number of the export to call, or a dash
/// for `run`. Says for each what became of it, and whether that was the guest's fault.
fn main() -> Result<()> {
    let engine = harness::engine()?;
    let mut linker = wasmtime::Linker::new(&engine);
    host_side::add_to_linker(&mut linker, harness::host)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let (path, number) = line.split_once(' ').unwrap();
        let module = harness::load(&engine, path)?;
        let done: Result<()> = harness::block_on(async {
            let (mut store, instance) = harness::instance(&linker, &module, Host).await?;
            match number.parse() {
                Ok(number) => give(&mut store, &instance, number).await,
                Err(_) => instance.get_typed_func::<(), ()>(&mut store, "run")?.call_async(&mut store, ()).await,
            }
        });
        match done {
            Ok(()) => println!("believed"),
            Err(error) => match error.downcast_ref::<abi::Fault>() {
                Some(fault) => println!("{fault}"),
                None => println!("no fault: {error:?}"),
            },
        }
    }
    Ok(())
}
"""


def test_a_lie_ends_its_guest_and_is_named_as_in_python(tmp_path: Path) -> None:
    imported, exported = parse(tmp_path, SHAPES, lying(TYPES))
    ours, theirs = (rust_host.names_of(each, [imported], [exported]) for each in (imported, exported))
    methods, calls = [], []
    for function in imported.functions:
        shown = "".join(f", _: {ours.owned(type_)}" for _, type_ in params_of(function))
        result = ours.owned(function.result)
        body = "Ok(())" if function.params else 'Err(wasmtime::Error::msg("nobody asks for it"))'
        methods.append(f"async fn {ours.method(function)}(&self{shown}) -> Result<{result}> {{ {body} }}")
    for number in range(len(TYPES)):
        function = exported.functions[len(TYPES) + number]
        found = f'guest_side::{theirs.exported(function)}::find(&mut *store, instance, "{function.name}")?'
        calls.append(f"{number} => {found}.call(store).await.map(|_| ()),")
    main = LIAR.replace("METHODS", "\n".join(methods)).replace("CALLS", "\n".join(calls))
    program = rust_host.build(tmp_path, [imported], [exported], {"main.rs": main})

    asked: list[str] = []
    expected: list[tuple[str, str]] = []

    def ask(wasm: bytes, number: str, start: str, says: str) -> None:
        module = rust_host.compile_ahead(wasm, tmp_path / f"{len(asked)}.cwasm")
        asked.append(f"{module} {number}\n")
        expected.append((start, says))

    for number in range(len(TYPES)):
        takes, gives = imported.functions[number], exported.functions[len(TYPES) + number]
        passed, returned = ABI.signature(takes, "import"), ABI.signature(gives, "export")
        for lie in lies_about(takes.params[0].type):
            if lie.slots and not passed.indirect_params:
                guest = passes(passed, lie.slots, memory_of(lie, GOOD), takes.name)
                ask(guest, "-", f"host-side: {takes.name}: it: ", lie.says)
            if lie.writes and returned.result_pointer:
                guest = returns(returned, GOOD, memory_of(lie, GOOD), gives.name)
                ask(guest, str(number), f"guest-side: {gives.name}: result: ", lie.says)
            if lie.slots and not returned.result_pointer:
                ask(
                    returns(returned, lie.slots[0], {}, gives.name),
                    str(number),
                    f"guest-side: {gives.name}: ",
                    lie.says,
                )
    for pointer in (PAGE, PAGE - 4, 2**32 - 8, 2**32 - 1):
        number = TYPES.index("outer")
        gives = exported.functions[len(TYPES) + number]
        guest = returns(ABI.signature(gives, "export"), pointer, {}, gives.name)
        ask(guest, str(number), f"guest-side: {gives.name}: result: 16 bytes at", "past the end of memory")
    done = subprocess.run([program], input="".join(asked), capture_output=True, text=True, check=True, timeout=300)
    said = done.stdout.splitlines()
    assert len(said) == len(expected) > 500
    for text, (start, says) in zip(said, expected, strict=True):
        assert text.startswith(start)
        assert any(part in text for part in says.split("|")), text
