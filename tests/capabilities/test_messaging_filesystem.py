"""What is `messaging.filesystem`'s own: its files, other processes, and what becomes of both when one ends."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from capabilities.errors import ConfigError
from capabilities.messaging import ConnectionLost, DeliveryFailed, Unavailable, filesystem
from capabilities.messaging.filesystem import FilesystemBackend, FilesystemSubscription, FilesystemTopics
from tests.command import environment

Scenario = Callable[[FilesystemTopics], Awaitable[None]]


def run(directory: Path, scenario: Scenario) -> None:
    """Runs a scenario as a process of its own would: with a backend that is closed at the end."""

    async def main() -> None:
        backend = FilesystemBackend({"DIRECTORY": str(directory)})
        try:
            await scenario(await backend.open("name"))
        finally:
            await backend.close()

    asyncio.run(asyncio.wait_for(main(), 60))


async def drained(subscription: FilesystemSubscription) -> list[bytes]:
    found = []
    while (message := await subscription.receive(0.2)) is not None:
        found.append(message)
    return found


def files(directory: Path) -> list[str]:
    """What is left, but for what belongs to the name itself."""
    return sorted(str(each.relative_to(directory)) for each in directory.rglob("*") if each.name != ".lock")


def test_messages_wait_for_the_next_start_oldest_first(tmp_path: Path) -> None:
    messages = [b"one", b"two\nlines\n", b"", bytes(range(256))]

    async def publish(topics: FilesystemTopics) -> None:
        for message in messages:
            await topics.publish(message, "topic")

    async def receive_one(topics: FilesystemTopics) -> None:
        subscription = await topics.subscribe("topic")
        assert await subscription.receive(5) == messages[0]

    async def receive_the_rest(topics: FilesystemTopics) -> None:
        subscription = await topics.subscribe("topic")
        assert await drained(subscription) == messages[1:]
        await subscription.close()

    run(tmp_path, publish)
    run(tmp_path, receive_one)
    run(tmp_path, receive_the_rest)
    assert files(tmp_path) == ["name"]


def test_a_message_goes_when_all_who_were_there_have_it(tmp_path: Path) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        one, other = await topics.subscribe("topic"), await topics.subscribe("topic")
        await topics.publish(b"message", "topic")
        assert await one.receive(5) == b"message"
        assert (tmp_path / "name/topic/1.7.old").read_bytes() == b"message"
        assert await other.receive(5) == b"message"
        assert not list((tmp_path / "name/topic").glob("*.old"))
        await one.close()
        await other.close()
        assert not (tmp_path / "name/topic").exists()

    run(tmp_path, scenario)


def test_what_a_slow_subscription_leaves_and_another_one_had_is_not_given_again(tmp_path: Path) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        quick, slow = await topics.subscribe("topic"), await topics.subscribe("topic")
        for message in (b"1", b"2"):
            await topics.publish(message, "topic")
        assert await drained(quick) == [b"1", b"2"]
        await topics.publish(b"3", "topic")
        await slow.close()
        await quick.close()
        assert await drained(await topics.subscribe("topic")) == [b"3"]

    run(tmp_path, scenario)


def test_any_topic_is_a_directory_within_its_names(tmp_path: Path) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        for topic in ("../../escape", "/etc", ".lock", ".process-1", "", "..", "a/b", "x" * 5_000):
            await topics.publish(b"message", topic)
            assert await (await topics.subscribe(topic)).receive(5) == b"message"

    run(tmp_path / "messages", scenario)
    assert {each.name for each in tmp_path.iterdir()} == {"messages"}
    assert {each.name for each in (tmp_path / "messages").iterdir()} == {"name"}


WORKER = """
import asyncio, sys
from capabilities.messaging.filesystem import FilesystemBackend

async def main(what, directory, count):
    topics = await FilesystemBackend({"DIRECTORY": directory}).open("name")
    if what == "publish":
        for number in range(int(count)):
            await topics.publish(f"{count} {number}".encode(), "topic")
        return
    subscription = await topics.subscribe("topic")
    print("subscribed", flush=True)
    for _ in range(int(count)):
        message = await subscription.receive(30)
        print(message.decode(), flush=True)
    sys.stdin.read()

