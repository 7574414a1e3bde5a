"""`slight-py run` of the example that uses several capabilities, with each of its slightfiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.broker_servers import NatsServer
from tests.command import Answer, Server, running, wait_until
from tests.guests import example, slightfile
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer
from tests.servers import HOST

SHOP, RECEIVER = "multi-capability-demo-rust", "messaging-demo-receiver-rust"


@contextmanager
def shop(grants: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The shop, and the other module that receives its orders; ready when that one is subscribed."""
    options = ["-c", slightfile(SHOP, grants), "--env", f"ADDRESS={HOST}:0"]
    with running("--verbose", "run", example(SHOP), example(RECEIVER), *options, env=env) as server:
        server.port = int(server.wait_for(r"serving at 127\.0\.0\.1:(\d+)")[1])
        server.wait_for(r'subscribe\("orders.new"\) =')
        yield server


def text(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def check_visits_and_orders(server: Server, greeting: str) -> None:
    """Every route of the shop that its slightfiles grant all of."""
    for customer, visit in (("Ada", 1), ("Ada", 2), ("Bob", 1)):
        assert text(server.get(f"/hello/{customer}")) == (200, f"{greeting}, {customer}, this is visit {visit}\n")
    assert server.request("PUT", "/greeting", b"good day").status == 200
    assert text(server.get("/hello/Bob")) == (200, "good day, Bob, this is visit 2\n")

    orders = [("Ada", "tea"), ("Ada", "'; DROP TABLE orders; --"), ("Bob", "Tee für zwei")]
    for customer, item in orders:
        answer = server.request("POST", f"/orders/{customer}", item.encode())
        assert text(answer) == (201, f"ordered {item} for {customer}\n")
    assert text(server.get("/orders/Ada")) == (200, "'; DROP TABLE orders; --\ntea\n")
    assert text(server.get("/orders/Bob")) == (200, "Tee für zwei\n")
    assert text(server.get("/orders/Eve")) == (200, "")

    printed = "".join(f"received: {item} for {customer}\n" for customer, item in orders)
    wait_until(lambda: server.out == printed, "the other module has received the orders")
    assert text(server.get("/keys/visits")) == (200, "2 keys\n")


def test_the_capabilities_work_together_and_other_names_are_refused() -> None:
    with shop("memory") as server:
        check_visits_and_orders(server, "hello")
        status, why = text(server.get("/keys/archive"))
        assert status == 403
        assert "archive" in why
        assert 'name = "archive"' in server.err  # the lines to add
        assert server.stop() == 0


def test_the_wildcard_grants_the_same_names_and_any_other() -> None:
    with shop("wildcard") as server:
        check_visits_and_orders(server, "hello")
        assert text(server.get("/keys/archive")) == (200, "0 keys\n")
        assert server.stop() == 0


def test_the_same_module_uses_real_services(shared_postgres: PostgresServer) -> None:
    with RedisServer() as redis, NatsServer() as nats:
        env = {
            "REDIS_ADDRESS": redis.address,
            "POSTGRES_CONNECTION_URL": shared_postgres.url,
            "GREETING": "welcome",
            **nats.configs,
        }
        try:
            with shop("real", env) as server:
                check_visits_and_orders(server, "welcome")
                assert server.get("/keys/archive").status == 403
                assert server.stop() == 0
            assert redis.cli("DBSIZE") == b"2"
            assert shared_postgres.psql("SELECT COUNT(*) FROM orders") == "3"
        finally:
            shared_postgres.psql("DROP TABLE IF EXISTS orders")
