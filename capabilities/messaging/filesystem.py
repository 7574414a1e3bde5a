"""`messaging.filesystem`: a directory for each name, a directory in it for each topic, a file for each message.

    NAME/.lock                      locked by whoever changes anything below, for a moment
    NAME/.process-ID                locked by a process for as long as it has subscriptions
    NAME/.message-RANDOM            a message that is being written
    NAME/TOPIC/NUMBER.SIZE.new      a message that nobody has received yet; numbers rise
    NAME/TOPIC/NUMBER.SIZE.old      one that somebody has received, and somebody else has not
    NAME/TOPIC/ID.RANDOM.NUMBER     a subscription of a process, and the number of the message that it receives next

The names of the files say all that there is to know. To change it is to rename or to remove a file, which is done or
not done when a process dies. Subscriptions of processes that have ended are removed by whoever comes by.

The first subscription of a topic begins with what nobody has received, any other one with what is published next.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from capabilities.errors import ConfigError
from capabilities.keyvalue.filesystem import file_name
from capabilities.messaging import ConnectionLost, DeliveryFailed, Unavailable
from capabilities.messaging.receiving import Receiving

P = ParamSpec("P")
T = TypeVar("T")

TOPIC_BYTES = 256 * 1024 * 1024
"""Bytes of messages that a topic holds at most."""

TOPIC_MESSAGES = 10_000
"""How many messages a topic holds at most."""

TOPICS = 1_000
"""How many topics of a name hold messages or have subscriptions."""

LOCK_SECONDS = 10.0
"""How long a change waits for its turn."""

LOCK_PAUSE = 0.005
"""Seconds between two attempts to lock a name."""

FASTEST, SLOWEST = 0.02, 0.5
"""Seconds between two looks for messages of other processes: the time doubles while nothing comes. Messages of this
process are looked for at once."""

_MESSAGE = re.compile(r"(\d+)\.(\d+)\.(new|old)")
_SUBSCRIPTION = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})\.(\d+)")
_PROCESS = ".process-"


class FilesystemBackend:
    """Topics under the directory DIRECTORY, or else in one of the user's own under the system's temporary directory.

    DIRECTORY may be relative to the directory that the process was started in; it is made when it is used first.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("DIRECTORY",)

    __slots__ = ("_directory", "_is_temporary", "_names")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        directory = configs.get("DIRECTORY")
        self._is_temporary = directory is None
        if directory is None:
            directory = f"{os.environ.get('TMPDIR') or '/tmp'}/slight-messages-{os.geteuid()}"
        elif not directory or "\0" in directory:
            raise ConfigError("DIRECTORY is not a path: give the directory that messages are kept in", "DIRECTORY")
        self._directory = os.path.abspath(directory)
        # Guests choose names: one is forgotten when nobody has it open any more.
        self._names: WeakValueDictionary[str, _Shared] = WeakValueDictionary()

    async def open(self, name: str) -> FilesystemTopics:
        path = os.path.join(self._directory, file_name(name))
        shared = self._names.get(path)
        if shared is None:
            shared = self._names[path] = _Shared(_Name(path, self._is_temporary))
        return FilesystemTopics(shared)

    async def close(self) -> None:
        for shared in list(self._names.values()):
            await asyncio.to_thread(shared.name.close)
        self._names.clear()


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Shared:
    """What all topics and subscriptions of one name have in common, on the event loop."""

    name: _Name
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One thread of this process waits for the lock of the name, and not all of them."""
    waiting: dict[str, set[asyncio.Event]] = field(default_factory=dict)
    """By topic, what to set when this process publishes."""

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of the name returns, which changes files. Raises MessagingError."""

        def locked() -> T:
            with self.name.lock():
                return function(*args, **kwargs)

        try:
            async with asyncio.timeout(LOCK_SECONDS):
                await self.turn.acquire()
        except TimeoutError:
            raise self.name.busy() from None
        try:
            return await self.read(locked)
        finally:
            self.turn.release()

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of the name returns, which changes nothing. Raises MessagingError."""
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except OSError as error:
            raise self.name.failure(error) from None


class FilesystemTopics:
    """The topics of one name."""

    __slots__ = ("_shared",)

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    async def publish(self, message: bytes, topic: str) -> None:
        """Raises MessagingError."""
        name = self._shared.name
        written = await self._shared.read(name.write, message)
        await self._shared.change(name.publish, file_name(topic), written, len(message))
        for arrived in self._shared.waiting.get(file_name(topic), ()):
            arrived.set()

    async def subscribe(self, topic: str) -> FilesystemSubscription:
        """Raises MessagingError."""
        mine = await self._shared.change(self._shared.name.subscribe, file_name(topic))
        return FilesystemSubscription(self._shared, mine)


class FilesystemSubscription:
    """One subscription of this process."""

    __slots__ = ("_arrived", "_found", "_marking", "_mine", "_receiving", "_shared")

    def __init__(self, shared: _Shared, mine: _Mine) -> None:
        self._shared = shared
        self._mine = mine
        self._arrived = asyncio.Event()
        self._receiving = Receiving(self._look)
        self._found = b""
        self._marking: asyncio.Task[None] | None = None
        """Has the message that was found count as received, and goes on where `receive` is cancelled."""
        shared.waiting.setdefault(mine.topic, set()).add(self._arrived)

    async def receive(self, seconds: float) -> bytes | None:
        """Raises MessagingError."""
        if self._marking is None:
            found = await self._receiving.next(seconds)
            if found is None:
                return None
            self._found = found
            self._marking = asyncio.create_task(self._shared.change(self._shared.name.received, self._mine))
        await asyncio.wait({self._marking})
        marking, self._marking = self._marking, None
        marking.result()
        return self._found

    async def _look(self) -> bytes:
        """The next message, once it is there."""
        delay = FASTEST
        while True:
            self._arrived.clear()
            found = await self._shared.read(self._shared.name.look, self._mine)
            if found is not None:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._arrived.wait()
            delay = min(2 * delay, SLOWEST)

    async def close(self) -> None:
        await self._receiving.cancel()
        if self._marking is not None:
            await asyncio.wait({self._marking})
        waiting = self._shared.waiting[self._mine.topic]
        waiting.discard(self._arrived)
        if not waiting:
            del self._shared.waiting[self._mine.topic]
        await self._shared.change(self._shared.name.unsubscribe, self._mine)


# Files. All that follows is run in threads; what changes files is run with the name locked.


class _Message(NamedTuple):
    number: int
    size: int
    is_new: bool

    @property
    def file(self) -> str:
        return f"{self.number}.{self.size}.{'new' if self.is_new else 'old'}"


class _Subscription(NamedTuple):
    process: str
    id: str
    position: int
    """The number of the message that it receives next."""

    @property
    def file(self) -> str:
        return f"{self.process}.{self.id}.{self.position}"


@dataclass(slots=True)
class _Mine:
    """A subscription of this process."""

    topic: str
    entry: _Subscription
    found: _Message | None = None
    """What was looked at last."""


@dataclass(slots=True)
class _Topic:
    """What is in the directory of a topic."""

    path: str
    messages: list[_Message]
    """By their numbers."""
    subscriptions: list[_Subscription]

    @property
    def next(self) -> int:
        """The number of the message that is published next."""
        return max((1, *(each.position for each in self.subscriptions), *(each.number + 1 for each in self.messages)))


class _Name:
    """The directory of a name."""

    def __init__(self, path: str, is_temporary: bool) -> None:
        """`is_temporary` is whether it's in the system's temporary directory, where others may make directories."""
        self._path = path
        self._is_temporary = is_temporary
        self._process: tuple[str, int] | None = None
        """What this process is called in the files of its subscriptions, and the descriptor of its own file: for as
        long as it has any."""
        self._subscriptions = 0

    def failure(self, error: OSError) -> Unavailable:
        reason = os.strerror(error.errno) if error.errno else str(error)
        notice = f"messaging.filesystem {self._path}: {reason}; see to the directory, or give another DIRECTORY"
        return Unavailable(f"the files of messages can't be used: {reason}", notice)

    def busy(self) -> Unavailable:
        return Unavailable(
            f"the files of messages are in use, for more than {LOCK_SECONDS:g} seconds",
            f"messaging.filesystem {self._path}: another process has it locked for more than {LOCK_SECONDS:g} seconds; "
            "end that process",
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from changing anything. Raises Unavailable, OSError."""
        self._make()
        descriptor = os.open(self._of(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise self.busy()
                time.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def write(self, message: bytes) -> str:
        """Writes a message where nobody sees it; returns the path of the file."""
        self._make()
        path = self._of(f".message-{secrets.token_hex(8)}")
        try:
            with open(path, "xb", opener=_private) as file:
                file.write(message)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
        return path

    def publish(self, name: str, written: str, size: int) -> None:
        """Has a message that is written be the last one of a topic. Raises DeliveryFailed where the topic is full."""
        try:
            topic = self._topic(name)
            if topic is None:
                topic = self._new_topic(name)
            if len(topic.messages) >= TOPIC_MESSAGES:
                raise DeliveryFailed(f"the topic is full: it holds {TOPIC_MESSAGES} messages")
            if topic.messages and sum(each.size for each in topic.messages) + size > TOPIC_BYTES:
                raise DeliveryFailed(f"the topic is full: it holds {TOPIC_BYTES} bytes at most")
            os.rename(written, os.path.join(topic.path, _Message(topic.next, size, True).file))
        except BaseException:
            os.unlink(written)
            raise

    def subscribe(self, name: str) -> _Mine:
        if self._process is None:
            self._process = self._new_process()
        topic = self._topic(name)
        if topic is None:
            topic = self._new_topic(name)
        left = [each.number for each in topic.messages if each.is_new and not topic.subscriptions]
        entry = _Subscription(self._process[0], secrets.token_hex(8), min(left, default=topic.next))
        with open(os.path.join(topic.path, entry.file), "xb", opener=_private):
            self._subscriptions += 1
            return _Mine(name, entry)

    def look(self, mine: _Mine) -> bytes | None:
        """The message that a subscription receives next; None where there is none yet. Raises ConnectionLost."""
        path = self._of(mine.topic)
        topic = _read(path)
        if topic is None or mine.entry not in topic.subscriptions:
            raise self._removed()
        mine.found = next((each for each in topic.messages if each.number >= mine.entry.position), None)
        if mine.found is None:
            return None
        try:
            with open(os.path.join(path, mine.found.file), "rb") as file:
                return file.read()
        except FileNotFoundError:  # somebody else has just received it first, so its name is another
            with open(os.path.join(path, mine.found._replace(is_new=False).file), "rb") as file:
                return file.read()

    def received(self, mine: _Mine) -> None:
        """Has the message that was looked at count as received. Raises ConnectionLost."""
        topic = self._topic(mine.topic)
        assert mine.found is not None
        if topic is None or mine.entry not in topic.subscriptions:
            raise self._removed()
        topic.subscriptions.remove(mine.entry)
        moved = mine.entry._replace(position=mine.found.number + 1)
        if mine.found._replace(is_new=True) in topic.messages:
            new, old = mine.found._replace(is_new=True), mine.found._replace(is_new=False)
            os.rename(os.path.join(topic.path, new.file), os.path.join(topic.path, old.file))
            topic.messages[topic.messages.index(new)] = old
        os.rename(os.path.join(topic.path, mine.entry.file), os.path.join(topic.path, moved.file))
        topic.subscriptions.append(moved)
        mine.entry = moved
        _tidy(topic)

    def unsubscribe(self, mine: _Mine) -> None:
        topic = self._topic(mine.topic)
        if topic is not None and mine.entry in topic.subscriptions:
            os.unlink(os.path.join(topic.path, mine.entry.file))
            topic.subscriptions.remove(mine.entry)
            _tidy(topic)
        self._subscriptions -= 1
        if not self._subscriptions:
            self.close()

    def close(self) -> None:
        """Gives up what this process is called: whatever subscriptions it still has are dead."""
        if self._process is not None:
            process, descriptor = self._process
            self._process = None
            with suppress(OSError):
                os.unlink(self._of(_PROCESS + process))
            os.close(descriptor)

    def _of(self, name: str) -> str:
        return os.path.join(self._path, name)

    def _make(self) -> None:
        """Raises PermissionError where a directory in the temporary directory isn't the user's own."""
        parent = os.path.dirname(self._path)
        os.makedirs(parent, mode=0o700, exist_ok=True)
        if self._is_temporary:
            status = os.lstat(parent)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PermissionError("the directory in the temporary directory is not the user's own")
        with suppress(FileExistsError):
            os.mkdir(self._path, 0o700)

    def _new_process(self) -> tuple[str, int]:
        process = secrets.token_hex(8)
        descriptor = os.open(self._of(_PROCESS + process), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        assert _locked(descriptor)
        for name in os.listdir(self._path):  # those that died without any subscription
            if name.startswith(_PROCESS) and name != _PROCESS + process:
                self._is_alive(name.removeprefix(_PROCESS))
        return process, descriptor

    def _is_alive(self, process: str) -> bool:
        """Whether a process has not ended. The file of one that has is removed."""
        if self._process is not None and process == self._process[0]:
            return True
        path = self._of(_PROCESS + process)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if not _locked(descriptor):
                return True
            os.unlink(path)
            return False
        finally:
            os.close(descriptor)

    def _topic(self, name: str) -> _Topic | None:
        """What is in a topic, without the subscriptions of processes that have ended; None where there is none."""
        topic = _read(self._of(name))
        if topic is None:
            return None
        alive = {process: self._is_alive(process) for process in {each.process for each in topic.subscriptions}}
        dead = [each for each in topic.subscriptions if not alive[each.process]]
        for each in dead:
            os.unlink(os.path.join(topic.path, each.file))
            topic.subscriptions.remove(each)
        if dead:
            _tidy(topic)
        return topic if os.path.isdir(topic.path) else None

    def _new_topic(self, name: str) -> _Topic:
        """Raises DeliveryFailed where there are too many."""
        if sum(not each.startswith(".") for each in os.listdir(self._path)) >= TOPICS:
            raise DeliveryFailed(f"there are {TOPICS} topics with messages or subscriptions, and may be no more")
        os.mkdir(self._of(name), 0o700)
        return _Topic(self._of(name), [], [])

    def _removed(self) -> ConnectionLost:
        return ConnectionLost(
            "the files of the subscription were removed",
            f"messaging.filesystem {self._path}: files of subscriptions were removed while they were in use; leave the "
            "directory alone while modules run",
        )


def _read(path: str) -> _Topic | None:
    """What is in the directory of a topic; None where there is no directory."""
    messages, subscriptions = [], []
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return None
    for name in names:
        if found := _MESSAGE.fullmatch(name):
            messages.append(_Message(int(found[1]), int(found[2]), found[3] == "new"))
        elif found := _SUBSCRIPTION.fullmatch(name):
            subscriptions.append(_Subscription(found[1], found[2], int(found[3])))
    return _Topic(path, sorted(messages), subscriptions)


def _tidy(topic: _Topic) -> None:
    """Removes the messages that nobody waits for any more, and a topic that has nothing left."""
    awaited = min((each.position for each in topic.subscriptions), default=topic.next)
    for message in [each for each in topic.messages if not each.is_new and each.number < awaited]:
        os.unlink(os.path.join(topic.path, message.file))
        topic.messages.remove(message)
    if not topic.messages and not topic.subscriptions:
        with suppress(OSError):  # something of somebody else's is in it
            os.rmdir(topic.path)


def _locked(descriptor: int) -> bool:
    """Locks a file, unless another process has it locked: whether it did."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
