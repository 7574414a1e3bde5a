"""Components with capabilities of the user's own: the steps of the document, and classes that fail."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest
import wasmtime

from tests.command import ROOT, Done, slight_py

DOCUMENT = ROOT / "docs" / "custom-capabilities.md"

LIBC = """
(core module $libc
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 3)))))
(core instance $libc (instantiate $libc))
(alias core export $libc "memory" (core memory $memory))
(alias core export $libc "realloc" (core func $realloc))
"""

ERROR = '(type $error (variant (case "nobody") (case "name-too-long" u32)))'

GREETED = f"""
(component
  (import "example:greeter/greeting@0.1.0" (instance $greeting
    {ERROR}
    (export "greeting-error" (type $exported (eq $error)))
    (export "guest-book" (type $book (sub resource)))
    (export "greet" (func (param "name" string) (result (result string (error $exported)))))
    (export "[constructor]guest-book" (func (result (own $book))))
    (export "[method]guest-book.sign"
      (func (param "self" (borrow $book)) (param "name" string) (result (result u32 (error $exported)))))))
  {LIBC}
  (core func $greet (canon lower (func $greeting "greet") (memory $memory) (realloc $realloc)))
  (core func $new (canon lower (func $greeting "[constructor]guest-book")))
  (core func $sign (canon lower (func $greeting "[method]guest-book.sign") (memory $memory) (realloc $realloc)))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "greet" (func $greet (param i32 i32 i32)))
    (import "host" "new" (func $new (result i32)))
    (import "host" "sign" (func $sign (param i32 i32 i32 i32)))
    (data (i32.const 0) "Ada")
    (func (export "run") (result i32) (local $book i32)
      (call $greet (i32.const 0) (i32.const 3) (i32.const 16))
      (call $greet (i32.const 0) (i32.const 0) (i32.const 32))
      (local.set $book (call $new))
      (call $sign (local.get $book) (i32.const 0) (i32.const 3) (i32.const 48))
      (call $sign (local.get $book) (i32.const 0) (i32.const 3) (i32.const 64))
      ;; ok of 14 characters, an error, ok(1) twice
      (i32.or
        (i32.or (i32.load8_u (i32.const 16)) (i32.ne (i32.load (i32.const 24)) (i32.const 14)))
        (i32.or
          (i32.ne (i32.load8_u (i32.const 32)) (i32.const 1))
          (i32.or (i32.load8_u (i32.const 64)) (i32.ne (i32.load (i32.const 68)) (i32.const 1)))))))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) (with "host" (instance
    (export "greet" (func $greet)) (export "new" (func $new)) (export "sign" (func $sign))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exported)))
"""
"""Is greeted, by its name and by none, and signs a guest book twice. Ends with 0 where all of it is answered so."""


def blocks(language: str) -> list[str]:
    """What the part of the document for components has in that language."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("\n## For components\n")[2]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def follow_the_document(folder: Path) -> None:
    """Writes what the document says into a folder, with slightfile.toml and a component, app.wasm."""
    ((wit,), (command,), (source,), (slightfile,)) = map(blocks, ("wit", "console", "python", "toml"))
    (folder / "greeter-package.wit").write_text(wit)
    program, *arguments = command.removeprefix("$ ").split()
    assert program == "slight-py"
    assert slight_py(*arguments, cwd=folder) == (0, "", "")
    (folder / "greeter_of_components.py").write_text(source)
    (folder / "slightfile.toml").write_text(slightfile)
    (folder / "app.wasm").write_bytes(wasmtime.wat2wasm(GREETED))


def test_the_steps_of_the_document_make_a_capability(tmp_path: Path) -> None:
    follow_the_document(tmp_path)
    done = slight_py("run", "app.wasm", "-c", "slightfile.toml", "--verbose", cwd=tmp_path)
    assert (done.code, done.out) == (0, "")
    shown = [re.sub(r"  \d.*", "", line).partition("::")[2] for line in done.errors]
    assert shown == [
        'greet("Ada") = 14 characters',
        'greet("") = nobody',
        "[constructor]guest-book() = guest-book",
        '[method]guest-book.sign("Ada") = 1',
        '[method]guest-book.sign("Ada") = 1',
    ]


