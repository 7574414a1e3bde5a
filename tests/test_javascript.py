"""Guests in JavaScript, built and run as a user does."""

from __future__ import annotations

from pathlib import Path

import pytest

from slight_py.javascript import build
from tests.command import Done, running, slight_py
from tests.servers import HOST, free_port

BUILD_SECONDS = 300.0
"""The engine may have to be compiled first."""


def built(folder: Path, main: str, *options: str, **files: str) -> Done:
    for name, text in {"main": main, **files}.items():
        (folder / f"{name}.js").write_text(text)
    return slight_py(
        "buildjs", folder / "main.js", "-o", folder / "app.wasm", *options, cwd=folder, seconds=BUILD_SECONDS
    )


def ran(folder: Path, main: str, *options: str, **files: str) -> Done:
    done = built(folder, main, **files)
    assert done.code == 0, done.err
    return slight_py("run", folder / "app.wasm", *options)


def refused(folder: Path, main: str, **files: str) -> list[str]:
    """The errors for a program that can't be built."""
    done = built(folder, main, **files)
    assert (done.code, (folder / "app.wasm").exists()) == (2, False)
    assert done.errors
    assert all(line.startswith("slight-py: ") for line in done.errors)
    return done.errors


def test_a_program_uses_a_store(tmp_path: Path) -> None:
    main = """
        import { Keyvalue } from "slight:keyvalue";
        import { text } from "./text.js";
        export function main() {
          const store = Keyvalue.open("s");
          store.set("key", "ü€😀");
          store.set("bytes", new Uint8Array([0, 255]));
          console.log(text(store.get("key")), [...store.get("bytes")].join(), store.keys().sort().join());
          store.delete("key");
          try { store.get("key"); } catch (error) { console.log(error.name, error.tag, error.error.value); }
          try { store.set(1, "x"); } catch (error) { console.log(error.name, error.message); }
          store.drop();
          try { store.keys(); } catch (error) { console.log(error.message); }
        }
    """
    done = ran(tmp_path, main, text="export const text = (bytes) => new TextDecoder().decode(bytes);")
    assert done.err == ""
    assert done.out.splitlines() == [
        "ü€😀 0,255 bytes,key",
        "Failure key-not-found there is no value under 'key'",
        "TypeError a text is expected here, not number",
        "this Keyvalue was dropped",
    ]


def test_a_program_asks_for_the_interfaces_that_it_imports_alone(tmp_path: Path) -> None:
    assert built(tmp_path, 'import "slight:configs"; export function main() {}').code == 0
    done = slight_py("inspect", tmp_path / "app.wasm")
    assert "capabilities: configs\n" in done.out


def test_the_texts_that_a_program_encodes_are_utf_8(tmp_path: Path) -> None:
    main = """
        export function main() {
          console.log([...new TextEncoder().encode("a\\u0000ü\\ud800")].join());
          console.log(new TextDecoder().decode(new Uint8Array([0xc3, 0xbc])), env("NAME"), env("OTHER"));
        }
    """
    done = ran(tmp_path, main, "--env", "NAME=value")
    assert done == Done(0, "97,0,195,188,239,191,189\nü value undefined\n", "")


SERVER = """
    import { Router, Server } from "slight:http-server";
    import { Failure } from "slight:abi";
    export function main() {
      let router = Router.new().get("/hello/:name", "handle-hello").put("/echo", "handle_echo");
      router = router.get("/fail/:how", "handle-fail");
      Server.serve(env("ADDRESS"), router);
    }
    export const handleHello = (request) => ({ status: 200, body: `${request.method} ${request.params[0][1]}` });
    export async function handleEcho(request) {
      await null;
      return { status: 201, headers: [["x-length", String(request.body.length)]], body: request.body };
    }
    export function handleFail(request) {
      switch (request.params[0][1]) {
        case "thrown": throw new Error("this went wrong");
        case "failure": throw new Failure({ tag: "status-error", value: 418 });
        case "wrong": return { status: "no number" };
        case "never": return new Promise(() => {});
        case "deep": return request.params[0][1] && handleFail(request);
      }
    }
"""


