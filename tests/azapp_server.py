"""A stand-in for Azure App Configuration, which can be had from nowhere but Azure: `python -m tests.azapp_server PORT`.

Written from Microsoft's documents of the protocol, the pages "HMAC authentication" and "Key-values" of the REST API. It
checks every request's signature, the date and the hash of the body, as the service does, and refuses what the service
refuses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.servers import HOST, Server

ID = "an-id"
SECRET = base64.b64encode(b"a secret of the tests").decode()
VALUE_LIMIT = 10_000
"""In bytes, of a key and its value."""

PAGE = 3
"""How many settings one answer has, where all are asked for."""

SIGNED = "x-ms-date;host;x-ms-content-sha256"


class AzappServer(Server):
    """The stand-in as a process. `slow` is how many seconds it takes over an answer."""

    def __init__(self, slow: float = 0) -> None:
        super().__init__()
        self.slow = slow

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.azapp_server", str(self.port), str(self.slow)]

    def environment(self) -> dict[str, str]:
        from tests.command import environment

        return environment()

    @property
    def configs(self) -> dict[str, str]:
        return {
            "AZAPPCONFIG_ENDPOINT": f"http://{HOST}:{self.port}",
            "AZAPPCONFIG_KEYID": ID,
            "AZAPPCONFIG_KEYSECRET": SECRET,
        }


def refusal(request: web.Request, body: bytes) -> str:
    """Why the request is not authentic; nothing where it is."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    fields = dict(field.partition("=")[::2] for field in rest.split("&"))
    if scheme != "HMAC-SHA256" or fields.get("Credential") != ID:
        return "no such credential"
    if fields.get("SignedHeaders") != SIGNED:
        return "the signed headers are not those that must be signed"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    if request.headers.get("x-ms-content-sha256") != digest:
        return "the hash of the body is wrong"
    date = request.headers.get("x-ms-date", "")
    if abs(datetime.now(UTC) - _moment(date)) > timedelta(minutes=15):
        return "the date is too far from now"
    text = f"{request.method}\n{request.raw_path}\n{date};{request.headers['Host']};{digest}"
    signature = hmac.new(base64.b64decode(SECRET), text.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(fields.get("Signature", ""), base64.b64encode(signature).decode()):
        return "the signature is wrong"
    return ""


def _moment(date: str) -> datetime:
    """The documents name RFC 1123; Microsoft's own client writes another form, and the service reads both."""
    try:
        return parsedate_to_datetime(date)
    except ValueError:
        return datetime.strptime(date, "%b, %d %Y %H:%M:%S.%f %Z").replace(tzinfo=UTC)


class Service:
    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.settings: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        import asyncio

        body = await request.read()
        await asyncio.sleep(self.slow)
        if reason := refusal(request, body):
            return problem(401, reason)
        if "api-version" not in request.query:
            return problem(400, "api-version is missing")
        if request.path == "/kv" and request.method == "GET" and request.query.get("label") == "\0":
            return self._page(int(request.query.get("after", 0)))
        if not request.path.startswith("/kv/"):
            return problem(404, "no such resource")
        key = unquote(request.raw_path.partition("?")[0].removeprefix("/kv/"))
        if request.method == "PUT":
            value = json.loads(body)["value"]
            if len(key.encode()) + len(value.encode()) > VALUE_LIMIT:
                return problem(413, "the setting is too large")
            self.settings[key] = value
        elif key not in self.settings:
            return web.Response(status=404)
        return web.json_response(self._setting(key), content_type="application/vnd.microsoft.appconfig.kv+json")

    def _setting(self, key: str) -> dict[str, Any]:
        return {"key": key, "value": self.settings[key], "label": None, "locked": False, "etag": "1", "tags": {}}

    def _page(self, start: int) -> web.Response:
        """Some of the settings, and where the next ones are."""
        answer: dict[str, Any] = {"items": [self._setting(key) for key in list(self.settings)[start : start + PAGE]]}
        if start + PAGE < len(self.settings):
            answer["@nextLink"] = f"/kv?api-version=1.0&label=%00&after={start + PAGE}"
        return web.json_response(answer, content_type="application/vnd.microsoft.appconfig.kvset+json")


def problem(status: int, title: str) -> web.Response:
    headers = {"WWW-Authenticate": f'HMAC-SHA256 error="invalid_token", error_description="{title}"'}
    return web.json_response(
        {"title": title, "status": status},
        status=status,
        content_type="application/problem+json",
        headers=headers if status == 401 else {},
    )


def main() -> None:
    port, slow = int(sys.argv[1]), float(sys.argv[2])
    application = web.Application()
    application.router.add_route("*", r"/{rest:[\s\S]*}", Service(slow).handle)
    web.run_app(application, host=HOST, port=port, print=None)


if __name__ == "__main__":
    main()
