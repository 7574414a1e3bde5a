"""The control channel: what each side writes the other reads, and no bytes of a guest's do harm."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import ROOT
from unikernel import control
from unikernel.checks import LIMIT, ControlError
from unikernel.control import Lines, from_guest, from_launcher

SEED = bytes(range(64))

NETWORK = {"address": "10.0.2.15/24", "gateway": "10.0.2.2", "nameserver": "10.0.2.3", "host": "10.0.2.2"}


def boot(**other: object) -> bytes:
    given: dict[str, object] = {
        "env": {"A": "b"},
        "args": ["one"],
        "values": {"REDIS_ADDRESS": "redis://host.localhost"},
        "volumes": [("v0", "/data", True)],
        "network": NETWORK,
        "time": 1_700_000_000_000_000_000,
        "seed": SEED,
        "options": {"max_memory": 1 << 20, "request_timeout": 30, "access_log": None, "verbose": True},
        "channel": False,
    }
    return control.boot(**(given | other))


def test_the_guest_reads_what_the_launcher_hands_over() -> None:
    message = from_launcher(boot())
    assert message.kind == "boot"
    assert message.value == {
        "env": {"A": "b"},
        "args": ["one"],
        "values": {"REDIS_ADDRESS": "redis://host.localhost"},
        "volumes": [{"tag": "v0", "path": "/data", "writable": True}],
        "network": NETWORK,
        "time": 1_700_000_000_000_000_000,
        "seed": SEED,
        "options": {"max_memory": 1 << 20, "request_timeout": 30.0, "verbose": True},
        "channel": False,
    }


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        (control.signal(15), "signal", 15),
        (control.ping(7), "ping", 7),
        (control.resume(5, SEED), "resume", {"time": 5, "seed": SEED}),
    ],
)
def test_the_guest_reads_each_message_of_the_launcher(line: bytes, kind: str, value: object) -> None:
    message = from_launcher(line)
    assert (message.kind, message.value) == (kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("hello", {"at": 0.5}),
        ("phase", "loaded"),
        ("serving", {"address": "127.0.0.1:3000", "port": 3000}),
        ("pong", 3),
        ("errors", ["one", "two"]),
        ("exit", 130),
    ],
)
def test_the_launcher_reads_each_message_of_the_guest(kind: str, value: object) -> None:
    message = from_guest(control.encode(kind, value, 1.25))
    assert (message.kind, message.value, message.at) == (kind, value, 1.25)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"nonsense",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b'{"exit": ' + b"9" * 5000 + b"}",
        b'{"exit": 0, "pong": 1}',
        b'{"exit": true}',
        b'{"exit": 256}',
        b'{"exit": -1}',
        b'{"exit": 0.5}',
        b'{"exit": null}',
        b'{"exit": 1e999}',
        b'{"exit": 0, "at": NaN}',
        b'{"exit": 0, "at": "soon"}',
        b'{"hello": {}}',
        b'{"hello": {"at": Infinity}}',
        b'{"hello": {"at": 1, "more": 2}}',
        b'{"serving": {"address": "a:1", "port": 0}}',
        b'{"serving": {"address": "a:1", "port": 65536}}',
        b'{"serving": {"address": 5, "port": 80}}',
        b'{"serving": {"address": "' + b"a" * 301 + b'", "port": 80}}',
        b'{"errors": "one"}',
        b'{"errors": [1]}',
        b'{"phase": []}',
        b'{"phase": "other"}',
        b'{"pong": 9007199254740992}',
        b'{"boot": {}}',
        b'{"\\u001b[2J": 1}',
    ],
)
def test_what_is_no_message_of_a_guest_is_refused_in_printable_words(line: bytes) -> None:
    with pytest.raises(ControlError) as refused:
        from_guest(line)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@given(st.binary(max_size=300))
def test_any_bytes_of_a_guest_are_a_message_or_refused(line: bytes) -> None:
    for parse in (from_guest, from_launcher):
        with suppress(ControlError):
            parse(line)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(["hello", "phase", "serving", "pong", "errors", "exit", "boot", "resume", "signal", "ping"]), _JSON
)
def test_any_value_of_a_known_message_is_checked(kind: str, value: object) -> None:
    line = json.dumps({kind: value}).encode()
    for parse in (from_guest, from_launcher):
        with suppress(ControlError):
            parse(line)


def test_a_guest_cant_write_to_the_terminal_through_its_messages() -> None:
    line = json.dumps({"errors": ["\x1b]0;title\x07 \ud800 \u202e"]}).encode()
    assert from_guest(line).value == ["\\x1b]0;title\\x07 \\ud800 \\u202e"]


def test_an_unknown_option_is_refused_by_its_name() -> None:
    with pytest.raises(ControlError, match="there is no option 'color'"):
        from_launcher(boot(options={"color": 1}))


@pytest.mark.parametrize("options", [{"max_memory": True}, {"max_memory": 1.5}, {"verbose": 1}, {"access_log": 2}])
def test_an_option_of_another_kind_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ControlError, match="has a wrong value"):
        from_launcher(boot(options=options))


def test_lines_come_whole_however_they_are_cut() -> None:
    sent = b"one\ntwo\n\nthree\nfo"
    for size in range(1, len(sent) + 1):
        lines = Lines()
        parts = [sent[at : at + size] for at in range(0, len(sent), size)]
        assert [line for part in parts for line in lines.feed(part)] == [b"one", b"two", b"", b"three"]
        assert lines.feed(b"ur\n") == [b"four"]


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    lines, part = Lines(), b"a" * 65536
    for _ in range(LIMIT // len(part) - 1):
        assert lines.feed(part) == []
    with pytest.raises(ControlError, match="longer than"):
        lines.feed(part)


def test_a_message_past_the_limit_is_not_sent() -> None:
    with pytest.raises(ControlError, match="1048576 is the limit"):
        boot(args=["a" * LIMIT])


def test_process_1_imports_it_without_what_is_slow_to_import() -> None:
    code = (
        "import sys; import unikernel.control; print({'asyncio', 'dataclasses', 'typing', 'inspect'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "set()\n"
