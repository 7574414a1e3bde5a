"""`distributed_locking.etcd`: locks in etcd, from version 3.4 on, through the gateway that speaks JSON over HTTP.

Whoever wants a lock puts a key NAME/LEASE, and has the lock when no key that begins with NAME/ was made before it;
until then it watches the one that was made right before it. That is the algorithm of etcd's own clients
(`clientv3/concurrency`), so `etcdctl lock` takes part. etcd's lock service (`v3lock`) does the same in the server, but
blocks for ever once many calls were cancelled at a time (seen with 3.4.23; etcd's issues 13336 and 20716).

Each key belongs to a lease of its own, which is kept alive for as long as the lock is held or waited for: where this
process dies, its locks are free LEASE_SECONDS later.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import strerror
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import aiohttp

from capabilities.errors import ConfigError
from capabilities.locking import (
    WAIT_SECONDS,
    LockError,
    NotAcquired,
    NotReleased,
    ProtocolFault,
    Unreachable,
    timed_out,
)
from capabilities.locking.keys import Keys

LEASE_SECONDS = 10
"""How long a lease lasts that nobody keeps alive."""

KEEP_SECONDS = 3.0
"""How often a lease is kept alive."""

CALL_SECONDS = 5.0
"""How long etcd may take for an answer."""

WATCH_SECONDS = 10.0
"""How long a watch may say nothing before it is asked whether it has missed something."""

WATCH_PAUSE = 0.2
"""How long to wait at least, in seconds, before asking again where a watch ends by itself."""

WAITING_LIMIT = 1_000
"""How many locks a process waits for at once: each takes a connection."""

# Codes of gRPC that etcd's answers have.
_INVALID_ARGUMENT, _NOT_FOUND, _PERMISSION_DENIED, _FAILED_PRECONDITION, _UNAUTHENTICATED = 3, 5, 7, 9, 16


@dataclass(slots=True, eq=False)
class _Lease:
    """A lease, and the lock that belongs to it."""

    number: int
    keeper: asyncio.Task[None] | None = None
    """Keeps it alive."""
    timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """From now on nobody keeps it alive."""
        if self.keeper is not None:
            self.keeper.cancel()
        if self.timer is not None:
            self.timer.cancel()


class EtcdBackend:
    """Locks in the etcd at ETCD_ENDPOINT: one address `HOST:PORT` or several, separated by commas, of one cluster."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("ETCD_ENDPOINT",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ("ETCD_USER", "ETCD_PASSWORD", "ETCD_CACERT", "ETCD_CERT", "ETCD_KEY")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._gateway = _Gateway(configs)
        self._keys: Keys[_Lease] = Keys()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def lock(self, session: int, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Raises LockError."""
        self._keys.check(session)
        if self._waiting >= WAITING_LIMIT:
            raise NotAcquired(f"{WAITING_LIMIT} locks are waited for already, and no more may be")
        lease = _Lease(1 + secrets.randbelow(2**62))
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._acquire(lease, etcd_name(name, lock))
        except BaseException as error:
            lease.stop()
            self._begin(self._revoke(lease))
            if isinstance(error, TimeoutError):
                raise timed_out() from None
            raise
        finally:
            self._waiting -= 1
        key = self._keys.add(session, name, lease)
        if seconds is not None:
            lease.timer = asyncio.get_running_loop().call_later(seconds, self._expire, key)
        return key

    async def unlock(self, session: int, name: str, key: bytes) -> None:
        """Raises LockError. Where etcd can't be reached, the lock is free when its lease runs out."""
        lease = self._keys.find(session, name, key)
        lease.stop()
        existed = await self._gateway.revoke(lease.number)
        with suppress(KeyError):  # it was given back by itself meanwhile
            self._keys.remove(key)
        if not existed:
            raise NotReleased("the lock was lost before: etcd could not be reached for too long")

    async def end(self, session: int) -> None:
        leases = [self._keys.remove(key) for key in self._keys.of(session)]
        for lease in leases:
            lease.stop()
        await asyncio.gather(*map(self._revoke, leases))

    async def close(self) -> None:
        for session in self._keys.sessions():
            await self.end(session)  # type: ignore[arg-type]  # they are numbers
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._gateway.close()

    async def _acquire(self, lease: _Lease, name: bytes) -> None:
        """Waits for the lock. Raises LockError."""
        await self._gateway.grant(lease.number)
        lease.keeper = asyncio.create_task(self._keep(lease))
        waiting = asyncio.create_task(self._wait(name + b"/", lease))
        try:
            await asyncio.wait({waiting, lease.keeper}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise _lost_place()
            await waiting
        finally:
            waiting.cancel()
        # Nobody is ahead of one whose lease has run out, either.
        if not await self._gateway.keep_alive(lease.number):
            raise _lost_place()

    async def _wait(self, prefix: bytes, lease: _Lease) -> None:
        """Queues up, and returns when nobody is ahead any more. Raises LockError."""
        key = prefix + f"{lease.number:x}".encode()
        place = await self._gateway.queue_up(key, lease.number)
        while True:
            ahead, revision = await self._gateway.ahead(prefix, place)
            if ahead is None:
                return
            await self._gateway.watch(ahead, revision + 1)

    async def _keep(self, lease: _Lease) -> None:
        """Keeps a lease alive. Returns when it's lost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEASE_SECONDS
        while loop.time() < deadline:
            await asyncio.sleep(KEEP_SECONDS)
            asked = loop.time()
            with suppress(LockError):
                if not await self._gateway.keep_alive(lease.number):
                    break
                deadline = asked + LEASE_SECONDS

    def _expire(self, key: bytes) -> None:
        """Gives back a lock whose time is up."""
        lease = self._keys.remove(key)
        lease.stop()
        self._begin(self._revoke(lease))

    async def _revoke(self, lease: _Lease) -> None:
        """Ends a lease, and with it whatever there is of its lock. It runs out where that fails."""
        with suppress(LockError):
            await self._gateway.revoke(lease.number)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def etcd_name(name: str, lock: bytes) -> bytes:
    """What etcd calls a lock: SET/LOCK, percent-encoded as in a URL.

    The keys for it begin with its name and a slash: another slash in a name would put one lock in the way of another.
    """
    return f"{quote(name, safe='')}/{quote(lock, safe='')}".encode()


# etcd's gateway.


class _Refused(Exception):
    """etcd answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Gateway:
    """etcd's API for JSON: etcd's manual, "gRPC gateway". It holds a password: nothing prints it."""

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._files = {key: configs[key] for key in ("ETCD_CACERT", "ETCD_CERT", "ETCD_KEY") if configs.get(key)}
        if "ETCD_CERT" in self._files and "ETCD_KEY" not in self._files:
            raise ConfigError("ETCD_CERT needs ETCD_KEY, the file of its private key", "ETCD_KEY")
        if "ETCD_KEY" in self._files and "ETCD_CERT" not in self._files:
            raise ConfigError("ETCD_KEY needs ETCD_CERT, the file of its certificate", "ETCD_CERT")
        self._endpoints = parse_endpoints(configs.get("ETCD_ENDPOINT", ""), "https" if self._files else "http")
        self._user, self._password = configs.get("ETCD_USER"), configs.get("ETCD_PASSWORD", "")
        if self._password and not self._user:
            raise ConfigError("ETCD_PASSWORD needs ETCD_USER, the user whose password it is", "ETCD_USER")
        self.place = ", ".join(each.partition("://")[2] for each in self._endpoints)
        """For the user."""
        self._token: str | None = None
        self._client: aiohttp.ClientSession | None = None
        self._making = asyncio.Lock()

    async def grant(self, lease: int) -> None:
        try:
            await self._call("lease/grant", {"ID": str(lease), "TTL": LEASE_SECONDS})
        except _Refused as error:
            if error.code != _FAILED_PRECONDITION:  # it exists: the answer to a first attempt was lost
                raise self._describe(error) from None

    async def queue_up(self, key: bytes, lease: int) -> int:
        """Makes a key, unless it's there; returns the revision in which it was made."""
        made = {"key": _base64(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        put = {"request_put": {"key": _base64(key), "lease": str(lease)}}
        body = {"compare": [made], "success": [put], "failure": [{"request_range": {"key": _base64(key)}}]}
        answer = await self._described("kv/txn", body)
        if answer.get("succeeded"):
            return int(answer["header"]["revision"])
        return int(answer["responses"][0]["response_range"]["kvs"][0]["create_revision"])

    async def ahead(self, prefix: bytes, revision: int) -> tuple[bytes | None, int]:
        """The last key with a prefix that was made before a revision, and the revision of this answer."""
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        body = {"key": _base64(prefix), "range_end": _base64(end), "max_create_revision": str(revision - 1)}
        body |= {"sort_order": "DESCEND", "sort_target": "CREATE", "limit": "1"}
        answer = await self._described("kv/range", {**body, "keys_only": True})
        found = answer.get("kvs", ())
        return base64.b64decode(found[0]["key"]) if found else None, int(answer["header"]["revision"])

    async def watch(self, key: bytes, revision: int) -> None:
        """Returns when a key was removed in that revision or later; or after WATCH_SECONDS; or when the watch ends."""
        body = {"create_request": {"key": _base64(key), "start_revision": str(revision), "filters": ["NOPUT"]}}
        client = await self._made()
        headers = {} if self._token is None else {"Authorization": self._token}
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
            async with (
                asyncio.timeout(WATCH_SECONDS),
                client.post(f"{self._endpoints[0]}/v3/watch", json=body, headers=headers) as response,
            ):
                async for line in response.content:
                    result = json.loads(line).get("result", {})
                    if result.get("events"):
                        return
                    if result.get("canceled") or not result:
                        break
        # Whoever asks again at once where etcd does not watch would do nothing else.
        await asyncio.sleep(max(0.0, began + WATCH_PAUSE - asyncio.get_running_loop().time()))

    async def keep_alive(self, lease: int) -> bool:
        """Whether it's alive."""
        answer = await self._described("lease/keepalive", {"ID": str(lease)})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    async def revoke(self, lease: int) -> bool:
        """Whether it was there to be revoked."""
        try:
            await self._call("lease/revoke", {"ID": str(lease)})
        except _Refused as error:
            if error.code == _NOT_FOUND:
                return False
            raise self._describe(error) from None
        return True

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _described(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer, as a mapping. Raises LockError."""
        try:
            return await self._call(path, body)
        except _Refused as error:
            raise self._describe(error) from None

    async def _call(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer, as a mapping. Raises _Refused and LockError."""
        try:
            return await self._authorized(path, body)
        except _Refused as error:
            if error.code != _UNAUTHENTICATED or self._user is None:
                raise
        self._token = None  # tokens end, and with etcd all that are simple
        return await self._authorized(path, body)

    async def _authorized(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {}
        if self._user is not None:
            headers["Authorization"] = self._token or await self._authenticate()
        return await self._post(path, body, headers)

    async def _authenticate(self) -> str:
        try:
            body = {"name": self._user, "password": self._password}
            answer = await self._post("auth/authenticate", body, {})
        except _Refused as error:
            if error.code == _FAILED_PRECONDITION:
                raise self._away(
                    "etcd has no users: authentication is off", "take ETCD_USER out, or turn it on"
                ) from None
            raise self._away("it refuses the user or the password", "correct ETCD_USER and ETCD_PASSWORD") from None
        self._token = str(answer.get("token", ""))
        return self._token

    async def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """Asks one endpoint after the other until one answers, beginning with the last one that did.

        Raises _Refused and LockError.
        """
        client = await self._made()
        problem = ""
        for endpoint in list(self._endpoints):
            try:
                status, answer = await _ask(client, f"{endpoint}/v3/{path}", body, headers)
            except _Away as error:
                problem = str(error)
                continue
            self._endpoints.remove(endpoint)
            self._endpoints.insert(0, endpoint)
            if status != 200:
                raise _Refused(int(answer.get("code", 0)), str(answer.get("error", "")))
            return answer
        raise self._away(problem, "start it, or correct ETCD_ENDPOINT")

    async def _made(self) -> aiohttp.ClientSession:
        """The client, made when it's needed first."""
        async with self._making:
            if self._client is None:
                context = await asyncio.to_thread(self._tls) if self._endpoints[0].startswith("https") else True
                connector = aiohttp.TCPConnector(limit=0, ssl=context)
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS)
                self._client = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self._client

    def _tls(self) -> ssl.SSLContext:
        """Reads files. Raises LockError."""
        try:
            context = ssl.create_default_context(cafile=self._files.get("ETCD_CACERT"))
            if "ETCD_CERT" in self._files:
                context.load_cert_chain(self._files["ETCD_CERT"], self._files["ETCD_KEY"])
        except OSError:
            raise self._away("the files for TLS can't be used", f"correct {', '.join(self._files)}") from None
        return context

    def _away(self, why: str, mend: str) -> Unreachable:
        return Unreachable(f"etcd can't be used: {why}", f"distributed_locking.etcd {self.place}: {why}; {mend}")

    def _describe(self, error: _Refused) -> LockError:
        if error.code == _PERMISSION_DENIED:
            notice = (
                f"distributed_locking.etcd {self.place}: it does not allow its user these keys; give the user a role"
            )
            return NotAcquired("etcd does not allow this lock", notice)
        if error.code in (_UNAUTHENTICATED, _INVALID_ARGUMENT):
            return self._away("it wants a user and a password", "give ETCD_USER and ETCD_PASSWORD")
        if error.code == _NOT_FOUND:
            return _lost_place()
        notice = f"distributed_locking.etcd {self.place}: {error}"
        return ProtocolFault(f"etcd answered with the error {error.code}", notice)


class _Away(Exception):
    """An endpoint gave no answer, and why."""


async def _ask(
    client: aiohttp.ClientSession, url: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[int, Any]:
    """The status and the body of an answer. Raises _Away and ProtocolFault.

    Where the connection breaks, it asks once more: an idle one may have been closed, and whatever is asked of etcd here
    may be asked twice.
    """
    for is_last in (False, True):
        try:
            async with asyncio.timeout(CALL_SECONDS), client.post(url, json=body, headers=headers) as response:
                return response.status, _parse(await response.read())
        except TimeoutError:
            raise _Away("no answer in time") from None
        except aiohttp.ClientConnectorError as error:
            raise _Away(_reason(error)) from None
        except (aiohttp.ClientError, OSError):
            if is_last:
                raise _Away("the connection broke") from None
    raise AssertionError("it has returned")


def _lost_place() -> Unreachable:
    return Unreachable("etcd could not be reached for so long that the place in the queue was lost")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _parse(data: bytes) -> dict[str, Any]:
    """Raises ProtocolFault."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ProtocolFault("what answers at ETCD_ENDPOINT is not an etcd of version 3.4 or later")
    return answer


def _reason(error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted"
        case aiohttp.ClientSSLError():
            return "it does not speak TLS"
        case aiohttp.ClientConnectorDNSError():
            return "its name can't be resolved"
    number = error.os_error.errno
    return strerror(number).lower() if number else "it can't be reached"


def parse_endpoints(text: str, scheme: str) -> list[str]:
    """The addresses, as URLs without a path; with `scheme` where they have none. Raises ConfigError."""
    endpoints = []
    for each in filter(None, map(str.strip, text.split(","))):
        url = each if "://" in each else f"{scheme}://{each}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query:
            raise _bad_endpoint("write HOST:PORT, http://HOST:PORT or https://HOST:PORT, and commas between several")
        if parts.username is not None:
            raise _bad_endpoint("the user and the password belong into ETCD_USER and ETCD_PASSWORD")
        shown = f"[{host}]" if ":" in host else host
        endpoints.append(f"{parts.scheme}://{shown}:{port}")
    if not endpoints:
        raise _bad_endpoint("it is empty")
    if len({each.partition(":")[0] for each in endpoints}) > 1:
        raise _bad_endpoint("some have TLS and some have not")
    return list(dict.fromkeys(endpoints))


def _bad_endpoint(reason: str) -> ConfigError:
    return ConfigError(f"ETCD_ENDPOINT is not the address of an etcd: {reason}", "ETCD_ENDPOINT")
