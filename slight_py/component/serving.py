"""Answers HTTP requests by a component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from socket import socket
from typing import TYPE_CHECKING

from bindgen.runtime import Err, GuestFault
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Exchange, HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.http.streaming import StreamingService
from capabilities.wasi import allowance
from capabilities.wasi.allowance import Allowance
from slight_py import access, wasi
from slight_py.component.instance import ComponentInstance, Lifted
from slight_py.component.instances import Instances
from slight_py.component.program import ComponentProgram
from slight_py.component.task_calls import Call
from slight_py.engine import Exit, InvalidModule, Trap, UnsupportedModule

if TYPE_CHECKING:
    from slight_py.component.running import Entry
    from slight_py.runner import RunConfig


_OF_0_2 = "wasi:http/incoming-handler@"


class Handler:
    """Implements the http capability's `StreamingDispatcher` for the function that a component exports to answer
    requests. Classes that derive from it say how it's called."""

    def __init__(self, program: ComponentProgram, function: Lifted, config: RunConfig) -> None:
        self._function = function
        self._make = partial(program.instantiate, wasi.Context(config.wasi))

    async def handle(self, exchange: Exchange) -> None:
        """Raises HandlerFailure where the guest was ended."""
        allowance.of_guest.set(Allowance())
        try:
            await self._answer(exchange)
        except Trap as trap:
            raise HandlerFailure(str(trap)) from trap
        except (GuestFault, InvalidModule, Exit) as failure:
            raise HandlerFailure(str(failure)) from failure

    async def _answer(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """There will be no more requests."""


class IncomingHandler(Handler):
    """`wasi:http/incoming-handler`, of versions 0.2: each request has an instance of its own."""

    def __init__(self, program: ComponentProgram, function: Lifted, config: RunConfig) -> None:
        # Here, since a component has this one or the other.
        from capabilities.bindings.wasi_http_0_2 import incoming_handler
        from capabilities.wasi import http

        super().__init__(program, function, config)
        self._incoming = http.incoming
        self._handle = incoming_handler.handle

    async def _answer(self, exchange: Exchange) -> None:
        instance = await self._make()
        try:
            request, outparam = self._incoming(exchange)
            await self._handle(instance.guest(self._function), self._function, request, outparam)
        finally:
            instance.close()


class AsyncHandler(Handler):
    """`wasi:http/handler`, of versions 0.3: an instance may answer several requests."""

    def __init__(self, program: ComponentProgram, function: Lifted, config: RunConfig) -> None:
        super().__init__(program, function, config)
        self._instances = Instances(self._make, function, config.instance_requests)

    async def _answer(self, exchange: Exchange) -> None:
        used = await self._instances.take()
        try:
            await self._call(used.instance, exchange)
            if used.is_last:
                await used.instance.idle()
        except BaseException:
            self._instances.give_up(used)
            raise
        finally:
            self._instances.give_back(used)

    async def _call(self, instance: ComponentInstance, exchange: Exchange) -> None:
        # Here, since a component has this one or the other.
        from capabilities.bindings.wasi_http_0_3 import handler
        from capabilities.wasi import http_0_3

        request = http_0_3.Request.incoming(exchange)
        call = Call(self._function, http_0_3.expect)
        try:
            response = await handler.handle(instance.guest(self._function), call, request)
        except Err as error:
            http_0_3.refuse(exchange, error.value)
        else:
            assert isinstance(response, http_0_3.Response)  # there are no others
            await http_0_3.respond(exchange, response)
        await call.exited()

    def close(self) -> None:
        self._instances.close()


class ComponentService:
    """A server of a component, as `runner.Service` has it."""

    def __init__(self, handler: Handler, config: RunConfig) -> None:
        on_access = access.logger(config.access_log, config.module)
        self._handler = handler
        self._service = StreamingService(handler, _settings(config), on_access)

    async def start(self, sockets: Sequence[socket], _table: None) -> None:
        """Listens on sockets, and returns. Raises ListenError."""
        await self._service.start(sockets)

    async def stop(self) -> None:
        """Finishes the requests under way and ends."""
        await self._service.stop()
        self._handler.close()


def _settings(config: RunConfig) -> HttpSettings:
    """The settings of the server. The headers of CORS, which Spiderlightning's server adds to all that its modules
    answer, are a component's own affair, unless a slightfile has the capability `http`, and so says what they are."""
    if config.slightfile.path is not None and config.slightfile.grants_for("http"):
        return config.http
    return replace(config.http, cors=Cors(origins=()))


def service(config: RunConfig, program: ComponentProgram, entry: Entry) -> ComponentService:
    """What answers requests by the handler that a component exports. Raises UnsupportedModule."""
    function = program.function(entry.interface, entry.export.name)
    if not isinstance(function, Lifted):
        raise UnsupportedModule(f"{entry.interface} is none of its own functions")
    made = IncomingHandler if entry.export.module.startswith(_OF_0_2) else AsyncHandler
    return ComponentService(made(program, function, config), config)
