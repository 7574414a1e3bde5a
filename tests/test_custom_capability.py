"""Capabilities of the user's own: the example, from its file and as a package, and what one may do wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
import wasmtime

from bindgen.runtime import guest_resource_imports
from capabilities import custom, registry
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker
from slight_py.engine import ExportedFunction, Imported, ModuleInfo
from slight_py.errors import UsageError
from slight_py.slightfile import Slightfile, embedded, load
from tests.command import ROOT, Done, environment, serving, slight_py
from tests.guests import EXAMPLES, example

EXAMPLE = EXAMPLES / "custom-capability"
DOCUMENT = ROOT / "docs" / "custom-capabilities.md"
BINDINGS = EXAMPLE / "slight_greeter" / "greeter.py"

OUTPUT = """\
GREETING, Ada!
GREETING, Dr Grace!
there is nobody to greet
a name has at most 40 characters
signed: 1
signed: 2
Ada has signed before
"""


def said(greeting: str) -> str:
    return OUTPUT.replace("GREETING", greeting)


def install(project: Path, site: Path) -> None:
    """Installs the one package of a project, as pip would."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text())
    about = metadata["project"]
    for package in metadata["tool"]["setuptools"]["packages"]:
        shutil.copytree(project / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in about["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("".join(groups))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example's package is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    install(EXAMPLE, folder)
    return folder


def with_package(site: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


# The example.


def test_the_example_is_served_from_a_file() -> None:
    done = slight_py("run", example("custom-capability"), "-c", EXAMPLE / "slightfile.toml")
    assert done == (0, said("Good evening"), "")


def test_the_example_is_served_by_the_installed_package(site: Path) -> None:
    slightfile = EXAMPLE / "slightfile-installed.toml"
    done = slight_py("run", example("custom-capability"), "-c", slightfile, env=with_package(site))
    assert done == (0, said("Good evening"), "")


def test_an_installed_family_has_its_embedded_resource_where_nothing_is_granted(site: Path, tmp_path: Path) -> None:
    module = example("custom-capability")
    assert slight_py("run", module, env=with_package(site)) == (0, said("Good day"), "")
    (tmp_path / "slightfile.toml").write_text('specversion = "0.2"')
    arguments = ("run", module, "-c", tmp_path / "slightfile.toml")
    assert slight_py(*arguments, "-l", env=with_package(site)) == (0, said("Good day"), "")
    assert slight_py(*arguments, env=with_package(site)) == (
        2,
        "",
        f"slight-py: error: {tmp_path}/slightfile.toml: custom-capability.wasm imports greeter, and no capability of "
        'the family \'greeter\' is granted; add [[capability]] with resource = "greeter.polite" and name = "*", or use '
        "--link-all-capabilities\n",
    )


def test_an_interface_that_nothing_serves_is_named_with_what_to_do() -> None:
    module = example("custom-capability")
    done = slight_py("run", module)
    assert (done.code, done.out) == (2, "")
    assert done.errors == [
        f"slight-py: error: {module}: imports greeter (greet, guest-book::new, guest-book::sign), which nothing "
        "provides; it is no interface of Spiderlightning. If it is one of your own, write a Python class for it and "
        'grant that with resource = "FILE.py:CLASS" (docs/custom-capabilities.md)'
    ]


def test_inspect_shows_an_interface_by_the_family_of_an_installed_package(site: Path) -> None:
    module = example("custom-capability")
    without = json.loads(slight_py("inspect", module, "--json").out)
    assert (without["capabilities"], without["unknown"]) == ([], ["greeter"])
    with_it = json.loads(slight_py("inspect", module, "--json", env=with_package(site)).out)
    assert (with_it["capabilities"], with_it["unknown"]) == (["greeter"], [])
    assert tomllib.loads(with_it["slightfile"])["capability"] == [{"resource": "greeter.polite", "name": "*"}]


@pytest.mark.parametrize(("language", "folder"), [("python", EXAMPLE / "slight_greeter"), ("c", EXAMPLE)])
def test_the_bindings_of_the_example_are_what_its_interface_gives(language: str, folder: Path) -> None:
    arguments = ("bindgen", language, "--import", EXAMPLE / "greeter.wit", "--out-dir", folder)
    assert slight_py(*arguments, "--check") == (0, "", "")


def test_the_class_of_the_example_takes_the_same_configs_both_ways(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    installed = registry.resource_type("greeter.polite")
    path = str(EXAMPLE / "slight_greeter" / "polite.py")
    from_file, family = custom.declared("polite.py:PoliteGreeter", path, "PoliteGreeter")
    assert installed is not None
    assert (installed.required, installed.optional) == (from_file.required, from_file.optional)
    installed_family = registry.family("greeter")
    assert installed_family is not None
    assert family.interfaces.keys() == installed_family.interfaces.keys()


def test_a_config_that_the_class_refuses_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = copy_of_the_example(tmp_path, 'GREETING = "Good evening"', 'GREETING = ""')
    assert run(path) == (
        2,
        "",
        f"slight-py: error: {path}:3: slight_greeter/polite.py:PoliteGreeter: GREETING: it's empty; leave it out, or "
        "say something\n",
    )


def test_a_config_that_the_class_does_not_name_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = copy_of_the_example(tmp_path, "GREETING", "Greeting")
    assert error_of(path) == (
        f"{path}:7: unknown key 'Greeting' in the configs of slight_greeter/polite.py:PoliteGreeter, whose class names "
        "them in REQUIRED and OPTIONAL; did you mean 'GREETING'?"
    )


def copy_of_the_example(folder: Path, old: str, new: str) -> Path:
    """The path of the example's slightfile, in a copy of the example, with a change."""
    shutil.copytree(EXAMPLE / "slight_greeter", folder / "slight_greeter")
    path = folder / "slightfile.toml"
    path.write_text((EXAMPLE / "slightfile.toml").read_text().replace(old, new))
    return path


def run(slightfile: Path, *arguments: str) -> Done:
    """Runs the example's module."""
    return slight_py("run", example("custom-capability"), "-c", slightfile, *arguments)


# The document.


def test_the_steps_of_the_document_make_a_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DOCUMENT.read_text(encoding="utf-8").partition("\n## For components\n")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    (wit,) = [text for language, text in blocks if language == "wit"]
    class_source, package_source = [text for language, text in blocks if language == "python"]
    from_file, project, installed = [text for language, text in blocks if language == "toml"]
    (tmp_path / "greeter.wit").write_text(wit)
    arguments = ("bindgen", "python", "--import", "greeter.wit", "--out-dir", ".")
    assert f"slight-py {' '.join(arguments)}" in document
    assert slight_py(*arguments, cwd=tmp_path) == (0, "", "")
    (tmp_path / "polite.py").write_text(class_source)
    path = tmp_path / "slightfile.toml"
    path.write_text(from_file)
    host(load(path))

    (tmp_path / "slight_greeter").mkdir()
    for name in ("greeter.py", "polite.py"):
        shutil.copy(tmp_path / name, tmp_path / "slight_greeter")
    (tmp_path / "slight_greeter" / "__init__.py").write_text(package_source)
    (tmp_path / "pyproject.toml").write_text(project + '[tool.setuptools]\npackages = ["slight_greeter"]\n')
    (tmp_path / "site").mkdir()
    install(tmp_path, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("slight_greeter", "slight_greeter.greeter", "slight_greeter.polite"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    path.write_text(installed)
    host(load(path))
    host(embedded())


# A file, and what may be wrong with it.

GREETER = ModuleInfo([Imported("greeter", "greet", "iiiiii", "")])
"""A module that wants to be greeted."""


def host(slightfile: Slightfile, info: ModuleInfo = GREETER) -> object:
    """What answers the last import of a module. Raises UsageError."""
    backends = linker.Backends(MemoryStores)
    slightfile = linker.check(Path("app.wasm"), info, slightfile, link_all=False)
    links = linker.link(info, slightfile, backends, http=None)
    last = info.imports[-1]
    return links[last.module, last.name][1]


def slightfile_of(folder: Path, *resources: str, configs: str = "") -> Path:
    """A slightfile in `folder` that grants the resources; the first is on line 3, with the `configs`."""
    path = folder / "slightfile.toml"
    entries = [f'[[capability]]\nresource = "{resource}"\nname = "*"\n' for resource in resources]
    entries[0] += f"configs = {{ {configs} }}\n"
    path.write_text('specversion = "0.2"\n' + "".join(entries))
    return path


def greeter_of(folder: Path, source: str, name: str = "its.py") -> None:
    """A Python file in `folder`, with the bindings of the example beside it."""
    shutil.copy(BINDINGS, folder)
    (folder / name).write_text(dedent(source))


def error_of(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        host(load(path))
    return str(caught.value)


WHOLE = """
    from . import greeter

    class It:
        INTERFACES = (greeter,)

        def __init__(self, configs):
            self.configs = configs

        async def greet(self, person):
            return "Hello"

        async def guest_book_new(self):
            return None
"""


def test_a_class_gets_the_config_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIGHT_PY_TEST_VALUE", "secret")
    source = WHOLE.replace("(greeter,)", '(greeter,)\n        REQUIRED = ("ONE",)\n        OPTIONAL = ("TWO", "SIX")')
    greeter_of(tmp_path, source)
    path = slightfile_of(tmp_path, "its.py:It", configs='ONE = "${envvars.SLIGHT_PY_TEST_VALUE}", TWO = "2"')
    made = host(load(path))
    assert getattr(made, "configs", None) == {"ONE": "secret", "TWO": "2"}
    slightfile_of(tmp_path, "its.py:It")
    assert error_of(path) == (
        f'{path}:5: its.py:It needs ONE; add under [capability.configs]: ONE = "${{envvars.ONE}}"'
    )


def test_the_path_of_a_file_counts_from_the_slightfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "here").mkdir()
    greeter_of(tmp_path / "away", WHOLE)
    monkeypatch.chdir(tmp_path / "here")
    slightfile_of(tmp_path, "away/its.py:It")
    assert host(load(Path("../slightfile.toml")))
    slightfile_of(tmp_path / "here", "../away/its.py:It")
    assert host(load(Path("slightfile.toml")))
    slightfile_of(tmp_path / "here", f"{tmp_path}/away/its.py:It")
    assert host(load(Path("slightfile.toml")))


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        greeter_of(tmp_path / name, WHOLE)
        slightfile_of(tmp_path / name, "its.py:It")
        made.append(host(load(tmp_path / name / "slightfile.toml")))
    assert type(made[0]) is not type(made[1])


def test_what_lies_beside_a_file_is_nobody_elses_to_import(tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE)
    (tmp_path / "json.py").write_text("raise RuntimeError('this is not the json of the standard library')")
    before = [*sys.path]
    assert host(load(slightfile_of(tmp_path, "its.py:It")))
    assert sys.path == before
    assert not {"its", "greeter"} & set(sys.modules)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n\n1 / 0", "its.py can't be imported: ZeroDivisionError: division by zero, at FOLDER/its.py:3"),
        ("x = 1\nx = (", "its.py can't be imported: SyntaxError: '(' was never closed, at FOLDER/its.py:2"),
        ("raise SystemExit(3)", "its.py can't be imported: SystemExit: 3, at FOLDER/its.py:1"),
        (
            "raise RuntimeError('a\\nb\\x1b[31m' + 'c' * 1000)",
            f"its.py can't be imported: RuntimeError: a b\\x1b[31m{'c' * 292}…, at FOLDER/its.py:1",
        ),
        (
            "import json\n\ndef read():\n    json.loads('{')\n\nread()",
            "its.py can't be imported: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1), at FOLDER/its.py:4",
        ),
        (
            "import no_such_library",
            "its.py can't be imported: ModuleNotFoundError: No module named 'no_such_library', at FOLDER/its.py:1; "
            "install it with pip",
        ),
        (
            "import greeter",
            "its.py can't be imported: ModuleNotFoundError: No module named 'greeter', at FOLDER/its.py:1; it lies "
            "beside the file, so write `from . import greeter`",
        ),
        (
            "from .greeting import Person",
            "its.py can't be imported: ModuleNotFoundError: No module named 'greeting', at FOLDER/its.py:1; it must "
            "lie beside the file",
        ),
        ("", "its.py has no class 'It'; write it, or correct the name"),
        (
            "from . import greeter\nclass Is:\n    INTERFACES = (greeter,)",
            "its.py has no class 'It'; there is Is",
        ),
        ("def It(configs): ...", "It in its.py is not a class; name the class that serves the interface"),
        (
            "class It:\n    def __init__(self, configs): ...",
            "It does not say which interfaces it serves; write `INTERFACES = (greeter,)` in the class, for the module "
            "`greeter` that `slight-py bindgen python` makes of your interface",
        ),
        (
            "from . import greeter\nclass It:\n    INTERFACES = greeter\n    def __init__(self, configs): ...",
            "It does not say which interfaces it serves; write `INTERFACES = (greeter,)` in the class, for the module "
            "`greeter` that `slight-py bindgen python` makes of your interface",
        ),
        (
            "import json\nclass It:\n    INTERFACES = (json,)\n    def __init__(self, configs): ...",
            "INTERFACES of It holds json, which is no module that `slight-py bindgen python` made of an interface "
            "that guests import",
        ),
        (
            "class It:\n    INTERFACES = ('greeter',)\n    def __init__(self, configs): ...",
            "INTERFACES of It holds 'greeter', which is no module that `slight-py bindgen python` made of an interface "
            "that guests import",
        ),
        (
            "class It:\n    REQUIRED = ('ONE')\n    def __init__(self, configs): ...",
            'REQUIRED of It must be a tuple of texts, as in REQUIRED = ("KEY",)',
        ),
        (
            "from . import greeter\nclass It:\n    INTERFACES = (greeter,)",
            "It can't be made from its configs; write `def __init__(self, configs: Mapping[str, str])`",
        ),
        (
            "from capabilities.bindings import http_server\nclass It:\n    INTERFACES = (http_server,)\n"
            "    def __init__(self, configs): ...",
            "its.py:It serves http-server, which slight-py answers itself; leave it to the resource that is built in",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_at_the_slightfiles_line(
    source: str, message: str, tmp_path: Path
) -> None:
    greeter_of(tmp_path, source)
    path = slightfile_of(tmp_path, "its.py:It")
    assert error_of(path) == f"{path}:3: {message.replace('FOLDER', str(tmp_path))}"


def test_a_file_that_failed_is_imported_anew_once_it_is_put_right(tmp_path: Path) -> None:
    greeter_of(tmp_path, "1 / 0")
    path = slightfile_of(tmp_path, "its.py:It")
    assert "division by zero" in error_of(path)
    greeter_of(tmp_path, WHOLE)
    assert host(load(path))


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        ("nothing.py:It", "there is no file 'FOLDER/nothing.py'; the path counts from the slightfile's folder"),
        (".py:It", "there is no file 'FOLDER/.py'; the path counts from the slightfile's folder"),
        ("folder.py:It", "there is no file 'FOLDER/folder.py'; the path counts from the slightfile's folder"),
        ("nul\\u0000.py:It", "there is no file 'FOLDER/nul\\x00.py'; the path counts from the slightfile's folder"),
        ("it-is.py:It", "'it-is.py' can't be imported by its name; rename it to letters, digits and _"),
        ("its.py", "'its.py' names no class; write it as in resource = \"its.py:Greeter\""),
    ],
)
def test_what_is_wrong_with_the_name_of_a_file_is_one_line(resource: str, message: str, tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE)
    greeter_of(tmp_path, WHOLE, "it-is.py")
    (tmp_path / "folder.py").mkdir()
    path = slightfile_of(tmp_path, resource)
    assert error_of(path) == f"{path}:3: {message.replace('FOLDER', str(tmp_path))}"


# Two for one.


def test_two_grants_of_one_interface_are_an_error(tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE + WHOLE.replace("class It", "class Other"))
    path = slightfile_of(tmp_path, "its.py:It", "its.py:Other")
    assert error_of(path) == (f"{path}:7: its.py:Other serves greeter, and so does the resource on line 3; keep one")
    path = slightfile_of(tmp_path, "its.py:It", "its.py:It")
    assert error_of(path) == f"{path}:8: its.py:It is declared twice, here and on line 4; keep one"


def test_a_file_and_a_package_cannot_both_serve_an_interface(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    greeter_of(tmp_path, WHOLE)
    path = slightfile_of(tmp_path, "greeter.polite", "its.py:It")
    assert error_of(path) == f"{path}:7: its.py:It serves greeter, and so does the resource on line 3; keep one"


def test_a_file_is_granted_in_place_of_an_installed_family(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    greeter_of(tmp_path, WHOLE)
    assert type(host(load(slightfile_of(tmp_path, "its.py:It")))).__name__ == "It"


KEYVALUE = """
    from capabilities.bindings import keyvalue

    class It:
        INTERFACES = (keyvalue,)

        def __init__(self, configs): ...

        async def keyvalue_open(self, name): ...
"""
OPEN = ModuleInfo([Imported("keyvalue", "keyvalue::open", "iii", "")])


def test_a_file_can_serve_an_interface_that_is_built_in(tmp_path: Path) -> None:
    greeter_of(tmp_path, KEYVALUE)
    assert type(host(load(slightfile_of(tmp_path, "its.py:It")), OPEN)).__name__ == "It"
    path = slightfile_of(tmp_path, "keyvalue.memory", "its.py:It")
    assert error_of(path) == f"{path}:7: its.py:It serves keyvalue, and so does the resource on line 3; keep one"


# The methods of the interface.

METHODS = {
    "async def greet(self, person): ...": "",
    "async def greet(self, whom, politely=True): ...": "",
    "async def greet(self, *everything): ...": "",
    "greet = functools.partialmethod(_greet, True)": "",
    "@decorated\n    async def greet(self, person): ...": "",
    "greet = Callable()": "",
    "": "It has no method greet; add `async def greet(self, person)`",
    "greet = None": "It has no method greet; add `async def greet(self, person)`",
    "def greet(self, person): ...": "It.greet is no coroutine; write `async def greet(self, person)`",
    "async def greet(self): ...": "It.greet takes other parameters; write `async def greet(self, person)`",
    "async def greet(self, person, politely): ...": (
        "It.greet takes other parameters; write `async def greet(self, person)`"
    ),
    "async def greet(self, *, person): ...": "It.greet takes other parameters; write `async def greet(self, person)`",
}

METHODS_SOURCE = """
import functools

from . import greeter


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


class Callable:
    async def __call__(self, person): ...


class It(BASES):
    INTERFACES = (greeter,)

    def __init__(self, configs): ...

    async def guest_book_new(self): ...

    async def _greet(self, politely, person): ...

    METHOD
"""


@pytest.mark.parametrize(("method", "fault"), METHODS.items())
def test_a_method_that_does_not_fit_the_interface_is_named_at_the_start(
    method: str, fault: str, tmp_path: Path
) -> None:
    greeter_of(tmp_path, METHODS_SOURCE.replace("METHOD", method).replace("BASES", ""))
    path = slightfile_of(tmp_path, "its.py:It")
    if fault:
        assert error_of(path) == f"{path}:2: its.py:It: {fault}"
    else:
        assert host(load(path))


def test_methods_that_only_the_protocol_defines_are_missing(tmp_path: Path) -> None:
    greeter_of(tmp_path, METHODS_SOURCE.replace("METHOD", "").replace("BASES", "greeter.GreeterHost"))
    path = slightfile_of(tmp_path, "its.py:It")
    assert error_of(path) == f"{path}:2: its.py:It: It has no method greet; add `async def greet(self, person)`"


def test_every_missing_method_is_named(tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE.replace("async def ", "async def not_"))
    path = slightfile_of(tmp_path, "its.py:It")
    assert error_of(path).splitlines() == [
        f"{path}:2: its.py:It: It has no method greet; add `async def greet(self, person)`",
        f"{path}:2: its.py:It: It has no method guest_book_new; add `async def guest_book_new(self)`",
    ]


# The host of a family with names.


class Clock:
    """A backend that can be told from others."""

    def __init__(self, configs: Mapping[str, str]) -> None:
        self.zone = configs.get("ZONE", "UTC")


def install_clock(site: Path, host: str) -> None:
    (site / "clock_package").mkdir(parents=True)
    (site / "clock.wit").write_text("now: func(zone: string) -> u32\nresource clock { read: func() -> u32 }\n")
    arguments = ["--import", str(site / "clock.wit"), "--out-dir", str(site / "clock_package")]
    assert slight_py("bindgen", "python", *arguments).code == 0
    (site / "clock_package" / "__init__.py").write_text(
        "from capabilities.registry import Family, ResourceType\n"
        "CLOCK = Family('clock', {'clock': 'clock_package.clock'}, host='clock_package.host:hosts', named=True)\n"
        "LOCAL = ResourceType('clock.local', 'clock', optional=('ZONE',), load='tests.test_custom_capability:Clock')\n"
    )
    (site / "clock_package" / "host.py").write_text(dedent(host))
    info = site / "clock_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clock-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[slight_py.capabilities]\nclock = clock_package:CLOCK\nclock.local = clock_package:LOCAL\n"
    )


NOW = ModuleInfo([Imported("clock", "now", "ii", "i")])

CLOCK_GRANTS = """
specversion = "0.2"
[[capability]]
resource = "clock.local"
name = "here"
[[capability]]
resource = "clock.local"
name = "there"
configs = { ZONE = "CET" }
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r"^clock cannot be used: AttributeError: .*'hosts'"),
        ("import no_such_library", r"^clock needs the Python module 'no_such_library'; install it with pip$"),
        (
            "def hosts(grants):\n    raise KeyError('x')",
            r"^clock can't be used: clock_package\.host:hosts failed: KeyError: 'x', at .*/clock_package/host\.py:2$",
        ),
        ("def hosts(grants): ...", r"^clock can't be used: clock_package\.host:hosts failed: TypeError: "),
        (
            "def hosts(grants): return {'gong': 1}",
            r"^clock_package\.host:hosts: it gives no host for the interface 'clock'; add one$",
        ),
        (
            "def hosts(grants): return {'clock': 1}",
            r"^clock_package\.host:hosts: int has no method now; add `async def now\(self, zone\)`$",
        ),
    ],
)
def test_a_host_that_cannot_be_used_is_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_clock(tmp_path, source, monkeypatch)
    path = tmp_path / "slightfile.toml"
    path.write_text(CLOCK_GRANTS)
    with pytest.raises(UsageError, match=message) as caught:
        host(load(path), NOW)
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].isprintable()


def use_clock(folder: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_clock(folder / "site", host)
    monkeypatch.syspath_prepend(folder / "site")
    for name in ("clock_package", "clock_package.clock", "clock_package.host"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_host_gets_the_granted_backends_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        class Host:
            def __init__(self, grants):
                self.grants = grants

            async def now(self, zone):
                return 0

        def hosts(grants):
            return {"clock": Host(grants)}
    """
    use_clock(tmp_path, source, monkeypatch)
    path = tmp_path / "slightfile.toml"
    path.write_text(CLOCK_GRANTS)
    grants = getattr(host(load(path), NOW), "grants", {})
    assert {name: clock.zone for name, clock in grants.items()} == {"here": "UTC", "there": "CET"}
    with pytest.raises(UsageError) as caught:
        host(embedded(), NOW)
    assert str(caught.value) == (
        'app.wasm: imports clock, which needs a slightfile: add [[capability]] with resource = "clock.local" and '
        'name = "*", and run it with -c'
    )


def test_a_broken_package_is_one_line_of_the_command(tmp_path: Path) -> None:
    install_clock(tmp_path, "")
    (tmp_path / "clock_package" / "__init__.py").write_text("import no_such_library")
    module = example("custom-capability")
    reason = (
        "'clock', which the installed package clock-package adds to slight-py, cannot be loaded: ModuleNotFoundError: "
        "No module named 'no_such_library'; update the package or uninstall it"
    )
    done = slight_py("run", module, env=with_package(tmp_path))
    assert done.code == 2
    assert done.errors == [
        f"slight-py: error: {module}: imports greeter (greet, guest-book::new, guest-book::sign), which nothing "
        f"provides; {reason}"
    ]
    assert slight_py("inspect", module, env=with_package(tmp_path)) == (2, "", f"slight-py: error: {reason}\n")
    assert slight_py("run", example("kv-2022-c"), env=with_package(tmp_path)).code == 0


# At work.


def test_an_exception_ends_the_guest_and_names_the_place(tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE.replace('return "Hello"', "return {}[person.name]"))
    path = slightfile_of(tmp_path, "its.py:It")
    done = run(path)
    assert (done.code, done.out) == (1, "")
    assert done.errors == [
        f"slight-py: {example('custom-capability')}: the guest trapped: greeter::greet: It failed: KeyError: 'Ada', "
        f"at {tmp_path}/its.py:11"
    ]
    verbose = run(path, "--verbose")
    assert f'File "{tmp_path}/its.py", line 11, in greet' in verbose.err


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("return 5", "AttributeError: 'int' object has no attribute 'encode'"),
        ("raise TimeoutError", "TimeoutError"),
        ("raise ValueError('a\\x1b[0m\\nb')", "ValueError: a\\x1b[0m b"),
    ],
)
def test_what_a_class_does_wrong_is_one_line(answer: str, reason: str, tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE.replace('return "Hello"', answer))
    done = run(slightfile_of(tmp_path, "its.py:It"))
    assert done.code == 1
    (line,) = done.errors
    assert f": the guest trapped: greeter::greet: It failed: {reason}" in line


def test_the_text_of_an_exception_from_the_constructor_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIGHT_PY_TEST_VALUE", "hunter2")
    source = WHOLE.replace("(greeter,)", '(greeter,)\n        REQUIRED = ("PORT",)')
    greeter_of(tmp_path, source.replace("self.configs = configs", 'self.port = int(configs["PORT"])'))
    path = slightfile_of(tmp_path, "its.py:It", configs='PORT = "${envvars.SLIGHT_PY_TEST_VALUE}"')
    assert error_of(path) == f"{path}:2: its.py:It can't be made: ValueError, at {tmp_path}/its.py:9"


def test_the_object_is_closed_at_the_end(tmp_path: Path) -> None:
    greeter_of(tmp_path, WHOLE + "\n        async def close(self):\n            print('closed')\n")
    assert run(slightfile_of(tmp_path, "its.py:It")).out.splitlines()[-1] == "closed"


def test_every_object_is_closed_whatever_becomes_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closing = "\n        async def close(self):\n            self.closed = True\n            1 / 0\n"
    greeter_of(tmp_path, WHOLE + closing)
    greeter_of(tmp_path, KEYVALUE + closing, "stores.py")
    slightfile = load(slightfile_of(tmp_path, "its.py:It", "stores.py:It"))
    info = ModuleInfo([*GREETER.imports, *OPEN.imports])
    backends = linker.Backends(MemoryStores)
    hosts = [host for _, host in linker.link(info, slightfile, backends, http=None).values()]
    asyncio.run(backends.close())
    assert [host.closed for host in hosts] == [True, True]
    expected = "It can't be closed: ZeroDivisionError: division by zero, at "
    places = [f"{tmp_path}/its.py:18", f"{tmp_path}/stores.py:13"]
    assert [record.getMessage() for record in caplog.records] == [expected + place for place in places]


COUNTER = """
    import os

    from . import counter

    class Counter:
        INTERFACES = (counter,)

        def __init__(self, configs):
            self._calls = 0

        async def process(self):
            return os.getpid()

        async def count(self):
            self._calls += 1
            return self._calls
"""

COUNTER_GUEST = r"""
(module
  (import "http-server" "router::new" (func $router_new (param i32)))
  (import "http-server" "router::get" (func $router_get (param i32 i32 i32 i32 i32 i32)))
  (import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))
  (import "counter" "process" (func $process (result i32)))
  (import "counter" "count" (func $count (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "127.0.0.1:0")
  (data (i32.const 16) "/")
  (data (i32.const 32) "handle-count")
  (global $free (mut i32) (i32.const 8192))
  (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $free (i32.add (global.get $free) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
    (i32.sub (global.get $free) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
  (func (export "canonical_abi_free") (param i32 i32 i32))
  (func (export "main") (param i32 i32) (result i32)
    (call $router_new (i32.const 64))
    (call $router_get
      (i32.load (i32.const 68)) (i32.const 16) (i32.const 1) (i32.const 32) (i32.const 12) (i32.const 96))
    (call $serve (i32.const 0) (i32.const 11) (i32.load (i32.const 100)) (i32.const 128))
    (i32.load8_u (i32.const 128)))
  (func (export "handle-count") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 512) (call $process))
    (i32.store (i32.const 516) (call $count))
    (i32.store16 (i32.const 260) (i32.const 200))
    (i32.store8 (i32.const 276) (i32.const 1))
    (i32.store (i32.const 280) (i32.const 512))
    (i32.store (i32.const 284) (i32.const 8))
    (i32.const 256)))
"""


def test_every_worker_has_an_object_of_its_own_for_all_its_instances(tmp_path: Path) -> None:
    (tmp_path / "counter.wit").write_text("process: func() -> u32\ncount: func() -> u32\n")
    arguments = ("--import", "counter.wit", "--out-dir", ".")
    assert slight_py("bindgen", "python", *arguments, cwd=tmp_path).code == 0
    (tmp_path / "its.py").write_text(dedent(COUNTER))
    path = slightfile_of(tmp_path, "http", "its.py:Counter")
    module = tmp_path / "counter.wasm"
    module.write_bytes(wasmtime.wat2wasm(COUNTER_GUEST))
    counts: dict[int, list[int]] = {}
    with serving(module, "-c", path, "--workers", "2") as server:
        for _ in range(60):
            process, count = struct.unpack("<II", server.get("/").body)
            counts.setdefault(process, []).append(count)
        assert set(counts) == set(server.workers)
    assert sum(map(len, counts.values())) == 60
    for found in counts.values():
        assert found == [*range(1, len(found) + 1)]


# Resources.

OWN_RESOURCE = r"""
(module
  (import "canonical_abi" "resource_new_thing" (func $new (param i32) (result i32)))
  (import "canonical_abi" "resource_get_thing" (func $get (param i32) (result i32)))
  (import "canonical_abi" "resource_clone_thing" (func $clone (param i32) (result i32)))
  (import "canonical_abi" "resource_drop_thing" (func $drop (param i32)))
  (memory (export "memory") 1)
  (global $dropped (mut i32) (i32.const 0))
  (func (export "canonical_abi_drop_thing") (param i32)
    (global.set $dropped (i32.add (global.get $dropped) (local.get 0))))
  (func (export "main") (param i32 i32) (result i32)
    (local $one i32)
    (local $two i32)
    (local.set $one (call $new (i32.const 7)))
    (local.set $two (call $clone (local.get $one)))
    (if (i32.ne (call $get (local.get $two)) (i32.const 7)) (then (unreachable)))
    (call $drop (local.get $one))
    (if (global.get $dropped) (then (unreachable)))
    (call $drop (local.get $two))
    (global.get $dropped)))
"""


def test_a_guest_has_resources_of_its_own(tmp_path: Path) -> None:
    module = tmp_path / "own.wasm"
    module.write_bytes(wasmtime.wat2wasm(OWN_RESOURCE))
    silence = "slight-py: own.wasm ended with code 7 and said nothing\n"
    assert slight_py("run", module) == (7, "", silence)
    report = json.loads(slight_py("inspect", module, "--json").out)
    assert (report["capabilities"], report["unknown"]) == ([], [])


def own_resource(name: str, *imported: str) -> ModuleInfo:
    """A module that defines a resource, and imports some of the functions for it."""
    functions = {each.name: each for each in guest_resource_imports(name)}
    wanted = [
        Imported(each.module, each.name, each.params, each.result) for each in map(functions.get, imported) if each
    ]
    exported = ExportedFunction(f"canonical_abi_drop_{name}", 0, "i", "")
    return ModuleInfo(wanted, functions={exported.name: exported})


def test_a_guest_that_only_drops_its_resource_is_linked() -> None:
    info = own_resource("thing", "resource_drop_thing")
    linker.check(Path("app.wasm"), info, embedded(), link_all=False)
    links = linker.link(info, embedded(), linker.Backends(MemoryStores), http=None)
    assert [*links] == [("canonical_abi", "resource_drop_thing")]


def test_the_drop_of_a_resource_that_nothing_defines_is_not_provided() -> None:
    info = ModuleInfo([Imported("canonical_abi", "resource_drop_thing", "i", "")])
    with pytest.raises(
        UsageError, match=r"imports canonical_abi \(resource_drop_thing\), which nothing provides; no interface"
    ):
        linker.check(Path("app.wasm"), info, embedded(), link_all=False)


def test_a_resource_that_another_interface_of_the_family_hands_out_can_be_dropped() -> None:
    info = ModuleInfo([*OPEN.imports, Imported("canonical_abi", "resource_drop_kv", "i", "")])
    linker.check(Path("app.wasm"), info, embedded(), link_all=False)


def test_resources_of_one_name_are_refused_as_their_handles_could_be_mistaken(tmp_path: Path) -> None:
    (tmp_path / "vault.wit").write_text("open: func() -> keyvalue\nresource keyvalue { get: func() -> string }\n")
    arguments = ("--import", "vault.wit", "--out-dir", ".")
    assert slight_py("bindgen", "python", *arguments, cwd=tmp_path).code == 0
    (tmp_path / "its.py").write_text(
        dedent(WHOLE).replace("greeter", "vault").replace("greet(self, person)", "open(self)")
    )
    path = slightfile_of(tmp_path, "its.py:It", "keyvalue.memory")
    vault = Imported("vault", "open", "", "i")
    advice = "and the binary interface tells resources apart by their names alone; rename one"
    with pytest.raises(UsageError) as caught:
        host(load(path), ModuleInfo([vault, *OPEN.imports]))
    assert str(caught.value) == (f"app.wasm: the resource 'keyvalue' is defined by vault and by keyvalue, {advice}")
    assert host(load(path), ModuleInfo([vault]))
    with pytest.raises(UsageError) as caught:
        host(load(path), ModuleInfo([vault], functions=own_resource("keyvalue").functions))
    assert str(caught.value) == (
        f"app.wasm: the resource 'keyvalue' is defined by vault and by the module itself, {advice}"
    )


# What built-in types do not pay for.

WATCHED = """
import importlib.metadata, sys

def refuse(**_):
    raise AssertionError("the metadata of the installed packages is read")

importlib.metadata.entry_points = refuse
from slight_py import cli

code = cli.run(sys.argv[1:])
print(code, [name for name in sys.modules if name == "capabilities.custom"])
"""


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_a_module_of_built_in_interfaces_needs_no_look_at_installed_packages(command: str, tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(WATCHED)
    arguments: list[str | Path] = [sys.executable, tmp_path / "watched.py", command, example("keyvalue-demo-c")]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr
