"""Which modules go into an image: the imports of a source, which of them are followed, and what a real run loads."""

from __future__ import annotations

import marshal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent

import pytest

from tests.command import ROOT, SECONDS, environment
from tests.guests import example, slightfile
from tests.redis_server import RedisServer
from tests.test_sending import page
from unikernel import application, bytecode, closure, contents
from unikernel.closure import Import, Module, find


def imports_of(source: str, folder: Path, name: str = "package.module") -> list[tuple[str, bool]]:
    """The imports of a source, each with whether it is outright."""
    path = folder / "source.py"
    path.write_text(dedent(source))
    found = closure.imports(Module(name, path))
    closure.imports.cache_clear()
    return [(".".join([each.module, *each.names]), each.outright) for each in found]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b, c as d", [("a.b", True), ("c", True)]),
        ("from a import b as c", [("a.b", True)]),
        ("from a import *", [("a", True)]),
        ("from . import a", [("package.a", True)]),
        ("from .a import b", [("package.a.b", True)]),
        ("class A:\n  import a", [("a", True)]),
        ("def f():\n  import a", [("a", False)]),
        ("async def f():\n  async with x:\n    import a", [("a", False)]),
        ("class A:\n  def f(self):\n    import a", [("a", False)]),
        (
            "try:\n  import a\nexcept ImportError:\n  import b\nelse:\n  import c",
            [("a", False), ("b", False), ("c", True)],
        ),
        ("try:\n  import a\nexcept (KeyError, Exception):\n  pass", [("a", False)]),
        ("try:\n  import a\nexcept KeyError:\n  pass\nfinally:\n  import b", [("a", True), ("b", True)]),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", [("b", True)]),
        ("if not typing.TYPE_CHECKING and x:\n  import a", [("a", True)]),
        ("if sys.platform == 'win32':\n  import a\nelif os.name == 'posix':\n  import b", [("b", True)]),
        ("if sys.platform != 'win32' or x:\n  import a\nelse:\n  import b", [("a", True)]),
        ("if sys.version_info >= (3, 11):\n  import a\nelse:\n  import b", [("a", True)]),
        ("if sys.version_info < (3, 11):\n  import a", []),
        ("if __name__ == '__main__':\n  import a", []),
        ("if x:\n  import a\nelse:\n  import b", [("a", True), ("b", True)]),
        ("importlib.import_module('a.b')", [("a.b", True)]),
        ("def f():\n  __import__('a')", [("a", False)]),
    ],
)
def test_the_imports_of_a_source_are_found_with_how_much_they_are_needed(
    source: str, expected: list[tuple[str, bool]], tmp_path: Path
) -> None:
    assert imports_of(source, tmp_path) == expected


