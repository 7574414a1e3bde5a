"""Hosts in Rust and what outlives a call: resources of both sides, waiting guests, guests that break the rules of
handles, allocation and nesting."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bindgen.backends import BackendError, rust
from bindgen.backends import rust_host as rust_host_backend
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from tests.bindgen import rust_host
from tests.bindgen.echo_rust import compile_rust
from tests.command import ROOT
from tests.guests import example

HOST_SIDE = """
resource counter {
    static new: func(start: u32) -> counter
    add: func(number: u32) -> u32
    share: func() -> counter
}
resource other { static new: func() -> other }
record pair { one: counter, two: option<counter> }
swap: func(it: pair) -> pair
sum: func(them: list<counter>) -> u32
upper: func(text: string) -> string
join: func(texts: list<string>) -> u32
"""

GUEST_SIDE = """
resource note {
    static make: func(text: string) -> note
    text: func() -> string
    join: func(other: note) -> note
}
first: func(them: list<note>) -> option<note>
total: func(start: u32) -> u32
shout: func(text: string, times: u32) -> string
dropped: func() -> u32
"""

GUEST = """\
mod canonical_abi;
mod guest_side;
mod host_side;

use guest_side::{GuestNote, Note};
use host_side::{Counter, Pair};
use std::sync::atomic::{AtomicU32, Ordering};

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Text(String);

impl Drop for Text {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

impl GuestNote for Text {
    fn make(text: String) -> Note {
        Note::new(Text(text))
    }

    fn text(&self) -> String {
        self.0.clone()
    }

    fn join(&self, other: Note) -> Note {
        Note::new(Text(format!("{}{}", self.0, other.text())))
    }
}

struct Guest;

impl guest_side::Guest for Guest {
    type Note = Text;

    fn first(them: Vec<Note>) -> Option<Note> {
        them.into_iter().next()
    }

    fn total(start: u32) -> u32 {
        let one = Counter::new(start);
        let two = one.share();
        one.add(1);
        let pair = host_side::swap(&Pair { one: two, two: Some(one) });
        pair.one.add(10);
        let third = Counter::new(1000);
        host_side::sum(&[pair.one, pair.two.unwrap(), third])
    }

    fn shout(text: String, times: u32) -> String {
        let mut text = text;
        for _ in 0..times {
            text = host_side::upper(&text);
        }
        text
    }

    fn dropped() -> u32 {
        DROPPED.load(Ordering::Relaxed)
    }
}

guest_side::export!(Guest);
"""

HOST = """\
use canonical_abi as abi;
use guest_side::*;
use harness::Data;
use host_side::{Counter, HostCounter, HostOther, Other, Pair};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use wasmtime::{Engine, Instance, Linker, Module, Result, Store};

struct Count(Arc<AtomicU32>);

impl HostCounter for Count {
    async fn add(&self, number: u32) -> Result<u32> {
        Ok(self.0.fetch_add(number, Ordering::Relaxed) + number)
    }

    async fn share(&self) -> Result<Counter> {
        Ok(Counter::new(Count(self.0.clone())))
    }
}

struct Nothing;

impl HostOther for Nothing {}

struct Host;

impl host_side::Host for Host {
    async fn counter_new(&self, start: u32) -> Result<Counter> {
        Ok(Counter::new(Count(Arc::new(start.into()))))
    }

    async fn other_new(&self) -> Result<Other> {
        Ok(Other::new(Nothing))
    }

    async fn swap(&self, it: Pair) -> Result<Pair> {
        match it.two {
            Some(two) => Ok(Pair { one: two, two: Some(it.one) }),
            None => Err(wasmtime::Error::msg("there is nothing to swap")),
        }
    }

    async fn sum(&self, them: Vec<Counter>) -> Result<u32> {
        Ok(them.iter().map(|each| each.downcast::<Count>().unwrap().0.load(Ordering::Relaxed)).sum())
    }

