"""The body of a request, as a handler reads it while it comes."""

from __future__ import annotations

from capabilities.http.connection import Incoming
from capabilities.http.dispatch import BodyBroken, BodyTimeout, BodyTooLarge, TrailersTooLarge
from capabilities.http.message import trailers_of
from capabilities.http.reading import ContentReader
from capabilities.http.settings import HttpSettings

MIN_RATE = 500
"""How many bytes a second a client must send on the whole, besides the `body_timeout` that it has (Apache's
`RequestReadTimeout` has the same number): one that sends a byte now and then would hold its handler for days."""


class IncomingBody(ContentReader):
    """Implements `RequestBody`."""

    __slots__ = ("_connection", "_ending", "_settings", "expects", "wanted")

    def __init__(self, request: Incoming, settings: HttpSettings, expects: bool) -> None:
        """`expects` says whether the client waits for a word before it sends the body."""
        super().__init__(request.content)
        self._connection = request.connection
        self._ending = request.ending
        self._settings = settings
        self.expects = expects
        self.wanted = False

    async def read(self, most: int) -> bytes:
        self.wanted = True
        return await super().read(most)

    def trailers(self) -> list[tuple[str, bytes]]:
        if self._ending is None or not self.ended:
            return []
        lines = self._ending.lines()
        if lines is None:
            raise TrailersTooLarge("the trailers of the body are too large")
        return trailers_of(lines)

    def expect_more(self) -> None:
        """Sends the word that the client waits for."""
        if self.expects:
            self.expects = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n", b"")

    def _about_to_wait(self) -> None:
        self.expect_more()

    def _patience(self) -> float:
        timeout = self._settings.body_timeout
        return max(0.0, min(timeout, timeout + self.size_read / MIN_RATE - self.waited))

    def _too_slow(self) -> BodyTimeout:
        return BodyTimeout("the client takes too long to send the body")

    def _broken(self, error: BaseException) -> BodyBroken:
        if isinstance(error, ConnectionError):
            return BodyBroken("the client left before the end of the body")
        return BodyBroken(str(error) or "the framing of the body is broken")

    def _excess(self) -> BodyTooLarge | None:
        most = self._settings.max_body
        return BodyTooLarge(f"the body is longer than {most} bytes") if self.size_read > most else None
