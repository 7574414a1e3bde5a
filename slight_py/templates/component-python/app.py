"""Counts the visits of /hello/NAME.

Each request is answered by an instance of its own: what should outlive it goes into a store.
"""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import atomics, store
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = request.path_with_query() or ""
        if not path.startswith("/hello/"):
            answer(response_out, 404, "there is /hello/NAME\n")
            return
        try:
            bucket = store.open("visits")
            visits = atomics.increment(bucket, path.removeprefix("/hello/"), 1)
            answer(response_out, 200, f"hello, this is visit {visits}\n")
        except Err as error:
            answer(response_out, 500, f"{error.value}\n")


def answer(out: ResponseOutparam, status: int, text: str) -> None:
    response = OutgoingResponse(Fields())
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(text.encode())
    OutgoingBody.finish(body, None)
