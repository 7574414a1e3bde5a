"""Names that mean something in Rust, or in generated Rust: bindings of hosts hold, whatever an interface calls its
things. They are compiled, with no warning but for styles of names, and values go through a guest and back."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from bindgen.wit_parser.model import Interface, Type
from tests.bindgen import echo_rust, rust_host
from tests.bindgen.roundtrip import modules_of
from tests.bindgen.rust_host_echo import EchoHost
from tests.bindgen.test_torture import PLACES
from tests.bindgen.torture import words
from tests.bindgen.values import some, values


def check_echo(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> None:
    """Builds a host and an echo as its guest, and asserts that all functions of both reach one another."""
    module_of = modules_of(directory, imports, exports)

    def draw(types: Sequence[Type]) -> Sequence[Any]:
        drawn: list[Sequence[Any]] = []
        some(st.tuples(*(values(type_, module_of) for type_ in types)), 1, drawn.append)
        return drawn[0]

    host = EchoHost(imports, exports, draw)
    program = rust_host.build(directory, imports, exports, host.files())
    wasm = echo_rust.compile_echo(imports, exports, directory).read_bytes()
    module = rust_host.compile_ahead(wasm, directory / "echo.cwasm")
    done = subprocess.run([program, module], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == (f"{host.count} came back\n", "")


@pytest.mark.parametrize("place", PLACES)
def test_every_word_of_rust_hosts_may_be_a_name(place: str, tmp_path: Path) -> None:
    imports, exports = PLACES[place](words("rust-host", tmp_path / "words").whole).load(tmp_path)
    check_echo(imports, exports, tmp_path)
