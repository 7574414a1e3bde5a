"""`slight-py image build`: what goes into an image and what doesn't, and that the same input gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import wasmtime

from slight_py.engine import Engine, Limits, describe
from slight_py.errors import UsageError
from tests.command import COMMAND, Done, environment, running, scratch, slight_py
from tests.component.test_own_capabilities import follow_the_document
from tests.guests import EXAMPLES, example, slightfile
from unikernel import application, build, elf, image, inspection
from unikernel.guest import network
from unikernel.manifest import Config, to_json

SECONDS = 120.0
SECRET = "redis://:s3cr3t-of-mine@127.0.0.1:6379/5"
LIBRARY = f"usr/lib/python3.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def kernel() -> Path:
    """What counts as a kernel, and boots nowhere: an ELF file with the note of the PVH protocol."""
    note = struct.pack("<III4sI", 4, 4, elf.PHYS32_ENTRY, b"Xen\0", 1 << 24)
    content = bytearray(8192)
    struct.pack_into("<16sHHIQQQIHHHHHH", content, 0, b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    struct.pack_into("<IIQQQQQQ", content, 64, elf.PT_LOAD, 5, 4096, 1 << 24, 1 << 24, 4096, 4096, 4096)
    struct.pack_into("<IIQQQQQQ", content, 120, elf.PT_NOTE, 4, 4096, 1 << 24, 1 << 24, len(note), len(note), 4)
    content[4096 : 4096 + len(note)] = note
    path = scratch() / "vmlinux"
    path.write_bytes(content)
    return path


def run(kernel: Path, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
    return slight_py("image", "build", "--kernel", kernel, *arguments, env=env, cwd=cwd, seconds=SECONDS)


class Built:
    """An image, and its root file system unpacked."""

    def __init__(self, path: Path, folder: Path, done: Done) -> None:
        assert done.code == 0, done.err
        self.path = path
        self.err = done.err
        self.image = image.read(path)
        self.manifest = self.image.manifest
        self.root = folder
        root = self.image.root
        packed = folder.with_suffix(".erofs")
        with packed.open("wb") as file:
            image.copy_part(self.image, root.offset, root.size, file)
        subprocess.run(["fsck.erofs", f"--extract={folder}", packed], check=True, capture_output=True, timeout=SECONDS)

    @property
    def names(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def has(self, module: str) -> bool:
        place = f"{LIBRARY}/{module.replace('.', '/')}"
        return any((self.root / f"{place}{end}").is_file() for end in (".pyc", "/__init__.pyc"))

    def contents(self) -> Iterator[bytes]:
        yield self.path.read_bytes()
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path.read_bytes()


@pytest.fixture(scope="module")
def memory(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The key/value example on memory."""
    folder = tmp_path_factory.mktemp("memory")
    path = folder / "app.img"
    name = "keyvalue-demo-c"
    done = run(kernel, example(name), "-c", slightfile(name), "-o", path)
    return Built(path, folder / "root", done)


