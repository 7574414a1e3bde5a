"""The command line: what it refuses, and `inspect` and `bindgen`."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from slight_py import progress
from tests.command import COMMAND, ROOT, Done, at_once, environment, slight_py
from tests.guests import example
from tests.test_examples_build import ABI_EXPORTS, HANDLERS, HTTP_SERVER, KEYVALUE


def refused(*errors: str) -> Done:
    """The end of a command that did nothing because of mistakes, each told in a line."""
    return Done(2, "", "".join(f"slight-py: error: {error}\n" for error in errors))


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def wat(path: Path, text: str) -> Path:
    return write(path, bytes(wasmtime.wat2wasm(text)))


# Words.


def test_the_version_is_shown() -> None:
    assert slight_py("--version") == (0, "slight-py 0.1.0\n", "")


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["inspect"], ["bindgen"], ["image"], ["image", "build"], ["image", "run"], ["image", "inspect"]],
)
def test_help_has_an_example(command: list[str]) -> None:
    done = slight_py(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"\nexample:\n  {' '.join(['slight-py', *command])} " in done.out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "the following arguments are required: COMMAND; see `slight-py --help`"),
        (["run"], "the following arguments are required: APP; see `slight-py run --help`"),
        (
            ["run", "app.wasm", "one"],
            "one: there is no such file; what is an argument of the module's own follows `--`",
        ),
        (["run", "app.wasm", "--nothing"], "unrecognized arguments: --nothing; see `slight-py --help`"),
    ],
)
def test_words_that_are_missing_or_unknown_are_refused(words: list[str], error: str) -> None:
    assert slight_py(*words) == refused(error)


def test_an_unknown_command_is_refused_with_those_there_are() -> None:
    """Python 3.12 quotes the choices no longer."""
    done = slight_py("serve")
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert done.err.replace("'", "") == (
        "slight-py: error: argument COMMAND: invalid choice: serve (choose from run, inspect, bindgen, image, secret, "
        "add, new, buildjs, doctor, completion); see `slight-py --help`\n"
    )


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--workers", "0", "a number from 1 to 10000"),
        ("--workers", "two", "a number from 1 to 10000"),
        ("--max-concurrent", "10001", "a number from 1 to 10000"),
        ("--max-memory", "x", "a size in bytes, such as 512K, 64M or 1G, up to 4G"),
        ("--max-memory", "5G", "a size in bytes, such as 512K, 64M or 1G, up to 4G"),
        ("--max-body", "1T", "a size in bytes, such as 512K, 64M or 1G, up to 4G"),
        ("--request-timeout", "-1", "a time in seconds, up to a day"),
        ("--drain-timeout", "nan", "a time in seconds, up to a day"),
        ("--env", "novalue", "NAME=VALUE"),
        ("--env", "=value", "NAME=VALUE"),
        ("--dir", "nothing", "HOST::GUEST or HOST::GUEST:ro"),
        ("--dir", "::/data", "HOST::GUEST or HOST::GUEST:ro"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: str, what: str) -> None:
    error = f"argument {option}: {value!r} is not {what}; see `slight-py run --help`"
    assert slight_py("run", "app.wasm", f"{option}={value}") == refused(error)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert slight_py("run", "app.wasm", "--dir", "nowhere::/data") == refused("--dir: nowhere is not a directory")
    file = write(tmp_path / "file", "")
    assert slight_py("run", "app.wasm", "--dir", f"{file}::/data") == refused(f"--dir: {file} is not a directory")


def test_directories_and_none_exclude_each_other() -> None:
    error = "--dir and --no-dir exclude each other; leave one out"
    assert slight_py("run", "app.wasm", "--no-dir", "--dir", ".::/data") == refused(error)


# Modules.

WRONG_FILES = {
    "empty": (b"", "the file is empty; build the module again"),
    "other": (b"hello", "this is not a WebAssembly module"),
    "text": (
        b"(module)",
        "this is not a WebAssembly module; this looks like its text format, which `wat2wasm` turns into a module",
    ),
    "component of the future": (
        b"\0asm\x0e\0\1\0",
        "a component of the binary format's version 0xe, not 0xd, can't be run; build it with current tools",
    ),
    "version": (b"\0asm\2\0\0\0", "WebAssembly of version 2, not 1, can't be run"),
    "head": (b"\0asm\1", "the file is cut short; copy or build it again"),
}


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_a_file_that_is_not_there_is_refused(command: str, tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    assert slight_py(command, app) == refused(f"{app}: there is no such file")


def test_a_file_that_is_not_a_module_is_refused(tmp_path: Path) -> None:
    apps = {write(tmp_path / f"{name}.wasm", content): error for name, (content, error) in WRONG_FILES.items()}
    assert at_once(lambda app: slight_py("run", app), apps) == [refused(f"{app}: {apps[app]}") for app in apps]


def test_a_directory_in_place_of_a_module_is_refused(tmp_path: Path) -> None:
    assert slight_py("run", tmp_path) == refused(f"{tmp_path}: this is a directory; name the .wasm file in it")


def test_a_module_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    app = write(tmp_path / "app.wasm", example("keyvalue-demo-c").read_bytes()[:-1])
    done = slight_py("run", app)
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert done.err.startswith(f"slight-py: error: {app}: the module is broken or cut short: ")


def test_a_module_without_entry_point_is_refused(tmp_path: Path) -> None:
    app = wat(tmp_path / "app.wasm", '(module (memory (export "memory") 1) (func (export "handle-hello")))')
    error = "exports none of on-server-init, _start, main; build it as a program, not as a library"
    assert slight_py("run", app) == refused(f"{app}: {error}")


def test_an_entry_point_of_another_signature_is_refused(tmp_path: Path) -> None:
    app = wat(tmp_path / "app.wasm", '(module (memory (export "memory") 1) (func (export "_start") (param i32)))')
    error = "the exported function _start has another signature than an entry point"
    assert slight_py("run", app) == refused(f"{app}: {error}")


def test_every_import_that_nothing_provides_is_named(tmp_path: Path) -> None:
    text = r"""
    (module
      (import "env" "one" (func))
      (import "env" "two" (func (param i32)))
      (import "env" "memory" (memory 1))
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_shout" (func))
      (import "keyvalue" "keyvalue::open" (func (param i32 i32 i32)))
      (import "keyvalue" "keyvalue::close" (func (param i32)))
      (import "own" "own::open" (func (param i32 i32 i32)))
      (import "\1b[31m" "a\0ab" (func))
      (func (export "_start")))
    """
    app = wat(tmp_path / "app.wasm", text)
    done = slight_py("run", app)
    assert (done.code, done.out) == (2, "")
    named = [line.removeprefix(f"slight-py: error: {app}: imports ").partition(", which")[0] for line in done.errors]
    assert sorted(named) == sorted(
        [
            "env (one, two)",
            "env::memory",
            "wasi_snapshot_preview1 (fd_shout)",
            "keyvalue (keyvalue::close)",
            "own (own::open)",
            r"\x1b[31m (a\nb)",
        ]
    )


def test_an_import_of_another_signature_is_named_with_both(tmp_path: Path) -> None:
    text = '(module (import "keyvalue" "keyvalue::open" (func (param i32 i64))) (func (export "_start")))'
    app = wat(tmp_path / "app.wasm", text)
    error = (
        "imports keyvalue::keyvalue::open as (i32, i64) -> (), but it is (i32, i32, i32) -> (); "
        "build the module against the interface in wit/"
    )
    assert slight_py("run", app) == refused(f"{app}: {error}")


# Slightfiles.


def test_a_capability_that_the_slightfile_does_not_grant_is_named_with_the_lines_to_add(tmp_path: Path) -> None:
    slightfile = write(tmp_path / "slightfile.toml", 'specversion = "0.2"\n')
    app = example("http-server-demo-c")
    assert slight_py("run", app, "-c", slightfile) == refused(
        *(
            f"{slightfile}: {app.name} imports {interface}, and no capability of the family {family!r} is granted; "
            f'add [[capability]] with resource = "{resource}" and name = "*", or use --link-all-capabilities'
            for interface, family, resource in (
                ("http-server", "http", "http"),
                ("keyvalue", "keyvalue", "keyvalue.memory"),
            )
        )
    )


WRONG_SLIGHTFILES = (
    ("", ':1: the file is empty; begin it with specversion = "0.2"'),
    ('specversion = "0.3"', ''':1: specversion '0.3' does not exist; use "0.1" or "0.2"'''),
    (
        'specversion = "0.2"\n[[capability]]\nresource = "keyvalue.redis"\nname = "*"\n',
        ":2: keyvalue.redis needs REDIS_ADDRESS; "
        'add under [capability.configs]: REDIS_ADDRESS = "${envvars.REDIS_ADDRESS}"',
    ),
)


def test_a_mistake_in_the_slightfile_is_told_with_its_line(tmp_path: Path) -> None:
    files = [write(tmp_path / str(number), text) for number, (text, _) in enumerate(WRONG_SLIGHTFILES)]
    done = at_once(lambda file: slight_py("run", example("bare-c"), "-c", file), files)
    assert done == [refused(f"{file}{error}") for file, (_, error) in zip(files, WRONG_SLIGHTFILES, strict=True)]


def test_a_slightfile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slightfile.toml"
    error = f"{path}: no such file; give the path of a slightfile, or run without one"
    assert slight_py("run", example("bare-c"), "-c", path) == refused(error)


def test_an_address_of_redis_that_makes_no_sense_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = """\
specversion = "0.2"
[[capability]]
resource = "keyvalue.redis"
name = "*"
[capability.configs]
REDIS_ADDRESS = "${envvars.REDIS_ADDRESS}"
"""
    slightfile = write(tmp_path / "slightfile.toml", text)
    env = {"REDIS_ADDRESS": "http://:secret@127.0.0.1"}
    reason = "it starts with none of redis://, rediss:// and unix://"
    assert slight_py("run", example("bare-c"), "-c", slightfile, env=env) == refused(
        f"{slightfile}:2: keyvalue.redis: REDIS_ADDRESS is not the address of a Redis: {reason}"
    )


# What else goes wrong.


def test_with_verbose_a_mistake_is_told_with_where_it_was_found(tmp_path: Path) -> None:
    done = slight_py("run", tmp_path / "app.wasm", "--verbose")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.errors[-1] == f"slight-py: error: {tmp_path}/app.wasm: there is no such file"


def test_output_that_nobody_reads_is_no_reason_for_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "inspect", str(example("bare-c"))]
    done = subprocess.run(command, env=environment(), stdout=writer, stderr=subprocess.PIPE, timeout=20, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "shown"), [(Terminal(), "slight-py: compiling app.wasm …\r\033[K"), (io.StringIO(), "")]
)
def test_what_takes_long_is_shown_where_a_person_watches(
    stderr: io.StringIO, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress.progress("compiling app.wasm"):
        time.sleep(0.1)
    assert stderr.getvalue() == shown


# inspect.


@cache
def inspected(name: str) -> Mapping[str, Any]:
    """What `inspect --json` says of an example."""
    done = slight_py("inspect", example(name), "--json")
    assert (done.code, done.err) == (0, "")
    report: Mapping[str, Any] = json.loads(done.out)
    return report


def test_inspect_shows_what_a_module_needs_and_offers() -> None:
    app = example("http-server-demo-c")
    report = inspected("http-server-demo-c")
    imports = {
        f"{module}::{each.partition('(')[0]}" for module, functions in report["imports"].items() for each in functions
    }
    assert imports >= HTTP_SERVER
    assert report["path"] == str(app)
    assert report["bytes"] == app.stat().st_size
    assert {each.partition("(")[0] for each in report["exports"]} == {*HANDLERS, *ABI_EXPORTS, "_start"} - {"memory"}
    assert report["entry_point"] == "_start"
    assert set(report["handlers"]) == HANDLERS
    assert sorted(report["capabilities"]) == ["http", "keyvalue"]
    assert report["unknown"] == []


def test_inspect_shows_signatures() -> None:
    report = inspected("bare-c")
    assert set(report["imports"]) == {each.partition("::")[0] for each in KEYVALUE}
    assert "keyvalue::get(i32, i32, i32, i32) -> ()" in report["imports"]["keyvalue"]
    assert report["imports"]["canonical_abi"] == ["resource_drop_keyvalue(i32) -> ()"]
    assert "main(i32, i32) -> (i32)" in report["exports"]


def test_inspect_is_made_to_be_read() -> None:
    app = example("bare-c")
    report = inspected("bare-c")
    done = slight_py("inspect", app)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{app}: {app.stat().st_size:,} bytes"
    imports = lines[lines.index("imports") + 1 : lines.index("exports") - 1]
    for interface, functions in report["imports"].items():
        start = imports.index(f"  {interface}") + 1
        assert imports[start : start + len(functions)] == [f"    {function}" for function in functions]
    for function in report["exports"]:
        assert f"  {function}" in lines
    assert "entry point: main" in lines
    assert "handlers: none" in lines
    assert "capabilities: keyvalue" in lines
    assert done.out.endswith(f"a slightfile that serves it:\n\n{report['slightfile']}")


def test_the_slightfile_of_inspect_serves_the_module(tmp_path: Path) -> None:
    def run(name: str) -> Done:
        return slight_py("run", example(name), "-c", write(tmp_path / name, inspected(name)["slightfile"]))

    for done in at_once(run, ["keyvalue-demo-rust", "kv-2022-c", "bare-c"]):
        assert (done.code, done.err) == (0, "")


def test_inspect_names_what_nothing_provides_and_prints_no_control_characters(tmp_path: Path) -> None:
    app = wat(tmp_path / "app.wasm", r'(module (import "\1b[31mred" "f" (func)) (import "own" "f" (func)))')
    done = slight_py("inspect", app)
    assert "not provided: \\x1b[31mred, own" in done.out.splitlines()
    assert "entry point: none: this is a library" in done.out.splitlines()
    assert all(line.isprintable() for line in done.out.splitlines())


# bindgen.


@cache
def make_variable(name: str) -> list[str]:
    """The words of a variable of the Makefile."""
    show = ["make", "--no-print-directory", "--eval", f"show: ; @echo '$({name})'", "show"]
    return shlex.split(subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def bindgen(language: str, folder: str | Path, *more: str) -> Done:
    """The command of `make bindings` for a language and a folder."""
    return slight_py("bindgen", language, *make_variable("INTERFACES"), "--out-dir", folder, *more, cwd=ROOT)


def test_the_generated_bindings_are_what_the_interfaces_give() -> None:
    folders = dict(each.split(":") for each in make_variable("BINDINGS"))
    assert folders == {
        "python": "capabilities/bindings",
        "c": "examples/bindings/c",
        "rust": "examples/bindings/rust",
    }
    assert at_once(lambda each: bindgen(*each, "--check"), folders.items()) == [Done(0, "", "")] * 3


def test_the_generated_bindings_of_the_native_machine_are_what_its_interfaces_give() -> None:
    folder = "unikernel/native/src/bindings"
    command = ("bindgen", *make_variable("MACHINE"), "--out-dir", folder, "--check")
    assert slight_py(*command, cwd=ROOT) == (0, "", "")


@pytest.mark.parametrize(("language", "by_hand"), [("c", set()), ("rust", {"Cargo.toml", "lib.rs"})])
def test_the_bindings_of_the_examples_are_generated_but_for_the_crate(
    language: str, by_hand: set[str], tmp_path: Path
) -> None:
    assert bindgen(language, tmp_path) == (0, "", "")
    generated = {each.name for each in tmp_path.iterdir()}
    assert {each.name for each in (ROOT / "examples" / "bindings" / language).iterdir()} == generated | by_hand


def test_bindings_that_were_changed_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "bindings"
    assert bindgen("python", folder) == (0, "", "")
    assert bindgen("python", folder, "--check") == (0, "", "")
    changed = folder / "keyvalue.py"
    text = changed.read_text()
    changed.write_text(text.replace("get", "got", 1))
    error = f"bindgen: error: {changed} is not what the interfaces give; generate it again\n"
    assert bindgen("python", folder, "--check") == (1, "", error)
    assert "got" in changed.read_text()
    changed.unlink()
    assert bindgen("python", folder, "--check") == (1, "", error)
    assert bindgen("python", folder) == (0, "", "")
    assert changed.read_text() == text


def test_bindings_of_one_interface_are_written_with_what_it_uses(tmp_path: Path) -> None:
    wit = ("--import", "wit/keyvalue.wit", "--export", "wit/http-handler.wit")
    assert slight_py("bindgen", "python", *wit, "--out-dir", tmp_path / "new", cwd=ROOT) == (0, "", "")
    assert {each.name for each in (tmp_path / "new").iterdir()} >= {"keyvalue.py", "http_handler.py", "http_types.py"}


def test_a_mistake_in_an_interface_is_shown_where_it_is(tmp_path: Path) -> None:
    wit = write(tmp_path / "greeting.wit", "/// Says hello.\ngreet: func(name: strin) -> string\n")
    done = slight_py("bindgen", "python", "--import", wit, "--out-dir", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    place, line, caret, *_ = done.errors
    assert place.startswith(f"{wit}:2:19: error: ")
    assert "greet: func(name: strin) -> string" in line
    assert caret.index("^") - line.index("greet") == 18
    assert not (tmp_path / "out").exists()


STORES = ("--import", "wit/keyvalue.wit")
PROXY = ("--package", "wit/wasi/http-0.2", "--world", "proxy")


def test_bindings_of_a_world_are_written_with_all_that_it_needs(tmp_path: Path) -> None:
    assert slight_py("bindgen", "python", *PROXY, "--out-dir", tmp_path, cwd=ROOT) == (0, "", "")
    folders = {f"wasi_{name}_0_2" for name in ("cli", "clocks", "http", "io", "random")}
    assert {each.name for each in tmp_path.iterdir()} == folders
    assert (tmp_path / "wasi_http_0_2" / "incoming_handler.py").is_file()
    assert slight_py("bindgen", "python", *PROXY, "--out-dir", tmp_path, "--check", cwd=ROOT) == (0, "", "")
    assert slight_py("bindgen", "markdown", *PROXY, "--out-dir", tmp_path / "pages", cwd=ROOT) == (0, "", "")
    assert (tmp_path / "pages" / "wasi-http-types.md").read_text().startswith("# wasi:http/types@0.2.12\n")


def test_bindings_of_a_package_take_features_and_what_it_depends_on(tmp_path: Path) -> None:
    (tmp_path / "app.wit").write_text(
        "package my:app;\ninterface i { use my:lib/j.{t}; f: func() -> t; }\n"
        "world w { import i; @unstable(feature = new) import my:lib/k; @unstable(feature = later) import my:lib/l; }\n"
    )
    (tmp_path / "libraries").mkdir()
    library = "package my:lib;\ninterface j { type t = u8; }\ninterface k {}\ninterface l {}\n"
    (tmp_path / "libraries" / "lib.wit").write_text(library)
    words = ("bindgen", "markdown", "--package", "app.wit", "--out-dir", "out")
    missing = "app.wit:2:19: error: there is no package `my:lib`"
    assert slight_py(*words, cwd=tmp_path).errors[0] == missing
    assert slight_py(*words, "--deps", "libraries", "--features", "new, other", cwd=tmp_path) == (0, "", "")
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"my-app-i.md", "my-lib-j.md", "my-lib-k.md"}
    only = (*words[:-1], "only", "--deps", "libraries", "--interface", "my:lib/l")
    assert slight_py(*only, cwd=tmp_path) == (0, "", "")
    assert {each.name for each in (tmp_path / "only").iterdir()} == {"my-lib-l.md"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["c", *PROXY], "c bindings are for modules here, and not for components; for those, use `wit-bindgen c`"),
        (["rust", *PROXY], "rust bindings of a guest are for modules here, and not for components"),
        (["rust", "--side", "host", *PROXY], "rust bindings of a host are for modules here, and not for components"),
        (["javascript", *PROXY], "javascript bindings are for modules here, and not for components"),
        (["python", *PROXY, *STORES], "--import and --export take the WIT of 2022, and --package today's"),
        (
            ["python", "--import", "wit/wasi/io-0.2/io.wit"],
            "io.wit is a package of today's WIT, for components: name it",
        ),
        (["python", *PROXY, "--interface", "types"], "--interface is for bindings without a --world"),
        (["python", *STORES, "--world", "proxy"], "--world is about a package: name that with --package"),
        (["python", *STORES, "--features", "new"], "--features is about a package: name that with --package"),
        (["python", "--package", "wit/wasi/http-0.2"], "a world of wasi:http@0.2.12 must be chosen; there is"),
        (["python", *PROXY[:3], "proxi"], "there is no world proxi in wasi:http@0.2.12; did you mean `proxy`?"),
        (["python", *PROXY[:2], "--interface", "tipes"], "there is no interface tipes in wasi:http@0.2.12"),
        (["python", "--package", "WORLD"], "`f` is defined in the world `w` itself; bindings are for interfaces"),
        (["python", "--package", "CONTEXT"], "a:b/i: an `error-context` is not supported in Python"),
    ],
)
def test_bindings_of_a_package_that_can_not_be_are_refused(words: list[str], reason: str, tmp_path: Path) -> None:
    texts = {
        "WORLD": "package a:b; world w { import f: func(); }",
        "CONTEXT": "package a:b; interface i { type t = list<option<error-context>>; } world w { import i; }",
    }
    named = [str(write(tmp_path / f"{word}.wit", texts[word])) if word in texts else word for word in words]
    done = slight_py("bindgen", *named, "--out-dir", tmp_path / "out", cwd=ROOT)
    assert (done.code, done.out) == (2, "")
    (line,) = done.errors
    assert line.startswith("bindgen: error: ")
    assert reason in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--out-dir", "out"], ["--import", "nothing.wit", "--out-dir", "out"]])
def test_bindings_of_nothing_are_refused(words: list[str], tmp_path: Path) -> None:
    done = slight_py("bindgen", "python", *words, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_rust_is_for_a_guest_unless_a_host_is_meant(tmp_path: Path) -> None:
    texts = []
    for side in ([], ["--side", "guest"], ["--side", "host"]):
        folder = tmp_path / "-".join(["out", *side])
        assert slight_py("bindgen", "rust", *STORES, *side, "--out-dir", folder, cwd=ROOT) == (0, "", "")
        assert {each.name for each in folder.iterdir()} == {"canonical_abi.rs", "keyvalue.rs"}
        texts.append((folder / "keyvalue.rs").read_text())
    assert texts[0] == texts[1]
    assert "pub trait HostKeyvalue" in texts[2]
    assert "pub trait HostKeyvalue" not in texts[0]


def test_python_modules_import_what_they_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = slight_py("bindgen", "python", *STORES, "--runtime", "vendored.abi", "--out-dir", folder, cwd=ROOT)
    assert done == (0, "", "")
    text = (folder / "keyvalue.py").read_text()
    assert "from vendored.abi import " in text
    assert "bindgen.runtime" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["c", "--side", "host"], "there are no c bindings for a host; c is for a guest"),
        (["python", "--side", "guest"], "there are no python bindings for a guest; python is for a host"),
        (["markdown", "--side", "host"], "markdown is for readers, and has no side: leave --side out"),
        (["rust", "--runtime", "x"], "--runtime is not for rust bindings of a guest"),
        (["python", "--runtime", "a b"], "--runtime a b: that is not the name of a module"),
    ],
)
def test_what_a_language_has_not_is_refused_by_name(words: list[str], says: str, tmp_path: Path) -> None:
    done = slight_py("bindgen", *words, *STORES, "--out-dir", tmp_path / "out", cwd=ROOT)
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert says in done.errors[0]
    assert not (tmp_path / "out").exists()
