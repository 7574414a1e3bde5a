"""Greets as a setting says, which the slightfile gives, and logs whom."""

from urllib.parse import unquote

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import logging, store
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        name = unquote((request.path_with_query() or "").removeprefix("/")) or "world"
        logging.log(logging.Level.INFO, "greetings", name)
        try:
            greeting = store.get("GREETING") or "Hello"
        except Err as error:
            answer(response_out, 500, f"{error.value}\n")
        else:
            answer(response_out, 200, f"{greeting}, {name}!\n")


def answer(out: ResponseOutparam, status: int, text: str) -> None:
    response = OutgoingResponse(Fields())
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(text.encode())
    OutgoingBody.finish(body, None)
