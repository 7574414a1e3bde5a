"""The machine's network: where its addresses come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from unikernel import machine
from unikernel.guest import network

LINE = "console=ttyS0 quiet ip=172.16.0.2::172.16.0.1:255.255.255.252::eth1:off"


@pytest.mark.parametrize(
    ("prefix", "mask"), [(0, "0.0.0.0"), (1, "128.0.0.0"), (24, "255.255.255.0"), (32, "255.255.255.255")]
)
def test_a_network_of_so_many_bits_has_a_mask(prefix: int, mask: str) -> None:
    assert network.mask_of(prefix) == mask


def test_the_launchers_addresses_are_those_of_qemus_user_network() -> None:
    found = network.of_message(machine.ADDRESSES)
    assert (found.address, found.mask, found.interface) == ("10.0.2.15", "255.255.255.0", "eth0")
    assert (found.gateway, found.host, found.nameserver) == ("10.0.2.2", "10.0.2.2", "10.0.2.3")


def test_the_kernels_command_line_has_addresses_too() -> None:
    found = network.of_command_line(f"{LINE}:172.16.0.9 ro")
    assert found is not None
    assert (found.address, found.mask, found.interface) == ("172.16.0.2", "255.255.255.252", "eth1")
    assert (found.gateway, found.host, found.nameserver) == ("172.16.0.1", "172.16.0.1", "172.16.0.9")
    without = network.of_command_line(LINE)
    assert without is not None
    assert without.nameserver == ""


@pytest.mark.parametrize("line", ["", "console=ttyS0", "ip=dhcp", "ip=172.16.0.2", "ip=", "zip=1::2:3::eth0:off"])
def test_a_command_line_without_an_address_and_an_interface_has_no_network(line: str) -> None:
    assert network.of_command_line(line) is None


def test_names_are_those_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts, resolv = tmp_path / "hosts", tmp_path / "resolv.conf"
    monkeypatch.setattr(network, "HOSTS", str(hosts))
    monkeypatch.setattr(network, "RESOLV", str(resolv))
    network.write_names(None)
    assert (hosts.read_text(), resolv.read_text()) == ("127.0.0.1 localhost\n", "")
    network.write_names(network.of_command_line(f"{LINE}:172.16.0.9"))
    assert hosts.read_text() == "127.0.0.1 localhost\n172.16.0.1 host.localhost\n"
    assert resolv.read_text() == "nameserver 172.16.0.9\n"


def test_a_machine_without_the_device_says_so() -> None:
    found = network.Network("192.0.2.1", "255.255.255.0", "", "", "", "none0")
    with pytest.raises(OSError, match="no network device none0"):
        network.bring_up(found)
