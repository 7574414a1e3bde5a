"""The example guests build, and are modules of the kind that the interface's own toolchain made."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import wasmtime

from tests.guests import EXAMPLES, example, slightfile

C_OUTPUT = {"fd_write", "fd_close", "fd_seek", "fd_fdstat_get", "proc_exit"}
"""What the C library of WASI imports for stdout and stderr."""

C_ERRORS = C_OUTPUT - {"fd_fdstat_get"}
"""The same for stderr alone."""

ENVIRONMENT = {"environ_get", "environ_sizes_get"}

RUST_STD = {"fd_write", "proc_exit", *ENVIRONMENT}
"""What Rust's std imports in any program that prints."""

KEYVALUE = {f"keyvalue::keyvalue::{name}" for name in ("open", "get", "set", "keys", "delete")} | {
    "canonical_abi::resource_drop_keyvalue"
}
KEYVALUE_OF_SERVER = KEYVALUE - {"keyvalue::keyvalue::keys", "keyvalue::keyvalue::delete"}
KEYVALUE_OF_LOCKING = KEYVALUE_OF_SERVER - {"canonical_abi::resource_drop_keyvalue"}
HTTP_SERVER = {
    "http-server::router::new",
    "http-server::router::get",
    "http-server::server::serve",
    "canonical_abi::resource_drop_router",
    "canonical_abi::resource_drop_server",
}
CONFIGS = {f"configs::configs::{name}" for name in ("open", "get", "set")} | {"canonical_abi::resource_drop_configs"}
PUBLISHING = {"messaging::pub::open", "messaging::pub::publish", "canonical_abi::resource_drop_pub"}
MESSAGING = PUBLISHING | {
    *(f"messaging::sub::{name}" for name in ("open", "subscribe", "receive")),
    "canonical_abi::resource_drop_sub",
}
LOCKING = {f"distributed-locking::distributed-locking::{name}" for name in ("open", "lock", "unlock")}
SQL = {
    "sql::sql::open",
    "sql::sql::query",
    "sql::sql::exec",
    "sql::statement::prepare",
    "canonical_abi::resource_drop_sql",
    "canonical_abi::resource_drop_statement",
}
OTHER_ROUTES = {f"http-server::router::{name}" for name in ("put", "post", "delete")}

OF_ONE_OBJECT = ("read-object", "write-object", "has-object", "object-info", "delete-object")
BLOBS = (
    {f"blob-store::container::{name}" for name in ("open", "list-objects", "clear", *OF_ONE_OBJECT)}
    | {"blob-store::write-stream::write", "blob-store::write-stream::close"}
    | {"blob-store::read-stream::read", "blob-store::read-stream::available"}
    | {f"canonical_abi::resource_drop_{name}" for name in ("container", "read-stream", "write-stream")}
)

ABI_EXPORTS = {"memory", "canonical_abi_realloc", "canonical_abi_free"}
HANDLERS = {f"handle-{name}" for name in ("hello", "person", "get", "set", "upload", "delete-file")}
SHOP_HANDLERS = {f"handle-{name}" for name in ("hello", "set-greeting", "order", "list-orders", "keys")}
RUST_EXPORTS = {"main", "__main_void", "__heap_base", "__data_end"}
"""What rustc exports from a program besides `_start`; depends on its version."""


def wasi(names: set[str]) -> set[str]:
    return {f"wasi_snapshot_preview1::{name}" for name in names}


