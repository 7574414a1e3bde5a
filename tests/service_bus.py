"""A stand-in for Azure Service Bus, which can't be had here: `async with ServiceBus() as bus: ... bus.configs ...`.

It is written from Microsoft's public documents, "Service Bus Runtime REST" and "Service Bus access control with Shared
Access Signatures", and shares no code with what it tests. It checks what goes over the wire: the signature, its expiry
and what it is for, methods, paths, headers. What the real service does besides, it can't show.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
import urllib.parse
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from tests.servers import HOST, free_port

POLICY, KEY = "RootManage+SharedAccess/Key", "c2VjcmV0IGtleQ=="

LARGEST = 256 * 1024
"""The largest message, in bytes: that of the Standard tier."""


@dataclass(eq=False)
class Message:
    body: bytes
    number: int
    lock: str = ""
    locked_until: float = 0.0
    deliveries: int = 0


@dataclass
class Queue:
    messages: list[Message] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class ServiceBus:
    """Has the queues of `queues`, or any queue that it is asked for where that is None."""

    def __init__(self, queues: tuple[str, ...] | None = None, lock_seconds: float = 30.0) -> None:
        self.port = free_port()
        self.lock_seconds = lock_seconds
        self.queues: defaultdict[str, Queue] = defaultdict(Queue)
        self.requests: list[str] = []
        """The method and the path of each request that was let in."""
        self.fail_next: list[int | str] = []
        """What to answer to the next requests instead: a status, or `lost` for no answer to what is done all the
        same, or `slow` for no answer at all."""
        self._known = None if queues is None else {name.lower() for name in queues}
        self._numbers = 0
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def configs(self) -> dict[str, str]:
        """The configs of a slightfile that reach it."""
        return {
            "AZURE_SERVICE_BUS_NAMESPACE": "tests",
            "AZURE_SERVICE_BUS_ENDPOINT": self.address,
            "AZURE_POLICY_NAME": POLICY,
            "AZURE_POLICY_KEY": KEY,
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not self._is_signed(request):
            return web.Response(status=401, text="<Error><Code>401</Code></Error>")
        self.requests.append(f"{request.method} {request.path_qs}")
        fault = self.fail_next.pop(0) if self.fail_next else None
        if isinstance(fault, int):
            return web.Response(status=fault)
        if fault == "slow":
            await asyncio.sleep(60)
        answer = await self._act(request)
        if fault == "lost" and request.transport is not None:
            request.transport.abort()
        return answer

    def _is_signed(self, request: web.Request) -> bool:
        """Whether the signature is right, for this address or what it lies under, and not over."""
        kind, _, rest = request.headers.get("Authorization", "").partition(" ")
        fields = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
        if kind != "SharedAccessSignature" or fields.keys() != {"sr", "sig", "se", "skn"}:
            return False
        expected = hmac.new(KEY.encode(), f"{fields['sr']}\n{fields['se']}".encode(), hashlib.sha256).digest()
        resource = urllib.parse.unquote(fields["sr"])
        address = f"{self.address}{request.path}".lower()
        return (
            urllib.parse.unquote(fields["skn"]) == POLICY
            and base64.b64decode(urllib.parse.unquote(fields["sig"])) == expected
            and time.time() < int(fields["se"]) < time.time() + 3600
            and (address == resource or address.startswith(resource + "/"))
        )

    async def _act(self, request: web.Request) -> web.Response:
        queue_name, _, rest = request.path.removeprefix("/").rpartition("/messages")
        if not queue_name or (self._known is not None and queue_name.lower() not in self._known):
            return web.Response(status=410)
        queue = self.queues[queue_name.lower()]
        match request.method, rest.split("/"):
            case "POST", [""]:
                return await self._send(request, queue)
            case "POST", ["", "head"]:
                return await self._lock(queue, float(request.query["timeout"]), request)
            case "DELETE", ["", number, lock]:
                return await self._settle(queue, int(number), lock, remove=True)
            case "PUT", ["", number, lock]:
                return await self._settle(queue, int(number), lock, remove=False)
        return web.Response(status=400)

    async def _send(self, request: web.Request, queue: Queue) -> web.Response:
        body = await request.read()
        if len(body) > LARGEST:
            return web.Response(status=403)
        self._numbers += 1
        async with queue.changed:
            queue.messages.append(Message(body, self._numbers))
            queue.changed.notify_all()
        return web.Response(status=201)

    async def _lock(self, queue: Queue, seconds: float, request: web.Request) -> web.Response:
        deadline = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            message = next((each for each in queue.messages if each.locked_until <= now), None)
            if message is not None:
                break
            if now >= deadline:
                return web.Response(status=204)
            try:
                async with asyncio.timeout(min(0.05, deadline - now)), queue.changed:
                    await queue.changed.wait()
            except TimeoutError:
                pass
        message.lock, message.locked_until = str(uuid.uuid4()), now + self.lock_seconds
        message.deliveries += 1
        properties = {
            "DeliveryCount": message.deliveries,
            "LockToken": message.lock,
            "SequenceNumber": message.number,
            "State": "Active",
        }
        headers = {"BrokerProperties": json.dumps(properties), "Location": f"{self.address}{request.path}"}
        return web.Response(status=201, body=message.body, headers=headers)

    async def _settle(self, queue: Queue, number: int, lock: str, remove: bool) -> web.Response:
        for message in queue.messages:
            if (message.number, message.lock) == (number, lock) and message.locked_until > time.monotonic():
                if remove:
                    queue.messages.remove(message)
                message.locked_until = 0.0
                return web.Response(status=200)
        return web.Response(status=404)
