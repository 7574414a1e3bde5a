"""A stand-in for Dapr's sidecar: `with DaprServer() as dapr: ... dapr.configs() ...`.

It is no Dapr: it was written for these tests, from Dapr's State management API reference
(https://docs.dapr.io/reference/api/state_api/). It keeps states in memory, and checks what goes over the wire: whatever
breaks the reference is answered with an error, and noted in `violations`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.servers import HOST, Server


class DaprServer(Server):
    """The stand-in on a free port of 127.0.0.1, with the state stores `stores` (any, without), as a process.

    `token` is what clients must send. Without `queries` it has no query API. With `old_etags` it answers an ETag that
    doesn't match as older versions do. `slow` is how many seconds it waits before each answer.
    """

    def __init__(
        self,
        *stores: str,
        token: str = "",
        queries: bool = True,
        etags: bool = True,
        old_etags: bool = False,
        max_body: int = 128 << 20,
        slow: float = 0,
    ) -> None:
        super().__init__()
        self._options = ["--max-body", str(max_body), "--slow", str(slow), "--token", token]
        self._options += [option for store in stores for option in ("--store", store)]
        self._options += ["--no-queries"] * (not queries) + ["--no-etags"] * (not etags) + ["--old-etags"] * old_etags
        self._token = token

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.dapr_server", str(self.port), *self._options]

    def environment(self) -> dict[str, str] | None:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def configs(self) -> dict[str, str]:
        """The configuration of a backend that is to use this server."""
        return {"DAPR_HTTP_ENDPOINT": self.address, **({"DAPR_API_TOKEN": self._token} if self._token else {})}

    @property
    def violations(self) -> list[str]:
        """What was sent that breaks the reference."""
        found: list[str] = self._ask("violations")
        return found

    def states(self, store: str) -> dict[str, Any]:
        """The states of a store, by their keys."""
        found: dict[str, Any] = self._ask(f"states/{store}")
        return found

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.address}/stand-in/{what}", timeout=10) as response:
            return json.load(response)


class Sidecar:
    """The stand-in itself."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._stores: dict[str, dict[str, tuple[bytes, str]]] = {}
        """Of each store, each key's JSON and ETag."""
        self._etags = itertools.count(1)
        self.violations: list[str] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        parts = [unquote(part, errors="strict") for part in path.split("/")[1:]]
        match parts:
            case ["stand-in", "violations"]:
                return web.json_response(self.violations)
            case ["stand-in", "states", store]:
                return web.json_response({key: json.loads(state) for key, (state, _) in self._stores[store].items()})
        await asyncio.sleep(self._options.slow)
        if self._options.token and request.headers.get("dapr-api-token") != self._options.token:
            return web.Response(status=401, text="invalid api token")
        body = b""
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > self._options.max_body:
                return web.Response(status=413)
        match request.method, parts:
            case "POST", ["v1.0-alpha1", "state", store, "query"] if self._is_known(store):
                return self._query(store, body)
            case "POST", ["v1.0", "state", store] if self._is_known(store):
                return self._save(self._stores.setdefault(store, {}), request, body)
            case "GET", ["v1.0", "state", store, key] if self._is_known(store):
                return self._get(self._stores.setdefault(store, {}), key, query_text)
            case "DELETE", ["v1.0", "state", store, key] if self._is_known(store):
                return self._delete(self._stores.setdefault(store, {}), key, request, query_text)
            case _, ["v1.0" | "v1.0-alpha1", "state", store, *_] if not self._is_known(store):
                return error(400, "ERR_STATE_STORE_NOT_FOUND", f"state store {store} is not found")
        return self._violation(f"{request.method} {path}: there is no such operation", 404)

    def _is_known(self, store: str) -> bool:
        return not self._options.store or store in self._options.store

    def _violation(self, what: str, status: int = 400) -> web.Response:
        self.violations.append(what)
        return error(status, "ERR_MALFORMED_REQUEST", what)

    def _save(self, states: dict[str, tuple[bytes, str]], request: web.BaseRequest, body: bytes) -> web.Response:
        if request.content_type != "application/json":
            return self._violation(f"save: the content type is {request.content_type}")
        try:
            entries = json.loads(body.decode())
        except ValueError:
            return self._violation("save: the body is not JSON")
        if not isinstance(entries, list) or not entries:
            return self._violation("save: the body is not an array of states")
        for entry in entries:
            if not isinstance(entry, dict) or not entry.keys() <= {"key", "value", "etag", "metadata", "options"}:
                return self._violation("save: what is saved is no state")
            key = entry.get("key")
            if not isinstance(key, str) or not key or "||" in key:
                return self._violation(f"save: {key!r} is not a key")
            if "value" not in entry:
                return self._violation(f"save: {key!r} has no value")
            if problem := bad_options(entry.get("options", {})):
                return self._violation(f"save: {problem}")
            expected = entry.get("etag")
            if expected is not None and states.get(key, (b"", ""))[1] != expected:
                status = 500 if self._options.old_etags else 409
                return error(
                    status, "ERR_STATE_SAVE", f"failed saving state in state store: possible etag mismatch: {key}"
                )
            if "\\u0000" in json.dumps(entry["value"]):
                return error(500, "ERR_STATE_SAVE", "unsupported Unicode escape sequence")  # as PostgreSQL says it
            states[key] = as_go_writes(entry["value"]), str(next(self._etags))
        return web.Response(status=204)

    def _get(self, states: dict[str, tuple[bytes, str]], key: str, query: str) -> web.Response:
        if problem := bad_options(options_of(query)) or bad_key(key):
            return self._violation(f"get: {problem}")
        if key not in states:
            return web.Response(status=204)
        state, etag = states[key]
        headers = {"ETag": etag} if self._options.etags else {}
        return web.Response(body=state, content_type="application/json", headers=headers)

    def _delete(
        self, states: dict[str, tuple[bytes, str]], key: str, request: web.BaseRequest, query: str
    ) -> web.Response:
        if problem := bad_options(options_of(query)) or bad_key(key):
            return self._violation(f"delete: {problem}")
        expected = request.headers.get("If-Match")
        if expected is not None and states.get(key, (b"", ""))[1] != expected:
            status = 500 if self._options.old_etags else 409
            return error(status, "ERR_STATE_DELETE", f"failed deleting state with key {key}: possible etag mismatch")
        states.pop(key, None)
        return web.Response(status=204)

    def _query(self, store: str, body: bytes) -> web.Response:
        if not self._options.queries:
            return error(500, "ERR_STATE_STORE_NOT_SUPPORTED", "state store does not support querying")
        try:
            query = json.loads(body)
            page = query.get("page", {})
            limit, start = int(page["limit"]), int(page.get("token", 0))
            if query["filter"] != {} or limit < 1:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            return self._violation("query: it is none that this stand-in knows")
        states = list(self._stores.get(store, {}).items())
        if not states:
            return web.Response(status=204)
        results = [{"key": key, "data": json.loads(state), "etag": etag} for key, (state, etag) in states]
        answer: dict[str, Any] = {"results": results[start : start + limit]}
        if start + limit < len(results):
            answer["token"] = str(start + limit)
        return web.json_response(answer)


def error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errorCode": code, "message": message}, status=status)


def bad_key(key: str) -> str:
    return f"{key!r} is not a key" if not key or "||" in key or "/" in key else ""


def options_of(query: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in query.split("&") if part)


def bad_options(options: dict[str, str]) -> str:
    known = {"concurrency": ("first-write", "last-write"), "consistency": ("eventual", "strong")}
    wrong = [f"{name}={value}" for name, value in options.items() if value not in known.get(name, ())]
    return f"{', '.join(wrong)} is no option" if wrong else ""


def as_go_writes(value: Any) -> bytes:
    """JSON as Go's encoding/json writes it, which escapes what means something in HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


async def serve(port: int, options: argparse.Namespace) -> None:
    runner = web.ServerRunner(web.Server(Sidecar(options).answer))
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--store", action="append", default=[])
    parser.add_argument("--token", default="")
    parser.add_argument("--no-queries", dest="queries", action="store_false")
    parser.add_argument("--no-etags", dest="etags", action="store_false")
    parser.add_argument("--old-etags", action="store_true")
    parser.add_argument("--max-body", type=int)
    parser.add_argument("--slow", type=float)
    given = parser.parse_args()
    asyncio.run(serve(given.port, given))
