"""Runs the functions that a guest exports to answer HTTP requests: a fresh instance for each request."""

from __future__ import annotations

from bindgen.runtime import Export, GuestFault
from capabilities.bindings import http_handler
from capabilities.bindings.http_types import Request, Response
from capabilities.http.dispatch import HandlerFailure
from slight_py import wasi
from slight_py.engine import Exit, ExportedFunction, InvalidModule, Program, Trap


class Handlers:
    """Implements the http capability's `Dispatcher` for one program."""

    def __init__(self, program: Program, settings: wasi.WasiSettings) -> None:
        self._program = program
        self._wasi = wasi.Context(settings)

    def resolve(self, handler: str) -> ExportedFunction | None:
        """The function that a route names, in snake or in kebab case; None if the guest exports none of that name.

        Raises ValueError where it has another signature than a handler.
        """
        functions = self._program.info.functions
        function = functions.get(handler.replace("_", "-")) or functions.get(handler)
        if function is not None and not _fits(function, http_handler.HANDLE_HTTP):
            raise ValueError(f"the exported function {function.name} has another signature than handle-http")
        return function

    async def handle(self, handler: ExportedFunction, request: Request) -> Response:
        """Raises Err[HttpError], or HandlerFailure where the guest was ended."""
        try:
            instance = await self._program.instantiate(self._wasi)
            try:
                await instance.initialize()
                return await http_handler.handle_http(instance, handler, request)
            finally:
                instance.close()
        except Trap as trap:
            raise HandlerFailure(str(trap)) from trap
        except (GuestFault, InvalidModule, Exit) as failure:
            raise HandlerFailure(str(failure)) from failure


def _fits(function: ExportedFunction, export: Export) -> bool:
    return (function.params, function.result) == (export.params, export.result)