    async fn upper(&self, text: String) -> Result<String> {
        harness::turn().await;
        Ok(text.to_uppercase())
    }

    async fn join(&self, texts: Vec<String>) -> Result<u32> {
        Ok(texts.len() as u32)
    }
}

async fn text(store: &mut Store<Data<Host>>, instance: &Instance, note: &Note) -> Result<String> {
    NoteText::find(store, instance, NoteText::NAME)?.call(store, note).await
}

async fn notes(linker: &Linker<Data<Host>>, module: &Module) -> Result<()> {
    let (mut store, instance) = harness::instance(linker, module, Host).await?;
    let (store, instance) = (&mut store, &instance);
    let make = NoteMake::find(store, instance, NoteMake::NAME)?;
    let one = make.call(store, "one").await?;
    let two = make.call(store, "two").await?;
    let both = NoteJoin::find(store, instance, NoteJoin::NAME)?.call(store, &one, &two).await?;
    println!("joined: {}", text(store, instance, &both).await?);
    let them = [one, two, both];
    let first = First::find(store, instance, First::NAME)?.call(store, &them).await?.unwrap();
    println!("first: {}", text(store, instance, &first).await?);
    first.drop(store, instance).await?;
    let dropped = Dropped::find(store, instance, Dropped::NAME)?;
    println!("dropped while others hold it: {}", dropped.call(store).await?);
    for note in them {
        note.drop(store, instance).await?;
    }
    println!("dropped: {}", dropped.call(store).await?);
    let (mut elsewhere, other) = harness::instance(linker, module, Host).await?;
    let stranger = make.call(store, "stranger").await?;
    let text = NoteText::find(&mut elsewhere, &other, NoteText::NAME)?;
    println!("stranger: {}", text.call(&mut elsewhere, &stranger).await.unwrap_err());
    let second = linker.instantiate_async(&mut *store, module).await?;
    let total = second.get_typed_func::<u32, u32>(&mut *store, "total")?;
    let error = total.call_async(&mut *store, 1).await.unwrap_err();
    println!("second: {}", error.downcast_ref::<abi::Fault>().unwrap());
    Ok(())
}

async fn shout(linker: &Linker<Data<Host>>, module: &Module, text: &str) -> Result<String> {
    let (mut store, instance) = harness::instance(linker, module, Host).await?;
    Shout::find(&mut store, &instance, Shout::NAME)?.call(&mut store, text, 10).await
}

async fn run(linker: &Linker<Data<Host>>, engine: &Engine, path: &str) -> Result<()> {
    let module = harness::load(engine, path)?;
    let (mut store, instance) = harness::instance(linker, &module, Host).await?;
    let run = abi::export::<_, (), ()>(&mut store, &instance, "run")?;
    abi::call(&mut store, &run, ()).await
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let engine = harness::engine()?;
    let mut linker = Linker::new(&engine);
    host_side::add_to_linker(&mut linker, harness::host)?;
    guest_side::add_to_linker(&mut linker)?;
    if arguments[1] == "turns" {
        let (done, polls) = harness::polls(run(&linker, &engine, &arguments[2]));
        done?;
        println!("{polls} turns");
        return Ok(());
    }
    if arguments[1] == "run" {
        match harness::block_on(run(&linker, &engine, &arguments[2])) {
            Ok(()) => println!("done"),
            Err(error) => match error.downcast_ref::<abi::Fault>() {
                Some(fault) => println!("fault: {fault}"),
                None => println!("error: {error:#}"),
            },
        }
        return Ok(());
    }
    let module = harness::load(&engine, &arguments[1])?;
    harness::block_on(async {
        let (mut store, instance) = harness::instance(&linker, &module, Host).await?;
        let total = Total::find(&mut store, &instance, Total::NAME)?;
        println!("total: {}", total.call(&mut store, 5).await?);
        let missing = Total::find(&mut store, &instance, "sum").err().unwrap();
        println!("missing: {missing}");
        let other = Total::find(&mut store, &instance, "shout").err().unwrap();
        println!("another type: {other}");
        notes(&linker, &module).await
    })?;
    let (one, two, waiting) = harness::both(shout(&linker, &module, "one"), shout(&linker, &module, "two"));
    println!("both: {} {}, waiting together {}", one?, two?, waiting);
    Ok(())
}
"""


@pytest.fixture(scope="module")
def interfaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interface, Interface]:
    directory = tmp_path_factory.mktemp("wit")
    (directory / "host-side.wit").write_text(HOST_SIDE)
    (directory / "guest-side.wit").write_text(GUEST_SIDE)
    imported, exported = load_many([directory / "host-side.wit", directory / "guest-side.wit"])
    return imported, exported


@pytest.fixture(scope="module")
def host(interfaces: tuple[Interface, Interface], tmp_path_factory: pytest.TempPathFactory) -> Path:
    imported, exported = interfaces
    return rust_host.build(tmp_path_factory.mktemp("host"), [imported], [exported], {"main.rs": HOST})


@pytest.fixture(scope="module")
def said(
    host: Path, interfaces: tuple[Interface, Interface], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What the host says of the guest in Rust."""
    directory = tmp_path_factory.mktemp("guest")
    imported, exported = interfaces
    for name, text in {**rust.write([imported], [exported]), "guest.rs": GUEST}.items():
        (directory / name).write_text(text)
    wasm = compile_rust(directory / "guest.rs", directory / "guest.wasm")
    module = rust_host.compile_ahead(wasm.read_bytes(), directory / "guest.cwasm")
    done = subprocess.run([host, module], capture_output=True, text=True, check=True, timeout=60)
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_a_guest_holds_resources_of_the_host_and_hands_them_over(said: dict[str, str]) -> None:
    # Two handles of one counter, which starts at 5 and is counted up by 1 and by 10, and one of another at 1,000.
    assert said["total"] == str(16 + 16 + 1000)


def test_a_host_holds_resources_of_the_guest_and_has_them_dropped_once(said: dict[str, str]) -> None:
    assert said["joined"] == "onetwo"
    assert said["first"] == "one"
    assert said["dropped while others hold it"] == "0"
    assert said["dropped"] == "3"


def test_a_resource_of_another_instance_is_refused(said: dict[str, str]) -> None:
    assert said["stranger"] == "guest-side: note::text: the resource belongs to another instance"


def test_a_second_instance_in_a_store_is_not_taken_for_the_first(said: dict[str, str]) -> None:
    assert said["second"].endswith("the store belongs to another instance than the one that calls")


def test_guests_that_wait_leave_others_their_turns(said: dict[str, str]) -> None:
    assert said["both"] == "ONE TWO, waiting together 10"


def test_an_export_that_is_missing_or_of_another_type_is_named(said: dict[str, str]) -> None:
    assert said["missing"].startswith("the guest does not export sum")
    assert said["another type"].startswith("the guest does not export shout")


def test_a_guest_that_calls_in_a_straight_line_leaves_others_their_turns(host: Path, tmp_path: Path) -> None:
    # A call hands over a hundred texts of 64 KiB, all of them from the start of memory.
    text = r"\00\00\00\00\00\00\01\00" * 100
    call = "(drop (call $join (i32.const 0) (i32.const 100)))"
    guest = f'(module {JOIN} {MEMORY} (data (i32.const 0) "{text}") (func (export "run") {call * 20}))'
    module = rust_host.compile_ahead(guest, tmp_path / "guest.cwasm")
    done = subprocess.run([host, "turns", module], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "20 turns\n"


def test_resources_of_one_name_on_both_sides_are_refused(tmp_path: Path) -> None:
    (tmp_path / "host.wit").write_text("resource note\nf: func(a: note)\n")
    (tmp_path / "guest.wit").write_text("resource note\n")
    imported, exported = load_many([tmp_path / "host.wit", tmp_path / "guest.wit"])
    with pytest.raises(BackendError, match="'note' and one of the guest's have one name"):
        rust_host_backend.write([imported], [exported])


# What the documents show.

DOCUMENT = ROOT / "docs" / "bindgen.md"
MAIN = """
fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap();
    let engine = harness::engine()?;
    let module = harness::load(&engine, &path)?;
    println!("{}", harness::block_on(run(&engine, &module))?);
    Ok(())
}
"""


def test_the_host_of_the_documents_runs_an_example_guest(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```rust\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (keyvalue,) = load_many([ROOT / "wit" / "keyvalue.wit"])
    # The modules of the bindings are declared for the tests' own as well.
    source = shown.replace("mod canonical_abi;\nmod keyvalue;\n", "") + MAIN
    program = rust_host.build(tmp_path, [keyvalue], [], {"main.rs": source})
    module = rust_host.compile_ahead(example("bare-c").read_bytes(), tmp_path / "bare.cwasm")
    done = subprocess.run([program, module], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n"


# Guests that break rules.

REALLOC = '(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) {})'
UPPER = '(import "host-side" "upper" (func $upper (param i32 i32 i32)))'
NEW = '(import "host-side" "counter::new" (func $new (param i32) (result i32)))'
ADD = '(import "host-side" "counter::add" (func $add (param i32 i32) (result i32)))'
OTHER = '(import "host-side" "other::new" (func $other (result i32)))'
DROP = '(import "canonical_abi" "resource_drop_counter" (func $drop (param i32)))'
JOIN = '(import "host-side" "join" (func $join (param i32 i32) (result i32)))'
MEMORY = '(memory (export "memory") 17)'
ASK = '(data (i32.const 64) "text") (func (export "run") (call $upper (i32.const 64) (i32.const 4) (i32.const 256)))'
NOTE = """
    (import "canonical_abi" "resource_new_note" (func $new (param i32) (result i32)))
    (import "canonical_abi" "resource_get_note" (func $get (param i32) (result i32)))
    (import "canonical_abi" "resource_clone_note" (func $clone (param i32) (result i32)))
    (import "canonical_abi" "resource_drop_note" (func $drop (param i32)))
"""
LOOP = "(loop $again {} (br $again))"

BROKEN = {
    "a realloc past the end of memory": (
        [UPPER, MEMORY, REALLOC.format("(i32.const 0x110000)"), ASK],
        "fault: host-side: upper: canonical_abi_realloc returned 0x110000 for 4 bytes aligned to 1",
    ),
    "a realloc that wraps": (
        [UPPER, MEMORY, REALLOC.format("(i32.const -2)"), ASK],
        "fault: host-side: upper: canonical_abi_realloc returned 0xfffffffe for 4 bytes aligned to 1",
    ),
    "a realloc that returns nothing": (
        [UPPER, MEMORY, REALLOC.format("(i32.const 0)"), ASK],
        "fault: host-side: upper: canonical_abi_realloc returned 0x0 for 4 bytes aligned to 1",
    ),
    "no realloc": (
        [UPPER, MEMORY, ASK],
        "fault: host-side: upper: the guest does not export canonical_abi_realloc(i32, i32, i32, i32) -> i32",
    ),
    "a realloc of another type": (
        [UPPER, MEMORY, '(func (export "canonical_abi_realloc") (result i32) (i32.const 8))', ASK],
        "fault: host-side: upper: the guest does not export canonical_abi_realloc(i32, i32, i32, i32) -> i32",
    ),
    "a realloc that calls an import": (
        [UPPER, NEW, MEMORY, REALLOC.format("(call $new (i32.const 1))"), ASK],
        "fault: host-side: counter::new: the guest calls an import while it allocates or frees for the host",
    ),
    "no memory": (
        [UPPER, '(func (export "run") (call $upper (i32.const 64) (i32.const 4) (i32.const 256)))'],
        "fault: host-side: upper: text: the guest exports no memory",
    ),
    "a handle that was dropped": (
        [NEW, ADD, DROP, '(func (export "run") (local $h i32) (local.set $h (call $new (i32.const 1)))'],
        "(call $drop (local.get $h)) (drop (call $add (local.get $h) (i32.const 1))))",
        "fault: host-side: counter::add: self: handle 0 of counter was dropped",
    ),
    "a handle that is dropped twice": (
        [NEW, DROP, '(func (export "run") (drop (call $new (i32.const 1))) (call $drop (i32.const 0))'],
        "(call $drop (i32.const 0)))",
        "fault: canonical_abi: resource_drop_counter: handle: handle 0 of counter was dropped",
    ),
    "a handle that was never given out": (
        [ADD, '(func (export "run") (drop (call $add (i32.const 7) (i32.const 1))))'],
        "fault: host-side: counter::add: self: handle 7 of counter was never given out",
    ),
    "a handle of another resource": (
        [OTHER, ADD, '(func (export "run") (drop (call $add (call $other) (i32.const 1))))'],
        "fault: host-side: counter::add: self: handle 0 is of other, not of counter",
    ),
    "more handles than there may be": (
        [NEW, '(func (export "run")', LOOP.format("(drop (call $new (i32.const 1)))"), ")"],
        "fault: host-side: counter::new: result: the guest holds 65536 handles and drops none",
    ),
    "more handles of its own than there may be": (
        [NOTE, '(func (export "run")', LOOP.format("(drop (call $new (i32.const 1)))"), ")"],
        "fault: canonical_abi: note: the guest holds 65536 handles and drops none",
    ),
    "a handle of its own that was dropped": (
        [NOTE, '(func (export "canonical_abi_drop_note") (param i32))', '(func (export "run") (call $drop (call $new'],
        "(i32.const 1))) (drop (call $get (i32.const 0))))",
        "fault: canonical_abi: resource_get_note: handle: handle 0 of note was dropped",
    ),
    "a missing destructor": (
        [NOTE, '(func (export "run") (call $drop (call $new (i32.const 1))))'],
        "fault: the guest does not export canonical_abi_drop_note(i32)",
    ),
    "destructors that drop without end": (
        [NOTE, '(func (export "canonical_abi_drop_note") (param i32) (call $drop (call $new (i32.const 1))))'],
        '(func (export "run") (call $drop (call $new (i32.const 1))))',
        "fault: calls into the guest and from it are nested 16 deep",
    ),
    "texts that overlap": (
        # A hundred texts of 1 MiB, all of them from the start of memory.
        [JOIN, MEMORY, '(data (i32.const 0) "', r"\00\00\00\00\00\00\10\00" * 100, '")'],
        '(func (export "run") (drop (call $join (i32.const 0) (i32.const 100))))',
        "fault: host-side: join: texts: the call hands over too much; it may 256 MiB, or 32 MiB of text, "
        "or 65536 elements of lists",
    ),
    "more elements than there may be": (
        [JOIN, MEMORY, '(func (export "run") (drop (call $join (i32.const 0) (i32.const 65537))))'],
        "fault: host-side: join: texts: the call hands over too much; it may 256 MiB, or 32 MiB of text, "
        "or 65536 elements of lists",
    ),
}
"""What a guest does: its text in pieces, and what the host says."""


@pytest.mark.parametrize("what", BROKEN)
def test_a_guest_that_breaks_a_rule_is_ended_in_words(what: str, host: Path, tmp_path: Path) -> None:
    pieces, *rest, says = BROKEN[what]
    module = rust_host.compile_ahead(f"(module {''.join([*pieces, *rest])})", tmp_path / "guest.cwasm")
    done = subprocess.run([host, "run", module], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [says]
