"""Which port of the host leads to which port of a machine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from unikernel import forwards
from unikernel.forwards import Forward, Forwards, ipv4
from unikernel.qmp import QmpError


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("192.0.2.7", "192.0.2.7"),
        ("localhost", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("::", "0.0.0.0"),
        ("2001:db8::1", None),
        ("example.com", None),
        ("", None),
    ],
)
def test_a_host_is_an_ipv4_address_where_one_stands_for_it(host: str, address: str | None) -> None:
    assert ipv4(host) == address


@pytest.mark.parametrize(
    ("address", "forward"),
    [
        ("127.0.0.1:8080", Forward("127.0.0.1", 8080, 3000)),
        ("0.0.0.0:8080", Forward("0.0.0.0", 8080, 3000)),
        ("[::1]:8080", Forward("127.0.0.1", 8080, 3000)),
        ("no.such.name:8080", Forward("127.0.0.1", 8080, 3000)),
        ("127.0.0.1:0", Forward("127.0.0.1", 3000, 3000)),
        ("127.0.0.1:65536", Forward("127.0.0.1", 3000, 3000)),
        ("nonsense", Forward("127.0.0.1", 3000, 3000)),
        ("", Forward("127.0.0.1", 3000, 3000)),
    ],
)
def test_what_an_application_asks_for_is_forwarded_as_far_as_it_is_an_address(address: str, forward: Forward) -> None:
    assert Forwards(()).of(address, 3000) == [forward]


def test_what_the_user_asks_for_comes_before_what_the_application_does() -> None:
    forwards = Forwards([("localhost", 8080, 3000), ("0.0.0.0", 8081, 3000), ("127.0.0.1", 9000, 4000)])
    assert forwards.of("127.0.0.1:80", 3000) == [Forward("127.0.0.1", 8080, 3000), Forward("0.0.0.0", 8081, 3000)]
    assert forwards.of("127.0.0.1:80", 5000) == [Forward("127.0.0.1", 80, 5000)]


def test_a_forward_is_a_rule_of_qemu() -> None:
    assert Forward("127.0.0.1", 8080, 3000).rule == "tcp:127.0.0.1:8080-10.0.2.15:3000"


class Monitor:
    """QEMU's, which forwards from ports of its choosing where none is named, as QEMU 7.2 shows them."""

    def __init__(self, port: int) -> None:
        self.rows = ["Hub -1 (network):", "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port"]
        self.port = port

    async def human(self, line: str) -> str:
        match line.split():
            case ["hostfwd_add", "network", rule]:
                (_, host, asked), (_, guest) = (side.split(":") for side in rule.split("-"))
                self.port += 1
                port = int(asked) or self.port
                self.rows.append(f"  TCP[HOST_FORWARD]   8  {host:>14} {port:5}       10.0.2.15 {guest:>5}     0     0")
                return ""
            case ["info", "usernet"]:
                return "\r\n".join(self.rows)
        return "unknown command"


def opened(*asked: Forward, monitor: Any) -> dict[Forward, Forward]:
    vm: Any = SimpleNamespace(qmp=monitor, forwards={})
    asyncio.run(forwards.open_all(vm, asked))
    found: dict[Forward, Forward] = vm.forwards
    return found


def test_where_any_port_is_asked_for_it_is_the_one_that_qemu_has_chosen() -> None:
    one, other = Forward("127.0.0.1", 0, 3000), Forward("127.0.0.1", 0, 4000)
    fixed = Forward("127.0.0.1", 8080, 3000)
    assert opened(fixed, one, other, monitor=Monitor(40_000)) == {
        fixed: fixed,
        one: Forward("127.0.0.1", 40_002, 3000),
        other: Forward("127.0.0.1", 40_003, 4000),
    }


def test_a_qemu_that_does_not_tell_the_port_is_named() -> None:
    monitor = Monitor(40_000)
    monitor.rows = []
    monitor.human = lambda line: asyncio.sleep(0, "")  # type: ignore[method-assign] # a QEMU with other words
    with pytest.raises(QmpError, match="QEMU doesn't say which port leads to the machine's port 3000"):
        opened(Forward("127.0.0.1", 0, 3000), monitor=monitor)
