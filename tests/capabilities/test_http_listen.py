"""Addresses and ports: what can be listened on, and what one is told where it can't."""

from __future__ import annotations

import socket

import pytest

from bindgen.runtime import Err
from capabilities.bindings.http_types import HttpRouterErrorInvalidUrl
from capabilities.http.listen import ListenError, bind, name_of, share


def close(*groups: list[socket.socket]) -> None:
    for group in groups:
        for opened in group:
            opened.close()


def port_of(sockets: list[socket.socket]) -> int:
    port: int = sockets[0].getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("address", "family", "host"),
    [("127.0.0.1:0", socket.AF_INET, "127.0.0.1"), ("[::1]:0", socket.AF_INET6, "::1")],
)
def test_an_address_is_one_socket(address: str, family: int, host: str) -> None:
    (opened,) = bind(address)
    assert opened.family == family
    assert opened.getsockname()[0] == host
    assert opened.getsockname()[1] > 0
    close([opened])


def test_all_addresses_of_a_name_get_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, type: int) -> list[object]:  # noqa: A002 - getaddrinfo calls it so
        assert (host, type) == ("localhost", socket.SOCK_STREAM)
        v6 = (socket.AF_INET6, type, 6, "", ("::1", port, 0, 0))
        v4 = (socket.AF_INET, type, 6, "", ("127.0.0.1", port))
        return [v6, v4, v4]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    sockets = bind("localhost:0")
    assert [opened.getsockname()[0] for opened in sockets] == ["::1", "127.0.0.1"]
    assert len({opened.getsockname()[1] for opened in sockets}) == 1
    close(sockets)


def test_an_address_that_the_machine_lacks_is_left_out_where_another_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_strange(host: str, port: int, type: int) -> list[object]:  # noqa: A002 - getaddrinfo calls it so
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", one_strange)
    sockets = bind("name:0")
    assert [opened.getsockname()[0] for opened in sockets] == ["127.0.0.1"]
    close(sockets)


def test_where_one_address_fails_the_sockets_of_the_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            made.append(self)

    with socket.create_server(("127.0.0.2", 0)) as other:

        def two(host: str, port: int, type: int) -> list[object]:  # noqa: A002 - getaddrinfo calls it so
            return [(socket.AF_INET, type, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

        monkeypatch.setattr(socket, "getaddrinfo", two)
        monkeypatch.setattr(socket, "socket", Noted)
        with pytest.raises(ListenError):
            bind(f"name:{other.getsockname()[1]}")
    assert [opened.fileno() for opened in made] == [-1, -1]


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "3000",
        ":3000",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:-1",
        "localhost:65536",
        "localhost:٣",
        "localhost:3000 ",
        "::1:3000",
        "[::1]",
        "[::1]3000",
        "[127.0.0.1]:80",
        "http://localhost:3000",
        "a\nb:1",
        "a" * 10_000,
        "no-such-host.invalid:80",
        f"{'a' * 70}.example:80",
    ],
)
def test_what_is_no_address_is_an_error_to_the_guest(address: str) -> None:
    with pytest.raises(Err) as caught:
        bind(address)
    assert isinstance(caught.value.value, HttpRouterErrorInvalidUrl)
    assert "\n" not in caught.value.value.value
    assert len(caught.value.value.value) < 500


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = name_of(other)
        for reuse_port in (False, True):
            with pytest.raises(ListenError) as caught:
                bind(address, reuse_port)
            assert str(caught.value) == f"can't listen on {address}: something else listens there"


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ListenError, match=r"can't listen on 192\.0\.2\.1:80: this machine doesn't have that address"):
        bind("192.0.2.1:80")


def test_a_port_that_is_not_permitted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ListenError, match=r"can't listen on 127\.0\.0\.1:80: not permitted \(ports below 1024"):
        bind("127.0.0.1:80")


def test_a_port_is_not_shared_with_a_stranger_that_allows_it() -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with pytest.raises(ListenError, match="something else listens there"):
            bind(name_of(stranger), reuse_port=True)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_workers_share_a_port(address: str) -> None:
    first = bind(address, reuse_port=True)
    second = share(first)
    third = share(second)
    assert {port_of(first)} == {port_of(second), port_of(third)}
    for sockets in (first, second, third):
        sockets[0].listen()
    served = set()
    for _ in range(200):
        with socket.create_connection(first[0].getsockname()[:2]):
            for number, sockets in enumerate((first, second, third)):
                try:
                    sockets[0].accept()[0].close()
                except BlockingIOError:
                    continue
                served.add(number)
    assert served == {0, 1, 2}
    close(first, second, third)


def test_sockets_bound_without_sharing_are_not_shared() -> None:
    sockets = bind("127.0.0.1:0")
    sockets[0].listen()
    with pytest.raises(ListenError):
        share(sockets)
    close(sockets)


def test_a_port_is_free_again_as_soon_as_its_server_is_gone() -> None:
    """Though the kernel remembers the connection for a while (TIME_WAIT)."""
    sockets = bind("127.0.0.1:0")
    sockets[0].listen()
    client = socket.create_connection(sockets[0].getsockname())
    accepted, _ = sockets[0].accept()
    accepted.close()
    client.close()
    address = name_of(sockets[0])
    close(sockets)
    close(bind(address), bind(address, reuse_port=True))
