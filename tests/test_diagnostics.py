"""What a user sees when something is refused, and what a module asked for."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bindgen.runtime import Err, GuestFault, Handles, Import, Lower
from capabilities import notices
from capabilities.bindings import http_client, keyvalue, sql
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.families import ResourceType
from capabilities.grants import Granted, Grants, NotGranted
from slight_py import trace
from slight_py.sessions import Sessions
from tests.command import serving, slight_py
from tests.guests import EXAMPLES, example, slightfile
from tests.test_run import wat

OPENS_AND_IS_SILENT = r"""
(module
  (import "keyvalue" "keyvalue::open" (func $open (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "NAME")
  (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 256))
  (func (export "main") (param i32 i32) (result i32)
    (call $open (i32.const 0) (i32.const LENGTH) (i32.const 128))
    (call $open (i32.const 0) (i32.const LENGTH) (i32.const 128))
    (i32.load8_u (i32.const 128))))
"""
"""Opens a store twice, and says of an error that there is one, in its exit code."""


def opens(name: str) -> Path:
    text = OPENS_AND_IS_SILENT.replace("NAME", "".join(f"\\{each:02x}" for each in name.encode()))
    return wat(text.replace("LENGTH", str(len(name.encode()))), "opens-and-is-silent")


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    notices.forget()
    yield
    notices.forget()


def grants(path: Path, resource: str = "keyvalue.memory", *names: str) -> Path:
    entries = [f'[[capability]]\nresource = "{resource}"\nname = "{name}"\n' for name in names]
    path.write_text("\n".join(['specversion = "0.2"\n', *entries]))
    return path


# What the slightfile refuses.


def test_a_name_that_is_not_granted_is_told_once_with_the_lines_to_add(tmp_path: Path) -> None:
    file = grants(tmp_path / "slightfile.toml", "keyvalue.memory", "cats", "dogs")
    assert slight_py("run", opens("mice"), "-c", file) == (
        1,
        "",
        f"slight-py: warning: {file}: keyvalue: the module asked for the store 'mice', which the slightfile does not "
        "grant (it grants 'cats' in line 3, 'dogs' in line 7); add [[capability]] with "
        'resource = "keyvalue.memory" and name = "mice"\n',
    )


def test_the_lines_to_add_make_the_module_work(tmp_path: Path) -> None:
    name = 'a "new" \\ store\n\x07\u202e😀'
    file = grants(tmp_path / "slightfile.toml", "keyvalue.memory", "cats")
    refused = slight_py("run", opens(name), "-c", file)
    assert refused.code == 1
    resource, granted = re.findall(r'(resource = ".*") and (name = ".*")$', refused.err, re.MULTILINE)[0]
    file.write_text(f"{file.read_text()}\n[[capability]]\n{resource}\n{granted}\n")
    assert slight_py("run", opens(name), "-c", file) == (0, "", "")


def test_a_name_is_shown_so_that_it_writes_no_line_of_its_own_and_not_in_full_length(tmp_path: Path) -> None:
    file = grants(tmp_path / "slightfile.toml", "keyvalue.memory", "cats")
    lines = slight_py("run", opens("\nslight-py: all is well\x1b[2J" + "x" * 40_000), "-c", file).errors
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert len(lines[0]) < 1_000 + len(str(file))


def test_the_configuration_of_what_is_granted_is_named_where_one_more_needs_it() -> None:
    redis = ResourceType("keyvalue.redis", "keyvalue", ("REDIS_ADDRESS",))
    told: list[str] = []
    notices.redirect(told.append)
    try:
        with pytest.raises(NotGranted) as caught:
            Grants("keyvalue", "store", Granted({"cats": 1}, "some.toml", {"cats": 7}, redis)).of("mice")
    finally:
        notices.redirect(notices.show)
    assert told[0].endswith(
        'add [[capability]] with resource = "keyvalue.redis" and name = "mice" and [capability.configs] as in line 7'
    )
    assert "some.toml" not in str(caught.value)


def test_causes_are_told_once_and_up_to_a_number(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(notices.LIMIT + 50):
        for _ in range(2):
            notices.tell(f"redis: cause {number}\n")
    texts = [record.getMessage() for record in caplog.records]
    assert texts[:2] == ["redis: cause 0\\n", "redis: cause 1\\n"]
    assert len(texts) == notices.LIMIT + 1
    assert texts[-1] == "redis: there are more warnings of this kind, which are left out"


def test_a_module_that_asks_for_many_names_silences_neither_others_nor_the_outage_of_a_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis = ResourceType("keyvalue.redis", "keyvalue", ("REDIS_ADDRESS",))
    granted = Grants("keyvalue", "store", Granted({"cats": 1}, "some.toml", {"cats": 7}, redis))

    def tell(module: str) -> None:
        notices.module.set(module)
        for number in range(3 * notices.LIMIT):
            with pytest.raises(NotGranted):
                granted.of(f"name {number}")
        notices.tell("redis 127.0.0.1:6379: connection refused; start it")

    for module in ("hostile", "other"):
        contextvars.copy_context().run(tell, module)
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if text.startswith("redis")] == [texts[-1]] * 2
    assert len(texts) == 2 * (notices.LIMIT + 2)


def test_causes_about_whatever_a_capability_of_ones_own_names_are_bounded_in_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(2 * notices.TOTAL_LIMIT):
        notices.tell(f"{number}: a cause that begins with a guest's text")
    assert len(caplog.records) == notices.TOTAL_LIMIT + 1


def test_workers_tell_a_cause_once(tmp_path: Path) -> None:
    name = "http-server-demo-c"
    text = slightfile(name).read_text()
    file = tmp_path / "slightfile.toml"
    file.write_text(text.replace('name = "my-container"', 'name = "another"'))
    assert file.read_text() != text
    with serving(example(name), "-c", file, "--workers", "2") as server:
        for _ in range(20):
            assert server.get("/get").status == 500
        assert server.stop() == 0
        warnings = [line for line in server.err.splitlines() if "does not grant" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"slight-py: warning: {file}: keyvalue: the module asked for the store")


# A module that ends without a word.


def test_a_module_that_fails_without_a_word_gets_one_line() -> None:
    text = '(module (memory (export "memory") 1) (func (export "main") (param i32 i32) (result i32) (i32.const {})))'
    silent = slight_py("run", wat(text.format(3), "silent"))
    assert silent == (3, "", "slight-py: silent.wasm ended with code 3 and said nothing\n")
    assert slight_py("run", wat(text.format(0), "silent")) == (0, "", "")


def test_one_that_uses_capabilities_is_told_how_to_see_them() -> None:
    text = """
    (module (import "keyvalue" "keyvalue::keys" (func (param i32 i32))) (memory (export "memory") 1)
      (func (export "main") (param i32 i32) (result i32) (i32.const 1)))
    """
    done = slight_py("run", wat(text, "silent-one"))
    end = "slight-py: silent-one.wasm ended with code 1 and said nothing"
    assert done == (1, "", f"{end}; --verbose shows what it asked for\n")


def test_one_that_printed_something_gets_none() -> None:
    write = """
    (module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\02\\00\\00\\00no")
      (func (export "main") (param i32 i32) (result i32)
        (drop (call $write (i32.const FD) (i32.const 0) (i32.const 1) (i32.const 32))) (i32.const 1)))
    """
    assert slight_py("run", wat(write.replace("FD", "1"), "prints")) == (1, "no", "")
    assert slight_py("run", wat(write.replace("FD", "2"), "prints")) == (1, "", "no")


# Calls, with --verbose.


def calls(err: str) -> list[str]:
    """The calls that are shown, without their times."""
    return re.findall(r"^slight-py: (.*) = .*  \d+\.\d ms$", err, re.MULTILINE)


def outcomes(err: str) -> list[str]:
    return re.findall(r"^slight-py: .*? = (.*)  \d+\.\d ms$", err, re.MULTILINE)


def test_with_verbose_each_call_of_a_capability_is_shown_with_what_came_of_it() -> None:
    done = slight_py("--verbose", "run", example("keyvalue-demo-c"))
    assert calls(done.err) == [
        'keyvalue::open("my-container")',
        'keyvalue::open("my-container2")',
        *['keyvalue::set("key", 15 bytes)'] * 2,
        *["keyvalue::keys()"] * 2,
        *['keyvalue::get("key")'] * 2,
        *['keyvalue::delete("key")'] * 2,
        *['keyvalue::get("key")'] * 2,
    ]
    missing = "key-not-found(\"there is no value under 'key'\")"
    assert outcomes(done.err) == [
        *["keyvalue"] * 2,
        *["ok"] * 2,
        *["1 element"] * 2,
        *["15 bytes"] * 2,
        *["ok"] * 2,
        *[missing] * 2,
    ]
    assert "spiderlightning" not in done.err
    assert calls(slight_py("run", example("keyvalue-demo-c")).err) == []


def test_with_verbose_the_calls_of_a_capability_of_ones_own_are_shown() -> None:
    file = EXAMPLES / "custom-capability" / "slightfile.toml"
    done = slight_py("--verbose", "run", example("custom-capability"), "-c", file)
    plain = slight_py("run", example("custom-capability"), "-c", file)
    assert (done.code, done.out) == (plain.code, plain.out)
    assert calls(done.err)[0] == 'greeter::greet({title: none, name: "Ada"})'
    assert 'guest-book::sign({title: none, name: "Ada"})' in calls(done.err)
    assert outcomes(done.err)[2:4] == ["nobody", "name-too-long(40)"]


def test_with_verbose_workers_show_the_calls_of_handlers_too() -> None:
    name = "http-server-demo-c"
    with serving(example(name), "--verbose", "--workers", "2") as server:
        assert server.request("PUT", "/set", b"a value").status == 204
        assert server.get("/get").body == b"a value"
        assert server.stop() == 0
        err = server.err
    assert 'router::get("/get", "handle-get")' in calls(err).__str__().replace("_", "-")
    assert any(call.startswith("server::serve(") and call.endswith("router)") for call in calls(err))
    assert "a value" not in err
    assert sum(call.startswith("keyvalue::set(") for call in calls(err)) == 1


# The same, call by call.


class Guest:
    """A guest whose memory is written from here. It allocates at 4,096 and above."""

    reused = False

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(1 << 16))
        self.handles = Handles()
        self.sessions = Sessions()
        self._at = 4096
        self._texts = 8

    async def allocate(self, lower: Lower) -> None:
        pointers = []
        for size, align, _ in lower.blocks:
            self._at = -(-self._at // align) * align
            pointers.append(self._at)
            self._at += size
        lower.place(pointers)

    def text(self, content: str | bytes) -> tuple[int, int]:
        data = content.encode() if isinstance(content, str) else content
        at, self._texts = self._texts, self._texts + len(data)
        self.memory[at : at + len(data)] = data
        return at, len(data)


def shown(
    caplog: pytest.LogCaptureFixture, imports: tuple[Import, ...], name: str, host: object, guest: Guest, *flat: int
) -> str:
    """What is logged of a call, without its time."""
    caplog.set_level(logging.DEBUG, "slight_py")
    caplog.clear()
    (definition,) = [each for each in imports if each.name == name]
    asyncio.run(trace.traced(definition).call(host, guest, flat))
    (record,) = caplog.records
    return record.getMessage().rpartition("  ")[0]


class Statement:
    pass


class Database:
    async def query(self, q: Statement) -> list[sql.RowItem]:
        assert type(q) is Statement
        return [sql.RowItem("name", sql.DataTypeStr("Ada"))]

    async def exec(self, q: Statement) -> None:
        raise Err(sql.SqlErrorSyntaxError("no such table"))


class Databases:
    async def statement_prepare(self, query: str, params: list[str]) -> Statement:
        return Statement()

    async def sql_open(self, name: str) -> Database:
        return Database()


def test_statements_are_shown_without_their_constants_and_parameters(caplog: pytest.LogCaptureFixture) -> None:
    guest, host = Guest(), Databases()
    text = guest.text("SELECT a FROM t2 WHERE b = $1 AND c = 4711 AND d = 'secret' AND e = $$secret$$")
    call = shown(caplog, sql.IMPORTS, "statement::prepare", host, guest, *text, 0, 0)
    assert call == 'statement::prepare("SELECT a FROM t2 WHERE b = $1 AND c = … AND d = …", 0 elements) = statement'
    text = guest.text(
        'SELECT a FROM t WHERE b = "secret"'
    )  # which SQLite takes for a text where there is no such column
    call = shown(caplog, sql.IMPORTS, "statement::prepare", host, guest, *text, 0, 0)
    assert call == 'statement::prepare("SELECT a FROM t WHERE b = …", 0 elements) = statement'


def test_the_resource_that_a_method_is_called_of_is_the_guests_as_before(caplog: pytest.LogCaptureFixture) -> None:
    guest, host = Guest(), Databases()
    database = guest.handles.add("sql", Database(), "")
    statement = guest.handles.add("statement", Statement(), "")
    for method, answer in (("query", "1 element"), ("exec", 'syntax-error("no such table")')):
        call = shown(caplog, sql.IMPORTS, f"sql::{method}", host, guest, database, statement, 2048)
        assert call == f"sql::{method}(statement) = {answer}"
        assert type(guest.handles.get("sql", database, "")) is Database


def test_a_call_that_breaks_the_binary_interface_is_refused_as_without_trace() -> None:
    guest = Guest()
    store = guest.handles.add("keyvalue", object(), "")
    traced = {each.name: trace.traced(each) for each in keyvalue.IMPORTS}
    plain = {each.name: each for each in keyvalue.IMPORTS}
    for flat in ((store, 1 << 31, 8, 0), (store + 1, 0, 0, 0)):
        faults = []
        for imports in (plain, traced):
            with pytest.raises(GuestFault) as caught:
                asyncio.run(imports["keyvalue::get"].call(None, guest, flat))
            faults.append(str(caught.value))
        assert faults[0] == faults[1]
    assert type(guest.handles.get("keyvalue", store, "")) is object


class Client:
    async def request(self, req: Request) -> Response:
        assert req.uri == "https://user:secret@example.com/path?token=secret"
        return Response(200, [("a", "b")], b"answer")


def test_requests_are_shown_without_what_may_be_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "slight_py")

    async def call(host: Client, guest: object, arguments: tuple[object, ...]) -> object:
        uri = "https://user:secret@example.com/path?token=secret"
        return await host.request(Request(Method.POST, uri, [("authorization", "secret")], [], b"secret"))

    call.__module__ = http_client.__name__
    call.__annotations__["host"] = "HttpClientHost"
    asyncio.run(trace.traced(Import("http-client", "request", "", "", call)).call(Client(), Guest(), ()))
    text = caplog.records[0].getMessage()
    assert text.startswith(
        'http-client::request({method: post, uri: "https://…@example.com/…", headers: 1 element, '
        "params: 0 elements, body: 6 bytes}) = {status: 200, headers: 1 element, body: 6 bytes}  "
    )


def test_a_call_that_fails_or_is_given_up_is_shown_as_such(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Databases):
        async def sql_open(self, name: str) -> Database:
            raise RuntimeError("secret")

    guest = Guest()
    with pytest.raises(RuntimeError):
        shown(caplog, sql.IMPORTS, "sql::open", Broken(), guest, *guest.text("n" * 100), 2048)
    assert caplog.records[0].getMessage().startswith(f'sql::open("{"n" * 80}"…) = failed with RuntimeError  ')

    class Slow(Databases):
        async def sql_open(self, name: str) -> Database:
            await asyncio.sleep(10)
            return Database()

    async def give_up() -> None:
        (definition,) = [each for each in sql.IMPORTS if each.name == "sql::open"]
        async with asyncio.timeout(0.05):
            await trace.traced(definition).call(Slow(), guest, (*guest.text("n"), 2048))

    caplog.clear()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert caplog.records[0].getMessage().startswith('sql::open("n") = cancelled  ')