IMPORTS = {
    "keyvalue-demo-c": KEYVALUE | wasi(C_OUTPUT),
    "keyvalue-demo-rust": KEYVALUE | wasi(RUST_STD),
    "http-server-demo-c": HTTP_SERVER | OTHER_ROUTES | KEYVALUE_OF_SERVER | wasi(C_OUTPUT | ENVIRONMENT),
    "http-server-demo-rust": HTTP_SERVER | OTHER_ROUTES | KEYVALUE_OF_SERVER | wasi(RUST_STD),
    "http-client-demo-rust": {"http-client::request"} | wasi(RUST_STD),
    "on-server-init": HTTP_SERVER | wasi(ENVIRONMENT | {"proc_exit"}),
    "bare-c": KEYVALUE,
    "configs-demo-c": CONFIGS | wasi(C_OUTPUT),
    "blob-demo-c": BLOBS | wasi(C_OUTPUT),
    "messaging-demo-publisher-c": MESSAGING | wasi(C_OUTPUT | {"args_get", "args_sizes_get"}),
    "messaging-demo-receiver-rust": MESSAGING | wasi(RUST_STD),
    "locking-demo-c": HTTP_SERVER | LOCKING | KEYVALUE_OF_LOCKING | wasi(C_ERRORS | ENVIRONMENT),
    "sql-demo-rust": SQL | wasi(RUST_STD),
    "multi-capability-demo-rust": HTTP_SERVER
    | {f"http-server::router::{name}" for name in ("put", "post")}
    | (KEYVALUE - {"keyvalue::keyvalue::delete"})
    | CONFIGS
    | SQL
    | PUBLISHING
    | wasi(RUST_STD),
    "kv-2022-c": {f"kv::kv::{name}" for name in ("open", "get", "set", "keys", "delete")}
    | {"canonical_abi::resource_drop_kv"}
    | wasi(C_OUTPUT),
}

EXPORTS = {
    "keyvalue-demo-c": ABI_EXPORTS | {"_start"},
    "keyvalue-demo-rust": ABI_EXPORTS | {"_start"},
    "http-server-demo-c": ABI_EXPORTS | HANDLERS | {"_start"},
    "http-server-demo-rust": ABI_EXPORTS | HANDLERS | {"_start"},
    "http-client-demo-rust": ABI_EXPORTS | {"_start"},
    "on-server-init": ABI_EXPORTS | {"_initialize", "on-server-init", "handle-hello"},
    "bare-c": ABI_EXPORTS | {"main"},
    "configs-demo-c": ABI_EXPORTS | {"_start"},
    "blob-demo-c": ABI_EXPORTS | {"_start"},
    "messaging-demo-publisher-c": ABI_EXPORTS | {"_start"},
    "messaging-demo-receiver-rust": ABI_EXPORTS | {"_start"},
    "locking-demo-c": ABI_EXPORTS | {"_start", "handle-count"},
    "sql-demo-rust": ABI_EXPORTS | {"_start"},
    "multi-capability-demo-rust": ABI_EXPORTS | SHOP_HANDLERS | {"_start"},
    "kv-2022-c": ABI_EXPORTS | {"_start"},
}

STORES = {
    "keyvalue-demo-c": ["my-container", "my-container2"],
    "keyvalue-demo-rust": ["my-container", "my-container2"],
    "http-server-demo-c": ["my-container"],
    "http-server-demo-rust": ["my-container"],
    "bare-c": ["my-container"],
    "kv-2022-c": ["my-container"],
}