# Classes that fail.

LATER = f"""
(component
  (import "mine:things/later@0.1.0" (instance $later (export "ask" (func async (param "number" u32) (result u32)))))
  {LIBC}
  (core func $ask (canon lower (func $later "ask") async (memory $memory) (realloc $realloc)))
  (core func $new (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core func $return (canon task.return (result (result))))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "ask" (func $ask (param i32 i32) (result i32)))
    (import "host" "new" (func $new (result i32)))
    (import "host" "join" (func $join (param i32 i32)))
    (import "host" "return" (func $return (param i32)))
    (func $done (result i32)
      (call $return (i32.ne (i32.load (i32.const 16)) (i32.const 42)))
      (i32.const 0))
    (func (export "run") (result i32) (local $call i32) (local $set i32)
      (local.set $call (call $ask (i32.const 41) (i32.const 16)))
      (if (i32.eq (local.get $call) (i32.const 2)) (then (return (call $done))))
      (local.set $set (call $new))
      (call $join (i32.shr_u (local.get $call) (i32.const 4)) (local.get $set))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32) (call $done)))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) (with "host" (instance
    (export "ask" (func $ask)) (export "new" (func $new)) (export "join" (func $join))
    (export "return" (func $return))))))
  (func $run async (result (result))
    (canon lift (core func $main "run") async (callback (core func $main "callback"))))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $exported)))
"""
"""Asks for the number after 41, without waiting for the call. Ends with 0 where it gets it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the component, and the bindings of what it imports."""
    path = tmp_path_factory.mktemp("later")
    (path / "later.wit").write_text(
        "package mine:things@0.1.0;\ninterface later { ask: async func(number: u32) -> u32; }\n"
    )
    arguments = ("bindgen", "python", "--package", "later.wit", "--interface", "later", "--out-dir", ".")
    assert slight_py(*arguments, cwd=path) == (0, "", "")
    (path / "app.wasm").write_bytes(wasmtime.wat2wasm(LATER))
    return path


def run(folder: Path, name: str, body: str, *options: str) -> Done:
    """Runs the component with a class whose method `ask` has that body."""
    source = """
    import asyncio
    from .mine_things_0_1 import later

    class It:
        INTERFACES = (later,)

        def __init__(self, configs): ...

        async def ask(self, number):
    """
    (folder / f"{name}.py").write_text(dedent(source) + indent(dedent(body), " " * 8))
    grant = f'specversion = "0.2"\n[[capability]]\nresource = "{name}.py:It"\nname = "*"\n'
    (folder / f"{name}.toml").write_text(grant)
    return slight_py("run", "app.wasm", "-c", f"{name}.toml", *options, cwd=folder)


@pytest.mark.parametrize("waits", ["", "await asyncio.sleep(0.01)\n"])
def test_a_call_that_a_component_does_not_wait_for_is_answered(waits: str, folder: Path) -> None:
    done = run(folder, f"answers{len(waits)}", f"{waits}return number + 1", "--verbose")
    assert (done.code, done.out) == (0, "")
    (line,) = done.errors
    assert re.fullmatch(r"slight-py: mine:things/later@0\.1\.0::ask\(41\) = 42  \d+\.\d ms", line)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('raise OSError("no disk")', "OSError: no disk"),
        ('await asyncio.sleep(0.01)\nraise OSError("no disk")', "OSError: no disk"),
        ('await asyncio.sleep(0.01)\nreturn "x"', ""),
    ],
)
def test_a_class_that_fails_ends_the_component_and_is_named(body: str, why: str, folder: Path) -> None:
    done = run(folder, f"fails{len(body)}", body)
    assert (done.code, done.out) == (1, "")
    (line,) = done.errors
    assert line.startswith(f"slight-py: app.wasm: the guest trapped: mine:things/later@0.1.0::ask: It failed: {why}")