@pytest.fixture(scope="module")
def server(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The HTTP example, with its stores in a Redis whose address is a secret."""
    folder = tmp_path_factory.mktemp("server")
    grants = folder / "slightfile.toml"
    grants.write_text(
        (EXAMPLES / "http-server-demo-c" / "slightfile-redis.toml")
        .read_text()
        .replace("${envvars.REDIS_ADDRESS}", SECRET)
    )
    path = folder / "app.img"
    return Built(path, folder / "root", run(kernel, example("http-server-demo-c"), "-c", grants, "-o", path))


# What goes in.


def test_an_image_has_the_capabilities_that_the_slightfile_names_and_no_others(memory: Built, server: Built) -> None:
    assert memory.has("capabilities.keyvalue.memory")
    assert server.has("capabilities.keyvalue.redis")
    assert server.has("redis.asyncio.connection")
    assert server.has("capabilities.http.server")
    assert server.has("aiohttp")
    for absent in ("redis", "ssl", "aiohttp", "yarl", "capabilities.keyvalue.redis", "capabilities.keyvalue.filesystem",
                   "capabilities.http.server", "capabilities.http.listen"):  # fmt: skip
        assert not memory.has(absent), absent
    assert not server.has("capabilities.keyvalue.filesystem")
    assert memory.manifest.packages == {}
    assert {"aiohttp", "redis", "yarl"} <= server.manifest.packages.keys()


def test_an_image_has_nothing_that_builds_or_tests(memory: Built, server: Built) -> None:
    for built in (memory, server):
        for absent in ("pip", "setuptools", "pytest", "unittest", "test", "tkinter", "slight_py.cli", "unikernel.cli",
                       "unikernel.build", "bindgen.wit_parser", "wasmtime"):  # fmt: skip
            assert not built.has(absent), absent
        assert not [name for name in built.names if name.endswith(".py")]


def test_modules_are_compiled_and_say_nothing_of_the_machine_that_built_them(memory: Built) -> None:
    engine = (memory.root / LIBRARY / "slight_py" / "engine.pyc").read_bytes()
    assert b"slight_py/engine.py" in engine
    here = os.fsencode(build.__file__).removesuffix(b"unikernel/build.py")
    found = [path for path in memory.root.rglob("*.pyc") if here in path.read_bytes()]
    assert found == []


def test_what_is_in_an_image_runs(memory: Built, server: Built) -> None:
    """The interpreter, the libraries and the modules of the image, on this machine's kernel."""
    code = """
import sys
import {modules}
files = [each.__file__ for each in sys.modules.values() if getattr(each, "__file__", None)]
mappings = [line.split()[-1] for line in open("/proc/self/maps") if ".so" in line or "python" in line]
assert len(files) > 40 and len(mappings) > 10
for path in files + mappings:
    assert path.startswith({root!r}), path
print("h\xf6st".encode("idna"), sys.executable)
"""
    for built, modules in (
        (memory, "unikernel.guest.init, unikernel.guest.work, slight_py.runner, capabilities.keyvalue.host"),
        (
            server,
            "unikernel.guest.application, capabilities.http.server, redis.asyncio, ssl, _ssl, aiohttp",
        ),
    ):
        loader = elf.needed(built.root / "usr/bin/python3").interpreter
        assert loader is not None
        done = subprocess.run(
            [
                *(f"{built.root}{loader}", "--library-path", built.root / "lib"),
                *(built.root / "usr/bin/python3", "-IS", "-c", code.format(modules=modules, root=str(built.root))),
            ],
            env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("b'xn--hst-sna'")


def test_the_system_is_as_init_finds_it(memory: Built) -> None:
    assert (memory.root / "sbin/init").read_text().splitlines()[0] == "#!/usr/bin/python3 -IS"
    assert os.access(memory.root / "sbin/init", os.X_OK)
    assert os.readlink(memory.root / "init") == "sbin/init"
    assert os.readlink(memory.root / "etc/hosts") == network.HOSTS
    assert os.readlink(memory.root / "etc/resolv.conf") == network.RESOLV
    for name in ("proc", "sys", "dev", "tmp", "run"):
        assert list((memory.root / name).iterdir()) == []


def test_the_module_is_compiled_for_any_processor_and_loads_under_any_limits(memory: Built) -> None:
    compiled = (memory.root / "app/module.cwasm").read_bytes()
    for limits in (Limits(), Limits(memory=32 << 20, instances=2), Limits(stack=1 << 20, instances=3)):
        info = describe(Engine(limits).load(compiled))
        assert "_start" in info.functions
    app = memory.manifest.app
    assert app is not None
    wasm = example("keyvalue-demo-c").read_bytes()
    assert (app.sha256, app.size, app.entry) == (hashlib.sha256(wasm).hexdigest(), len(wasm), "_start")


def test_a_native_module_is_another_one(kernel: Path, tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    app.write_bytes(wasmtime.wat2wasm(
        '(module (memory (export "memory") 1) (func (export "_start")'
        " (drop (i64.popcnt (i64.load (i32.const 0)))) (f64.store (i32.const 0) (f64.floor (f64.load (i32.const 8))))))"
    ))  # fmt: skip
    portable = application.load(app, None, "portable", False).compiled
    native = application.load(app, None, "native", False).compiled
    assert portable != native
    for compiled in (portable, native):
        assert "_start" in describe(Engine(Limits(instances=1)).load(compiled)).functions


def test_what_the_machine_reads_is_the_manifest(memory: Built) -> None:
    read = json.loads((memory.root / "app/app.json").read_text())
    assert read["grants"][0] == (
        {
            "resource": "keyvalue.memory",
            "family": "keyvalue",
            "name": "my-container",
            "line": 3,
            "configs": {},
            "allow": None,
        }
    )
    assert read == {
        key: value
        for key, value in json.loads(to_json(memory.manifest)).items()
        if key not in ("kernel", "root", "parts")
    }


def test_only_what_reaches_a_server_needs_the_network(memory: Built, server: Built) -> None:
    assert not memory.manifest.needs_network
    assert server.manifest.needs_network


def test_the_parts_make_up_the_image(memory: Built) -> None:
    sizes = {part.name: part.size for part in memory.manifest.parts}
    assert list(sizes) == ["kernel", "interpreter", "standard library", "wasmtime", "runtime", "app"]
    assert 0.9 < sum(sizes.values()) / memory.image.size < 1.1


def test_without_an_app_an_image_is_a_function_service(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "service.img"
    built = Built(path, tmp_path / "root", run(kernel, "-o", path))
    assert built.manifest.app is None
    assert built.has("unikernel.guest.service")
    assert not built.has("aiohttp")
    assert "app/module.cwasm" not in built.names


# Secrets.


def test_a_secret_of_the_slightfile_is_nowhere_in_the_image(server: Built) -> None:
    for content in server.contents():
        assert b"s3cr3t" not in content
    grant = server.manifest.grants[1]
    assert grant.configs == {"REDIS_ADDRESS": Config(source="REDIS_ADDRESS")}
    assert server.err.endswith(
        "slightfile.toml:7: REDIS_ADDRESS may be a secret, so the image is without it; it is handed over when the "
        "image runs, with -c FILE, or as an environment variable with --pass REDIS_ADDRESS\n"
    )
    assert "s3cr3t" not in server.err


def grants_of(text: str, folder: Path, name: str = "keyvalue-demo-c") -> list[dict[str, Config]]:
    path = folder / "slightfile.toml"
    path.write_text(text)
    packed = application.load(example(name), path, "portable", False)
    return [dict(grant.configs) for grant in packed.grants]


def redis(name: str, address: str) -> str:
    return (
        f'[[capability]]\nresource = "keyvalue.redis"\nname = "{name}"\n[capability.configs]\n'
        f'REDIS_ADDRESS = "{address}"\n'
    )


HEAD = 'specversion = "0.2"\n'


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("redis://host.localhost:6379", True),
        ("rediss://redis.example:6379/3", True),
        ("unix:///run/redis.sock", True),
        ("redis://:word@127.0.0.1", False),
        ("redis://user@127.0.0.1", False),
        ("redis://127.0.0.1/0?", False),
    ],
)
def test_an_address_stays_if_there_can_be_no_secret_in_it(address: str, public: bool, tmp_path: Path) -> None:
    (configs,) = grants_of(HEAD + redis("*", address), tmp_path)
    expected = Config(value=address) if public else Config(source="REDIS_ADDRESS")
    assert configs == {"REDIS_ADDRESS": expected}


def test_what_a_module_may_reach_is_no_secret(tmp_path: Path) -> None:
    configs = {"ALLOW_HOSTS": "example.com", "ALLOW_PRIVATE": "10.0.0.0/8", "TIMEOUT_SECONDS": "5"}
    lines = "".join(f'{key} = "{value}"\n' for key, value in configs.items())
    text = f'{HEAD}[[capability]]\nresource = "http-client"\nname = "web"\n[capability.configs]\n{lines}'
    expected = {key: Config(value=value) for key, value in configs.items()}
    assert grants_of(text, tmp_path, "http-client-demo-rust") == [expected]


def test_variables_are_not_looked_up_before_the_image_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_ADDRESS", raising=False)
    assert grants_of(HEAD + redis("*", "${envvars.MY_ADDRESS}"), tmp_path) == [
        {"REDIS_ADDRESS": Config(source="MY_ADDRESS")}
    ]


def test_each_value_has_a_name_of_its_own(tmp_path: Path) -> None:
    first, second, third = "redis://:a@127.0.0.1", "redis://:b@127.0.0.1", "redis://:a@127.0.0.1"
    text = HEAD + redis("a", first) + redis("b", second) + redis("c", third) + redis("d", "${envvars.REDIS_ADDRESS}")
    names = [configs["REDIS_ADDRESS"].source for configs in grants_of(text, tmp_path)]
    assert names[0] == names[2]
    assert len(set(names)) == 3
    assert names[3] == "REDIS_ADDRESS"


def test_a_0_1_slightfile_hands_over_what_its_store_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_ADDRESS", SECRET)
    text = 'specversion = "0.1"\nsecret_store = "configs.envvars"\n[[capability]]\nname = "keyvalue.redis"\n'
    assert grants_of(text, tmp_path) == [{"REDIS_ADDRESS": Config(source="REDIS_ADDRESS")}]


def test_settings_that_are_no_secrets_stay(tmp_path: Path) -> None:
    text = HEAD + '[[capability]]\nresource = "http"\nname = "*"\n[capability.configs]\nCORS_MAX_AGE = "60"\n'
    text += '[[capability]]\nresource = "keyvalue.filesystem"\nname = "*"\n[capability.configs]\nDIRECTORY = "/data"\n'
    assert grants_of(text, tmp_path, "http-server-demo-c") == [
        {"CORS_MAX_AGE": Config(value="60")},
        {"DIRECTORY": Config(value="/data")},
    ]


@pytest.mark.parametrize(
    ("name", "backend", "instead"),
    [
        *(("keyvalue-demo-c", backend, "keyvalue.redis") for backend in ("dynamodb", "azblob")),
        *(("messaging-demo-publisher-c", backend, "messaging.memory") for backend in ("mosquitto", "nats", "kafka")),
        ("configs-demo-c", "azapp", "configs.memory"),
        *(("blob-demo-c", backend, "blobstore.filesystem") for backend in ("s3", "azure")),
    ],
)
def test_a_service_whose_library_no_image_has_is_refused(name: str, backend: str, instead: str) -> None:
    with pytest.raises(UsageError, match=f"does not put into images; for an image, use {re.escape(instead)}"):
        application.load(example(name), slightfile(name, backend))


# Capabilities of the user's own.


def test_a_python_file_of_the_slightfile_goes_in_with_what_it_imports(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "app.img"
    name = "custom-capability"
    built = Built(path, tmp_path / "root", run(kernel, example(name), "-c", slightfile(name), "-o", path))
    folder = built.root / "app/custom/0"
    assert sorted(each.name for each in folder.glob("*.py")) == ["greeter.py", "polite.py"]
    source = (EXAMPLES / name / "slight_greeter" / "polite.py").read_bytes()
    assert (folder / "polite.py").read_bytes() == source
    assert (folder / "__pycache__" / f"polite.{sys.implementation.cache_tag}.pyc").is_file()
    (grant,) = built.manifest.grants
    assert grant.configs == {"GREETING": Config(source="GREETING")}
    written = tomllib.loads(slightfile(name).read_text())["capability"][0]["resource"]
    assert grant.resource == written
    assert b"Good evening" not in (built.root / "app/app.json").read_bytes()


def test_a_python_file_that_answers_a_component_goes_in_with_its_bindings(kernel: Path, tmp_path: Path) -> None:
    follow_the_document(tmp_path)
    path = tmp_path / "app.img"
    options = ("-c", tmp_path / "slightfile.toml", "-o", path)
    built = Built(path, tmp_path / "root", run(kernel, tmp_path / "app.wasm", *options))
    folder = built.root / "app/custom/0"
    assert (folder / "greeter_of_components.py").is_file()
    assert (folder / "example_greeter_0_1/greeting.py").is_file()


# The same bytes.


def test_the_same_input_gives_the_same_bytes(kernel: Path, tmp_path: Path) -> None:
    """In another folder, with another umask, hash seed and environment."""
    name, folder = "keyvalue-demo-c", tmp_path / "a folder"
    folder.mkdir()
    arguments = (example(name), "-c", slightfile(name), "-o", "app.img")
    one = run(kernel, *arguments, cwd=tmp_path)
    before = os.umask(0o077)
    try:
        other = run(
            kernel, *arguments, cwd=folder, env={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
        )
    finally:
        os.umask(before)
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert (folder / "app.img").read_bytes() == (tmp_path / "app.img").read_bytes()
    assert [each.name for each in folder.iterdir()] == ["app.img"]


# Formats.


def test_other_launchers_get_a_kernel_and_an_initramfs_or_a_disk(memory: Built, kernel: Path, tmp_path: Path) -> None:
    name = "keyvalue-demo-c"
    formats = "raw,kernel+initrd,qcow2"
    done = run(kernel, example(name), "-c", slightfile(name), "-o", tmp_path / "app.img", "--format", formats)
    assert done.code == 0, done.err
    assert {each.name for each in tmp_path.iterdir()} == {"app.img", "app.vmlinux", "app.initrd", "app.qcow2"}
    one = (tmp_path / "app.img").read_bytes()
    assert (tmp_path / "app.vmlinux").read_bytes()[:400] == one[:400]
    raw = tmp_path / "raw"
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", tmp_path / "app.qcow2", raw]
    subprocess.run(command, check=True, timeout=SECONDS)
    assert raw.read_bytes() == one
    files = dict(unpacked(gzip.decompress((tmp_path / "app.initrd").read_bytes())))
    assert files.keys() - {"dev/console"} == memory.names
    assert files["app/module.cwasm"] == (memory.root / "app/module.cwasm").read_bytes()
    assert files["init"] == b"sbin/init"


def unpacked(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a cpio archive."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        at += -(-(110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return
        yield name, archive[at : at + size]
        at += -(-size // 4) * 4


# Mistakes.


def errors(kernel: Path, app: Path, *arguments: str | Path, output: Path) -> list[str]:
    done = run(kernel, app, *arguments, "-o", output)
    assert done.code == 2, done
    return done.errors


def test_a_module_that_does_not_compile_is_an_error_and_leaves_nothing(kernel: Path, tmp_path: Path) -> None:
    app, output = tmp_path / "app.wasm", tmp_path / "out" / "app.img"
    output.parent.mkdir()
    app.write_bytes(b"\0asm\1\0\0\0\x0a\x05\x01")
    (line,) = errors(kernel, app, output=output)
    assert line.startswith(f"slight-py: error: {app}: the module is broken or cut short: ")
    assert list(output.parent.iterdir()) == []


def test_what_run_refuses_is_refused_before_anything_is_packed(kernel: Path, tmp_path: Path) -> None:
    app = example("http-server-demo-c")
    (line,) = errors(kernel, app, "-c", slightfile("keyvalue-demo-c"), output=tmp_path / "app.img")
    assert "imports http-server, and no capability of the family 'http' is granted" in line
    grants = tmp_path / "slightfile.toml"
    grants.write_text(HEAD + redis("my-container", "http://127.0.0.1"))
    (line,) = errors(kernel, example("keyvalue-demo-c"), "-c", grants, output=tmp_path / "app.img")
    assert line.startswith(f"slight-py: error: {grants}:2: keyvalue.redis")
    library = tmp_path / "library.wasm"
    library.write_bytes(wasmtime.wat2wasm('(module (func (export "f")))'))
    (line,) = errors(kernel, library, output=tmp_path / "app.img")
    assert "build it as a program, not as a library" in line


def test_an_image_does_not_take_the_place_of_what_it_is_made_from(kernel: Path, tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    app.write_bytes(example("keyvalue-demo-c").read_bytes())
    before = app.read_bytes()
    (line,) = errors(kernel, app, output=app)
    assert line.endswith("the image would take the place of what it is made from; name another with -o")
    assert app.read_bytes() == before


def test_what_is_no_file_is_not_replaced(kernel: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "app.qcow2").mkdir()
    app = example("keyvalue-demo-c")
    for output, form, named in (("pipe", "raw", "pipe"), (".", "raw", ""), ("app.img", "raw,qcow2", "app.qcow2")):
        done = run(kernel, app, "-o", tmp_path / output, "--format", form)
        assert done.code == 2
        assert f"{tmp_path / named}: this is not a file" in done.err
    assert sorted(os.listdir(tmp_path)) == ["app.qcow2", "pipe"]


def test_without_room_nothing_is_left_and_the_place_is_named(kernel: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [*COMMAND, "image", "build", "--kernel", kernel, example("keyvalue-demo-c"), "-o", tmp_path / "app.img"]
    done = subprocess.run(
        command,
        env=environment(TMPDIR=str(temporary)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"slight-py: error: {temporary}: ")
    assert "set TMPDIR" in done.stderr
    assert os.listdir(tmp_path) == ["temporary"]
    assert os.listdir(temporary) == []


def test_ctrl_c_leaves_no_half_of_an_image(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "app.img"
    with running("image", "build", "--kernel", kernel, example("keyvalue-demo-c"), "-o", path) as server:
        time.sleep(1)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SECONDS) == 130
        assert "Traceback" not in server.err
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(kernel: Path, tmp_path: Path) -> None:
    (line,) = errors(kernel, example("keyvalue-demo-c"), output=tmp_path / "none" / "app.img")
    assert line == (
        f"slight-py: error: {tmp_path}/none/app.img: there is no directory {tmp_path}/none; create it, or name "
        "another place with -o"
    )


# Inspection.


def test_inspect_shows_what_is_in_an_image(server: Built) -> None:
    done = slight_py("image", "inspect", server.path)
    assert done.code == 0, done.err
    redis_version = server.manifest.packages["redis"]
    for line in (
        f"{server.path}: {server.image.size:,} bytes",
        f"  redis {redis_version}",
        "    REDIS_ADDRESS from REDIS_ADDRESS",
        "handed over at boot: REDIS_ADDRESS",
        f"  sha256 {server.manifest.root.sha256}",
    ):
        assert line in done.out.splitlines()
    report = json.loads(slight_py("image", "inspect", "--json", server.path).out)
    assert report["handed_over"] == ["REDIS_ADDRESS"]
    assert report["root"]["sha256"] == server.manifest.root.sha256
    assert report["command_line"] == image.command_line("erofs")


def test_inspect_finds_damage(memory: Built, tmp_path: Path) -> None:
    path = tmp_path / "app.img"
    content = bytearray(memory.path.read_bytes())
    content[memory.image.root.offset + 100_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="the image is damaged: its root file system is not the one"):
        inspection.inspect(image.read(path))
