"""`slight-py image` as a user types it: real guests, real servers, a real QEMU that emulates the processor."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import wasmtime

from tests.command import EMULATED, ROOT, Done, Server, build_guest, guest, running, scratch, slight_py
from tests.component.guests import COMMAND, written
from tests.guests import example
from tests.redis_server import RedisServer
from tests.servers import free_port
from tests.test_sending import page
from tests.wat import binary, many_functions

JOBS = 10_000

UPPER = """
(module
  (memory (export "memory") 2)
  (func (export "get_buffer_ptr") (result i32) (i32.const 1024))
  (func (export "get_buffer_size") (result i32) (i32.const 4096))
  (func (export "process_data") (param $length i32) (result i32)
    (local $at i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $length)))
      (if (i32.eq (i32.load8_u offset=1024 (local.get $at)) (i32.const 33)) (then unreachable))
      (i32.store8 offset=1024 (local.get $at)
        (i32.and (i32.load8_u offset=1024 (local.get $at)) (i32.const 0xdf)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (local.get $length)))
"""
"""A function that makes ASCII letters capitals, and traps at a `!`."""


def image(*arguments: str | Path, **env: str) -> Done:
    return slight_py("image", *arguments, env=env, seconds=EMULATED)


@cache
def built(app: Path | None, slightfile: Path | None = None, *more: str) -> Path:
    names = (app.stem if app else "service", slightfile.stem if slightfile else "none", *more)
    path = scratch() / f"{'-'.join(names)}.img"
    given = ([app] if app else []) + (["-c", slightfile] if slightfile else [])
    done = image("build", *given, *more, "-o", path)
    assert done.code == 0, done.err
    return path


def slightfile_of(name: str, backend: str = "") -> Path:
    return ROOT / "examples" / name / f"slightfile{backend}.toml"


@contextmanager
def serving(*arguments: str | Path, port: int) -> Iterator[Server]:
    with running("image", "run", *arguments) as server:
        found = server.wait_for_either("serving at", EMULATED)
        assert found is not None, server.err
        server.port = port
        yield server


# What works.


@pytest.mark.parametrize("demo", ["keyvalue-demo-c", "keyvalue-demo-rust"])
def test_keyvalue_demo_prints_what_run_prints(demo: str) -> None:
    app, slightfile = example(demo), slightfile_of(demo)
    ran = slight_py("run", app, "-c", slightfile)
    assert ran.code == 0
    assert image("run", built(app, slightfile)) == ran


def test_the_hosts_redis_is_reached_under_one_name_by_both(shared_redis: RedisServer) -> None:
    app, slightfile = example("keyvalue-demo-c"), slightfile_of("keyvalue-demo-c", "-redis")
    address = shared_redis.address.replace("127.0.0.1", "host.localhost")
    ran = slight_py("run", app, "-c", slightfile, env={"REDIS_ADDRESS": address})
    assert ran.code == 0
    before = shared_redis.cli("INFO", "commandstats")
    assert image("run", built(app, slightfile), "-c", slightfile, REDIS_ADDRESS=address) == ran
    assert shared_redis.cli("INFO", "commandstats") != before


def test_a_server_of_the_host_gets_the_requests_of_both(tmp_path: Path) -> None:
    app, slightfile = example("http-client-demo-rust"), tmp_path / "slightfile-client.toml"
    slightfile.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "http-client"\nname = "web"\n'
        'configs = { ALLOW_HOSTS = "host.localhost", ALLOW_PRIVATE = "10.0.2.2" }\n'
    )
    with page() as server:
        url = f"URL=http://host.localhost:{server.server_port}/"
        ran = slight_py("run", app, "-c", slightfile, "--env", url)
        assert (ran.code, ran.out.count(": 200, ")) == (0, 2)
        assert image("run", built(app, slightfile), "--env", url, "--net") == ran


@pytest.mark.parametrize("demo", ["http-server-demo-c", "http-server-demo-rust"])
def test_the_http_demo_answers_where_it_asks_to(demo: str) -> None:
    port = free_port()
    with serving(built(example(demo)), "--env", f"ADDRESS=127.0.0.1:{port}", port=port) as server:
        assert server.get("/hello")[:2] == (200, b"hello")
        assert server.request("PUT", "/set", b"value").status == 204
        assert server.get("/get")[:2] == (200, b"value")
        body = bytes(range(256)) * 256
        assert server.request("POST", "/upload", body)[:2] == (200, body)
        assert server.get("/nothing").status == 404
        assert server.stop(signal.SIGINT) == 0
    assert server.refuses


def test_debians_kernel_serves_as_ours_does() -> None:
    port = free_port()
    path = built(example("http-server-demo-c"), None, "--kernel", "cloud")
    with serving(path, "--env", f"ADDRESS=127.0.0.1:{port}", port=port) as server:
        assert server.get("/hello")[:2] == (200, b"hello")
        assert server.stop(signal.SIGINT) == 0


def test_the_line_of_qemu_in_the_document_serves(tmp_path: Path) -> None:
    """The one for other launchers, with another port of the host."""
    text = (ROOT / "docs/image.md").read_text()
    line = next(each for each in text.split("```sh\n") if each.startswith("qemu-system-x86_64")).partition("```")[0]
    port = free_port()
    (tmp_path / "app.img").symlink_to(built(example("http-server-demo-c")))
    words = shlex.split(line.replace("\\\n", "").replace("tcp:127.0.0.1:3000", f"tcp:127.0.0.1:{port}"))
    with subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            while b"moving on" not in (said := process.stdout.readline()):
                assert said, "the machine has ended"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello", timeout=EMULATED) as answer:
                assert answer.read() == b"hello"
        finally:
            process.kill()


def test_another_port_of_the_host_is_forwarded() -> None:
    port, inside = free_port(), free_port()
    options = ("-p", f"{port}:{inside}", "--env", f"ADDRESS=127.0.0.1:{inside}")
    with serving(built(example("http-server-demo-c")), *options, port=port) as server:
        assert server.get("/hello")[:2] == (200, b"hello")
        assert f"serving at 127.0.0.1:{port}" in server.err


@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
def test_a_wasi_program_reads_what_is_mapped_in(tmp_path: Path, whole: bool) -> None:
    build_guest("probe")
    data = tmp_path / "data"
    data.mkdir()
    (data / "text").write_text("from the host")
    volume = f"{data}:/data" if whole else f"{data / 'text'}:/data/text"
    done = image("run", built(guest("probe")), "--volume", volume, "--", "read", "/data/text")
    assert done == (0, "from the host", "")


def test_the_exit_code_is_the_guests(tmp_path: Path) -> None:
    build_guest("probe")
    silence = "slight-py: probe.wasm ended with code 42 and said nothing\n"
    assert image("run", built(guest("probe")), "--", "exit", "42") == (42, "", silence)


def test_a_snapshot_answers_again_and_again(tmp_path: Path) -> None:
    port = free_port()
    app, saved = built(example("http-server-demo-c")), tmp_path / "saved"
    done = image("run", app, "--snapshot", saved, "--env", f"ADDRESS=127.0.0.1:{port}")
    assert done.code == 0, done.err
    assert saved.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        with serving(app, "--restore", saved, port=port) as server:
            assert server.get("/hello")[:2] == (200, b"hello")
            assert server.stop() == 0


# The function service.


class Client:
    """A client as docs/image.md has it."""

    def __init__(self, folder: Path) -> None:
        self.command, self.data = (socket.socket(socket.AF_UNIX) for _ in range(2))
        for end, name in ((self.command, "command"), (self.data, "data")):
            end.settimeout(EMULATED)
            end.connect(str(folder / f"{name}.sock"))
        self.answers = self.command.makefile("rb")

    def close(self) -> None:
        for each in (self.answers, self.command, self.data):
            each.close()

    def say(self, line: bytes) -> bytes:
        self.command.sendall(line)
        return self.answers.readline()

    def job(self, payload: bytes) -> bytes:
        self.command.sendall(b"JOB %d\n" % len(payload))
        self.data.sendall(payload)
        answer = self.answers.readline()
        if not answer.startswith(b"DONE "):
            return answer
        result = b""
        while len(result) < int(answer[5:]):
            result += self.data.recv(65536)
        return result


def test_the_function_service_does_ten_thousand_jobs_and_outlives_bad_ones(tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    module = wasmtime.wat2wasm(UPPER)
    with running("image", "run", built(None), "--channel", folder) as server:
        wait_for_sockets(server, folder)
        client = Client(folder)
        assert client.say(b"MODULE 9\n" + b"no module").startswith(b"ERROR ")
        assert client.say(b"MODULE %d\n" % len(module) + module) == b"READY 4096\n"
        assert client.job(b"x" * 4097).startswith(b"ERROR ")
        assert client.job(b"end!").startswith(b"ERROR ")
        for number in range(JOBS):
            payload = b"job-%d" % number
            assert client.job(payload) == bytes(each & 0xDF for each in payload)
        assert client.job(b"x" * 4096) == b"X" * 4096
        # The next ones come at once, before the machine can have seen the last one go.
        for _ in range(20):
            client.close()
            client = Client(folder)
            assert client.say(b"MODULE %d\n" % len(module) + module) == b"READY 4096\n"
            assert client.job(b"again") == b"AGAIN"
        client.close()
        time.sleep(1)
        assert Client(folder).job(b"x") == b"ERROR there is no module yet\n"
        assert server.stop() == 0


HUNGRY = """
    (memory (export "memory") 1)
    (func (export "get_buffer_ptr") (result i32) (i32.const 0))
    (func (export "process_data") (param i32) (result i32)
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536)))
      (local.get 0))
