"""The control channel between launcher and guest: JSON, a message a line.

What each message is, for any language, is in control.md; control_vectors.json has lines that every reader takes or
refuses. The launcher takes the guest to be hostile: whatever bytes arrive, there is a checked message or a
`ControlError`. Process 1 imports this before anything else, so it is kept light: no dataclasses, no typing.
"""

from __future__ import annotations

import json

from slight_py import limits
from unikernel import checks
from unikernel.checks import LIMIT, ControlError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

CONTROL, STDIN, STDIO, STDERR = "slight.control", "slight.stdin", "slight.stdio", "slight.stderr"
"""The names of the virtio ports. Input has its own, so that its end can be told without that of the output."""

COMMAND, DATA = "slight.command", "slight.data"
"""Those of a function service."""

COMMAND_VSOCK, DATA_VSOCK = 1, 2
"""The same as vsock ports, where a launcher has vsock and no virtio-serial; the guest listens."""

PHASES = ("imported", "loaded", "entered")

SEED_BYTES = 64
"""Of random data that the launcher gives with `boot` and `resume`."""

OPTIONS = {option.name: option for option in limits.ALL}
"""What `boot` may say under `options`."""


class Message:
    """One message: its `kind`, its `value` as control.md has it (a seed is bytes), and `at` in seconds since boot."""

    __slots__ = ("at", "kind", "value")

    def __init__(self, kind: str, value: Any, at: float | None = None) -> None:
        self.kind = kind
        self.value = value
        self.at = at

    def __repr__(self) -> str:
        return f"Message({self.kind!r}, {self.value!r}, at={self.at})"


class Lines:
    """Cuts what arrives into lines, and keeps no more than `LIMIT` bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends. Raises ControlError for one past the limit."""
        *lines, rest = received.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) >= LIMIT or any(len(line) >= LIMIT for line in lines):
            self._rest.clear()
            raise ControlError(f"a line is longer than {LIMIT} bytes")
        return lines


# Writing.


def encode(kind: str, value: Any, at: float | None = None) -> bytes:
    """A message as the line that is sent. Raises ControlError where it is past the limit."""
    message = {kind: value} if at is None else {kind: value, "at": round(at, 6)}
    line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > LIMIT:
        raise ControlError(f"the message {kind!r} takes {len(line)} bytes, and {LIMIT} is the limit")
    return line


def boot(
    *,
    env: Mapping[str, str],
    args: Sequence[str],
    values: Mapping[str, str],
    volumes: Sequence[tuple[str, str, bool]],
    network: Mapping[str, str] | None,
    time: int,
    seed: bytes,
    options: Mapping[str, Any],
    channel: bool,
) -> bytes:
    """The answer to `hello`: all that the guest is told.

    `values` are those that the slightfile left out, by the name they are taken from; `volumes` a 9p tag, the guest's
    path, and whether it may be written to; `network` the machine's addresses, None where it has them from elsewhere:
    `address` with the bits of its network after a slash, `gateway`, `nameserver`, and `host`, which is what
    `host.localhost` stands for in the machine; `time` nanoseconds since the epoch; `options` what is said of `OPTIONS`,
    None for what is not. Raises ControlError where it is past the limit.
    """
    return encode(
        "boot",
        {
            "env": dict(env),
            "args": list(args),
            "values": dict(values),
            "volumes": [{"tag": tag, "path": path, "writable": writable} for tag, path, writable in volumes],
            "network": None if network is None else dict(network),
            "time": time,
            "seed": _base64(seed),
            "options": dict(options),
            "channel": channel,
        },
    )


def resume(time: int, seed: bytes) -> bytes:
    """What a guest is told after a restore: nanoseconds since the epoch, and new random data."""
    return encode("resume", {"time": time, "seed": _base64(seed)})


def signal(number: int) -> bytes:
    return encode("signal", number)


def ping(number: int) -> bytes:
    return encode("ping", number)


def _base64(content: bytes) -> str:
    import binascii

    return binascii.b2a_base64(content, newline=False).decode()


# Reading.


def from_guest(line: bytes) -> Message:
    """What a guest says. Raises ControlError for anything that is not one of its messages, and nothing else.

    Texts come back printable: they may go to a terminal.
    """
    return _parse(line, _FROM_GUEST, timed=True)


def from_launcher(line: bytes) -> Message:
    """What a launcher says; a seed comes back as bytes. Raises ControlError."""
    return _parse(line, _FROM_LAUNCHER, timed=False)


