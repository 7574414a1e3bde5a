"""A response whose body is read while it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aiohttp

from capabilities import notices
from capabilities.http.connection import Ending
from capabilities.http.message import trailers_of
from capabilities.http.reading import ContentReader
from capabilities.http_client import HttpClientError, InvalidResponse, StalledResponse, TooLarge, fields

Describe = Callable[[Exception], HttpClientError]


class Download(ContentReader):
    """A response, and what is read of its body: as `RequestBody` of the server, whose errors are HttpClientErrors."""

    __slots__ = ("_describe", "_ending", "_limit", "_on_end", "_pause", "_response", "headers", "status", "wanted")

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        pause: float,
        limit: int,
        describe: Describe,
        on_end: Callable[[], None],
    ) -> None:
        """`pause` is how long the server may send nothing, in seconds, and `limit` how many bytes there may be.
        `on_end` is called once, when nothing more will be read. Raises InvalidResponse."""
        super().__init__(response.content)
        self._response = response
        self._pause = pause
        self._limit = limit
        self._describe = describe
        self._on_end: Callable[[], None] | None = on_end
        self._ending = _ending(response)
        self.wanted = True
        self.status = response.status
        try:
            self.headers: Sequence[tuple[bytes, bytes]] = fields.of_response(response.raw_headers)
        except InvalidResponse:
            self.close()
            raise

    def trailers(self) -> list[tuple[str, bytes]]:
        if self._ending is None or not self.ended:
            return []
        lines = self._ending.lines()
        if lines is None:
            raise InvalidResponse("the trailers of the response are too large")
        return trailers_of(lines)

    def take(self, most: int) -> bytes:
        data = super().take(most)
        if self.ended:
            self._end()
        return data

    def close(self) -> None:
        """Nobody reads any more. A connection on which there is more to come is closed."""
        super().close()
        self._response.close()
        self._end()

    def _fail(self, error: Exception) -> Exception:
        if isinstance(error, HttpClientError) and error.notice is not None:
            notices.tell(error.notice)
        self._response.close()
        self._end()
        return super()._fail(error)

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _patience(self) -> float:
        return self._pause

    def _too_slow(self) -> StalledResponse:
        return StalledResponse(f"nothing of the response came for {self._pause:g} seconds")

    def _broken(self, error: BaseException) -> Exception:
        return self._describe(error) if isinstance(error, Exception) else InvalidResponse("the response broke")

    def _excess(self) -> TooLarge | None:
        return too_large(self._limit) if self.size_read > self._limit else None


def too_large(limit: int) -> TooLarge:
    """The error of a response with more than `limit` bytes."""
    notice = f"http-client: a response has more than {limit >> 20} MiB; if the module needs it, raise MAX_RESPONSE_MIB"
    return TooLarge(f"the response's body has more than {limit} bytes", notice)


def _ending(response: aiohttp.ClientResponse) -> Ending | None:
    """What is kept of a response in chunks, for its trailers."""
    if "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
        return None
    ending = getattr(response._protocol, "ending", None)
    return ending if isinstance(ending, Ending) else None