def test_a_program_answers_requests(tmp_path: Path) -> None:
    assert built(tmp_path, SERVER).code == 0
    port = free_port()
    with running("run", tmp_path / "app.wasm", "--env", f"ADDRESS={HOST}:{port}") as server:
        server.port = port
        server.wait_for("serving at")
        assert server.get("/hello/ann")[:2] == (200, b"get ann")
        body = bytes(range(256)) * 1000
        assert server.request("PUT", "/echo", body)[:2] == (201, body)
        for how in ("thrown", "failure", "wrong", "never", "deep"):
            assert server.get(f"/fail/{how}")[0] == 500
        assert server.get("/hello/bob")[:2] == (200, b"get bob")
        assert "this went wrong" in server.err
        assert "nothing is going to settle" in server.err


def test_an_error_in_main_ends_the_program_with_its_place(tmp_path: Path) -> None:
    done = ran(tmp_path, "export function main() {\n  nothing();\n}\n")
    assert done.code == 1
    assert "ReferenceError" in done.err
    assert "app/main.js:2" in done.err


def test_an_interface_of_ones_own_is_imported(tmp_path: Path) -> None:
    (tmp_path / "clock.wit").write_text("now: func() -> u64\n")
    main = 'import { now } from "slight:clock"; export function main() { console.log(typeof now()); }'
    done = built(tmp_path, main, "--import", str(tmp_path / "clock.wit"))
    assert done.code == 0, done.err
    assert "imports clock (now), which nothing provides" in slight_py("run", tmp_path / "app.wasm").err


@pytest.mark.parametrize(
    ("main", "error"),
    [
        ("export function main( {", "SyntaxError"),
        ('import "slight:nothing";', "there is no interface 'nothing'"),
        ('import "./nothing.js";', "there is no file 'nothing.js'"),
        ('import "../main.js";', "is neither a file of this folder"),
        ('import "left-pad";', "'left-pad' is neither a file of this folder"),
        (
            'import { Keyvalue } from "slight:keyvalue"; Keyvalue.open("s");',
            "can't be asked while the program is being built",
        ),
        ("export function handleA() {} export function handle_a() {}", "would both be exported as handle-a"),
        ("export function memory() {}", "memory can't be the name of an exported function"),
        ("export default function () {}", "default can't be the name of an exported function"),
    ],
)
def test_a_program_that_cannot_be_built_is_refused(main: str, error: str, tmp_path: Path) -> None:
    assert any(error in line for line in refused(tmp_path, main))


@pytest.mark.parametrize("where", ["app/{secret}", "app/../secret.txt", "app/link.js"])
def test_a_program_gets_no_file_from_outside_of_its_folder(where: str, tmp_path: Path) -> None:
    """It says itself what it is made of, and may lie."""
    folder, secret = tmp_path / "program", tmp_path / "secret.txt"
    folder.mkdir()
    secret.write_text("for nobody")
    (folder / "link.js").symlink_to(secret)
    errors = refused(folder, f'__slight.loaded.push("{where.format(secret=secret)}"); export function main() {{}}')
    assert "is no file of its folder" in errors[0]


@pytest.mark.parametrize(
    "said", ["null", "[1]", '{ loaded: "app/x", functions: [] }', "{ loaded: [1], functions: [] }"]
)
def test_a_program_that_lies_about_itself_is_refused(said: str, tmp_path: Path) -> None:
    stringify = "const stringify = JSON.stringify;"
    lie = f"{stringify} JSON.stringify = () => stringify({said}); export function main() {{}}"
    assert "does not say what it exports" in refused(tmp_path, lie)[0]


def test_a_program_that_prints_without_end_is_not_built(tmp_path: Path) -> None:
    assert "prints more than" in refused(tmp_path, 'for (;;) console.log("x".repeat(10000));')[0]


def test_a_source_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = slight_py("buildjs", tmp_path / "none.js", "-o", tmp_path / "out.wasm", seconds=BUILD_SECONDS)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "there is no such file" in done.err


@pytest.mark.parametrize(
    ("name", "exported"),
    [("handleHello", "handle-hello"), ("handle_hello", "handle-hello"), ("hello2World", "hello2-world"), ("x", "x")],
)
def test_handlers_are_exported_in_kebab_case(name: str, exported: str) -> None:
    assert build.kebab(name) == exported