def _parse(line: bytes, kinds: Mapping[str, Callable[[Any], Any]], timed: bool) -> Message:
    """`timed` messages may have an `at`."""
    if len(line) > LIMIT:
        raise ControlError(f"a line is longer than {LIMIT} bytes")
    try:
        message = json.loads(line.decode(), object_pairs_hook=checks.unrepeated)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError among them
        raise ControlError("a line is not JSON") from None
    if not isinstance(message, dict):
        raise ControlError("a message is not an object")
    is_timed = timed and "at" in message
    at = message.pop("at") if is_timed else None
    if len(message) != 1:
        raise ControlError("a message has not one kind")
    ((kind, value),) = message.items()
    if kind not in kinds:
        raise ControlError(f"there is no message {printable(kind)[:40]!r}")
    try:
        return Message(kind, kinds[kind](value), checks.seconds(at) if is_timed else None)
    except ControlError as error:
        raise ControlError(f"in the message {kind!r}: {error}") from None


# The value of each kind of message, checked.


def _hello(value: Any) -> dict[str, float]:
    fields = checks.fields(value, ("at",))
    return {"at": checks.seconds(fields["at"])}


def _serving(value: Any) -> dict[str, Any]:
    fields = checks.fields(value, ("address", "port"))
    return {"address": printable(checks.text(fields["address"], 300)), "port": checks.number(fields["port"], 1, 65535)}


def _errors(value: Any) -> list[str]:
    return [printable(checks.text(line)) for line in checks.items(value)]


def _phase(value: Any) -> str:
    if value not in PHASES:
        raise ControlError("no such phase")
    return str(value)


def _exit(value: Any) -> int:
    return checks.number(value, 0, 255)


def _boot(value: Any) -> dict[str, Any]:
    names = ("env", "args", "values", "volumes", "network", "time", "seed", "options", "channel")
    fields = checks.fields(value, names)
    return {
        "env": checks.table(fields["env"]),
        "args": [checks.whole_text(arg) for arg in checks.items(fields["args"])],
        "values": checks.table(fields["values"]),
        "volumes": [_volume(volume) for volume in checks.items(fields["volumes"])],
        "network": checks.network(fields["network"]),
        "time": checks.nanoseconds(fields["time"]),
        "seed": checks.seed(fields["seed"]),
        "options": _options(fields["options"]),
        "channel": checks.flag(fields["channel"]),
    }


def _volume(value: Any) -> dict[str, Any]:
    fields = checks.fields(value, ("tag", "path", "writable"))
    return {
        "tag": checks.whole_text(fields["tag"], 31),
        "path": checks.whole_text(fields["path"], 4096),
        "writable": checks.flag(fields["writable"]),
    }


def _options(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ControlError("the options are not an object")
    options: dict[str, Any] = {}
    for name, said in value.items():
        if name not in OPTIONS:
            raise ControlError(f"there is no option {printable(name)[:40]!r}")
        if said is None:
            continue
        try:
            options[name] = _OPTION_KINDS[OPTIONS[name].kind](said)
        except ControlError:
            raise ControlError(f"the option {name!r} has a wrong value") from None
    return options


def _access_log(value: Any) -> str:
    if value not in limits.LOG_FORMS:
        raise ControlError("no form of the access log")
    return str(value)


def _resume(value: Any) -> dict[str, Any]:
    fields = checks.fields(value, ("time", "seed"))
    return {"time": checks.nanoseconds(fields["time"]), "seed": checks.seed(fields["seed"])}


def _signal(value: Any) -> int:
    if type(value) is not int or value not in (2, 15):
        raise ControlError("no signal that is passed on")
    return value


_OPTION_KINDS: dict[str, Callable[[Any], Any]] = {
    limits.SIZE: checks.count,
    limits.COUNT: checks.count,
    limits.SECONDS: checks.seconds,
    limits.LOG: _access_log,
    limits.FLAG: checks.flag,
}

_FROM_GUEST: dict[str, Callable[[Any], Any]] = {
    "hello": _hello,
    "phase": _phase,
    "serving": _serving,
    "pong": checks.count,
    "errors": _errors,
    "exit": _exit,
}

_FROM_LAUNCHER: dict[str, Callable[[Any], Any]] = {
    "boot": _boot,
    "signal": _signal,
    "ping": checks.count,
    "resume": _resume,
}
