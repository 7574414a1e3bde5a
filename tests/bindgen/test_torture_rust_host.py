"""Names that mean something in Rust, or in generated Rust: bindings of hosts hold, whatever an interface calls its
things. They are compiled, with no warning but for styles of names, and values go through a guest and back."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bindgen.backends import interfaces_of
from bindgen.backends.python_names import name_modules
from bindgen.wit_parser.model import Interface, Type
from tests.bindgen import echo_rust, rust_host
from tests.bindgen.roundtrip import bindings
from tests.bindgen.rust_host_echo import EchoHost
from tests.bindgen.test_torture import PLACES
from tests.bindgen.torture import words
from tests.bindgen.values import values


def check_echo(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> None:
    """Builds a host and an echo as its guest, and asserts that all functions of both reach one another."""
    modules = bindings(directory, imports, exports)
    module_of = {interface: modules[stem] for interface, stem in name_modules(interfaces_of(imports, exports)).items()}

    def draw(types: Sequence[Type]) -> Sequence[Any]:
        found: list[Any] = []

        @settings(
            max_examples=1,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.tuples(*(values(type_, module_of) for type_ in types)))
        def first(some: tuple[Any, ...]) -> None:
            found.extend(some)

        first()
        return found

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
