"""What a start imports, which is most of its time, and ten times as long in an emulated machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

from tests.command import ROOT, SECONDS, environment, serving, slight_py
from tests.component.guests import COMMAND, written
from tests.guests import example

TOLD = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Has Python say on standard error what it imports."""

NEVER = {"wasmtime", "redis", "tomllib", "difflib", "multiprocessing", "importlib.metadata", "tempfile"}
"""What no module needs that was compiled before, runs in one process and has no slightfile."""


def imported(err: str) -> set[str]:
    """The Python modules that standard error tells of."""
    return {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}


def imported_by(app: Path) -> set[str]:
    """What a run of a module imports that was compiled by an earlier one."""
    slight_py("run", app)
    done = slight_py("run", app, env=TOLD)
    assert done.code == 0, done.err
    return imported(done.err)


def test_a_module_without_imports_gets_no_capability(tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    app.write_bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
    modules = imported_by(app)
    assert "slight_py.engine" in modules
    assert modules & (NEVER | {"aiohttp", "capabilities.http.host", "capabilities.keyvalue.memory"}) == set()
    assert not any(each.startswith("capabilities.bindings") for each in modules)


def test_a_module_that_starts_no_server_imports_none() -> None:
    modules = imported_by(example("keyvalue-demo-c"))
    assert "capabilities.keyvalue.memory" in modules
    assert modules & (NEVER | {"aiohttp", "capabilities.http.host", "slight_py.handlers", "http", "email"}) == set()


def test_a_component_gets_the_bindings_of_its_own_release_of_wasi(tmp_path: Path) -> None:
    modules = imported_by(written(tmp_path, COMMAND, "(i32.const 0)"))
    bindings = {each for each in modules if each.startswith("capabilities.bindings.wasi_")}
    assert "capabilities.bindings.wasi_io_0_2.streams" in bindings
    assert not any("_0_3" in each or "_http_" in each for each in bindings)
    assert modules & (NEVER | {"slight_py.wasi.preview3", "capabilities.wasi.http", "aiohttp"}) == set()


def test_a_client_is_imported_where_a_module_asks_for_it_and_without_a_server() -> None:
    app = example("http-client-demo-rust")
    refused = ("run", app, "--env", "URL=http://127.0.0.1:1/")
    slight_py(*refused)
    done = slight_py(*refused, env=TOLD)
    assert "does not grant a request" in done.err
    modules = imported(done.err)
    assert {"aiohttp.client", "capabilities.http_client.policy"} <= modules
    assert modules & {"aiohttp.web", "capabilities.http.server", "capabilities.http.host", "redis"} == set()


def test_a_server_is_imported_without_a_client() -> None:
    app = example("http-server-demo-c")
    with serving(app):
        pass
    with serving(app, env=TOLD) as server:
        assert server.get("/hello").status == 200
        modules = imported(server.err)
    assert "aiohttp.http_parser" in modules
    unwanted = {"aiohttp.client", "aiohttp.connector", "aiohttp.web", "aiohttp.web_protocol"}
    assert modules & ((NEVER | unwanted) - {"tempfile"}) == set()


# The package aiohttp, of which the server imports a part, is whole for whoever asks for more.


def python(*lines: str) -> str:
    """What a program prints, which runs in a process of its own."""
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


SERVER = (
    "import sys, capabilities.http.server",
    "assert 'aiohttp.http_parser' in sys.modules",
    "assert 'aiohttp.client' not in sys.modules",
)


@pytest.mark.parametrize(
    "uses",
    [
        "from aiohttp import ClientSession",
        "from aiohttp import *; ClientSession",
        "import aiohttp; aiohttp.ClientSession",
        "import aiohttp.client; aiohttp.client.ClientSession is aiohttp.ClientSession or 1 / 0",
        "import aiohttp.web; aiohttp.web.Application(); aiohttp.ClientSession",
        "import aiohttp; aiohttp.StreamReader is capabilities.http.connection.StreamReader or 1 / 0",
    ],
)
def test_a_capability_can_use_the_client_of_aiohttp(uses: str) -> None:
    names = "import aiohttp, aiohttp.http; print(dir(aiohttp), aiohttp.http.SERVER_SOFTWARE)"
    everything = "[getattr(aiohttp, name) for name in aiohttp.__all__ if 'Gunicorn' not in name]"
    assert python(*SERVER, uses, names, everything) == python(names)


def test_aiohttp_says_what_it_does_not_have() -> None:
    lines = "import aiohttp", "try: aiohttp.nothing", "except AttributeError as error: print(error)"
    assert python(*SERVER, *lines) == python(*lines) == "module aiohttp has no attribute nothing\n"


def test_the_server_takes_aiohttp_as_it_finds_it() -> None:
    server = "from capabilities.http import connection; print(connection.StreamReader is aiohttp.StreamReader)"
    assert python("import aiohttp", server) == "True\n"
