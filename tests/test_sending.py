"""The HTTP client, from the command line to a real server and back."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from capabilities.http_client.policy import Policy
from slight_py.slightfile import load
from tests.command import ROOT, slight_py
from tests.guests import example, slightfile
from tests.servers import HOST, make_certificate
from tests.test_docs import blocks

APP = "http-client-demo-rust"

PAGE = b"<p>h\xe9llo</p>"

REFUSED = "refused: the slightfile does not grant a request to this server\n"


class Page(BaseHTTPRequestHandler):
    """Answers GET with a page, and POST with what was posted, reversed."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]]
    accepted: ClassVar[list[str]]

    def do_GET(self) -> None:
        self._answer(PAGE, "text/html; charset=ISO-8859-1")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1], "application/octet-stream")

    def _answer(self, body: bytes, kind: str) -> None:
        self.connections.add(self.client_address)
        self.accepted += self.headers.get_all("Accept", [])
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def page(tls: ssl.SSLContext | None = None) -> Iterator[ThreadingHTTPServer]:
    """A server on a free port."""

    class Handler(Page):
        connections: ClassVar[set[tuple[str, int]]] = set()
        accepted: ClassVar[list[str]] = []

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SHOWN = (
    f"GET: 200, {len(PAGE)} bytes of text/html; charset=ISO-8859-1\nPOST: 200, 4 bytes of application/octet-stream\n"
)

WARNING = (
    "slight-py: warning: http-client: the module asked for {}; add to the [capability.configs] of the capability with "
    'resource = "http-client": {}\n'
)


def test_the_example_reaches_what_its_slightfile_grants_and_nothing_else() -> None:
    with page() as server:
        url = f"http://localhost:{server.server_port}/"
        done = slight_py("run", example(APP), "-c", slightfile(APP, "local"), "--env", f"URL={url}")
        why = "http://169.254.169.254, which the slightfile does not grant (it grants localhost)"
        warning = WARNING.format(why, 'ALLOW_HOSTS = "localhost, 169.254.169.254"')
        assert done == (0, SHOWN + REFUSED, warning)
        assert len(server.RequestHandlerClass.connections) == 1
        assert server.RequestHandlerClass.accepted == ["text/html"] * 2


def test_without_a_slightfile_this_machine_is_not_reached() -> None:
    with page() as server:
        done = slight_py("run", example(APP), "--env", f"URL=http://{HOST}:{server.server_port}/a?token=secret")
        assert done.code == 1
        assert "does not grant a request to this server" in done.err
        why = f"{HOST}:{server.server_port}, and that is no public address, nor one that the slightfile grants"
        assert WARNING.format(why, f'ALLOW_PRIVATE = "{HOST}"') in done.err
        assert "secret" not in done.err
        assert not server.RequestHandlerClass.connections


def test_a_certificate_that_the_system_trusts_is_enough(tmp_path: Path) -> None:
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(*files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    grants = tmp_path / "slightfile.toml"
    grants.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "http-client"\nname = "web"\n'
        'configs = { ALLOW_SCHEMES = "https", ALLOW_PRIVATE = "127.0.0.0/8" }\n'
    )
    with page(context) as server:
        run = ("run", example(APP), "-c", grants, "--env", f"URL=https://{HOST}:{server.server_port}/")
        trusting = slight_py(*run, env={"SSL_CERT_FILE": str(files[0])})
        assert (trusting.code, trusting.out) == (0, SHOWN + REFUSED)
        other = slight_py(*run)
        assert other.code == 1
        assert f"http-client: https://{HOST}:{server.server_port}: its certificate is not trusted" in other.err


@pytest.mark.parametrize(
    ("configs", "env", "error"),
    [
        (
            'ALLOW_HOSTS = "https://example.com"',
            {},
            "slightfile.toml:3: http-client: ALLOW_HOSTS: entry 1 can't be used: what follows its ':' is no port (an "
            'IPv6 address is written in brackets); write hosts as in "api.example.com, *.example.org, 192.0.2.1:8080", '
            "without a scheme",
        ),
        ('ALLOW_HOST = "a"', {}, "ALLOW_HOST"),
        (
            "",
            {"HTTPS_PROXY": "socks5://user:secret@h:1"},
            "the environment variable HTTPS_PROXY names no proxy that can",
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line_at_the_start(
    configs: str, env: dict[str, str], error: str, tmp_path: Path
) -> None:
    text = f'specversion = "0.2"\n\n[[capability]]\nresource = "http-client"\nname = "web"\nconfigs = {{ {configs} }}\n'
    (tmp_path / "slightfile.toml").write_text(text)
    done = slight_py("run", example(APP), "-c", "slightfile.toml", cwd=tmp_path, env=env)
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert error in done.err
    assert "secret" not in done.err


def test_the_slightfile_of_the_document_is_one(tmp_path: Path) -> None:
    (text,) = [block.text for block in blocks(ROOT / "docs/http-client.md") if block.language == "toml"]
    (tmp_path / "slightfile.toml").write_text(text)
    (grant,) = load(tmp_path / "slightfile.toml").grants_for("http-client")
    hosts = Policy.from_configs(grant.configs).hosts
    assert [pattern.text for pattern in hosts] == ["api.example.com", "*.example.org", "localhost:8080"]