"""
"""Takes all the memory that it may, and writes to it."""


def test_no_module_takes_the_machine_of_the_function_service_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    hungry = binary(HUNGRY)
    many = many_functions(200_000)
    with running("image", "run", built(None), "--channel", folder, "--compile-timeout", "300") as server:
        wait_for_sockets(server, folder)
        client = Client(folder)
        answer = client.say(b"MODULE %d\n" % len(many) + many)
        assert answer.startswith(b"ERROR the module can't be used: to compile it takes more than ")
        assert b" MiB of memory" in answer
        vector = binary('(func (export "process_data") (param v128) (result i32) (i32.const 0))')
        assert b"process_data (v128)" in client.say(b"MODULE %d\n" % len(vector) + vector)
        assert client.say(b"MODULE %d\n" % len(hungry) + hungry) == b"READY 65536\n"
        for _ in range(3):
            assert client.job(b"x" * 100) == b"\1" * 100
        client.close()
        assert server.stop() == 0


def wait_for_sockets(server: Server, folder: Path) -> None:
    from tests.command import wait_until

    wait_until(lambda: (folder / "data.sock").exists() or server.process.poll() is not None, "the sockets", EMULATED)


# What is refused.


def test_without_qemu_the_command_to_install_it_is_named(tmp_path: Path) -> None:
    path = built(example("keyvalue-demo-c"))
    assert image("run", path, PATH=str(tmp_path)).errors == [
        "slight-py: error: qemu-system-x86_64 is not installed, and images run in it; "
        "install it: sudo apt install qemu-system-x86"
    ]


def test_debians_kernel_has_no_volumes_and_says_so(tmp_path: Path) -> None:
    done = image(
        "run", built(example("http-server-demo-c"), None, "--kernel", "cloud"), "--volume", f"{tmp_path}:/data"
    )
    assert done.code == 2
    assert "--volume" in done.err
    assert "build the image without --kernel cloud" in done.err


def test_an_image_cut_short_is_named_as_such(tmp_path: Path) -> None:
    whole = built(example("keyvalue-demo-c")).read_bytes()
    cut = tmp_path / "cut.img"
    cut.write_bytes(whole[: len(whole) // 2])
    for command in ("run", "inspect"):
        done = image(command, cut)
        assert done.code == 2
        assert f"cut short: it has {len(whole) // 2:,} of {len(whole):,} bytes" in done.err


@pytest.mark.parametrize("memory", ["8M", "32M", "60M"])
def test_too_little_memory_is_named_as_such(memory: str) -> None:
    done = image("run", built(example("http-server-demo-c")), "--memory", memory)
    assert done.code in (1, 2)
    assert "memory" in done.err
    assert "--memory" in done.err


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = image("run", built(example("http-server-demo-c")), "--env", f"ADDRESS=127.0.0.1:{port}")
    assert done.code == 2
    assert f"127.0.0.1:{port}" in done.err
    assert f"-p OTHER:{port}" in done.err


def test_a_module_that_does_not_compile_is_refused_before_anything_is_packed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wasm"
    broken.write_bytes(example("keyvalue-demo-c").read_bytes()[:-100])
    done = image("build", broken, "-o", tmp_path / "broken.img")
    assert (done.code, os.listdir(tmp_path)) == (2, ["broken.wasm"])
    assert "is broken or cut short" in done.err


def test_a_secret_of_the_slightfile_is_not_in_the_image_and_is_handed_over(
    tmp_path: Path, shared_redis: RedisServer
) -> None:
    slightfile = tmp_path / "slightfile.toml"
    secret = shared_redis.address.replace("redis://127.0.0.1", "redis://:a-secret@host.localhost")
    text = slightfile_of("keyvalue-demo-c", "-redis").read_text().replace("${envvars.REDIS_ADDRESS}", secret)
    slightfile.write_text(text)
    path = built(example("keyvalue-demo-c"), slightfile)
    assert "a-secret" not in image("inspect", path).out
    # In the file system, what is short is not compressed.
    assert b"a-secret" not in path.read_bytes()
    address = secret.replace(":a-secret@", "")
    refused = image("run", path, REDIS_ADDRESS=address)
    assert refused.code == 2
    assert re.findall(r"--net|--pass \w+", refused.err) == ["--net", "--pass REDIS_ADDRESS"]
    assert "a-secret" not in refused.err
    assert image("run", path, "--net", "--pass", "REDIS_ADDRESS", REDIS_ADDRESS=address).code == 0


def test_ctrl_c_reaches_the_application_and_not_qemu() -> None:
    port = free_port()
    path = built(example("http-server-demo-c"))
    with serving(path, "--env", f"ADDRESS=127.0.0.1:{port}", port=port) as server:
        (qemu,) = server.children
        assert os.getsid(qemu) != os.getsid(server.pid)
        assert server.stop(signal.SIGINT) == 0
        assert subprocess.run(["kill", "-0", str(qemu)], capture_output=True, check=False).returncode != 0


def test_a_component_answers_where_its_image_is_told_to() -> None:
    port = free_port()
    with running("image", "run", built(example("component-hello-c")), "-p", f"{port}:3000") as server:
        assert server.wait_for_either(f"serving at 127.0.0.1:{port}", EMULATED), server.err
        server.port = port
        assert server.get("/")[:2] == (200, b"Hello from a component!\n")


def test_a_command_that_is_a_component_ends_as_it_says(tmp_path: Path) -> None:
    app = written(tmp_path, COMMAND, "(i32.const 1)")
    done = image("run", built(app))
    assert done.code == 1, done.err
    assert "app.wasm ended with code 1 and said nothing" in done.err