def test_a_package_imports_from_itself(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from . import a\nfrom ..b import c")
    assert closure.imports(Module("p.q", tmp_path / "__init__.py", True)) == (
        Import("p.q", ("a",)),
        Import("p.b", ("c",)),
    )


def files(folder: Path, **sources: str) -> dict[str, Module]:
    """Modules of a package `own` in a folder: all that there are."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    package = Module("own", None, True, (str(folder),))
    return {"own": package, "own.root": Module("own.root", folder / "root.py")}


def test_a_cut_keeps_out_what_is_optional_and_nothing_else(tmp_path: Path) -> None:
    own = files(
        tmp_path,
        root="from . import needed\ndef f():\n  from . import unneeded\n  from . import wanted",
        needed="from . import cut",
        cut="",
        unneeded="",
        wanted="",
    )
    found = closure.closure((), (), {"own.cut": "", "own.unneeded": ""}, own)
    assert {name for name in found.modules if name.startswith("own.")} == {
        "own.root", "own.needed", "own.cut", "own.wanted",
    }  # fmt: skip
    assert found.left_out == {"own.unneeded"}
    assert found.importer["own.cut"] == "own.needed"


def test_packages_of_others_go_in_where_they_are_needed_or_asked_for(tmp_path: Path) -> None:
    own = files(tmp_path, root="import attr\ndef f():\n  import pytest, hypothesis")
    found = closure.closure((), ("hypothesis",), {}, own).modules
    assert "attr._make" in found
    assert "hypothesis.core" in found
    assert "pytest" not in found


def test_a_root_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"there is no module 'capabilities.nothing'"):
        closure.closure(["capabilities.nothing"])


def test_modules_are_found_without_being_imported() -> None:
    code = "import sys; from unikernel.closure import find; print(find('xmlrpc'), 'xmlrpc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert done.stdout.startswith("Module(name='xmlrpc', path=PosixPath(")
    assert done.stdout.endswith("False\n")
    assert find("no_such_module") is None
    assert find("sys") == Module("sys", None)


def test_every_module_of_the_tables_is_one_of_this_python_or_of_ours() -> None:
    optional = {"_hashlib", "_ssl", "test", "tkinter", "turtle", "uvloop", "pipes", "uu", "ctypes.test", "xml"}
    implied = [*closure.IMPLIED, *(each for names in closure.IMPLIED.values() for each in names)]
    for name in {*closure.CUTS, *implied, *closure.START} - optional:
        module, package = None, None
        for parent in closure._parents(name):
            package, module = module, find(parent, module)
        assert module is not None or name.startswith("_"), (name, package)


RUN = """
import os, signal, sys, threading, time
sys.path[:0] = {path!r}
for name in {missing!r}:
    sys.modules[name] = None
from pathlib import Path
from capabilities.http.settings import HttpSettings
from slight_py import loop, runner, slightfile
from slight_py.engine import Limits
from slight_py.wasi import WasiSettings

def ask():
    import socket
    for _ in range(200):
        try:
            for path in ("/hello", "/person/x", "/get", "/nothing"):
                connection = socket.create_connection(("127.0.0.1", 3000))
                connection.sendall(f"GET {{path}} HTTP/1.0\\r\\n\\r\\n".encode())
                while connection.recv(65536):
                    pass
            break
        except OSError:
            time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

if {server}:
    threading.Thread(target=ask, daemon=True).start()
grants = slightfile.load({slightfile!r})
wasi = WasiSettings(("app",), {variables!r}, ())
config = runner.RunConfig(Path({app!r}), grants, wasi, Limits(instances=16), HttpSettings())
loop.run(runner.run(config, runner.load(config)))
# Those without a specification are no modules of files: Cython has some.
specs = {{name: getattr(module, "__spec__", None) for name, module in sys.modules.items()}}
print("LOADED", *(name for name, spec in specs.items() if spec and spec.name == name))
"""


@pytest.fixture
def shown_page() -> Iterator[ThreadingHTTPServer]:
    with page() as server:
        yield server


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("keyvalue-demo-c", "memory"),
        ("keyvalue-demo-c", "redis"),
        ("http-server-demo-c", "memory"),
        ("http-client-demo-rust", "local"),
    ],
)
def test_the_closure_has_all_that_a_real_run_loads(
    name: str, backend: str, shared_redis: RedisServer, shown_page: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_ADDRESS", shared_redis.address)
    app, grants = example(name), slightfile(name, backend)
    packed = application.load(app, grants, "portable", False)
    found = contents.modules_of(packed)
    # What is left out of the image is missing here as well, but for what the test itself takes.
    missing = sorted(found.left_out - {"tomllib"})
    code = RUN.format(
        variables={"URL": f"http://localhost:{shown_page.server_port}/"},
        path=[str(ROOT), sysconfig.get_path("purelib")],
        missing=missing,
        server=name.startswith("http-server"),
        slightfile=str(grants),
        app=str(app),
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env=environment(REDIS_ADDRESS=shared_redis.address), capture_output=True, text=True, timeout=SECONDS * 2,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert ("POST: 200" in done.stdout) is name.startswith("http-client")
    loaded = set(done.stdout.split("LOADED ")[1].split())
    assert {"slight_py.engine", "encodings.idna" if name.startswith("http") else "asyncio"} <= loaded
    # What it takes to read a slightfile, and what Python itself has under a second name.
    others = ("tomllib", "encodings.utf_8_sig", "zipimport", "_frozen_importlib")
    assert {each for each in loaded - found.modules.keys() if not each.startswith(others)} == set()


def test_compiled_modules_are_the_same_whatever_else_is_loaded() -> None:
    paths = [module.path for each in ("json", "re", "idna", "typing") if (module := find(each))]
    code = dedent("""
        import hashlib, sys
        from pathlib import Path
        from unikernel import bytecode
        for path in sys.argv[2:]:
            print(hashlib.sha256(bytecode.compile_module(Path(path).read_bytes(), "x.py")).hexdigest())
    """)
    said = set()
    for before in ("", "import aiohttp, unittest.mock, redis.asyncio, html.entities\n"):
        command = [sys.executable, "-c", before + code, "", *map(str, paths)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=SECONDS)
        said.add(done.stdout)
    assert len(said) == 1
    assert len(said.pop().split()) == len(paths) == 4


def test_compiled_modules_are_what_python_makes_of_them() -> None:
    source = dedent('''
        """About it."""
        X = {"a", "ä", 1.5, -0.0, 2j, b"x", 10**40, -(10**40), ..., None, (1, ("a", True))}
        def f(a, *b, c="long" * 100, **d):
            return [x for x in b if c in {"one", "two"} and a]
    ''').encode()
    compiled = bytecode.compile_module(source, "folder/module.py")
    code = marshal.loads(compiled[16:])
    assert code == compile(source, "folder/module.py", "exec", dont_inherit=True)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert namespace["__doc__"] == "About it."
    assert code.co_filename == "folder/module.py"


def test_distributions_come_with_what_they_need() -> None:
    found = closure.distributions(["aiohttp", "not-installed-anywhere"])
    assert {"aiohttp", "yarl", "multidict", "idna"} <= found.keys()
    assert "pytest" not in found
    assert {"aiohttp", "yarl", "attr"} <= closure.packages_of(found)
    assert closure.owner_of("attr") == "attrs"
    assert closure.owner_of("json") is None
    assert closure.owner_of("slight_py") is None