I32 = "i32"
SIGNATURES = {
    # Ours to import. The result goes to where the last parameter points.
    "keyvalue::keyvalue::open": ([I32] * 3, []),
    "keyvalue::keyvalue::get": ([I32] * 4, []),
    "keyvalue::keyvalue::set": ([I32] * 6, []),
    "keyvalue::keyvalue::keys": ([I32] * 2, []),
    "keyvalue::keyvalue::delete": ([I32] * 4, []),
    "messaging::pub::open": ([I32] * 3, []),
    "messaging::pub::publish": ([I32] * 6, []),
    "messaging::sub::open": ([I32] * 3, []),
    "messaging::sub::subscribe": ([I32] * 4, []),
    "messaging::sub::receive": ([I32] * 4, []),
    "canonical_abi::resource_drop_pub": ([I32], []),
    "canonical_abi::resource_drop_sub": ([I32], []),
    "kv::kv::open": ([I32] * 3, []),
    "kv::kv::get": ([I32] * 4, []),
    "kv::kv::set": ([I32] * 6, []),
    "kv::kv::keys": ([I32] * 2, []),
    "kv::kv::delete": ([I32] * 4, []),
    "configs::configs::open": ([I32] * 3, []),
    "configs::configs::get": ([I32] * 4, []),
    "configs::configs::set": ([I32] * 6, []),
    "canonical_abi::resource_drop_configs": ([I32], []),
    "blob-store::container::open": ([I32] * 3, []),
    "blob-store::container::list-objects": ([I32] * 2, []),
    "blob-store::container::clear": ([I32] * 2, []),
    **{f"blob-store::container::{name}": ([I32] * 4, []) for name in OF_ONE_OBJECT},
    "blob-store::write-stream::write": ([I32] * 4, []),
    "blob-store::write-stream::close": ([I32] * 2, []),
    "blob-store::read-stream::read": ([I32, "i64", I32], []),
    "blob-store::read-stream::available": ([I32] * 2, []),
    **{f"canonical_abi::resource_drop_{name}": ([I32], []) for name in ("container", "read-stream", "write-stream")},
    "http-server::router::new": ([I32], []),
    "http-server::router::get": ([I32] * 6, []),
    "http-server::router::put": ([I32] * 6, []),
    "http-server::router::post": ([I32] * 6, []),
    "http-server::router::delete": ([I32] * 6, []),
    "http-server::server::serve": ([I32] * 4, []),
    "http-client::request": ([I32] * 11, []),
    "distributed-locking::distributed-locking::open": ([I32] * 3, []),
    "distributed-locking::distributed-locking::lock": ([I32] * 4, []),
    "distributed-locking::distributed-locking::unlock": ([I32] * 4, []),
    "sql::sql::open": ([I32] * 3, []),
    "sql::sql::query": ([I32] * 3, []),
    "sql::sql::exec": ([I32] * 3, []),
    "sql::statement::prepare": ([I32] * 4, [I32]),
    "canonical_abi::resource_drop_sql": ([I32], []),
    "canonical_abi::resource_drop_statement": ([I32], []),
    "canonical_abi::resource_drop_keyvalue": ([I32], []),
    "canonical_abi::resource_drop_kv": ([I32], []),
    "canonical_abi::resource_drop_router": ([I32], []),
    "canonical_abi::resource_drop_server": ([I32], []),
    # The guest's exports.
    "canonical_abi_realloc": ([I32] * 4, [I32]),
    "canonical_abi_free": ([I32] * 3, []),
    "_start": ([], []),
    "_initialize": ([], []),
    "on-server-init": ([], [I32]),
    "main": ([I32] * 2, [I32]),
    **{handler: ([I32] * 10, [I32]) for handler in (*HANDLERS, *SHOP_HANDLERS, "handle-count")},
}


@cache
def load(name: str) -> wasmtime.Module:
    return wasmtime.Module(wasmtime.Engine(), example(name).read_bytes())


def signature(of: wasmtime.FuncType) -> tuple[list[str], list[str]]:
    return [str(param) for param in of.params], [str(result) for result in of.results]


