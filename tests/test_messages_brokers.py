"""`slight-py run` of the examples that send each other messages, through real brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.broker_servers import MosquittoServer, NatsServer
from tests.command import Done, at_once, slight_py
from tests.guests import example, slightfile
from tests.kafka_server import KafkaServer
from tests.servers import HOST, free_port
from tests.service_bus import ServiceBus

PUBLISHER, RECEIVER = "messaging-demo-publisher-c", "messaging-demo-receiver-rust"


@contextmanager
def broker(name: str) -> Iterator[Mapping[str, str]]:
    """A broker, and the variables that the example's slightfile takes for it."""
    match name:
        case "mosquitto":
            with MosquittoServer() as mosquitto:
                yield mosquitto.configs
        case "nats":
            with NatsServer() as nats:
                yield nats.configs
        case "kafka":
            with KafkaServer() as kafka:
                yield {"CAK_ENDPOINT": kafka.endpoint}


def check(done: Done) -> None:
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    for what in ("published", "received"):
        assert [line for line in lines if line.startswith(what)] == [f"{what}: order {n}" for n in (1, 2, 3)]
    (told,) = done.errors
    assert "asked to subscribe 'orders.new', which the slightfile does not allow it" in told


@pytest.mark.parametrize("name", ["mosquitto", "nats", "kafka"])
def test_one_example_receives_through_a_broker_what_the_other_one_publishes(name: str) -> None:
    with broker(name) as variables:
        modules = (example(PUBLISHER), example(RECEIVER))
        check(slight_py("run", *modules, "-c", slightfile(PUBLISHER, name), "--", "spy", env=variables))


def test_the_examples_find_each_other_as_two_processes_through_a_broker() -> None:
    grants = slightfile(PUBLISHER, "nats")
    modules = [example(RECEIVER), example(PUBLISHER)]
    with broker("nats") as variables:
        receiver, publisher = at_once(lambda each: slight_py("run", each, "-c", grants, env=variables), modules)
    assert (receiver.code, publisher.code) == (0, 0), receiver.err + publisher.err
    assert receiver.out == "received: order 1\nreceived: order 2\nreceived: order 3\n"


def test_one_example_receives_from_a_queue_what_the_other_one_publishes(tmp_path: Path) -> None:
    """Against a stand-in for Azure Service Bus, to which the slightfile is led."""

    async def main() -> Done:
        async with ServiceBus(("ready", "orders.new")) as bus:
            text = slightfile(PUBLISHER, "azsbus").read_text()
            key = "    AZURE_POLICY_KEY ="
            assert key in text
            grants = tmp_path / "slightfile.toml"
            grants.write_text(text.replace(key, f'    AZURE_SERVICE_BUS_ENDPOINT = "{bus.address}"\n{key}'))
            modules = (example(PUBLISHER), example(RECEIVER))
            return await asyncio.to_thread(slight_py, "run", *modules, "-c", grants, "--", "spy", env=bus.configs)

    check(asyncio.run(main()))


@pytest.mark.parametrize("name", ["mosquitto", "nats", "kafka"])
def test_a_broker_that_is_away_is_an_error_to_the_guest_and_told_to_the_user(name: str) -> None:
    port = free_port()
    address = f"{HOST}:{port}"
    variables = {
        "mosquitto": {"MOSQUITTO_HOST": HOST, "MOSQUITTO_PORT": str(port)},
        "nats": {"NATS_ADDRESS": f"nats://{address}"},
        "kafka": {"CAK_ENDPOINT": address},
    }
    done = slight_py("run", example(RECEIVER), "-c", slightfile(PUBLISHER, name), env=variables[name])
    assert done.code == 1
    # What the libraries themselves log, more than once, is left out.
    (told,) = [line for line in done.err.splitlines() if str(port) in line]
    assert f" {address}: connection refused; start it, or correct " in told
    assert "Traceback" not in done.err
