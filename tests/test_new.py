"""`slight-py add`, `new`, `doctor` and `completion`: what a user begins with."""

from __future__ import annotations

import compileall
import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from slight_py import interfaces, new
from tests import component_toolchain
from tests.command import ROOT, Done, environment, running, slight_py
from tests.redis_server import RedisServer
from tests.servers import HOST, free_port

WIT = ROOT / "wit"


def wit(name: str) -> bytes:
    (path,) = (path for path in interfaces.paths() if path.stem == name)
    return path.read_bytes()


# add


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("keyvalue", {"keyvalue"}),
        ("blob-store", {"blob-store", "blob-types"}),
        ("http-client", {"http-client", "http-types"}),
        ("http-server", {"http-server", "http-types", "http-handler", "http-server-export"}),
        ("kv", {"kv", "types"}),
    ],
)
@pytest.mark.parametrize("version", ["", "@v0.5.1"])
def test_an_interface_is_added_with_what_it_uses(name: str, files: set[str], version: str, tmp_path: Path) -> None:
    done = slight_py("add", f"{name}{version}", cwd=tmp_path)
    assert done == Done(0, f"{name}_0.5.1\n", "")
    written = {path.stem: path.read_bytes() for path in (tmp_path / f"{name}_0.5.1").iterdir()}
    assert written == {file: wit(file) for file in files}


@pytest.mark.parametrize("name", interfaces.names())
def test_every_interface_can_be_added_and_stands_alone(name: str, tmp_path: Path) -> None:
    folder = interfaces.add(name, tmp_path)
    bindgen = [
        sys.executable,
        "-m",
        "bindgen",
        "markdown",
        "--out-dir",
        tmp_path / "out",
        "--import",
        folder / f"{name}.wit",
    ]
    subprocess.run(bindgen, cwd=ROOT, check=True)


def test_an_interface_is_added_twice_but_not_over_another_file(tmp_path: Path) -> None:
    assert slight_py("add", "keyvalue", cwd=tmp_path).code == 0
    assert slight_py("add", "keyvalue", cwd=tmp_path).code == 0
    mine = tmp_path / "keyvalue_0.5.1" / "keyvalue.wit"
    mine.write_text("mine")
    done = slight_py("add", "keyvalue", cwd=tmp_path)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "is there already" in done.err
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("keyvlue", "there is no interface 'keyvlue'; there are blob-store, "),
        ("../keyvalue", "there is no interface '../keyvalue'"),
        ("keyvalue@v0.4.0", "there is no keyvalue of v0.4.0: this is Spiderlightning 0.5.1"),
        ("keyvalue@0.5.1", "'0.5.1' is not a version; write keyvalue@v0.5.1"),
        ("keyvalue@", "'' is not a version"),
    ],
)
def test_an_interface_that_there_is_not_is_refused(name: str, error: str, tmp_path: Path) -> None:
    done = slight_py("add", name, cwd=tmp_path)
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert error in done.err
    assert list(tmp_path.iterdir()) == []


# new


def make(name: str, language: str, parent: Path) -> list[str]:
    """Makes a project, and types what it prints but for the last command, which runs it: its words are returned."""
    # A cargo that asks no registry: the project needs nothing from there.
    return made([name, language], parent, component_toolchain.python() | {"CARGO_NET_OFFLINE": "true"})


def made(options: list[str], parent: Path, env: dict[str, str]) -> list[str]:
    done = slight_py("new", "-n", *options, cwd=parent)
    assert (done.code, done.err) == (0, "")
    enter, *builds, run = done.out.splitlines()
    folder = parent / options[0].partition("@")[0]
    assert enter == f"cd {folder.name}"
    assert done.out.rstrip() in (folder / "README.md").read_text()
    for build in builds:
        subprocess.run(build, shell=True, cwd=folder, env=env, check=True, timeout=600, capture_output=True)
    command, *options = run.split()
    assert command == "slight-py"
    return options


@pytest.mark.parametrize("language", ["c", "js", "rust"])
def test_a_new_project_builds_and_runs_with_the_commands_that_are_printed(language: str, tmp_path: Path) -> None:
    options = make("my-visits@v0.5.1", language, tmp_path)
    port = free_port()
    with running(*options, "--env", f"ADDRESS={HOST}:{port}", cwd=tmp_path / "my-visits") as server:
        server.port = port
        server.wait_for("serving at")
        texts = [server.get(f"/hello/{name}")[1] for name in ("ann", "ann", "bob")]
    assert texts == [b"hello, this is visit 1\n", b"hello, this is visit 2\n", b"hello, this is visit 1\n"]


