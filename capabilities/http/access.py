"""The access log: one record for each request, and two ways to write it as a line that nobody can forge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from json import dumps

CLIENT_GONE = 499
"""The status in the log of a request whose client left before it was answered (nginx's number)."""


@dataclass(slots=True)
class AccessRecord:
    """A request that was answered, or given up. It holds no query, which may carry secrets."""

    client: str
    """The address of the connection's other end."""
    method: str
    """`-` where the request couldn't be parsed."""
    path: str
    """As it was sent; `-` where the request couldn't be parsed."""
    status: int
    bytes: int
    """How many bytes of content were sent."""
    seconds: float
    """From the end of the request's head to the end of the response, as far as the kernel took it."""
    handler: str | None
    """The handler by the name that the route gives it, or None where no route was found."""


def plain(record: AccessRecord) -> str:
    """`CLIENT METHOD PATH STATUS BYTES SECONDS HANDLER`, with `-` for what is missing."""
    return (
        f"{record.client} {record.method} {printable(record.path)} {record.status} {record.bytes}"
        f" {record.seconds:.6f} {printable(record.handler or '-')}"
    )


def json(record: AccessRecord) -> str:
    """A JSON object in ASCII, with the names of AccessRecord."""
    return dumps(asdict(record))


def printable(text: str, limit: int = 1_000) -> str:
    """Text of a guest or a client as a line of a log may hold it: escaped as in Python, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
