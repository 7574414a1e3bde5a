"""Real brokers of messages for tests: `with MosquittoServer() as broker: ...`. Kafka is in tests/kafka_server.py."""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
import time
from typing import Any

from tests.servers import HOST, Server, make_certificate

USER, PASSWORD = "guest", 'a secret: "quoted" and ü'


class MosquittoServer(Server):
    """mosquitto on a free port of 127.0.0.1.

    With `password` it wants USER and PASSWORD. With `tls` it speaks TLS only, with a certificate of its own
    (`certificate`). `options` are further lines of its configuration, and `acl` those of its access control.
    """

    def __init__(self, *options: str, password: bool = False, tls: bool = False, acl: str = "") -> None:
        super().__init__()
        self.certificate = self.directory / "certificate.pem" if tls else None
        lines = [f"listener {self.port} {HOST}", f"allow_anonymous {'false' if password else 'true'}"]
        lines += ["user root"]  # it would change to a user who can't read the files here
        if password:
            command = ["mosquitto_passwd", "-c", "-b", self.directory / "users", USER, PASSWORD]
            subprocess.run(command, check=True, capture_output=True)
            lines.append(f"password_file {self.directory}/users")
        if acl:
            (self.directory / "acl").write_text(acl)
            lines.append(f"acl_file {self.directory}/acl")
        if self.certificate is not None:
            key = self.directory / "key.pem"
            make_certificate(self.certificate, key)
            lines += [f"certfile {self.certificate}", f"keyfile {key}"]
        (self.directory / "configuration").write_text("\n".join([*lines, *options, ""]))

    @property
    def configs(self) -> dict[str, str]:
        """The configs of a slightfile that reach it, without credentials."""
        configs = {"MOSQUITTO_HOST": HOST, "MOSQUITTO_PORT": str(self.port)}
        return configs if self.certificate is None else {**configs, "MOSQUITTO_CA_FILE": str(self.certificate)}

    def command(self) -> list[str]:
        return ["mosquitto", "-c", str(self.directory / "configuration")]


class NatsServer(Server):
    """nats-server on a free port of 127.0.0.1. `settings` are more of its configuration, and `tls` is as above."""

    def __init__(self, settings: dict[str, Any] | None = None, tls: bool = False) -> None:
        super().__init__()
        self.certificate = self.directory / "certificate.pem" if tls else None
        configuration = {"host": HOST, "port": self.port, **(settings or {})}
        if self.certificate is not None:
            key = self.directory / "key.pem"
            make_certificate(self.certificate, key)
            configuration["tls"] = {"cert_file": str(self.certificate), "key_file": str(key)}
        # A file of its configuration may be JSON.
        (self.directory / "configuration").write_text(json.dumps(configuration, ensure_ascii=False))

    @property
    def configs(self) -> dict[str, str]:
        """The configs of a slightfile that reach it, without credentials."""
        if self.certificate is None:
            return {"NATS_ADDRESS": f"nats://{HOST}:{self.port}"}
        return {"NATS_ADDRESS": f"tls://{HOST}:{self.port}", "NATS_CA_FILE": str(self.certificate)}

    def command(self) -> list[str]:
        return ["nats-server", "-c", str(self.directory / "configuration")]


# Credentials of NATS: a chain of signed tokens from an operator over an account to a user, as the tool `nsc` makes.


def nats_operator() -> tuple[dict[str, Any], str]:
    """What a server is configured with to know an operator's account, and the text of a file of credentials (.creds)
    of a user in it."""
    operator, account, user = _Key("O"), _Key("A"), _Key("U")
    operator_token = operator.sign(operator.name, {"type": "operator", "version": 2})
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    account_token = operator.sign(account.name, {"type": "account", "version": 2, "limits": unlimited})
    user_token = account.sign(user.name, {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1})
    settings = {
        "operator": operator_token,
        "resolver": "MEMORY",
        "resolver_preload": {account.name: account_token},
    }
    creds = f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
    creds += f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    return settings, creds


class _Key:
    """A key pair of NATS (nkeys): `kind` is O, A or U."""

    def __init__(self, kind: str) -> None:
        import nacl.signing

        self._key = nacl.signing.SigningKey.generate()
        prefix = {"O": 14 << 3, "A": 0, "U": 20 << 3}[kind]
        self.name = _encoded(bytes([prefix]) + bytes(self._key.verify_key))
        seed = 18 << 3
        self.seed = _encoded(bytes([seed | prefix >> 5, (prefix & 31) << 3]) + bytes(self._key))

    def sign(self, subject: str, claims: dict[str, Any]) -> str:
        """A token (JWT) about a subject, signed with this key."""
        body = {"jti": "test", "iat": int(time.time()), "iss": self.name, "name": "test", "sub": subject}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "nats": claims}]
        text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_base64url(self._key.sign(text.encode()).signature)}"


def _encoded(data: bytes) -> str:
    checked = data + binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
