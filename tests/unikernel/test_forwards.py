"""Which port of the host leads to which port of a machine."""

from __future__ import annotations

import pytest

from unikernel.forwards import Forward, Forwards, ipv4


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
