"""`slight-py inspect` of components."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wasmtime

from tests.command import slight_py
from tests.component.test_binary import producers
from tests.component.texts import LIBC, VALID, component

KEYVALUE = component(
    """
    (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
      (export "bucket" (type $bucket (sub resource)))
      (type $error (variant (case "no-such-store") (case "access-denied") (case "other" string)))
      (export "error" (type $e (eq $error)))
      (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $e)))))))
    (import "own:things/of-mine@1.0.0" (instance $own (export "f" (func))))
    """,
    LIBC,
    """
    (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
    (core func $f (canon lower (func $own "f")))
    (core module $main
      (import "host" "open" (func (param i32 i32 i32)))
      (import "host" "f" (func))
      (func (export "run") (result i32) i32.const 0))
    (core instance $main (instantiate $main (with "host" (instance
      (export "open" (func $open)) (export "f" (func $f))))))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $exported))
    (export "plain" (func $run))
    """,
)


def written(folder: Path, source: str, more: bytes = b"") -> Path:
    path = folder / "app.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm(source)) + more)
    return path


def inspected(path: Path) -> Mapping[str, Any]:
    done = slight_py("inspect", path, "--json")
    assert (done.code, done.err) == (0, "")
    report: Mapping[str, Any] = json.loads(done.out)
    return report


def test_a_component_s_interfaces_modules_and_capabilities(tmp_path: Path) -> None:
    path = written(tmp_path, KEYVALUE, producers("processed-by", "wit-component", "0.240.0"))
    report = inspected(path)
    error = "variant{no-such-store, access-denied, other(string)}"
    assert report["imports"] == {
        "wasi:keyvalue/store@0.2.0-draft2": [
            f"open: func(identifier: string) -> result<own<wasi:keyvalue/store/bucket>, {error}>"
        ],
        "own:things/of-mine@1.0.0": ["f: func()"],
    }
    assert report["exports"] == {
        "wasi:cli/run@0.2.3": ["run: func() -> result<_, _>"],
        "": ["plain: func() -> result<_, _>"],
    }
    assert [each["name"] for each in report["core_modules"]] == ["libc", "main"]
    assert 0 < sum(each["bytes"] for each in report["core_modules"]) < report["bytes"] == path.stat().st_size
    assert report["core_instances"] == 2
    assert report["wasi"] == ["0.2"]
    assert report["made_with"] == ["wit-component 0.240.0"]
    assert report["entry_point"] == "wasi:cli/run@0.2.3"
    assert report["capabilities"] == ["keyvalue"]
    (unknown,) = report["unknown"]
    assert unknown.startswith("imports own:things/of-mine@1.0.0 (f), which nothing provides")
    assert 'resource = "keyvalue.memory"' in report["slightfile"]


def test_what_inspect_says_of_a_component_is_made_to_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, KEYVALUE)
    done = slight_py("inspect", path)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{path}: {path.stat().st_size:,} bytes, a component for WASI 0.2"
    assert lines[lines.index("  wasi:keyvalue/store@0.2.0-draft2") + 1] == "    open"  # its type is longer than a line
    assert lines[lines.index("  wasi:cli/run@0.2.3") + 1] == "    run: func() -> result<_, _>"
    assert "  plain: func() -> result<_, _>" in lines
    assert "core instances: 2" in lines
    assert "made with: no tool that says so" in lines
    assert "entry point: wasi:cli/run@0.2.3" in lines
    assert "capabilities: keyvalue" in lines


def test_a_component_that_nothing_runs_is_shown_all_the_same(tmp_path: Path) -> None:
    report = inspected(written(tmp_path, VALID["composed"]))
    assert report["entry_point"] is None
    assert report["wasi"] == []
    assert report["core_instances"] == 4


def test_what_is_wrong_with_a_component_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(b"\0asm\x0d\0\1\0\7\2\1\x20")
    done = slight_py("inspect", path)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"slight-py: error: {path}: component: at byte 0xb: 0x20 is no kind of type\n"