asyncio.run(main(*sys.argv[1:]))
"""


def process(what: str, directory: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, what, str(directory), str(count)]
    return subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_several_processes_publish_and_receive_at_once(tmp_path: Path) -> None:
    receivers = [process("receive", tmp_path, 75) for _ in range(2)]
    for each in receivers:
        assert each.stdout is not None
        assert each.stdout.readline() == "subscribed\n"
    publishers = [process("publish", tmp_path, count) for count in (40, 35)]
    assert [each.wait(60) for each in publishers] == [0, 0]
    for each in receivers:
        out, _ = each.communicate(timeout=60)
        lines = out.splitlines()
        assert len(lines) == 75
        for count in (40, 35):
            mine = [line for line in lines if line.startswith(f"{count} ")]
            assert mine == [f"{count} {number}" for number in range(count)]


def test_what_a_killed_process_has_not_received_is_the_next_ones(tmp_path: Path) -> None:
    receiver = process("receive", tmp_path, 1)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "subscribed\n"

    async def publish(topics: FilesystemTopics) -> None:
        for message in (b"one", b"two", b"three"):
            await topics.publish(message, "topic")

    run(tmp_path, publish)
    assert receiver.stdout.readline() == "one\n"
    receiver.send_signal(signal.SIGKILL)
    receiver.communicate()
    assert any(each.name.startswith(".process-") for each in (tmp_path / "name").iterdir())

    async def receive(topics: FilesystemTopics) -> None:
        subscription = await topics.subscribe("topic")
        assert await drained(subscription) == [b"two", b"three"]
        await subscription.close()

    run(tmp_path, receive)
    assert files(tmp_path) == ["name"]


def test_a_message_that_is_being_written_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        subscription = await topics.subscribe("topic")
        half_written = topics._shared.name.write(b"half")
        assert await subscription.receive(0.3) is None
        os.unlink(half_written)

    run(tmp_path, scenario)


def test_names_that_nobody_has_open_are_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        backend = FilesystemBackend({"DIRECTORY": str(tmp_path)})
        kept = await (await backend.open("kept")).subscribe("topic")
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(100):
            topics = await backend.open(f"name {number}")
            subscription = await topics.subscribe("topic")
            await subscription.close()
            del topics, subscription
        gc.collect()
        assert len(backend._names) == 1
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert files(tmp_path / "name%201") == []
        await kept.close()
        await backend.close()

    asyncio.run(main())


def test_a_full_topic_takes_no_message_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        monkeypatch.setattr(filesystem, "TOPIC_MESSAGES", 2)
        await topics.publish(b"1", "topic")
        await topics.publish(b"2", "topic")
        with pytest.raises(DeliveryFailed, match="it holds 2 messages"):
            await topics.publish(b"3", "topic")
        monkeypatch.setattr(filesystem, "TOPIC_BYTES", 10)
        await topics.publish(bytes(9), "other")
        with pytest.raises(DeliveryFailed, match="it holds 10 bytes at most"):
            await topics.publish(bytes(2), "other")
        monkeypatch.setattr(filesystem, "TOPICS", 2)
        with pytest.raises(DeliveryFailed, match="there are 2 topics"):
            await topics.publish(b"", "third")
        with pytest.raises(DeliveryFailed, match="there are 2 topics"):
            await topics.subscribe("third")

    run(tmp_path, scenario)
    assert files(tmp_path) == ["name", *(f"name/{each}" for each in ("other", "other/1.9.new"))] + [
        f"name/{each}" for each in ("topic", "topic/1.1.new", "topic/2.1.new")
    ]


def test_a_name_that_another_process_keeps_locked_is_unavailable_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        await topics.publish(b"before", "topic")
        lock = os.open(tmp_path / "name/.lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(filesystem, "LOCK_SECONDS", 0.2)
        with pytest.raises(Unavailable) as error:
            await topics.publish(b"", "topic")
        assert str(tmp_path) in (error.value.notice or "")
        assert str(tmp_path) not in str(error.value)
        os.close(lock)
        monkeypatch.undo()
        await topics.publish(b"after", "topic")
        assert await drained(await topics.subscribe("topic")) == [b"before", b"after"]

    run(tmp_path, scenario)


def test_a_subscription_whose_files_are_removed_says_so(tmp_path: Path) -> None:
    async def scenario(topics: FilesystemTopics) -> None:
        subscription = await topics.subscribe("topic")
        for each in (tmp_path / "name/topic").iterdir():
            each.unlink()
        with pytest.raises(ConnectionLost):
            await subscription.receive(5)
        await subscription.close()

    run(tmp_path, scenario)


def test_a_directory_that_can_not_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def scenario(topics: FilesystemTopics) -> None:
        for call in (topics.publish(b"", "topic"), topics.subscribe("topic")):
            with pytest.raises(Unavailable) as error:
                await call
            assert "give another DIRECTORY" in (error.value.notice or "")

    run(tmp_path / "file" / "messages", scenario)


def test_without_a_directory_messages_are_in_the_users_own_in_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def main() -> None:
        backend = FilesystemBackend({})
        await (await backend.open("name")).publish(b"message", "topic")
        own = tmp_path / f"slight-messages-{os.geteuid()}"
        assert own.stat().st_mode & 0o777 == 0o700
        assert (own / "name/topic/1.7.new").stat().st_mode & 0o777 == 0o600
        own.chmod(0o777)
        with pytest.raises(Unavailable, match="not the user's own"):
            await (await backend.open("name")).publish(b"message", "topic")
        own.rename(tmp_path / "other")
        own.symlink_to(tmp_path / "other")
        with pytest.raises(Unavailable, match="not the user's own"):
            await (await backend.open("name")).publish(b"message", "topic")
        await backend.close()

    asyncio.run(main())


@pytest.mark.parametrize("directory", ["", "a\0b"])
def test_a_directory_that_is_no_path_is_a_mistake(directory: str) -> None:
    with pytest.raises(ConfigError):
        FilesystemBackend({"DIRECTORY": directory})