def build(
    *arguments: str | Path, path: str = os.environ["PATH"], python: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs the build script, by Python with the options `python` and with the search path `path`."""
    command: list[str | Path] = [sys.executable, *python, EXAMPLES / "build.py", *arguments]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", IMPORTS)
def test_an_example_imports_what_it_uses_and_nothing_else(name: str) -> None:
    assert {f"{i.module}::{i.name}" for i in load(name).imports} == IMPORTS[name]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_example_exports_its_entry_point_its_handlers_and_the_abi(name: str) -> None:
    exports = {export.name for export in load(name).exports}
    if name.endswith("-rust"):
        exports -= RUST_EXPORTS
    assert exports == EXPORTS[name]


@pytest.mark.parametrize("name", EXPORTS)
def test_every_function_has_the_flat_signature_that_the_abi_gives_it(name: str) -> None:
    module = load(name)
    functions = {f"{i.module}::{i.name}": i.type for i in module.imports if i.module != "wasi_snapshot_preview1"}
    functions |= {export.name: export.type for export in module.exports}
    found = {key: signature(of) for key, of in functions.items() if isinstance(of, wasmtime.FuncType)}
    assert found == {key: SIGNATURES[key] for key in found}


@pytest.mark.parametrize("backend", ["memory", "redis", "filesystem"])
@pytest.mark.parametrize("name", STORES)
def test_an_example_has_a_slightfile_for_every_place_that_its_stores_can_be(name: str, backend: str) -> None:
    content = tomllib.loads(slightfile(name, backend).read_text())
    assert content["specversion"] == "0.2"
    family = "kv" if name == "kv-2022-c" and backend != "memory" else "keyvalue"
    stores = [capability for capability in content["capability"] if capability["resource"] != "http"]
    assert {store["name"]: store["resource"] for store in stores} == dict.fromkeys(STORES[name], f"{family}.{backend}")
    configs = {"REDIS_ADDRESS": "${envvars.REDIS_ADDRESS}"} if backend == "redis" else {}
    assert all(store.get("configs", {}) == configs for store in stores)


@pytest.mark.parametrize("backend", ["memory", "filesystem"])
def test_the_examples_of_messages_have_a_slightfile_for_both(backend: str) -> None:
    content = tomllib.loads(slightfile("messaging-demo-publisher-c", backend).read_text())
    (capability,) = content["capability"]
    assert (capability["resource"], capability["name"]) == (f"messaging.{backend}", "shop")
    named = [module for rule in capability["allow"] for module in rule["modules"]]
    assert named == [example(f"messaging-demo-{each}").name for each in ("publisher-c", "receiver-rust")]


@pytest.mark.parametrize("name", sorted({*EXPORTS} - {"messaging-demo-receiver-rust"}))
def test_the_examples_that_serve_http_are_granted_it(name: str) -> None:
    content = tomllib.loads(slightfile(name).read_text())
    granted = "http" in {capability["resource"] for capability in content["capability"]}
    assert granted == (IMPORTS[name] >= HTTP_SERVER)


def test_building_again_leaves_a_module_that_is_newer_than_its_sources() -> None:
    module = example("bare-c")
    built = module.stat().st_mtime_ns
    assert build("bare-c").returncode == 0
    assert module.stat().st_mtime_ns == built


def test_a_newer_source_is_built_again(tmp_path: Path) -> None:
    assert build("bare-c", "--out", tmp_path).returncode == 0
    module = tmp_path / "bare-c.wasm"
    os.utime(module, ns=(0, 0))
    assert build("bare-c", "--out", tmp_path).returncode == 0
    assert module.stat().st_mtime_ns > 0


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    assert build("bare-c", "--out", tmp_path).returncode == 0
    assert (tmp_path / "bare-c.wasm").read_bytes() == example("bare-c").read_bytes()


def test_without_a_rustc_for_wasi_one_line_names_the_packages(tmp_path: Path) -> None:
    done = build("keyvalue-demo-rust", "--out", tmp_path, path=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "apt install rustc cargo libstd-rust-dev-wasm32" in done.stderr


def test_without_zig_one_line_names_the_package(tmp_path: Path) -> None:
    done = build("keyvalue-demo-c", "--out", tmp_path, python=["-S"])  # without site-packages
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install ziglang" in done.stderr


def test_an_example_that_is_not_there_is_an_error() -> None:
    done = build("keyvalue-demo-cobol")
    assert done.returncode == 2
    assert "keyvalue-demo-cobol" in done.stderr