@pytest.mark.parametrize("language", ["c", "js", "python", "rust"])
def test_a_new_component_builds_and_runs_with_the_commands_that_are_printed(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = component_toolchain.rust() if language == "rust" else component_toolchain.python()
    run, *options = made(["my-visits", "--component", language], tmp_path, env)
    if language == "rust":  # whose output the tests keep together, for what it compiles once for all of them
        (tmp_path / "my-visits" / "target").symlink_to(env["CARGO_TARGET_DIR"])
    with running(run, "--listen", f"{HOST}:0", *options, cwd=tmp_path / "my-visits") as server:
        found = server.wait_for_either(r"serving at 127\.0\.0\.1:(\d+)", component_toolchain.START_SECONDS)
        assert found is not None, server.err
        server.port = int(found[1])
        answers = [server.get(path) for path in ("/hello/ann", "/hello/ann", "/hello/bob", "/bye")]
    assert [(answer[0], answer[1]) for answer in answers] == [
        (200, b"hello, this is visit 1\n"),
        (200, b"hello, this is visit 2\n"),
        (200, b"hello, this is visit 1\n"),
        (404, b"there is /hello/NAME\n"),
    ]


def test_a_component_has_no_version_of_spiderlightning(tmp_path: Path) -> None:
    done = slight_py("new", "-n", "visits@v0.5.1", "--component", "rust", cwd=tmp_path)
    assert (done.code, len(done.errors)) == (2, 1)
    assert done.err.endswith("write visits\n")
    assert list(tmp_path.iterdir()) == []


UNSTABLE = {"[method]response-outparam.send-informational"}
"""What wit-bindgen leaves out, since WASI's WIT calls it unstable."""


def test_the_bindings_in_c_are_those_of_the_interfaces_that_come_with_them() -> None:
    """The functions of a component's type are what its bindings in C were made from."""
    bindings = (new.FOLDER / "component-c" / "bindings" / "guest.c").read_text()
    imported = set(re.findall(r'__import_module__\("([^"]+)"\), __import_name__\("([^"]+)"\)', bindings))
    world = (new.FOLDER / "component" / "wit" / "world.wit").read_text()
    named = set(re.findall(r"import (\S+);", world))
    modules = {module for module, _ in imported}
    assert named <= modules
    for interface in named:
        package, _, name = interface.removeprefix("wasi:").partition("/")
        version = name.partition("@")[2]
        compatible = version if "-" in version else "_".join(version.split(".")[:2])
        text = f"capabilities.bindings.wasi_{package}_{compatible.replace('.', '_').replace('-', '_')}."
        generated = import_module(text + name.partition("@")[0])
        assert {each.name for each in generated.IMPORTS} - UNSTABLE == {
            each for module, each in imported if module == interface and not each.startswith("[resource-drop]")
        }


def test_a_new_project_in_python_is_a_capability_that_a_guest_uses(tmp_path: Path) -> None:
    options = make("my-greeter@v0.5.1", "python", tmp_path)
    folder = tmp_path / "my-greeter"
    assert slight_py(*options, cwd=folder) == Done(0, "Good day, world!\n", "")

    slightfile = folder / "slightfile.toml"
    slightfile.write_text(slightfile.read_text().replace("Good day", "Welcome"))
    refused = "there is nobody to greet\na name has at most 40 characters\n"
    done = slight_py(*options, "--", "Ada", "", "é" * 41, "é" * 40, cwd=folder)
    assert done == Done(1, f"Welcome, Ada!\nWelcome, {'é' * 40}!\n", refused)

    # It is the class in the project that answers.
    capability = folder / "polite.py"
    capability.write_text(capability.read_text().replace("{name}!", "{name.upper()}!"))
    assert slight_py(*options, cwd=folder) == Done(0, "Welcome, WORLD!\n", "")


def test_a_capability_of_a_new_project_has_no_mistake_that_a_type_checker_finds(tmp_path: Path) -> None:
    assert slight_py("new", "-n", "greeter", "python", cwd=tmp_path).code == 0
    mypy = [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "greeter/polite.py"]
    done = subprocess.run(mypy, cwd=tmp_path, env=environment(MYPYPATH=str(ROOT)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_pip_compiles_of_a_template_stays_out_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(new.FOLDER, tmp_path / "templates", ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(tmp_path / "templates", quiet=1)
    assert list((tmp_path / "templates").rglob("*.pyc"))
    monkeypatch.setattr(new, "FOLDER", tmp_path / "templates")
    new.new("greeter", "python", tmp_path)
    assert (tmp_path / "greeter" / "polite.py").exists()
    assert [*(tmp_path / "greeter").rglob("*.pyc"), *(tmp_path / "greeter").rglob("__pycache__")] == []


@pytest.mark.parametrize("language", new.TEMPLATES)
def test_the_readme_of_a_project_says_how_its_bindings_were_written(language: str, tmp_path: Path) -> None:
    assert slight_py("new", "-n", "visits", language, cwd=tmp_path).code == 0
    folder = tmp_path / "visits"
    readme = (folder / "README.md").read_text()
    commands = [line for line in readme.splitlines() if line.startswith("slight-py bindgen")]
    assert len(commands) == (2 if language == "python" else 1)
    for command in commands:
        assert slight_py(*command.split()[1:], "--check", cwd=folder) == Done(0, "", "")
    assert "{{" not in readme


@pytest.mark.parametrize("name", ["", "../up", "Visits", "1st", "a b", "a/b", "-x", "test", "core", "a" * 65])
def test_a_name_that_no_project_can_have_is_refused(name: str, tmp_path: Path) -> None:
    done = slight_py("new", f"--name={name}", "c", cwd=tmp_path)
    assert (done.code, len(done.errors)) == (2, 1)
    assert f"{name!r} can't be a project's name" in done.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "visits").mkdir()
    done = slight_py("new", "-n", "visits", "c", cwd=tmp_path)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "is there already" in done.err
    assert list((tmp_path / "visits").iterdir()) == []


# doctor


def findings(**env: str) -> dict[str, dict[str, object]]:
    done = slight_py("doctor", "--json", env=env, seconds=60)
    assert done.code == 0, done.err
    return {str(finding["what"]): finding for finding in json.loads(done.out)}


def test_the_doctor_finds_what_the_tests_need() -> None:
    found = findings()
    for what in (
        "wasmtime",
        "parts in C",
        "redis-server",
        "ziglang",
        "Rust for WASI",
        "mkfs.erofs",
        "qemu-system-x86_64",
    ):
        assert found[what]["ready"], found[what]
    assert all(finding["ready"] or finding["mend"] for finding in found.values())


def test_the_doctor_names_what_mends_a_lack(tmp_path: Path) -> None:
    """Seen from a PATH with nothing on it."""
    done = slight_py("doctor", env={"PATH": str(tmp_path)}, seconds=60)
    assert done.code == 0
    for package in ("redis-server", "erofs-utils", "qemu-system-x86", "rustc cargo"):
        assert f"apt install {package}\n" in done.out


def test_the_doctor_says_whether_the_redis_that_is_meant_answers() -> None:
    with RedisServer(password="pass") as redis:
        assert findings(REDIS_ADDRESS=redis.address)["Redis at REDIS_ADDRESS"]["ready"]
    away = findings(REDIS_ADDRESS=f"redis://:hunter2@{HOST}:{free_port()}")["Redis at REDIS_ADDRESS"]
    assert not away["ready"]
    assert "hunter2" not in json.dumps(away)
    wrong = findings(REDIS_ADDRESS="nonsense")["Redis at REDIS_ADDRESS"]
    assert "REDIS_ADDRESS" in str(wrong["detail"])


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_what_completes_commands_knows_all_of_them(shell: str) -> None:
    done = slight_py("completion", shell)
    assert (done.code, done.err) == (0, "")
    for word in ("run", "image", "bindgen", "--max-memory", "--out-dir"):
        assert word.lstrip("-") in done.out


def test_bash_completes_a_command_and_an_option(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(slight_py("completion", "bash").out)
    bash = shutil.which("bash")
    assert bash is not None

    def complete(*words: str) -> list[str]:
        line = " ".join(words)
        program = f"""
            source {script}
            COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}
            COMP_LINE={line!r}; COMP_POINT={len(line)}
            "$(complete -p slight-py | sed 's/.*-F \\([^ ]*\\).*/\\1/')" slight-py {words[-1]!r} {words[-2]!r}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True, timeout=20)
        return [word.strip() for word in done.stdout.splitlines()]

    assert "doctor" in complete("slight-py", "do")
    assert "--max-memory" in complete("slight-py", "run", "--max-m")
    assert "inspect" in complete("slight-py", "image", "insp")
