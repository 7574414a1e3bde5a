"""Cross-origin resource sharing (the Fetch standard): which pages of other origins may use the server.

Spiderlightning allowed everything, with four headers on every response, and that is the default. The slightfile's
`http` capability narrows it. What is decided here replaces what a guest sets; with `CORS_ALLOW_ORIGIN = "none"` the
guest decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from capabilities.errors import ConfigError

KEYS = (
    "CORS_ALLOW_ORIGIN",
    "CORS_ALLOW_METHODS",
    "CORS_ALLOW_HEADERS",
    "CORS_EXPOSE_HEADERS",
    "CORS_MAX_AGE",
    "CORS_ALLOW_CREDENTIALS",
)

_PORTS = {"http": 80, "https": 443}

TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""The characters of methods and of header names, RFC 9110 section 5.6.2."""


class Cors:
    """The answer to every origin, worked out once. `Cors()` allows everything, `Cors(origins=())` adds no header."""

    __slots__ = ("_by_origin", "_others", "off", "varies")

    def __init__(
        self,
        origins: tuple[str, ...] = ("*",),
        methods: str = "*",
        headers: str = "*",
        expose: str = "*",
        max_age: int | None = None,
        credentials: bool = False,
    ) -> None:
        """The texts are what the headers say; an empty one leaves its header away. `max_age` is in seconds."""
        self.off = not origins
        """Whether the headers are the guest's own affair."""
        self.varies = bool(origins) and origins != ("*",)
        """Whether the answer depends on the request's origin."""
        lines = "".join(
            f"{name}: {value}\r\n"
            for name, value in (
                ("Access-Control-Allow-Methods", methods),
                ("Access-Control-Allow-Headers", headers),
                ("Access-Control-Expose-Headers", expose),
                ("Access-Control-Max-Age", "" if max_age is None else str(max_age)),
                ("Access-Control-Allow-Credentials", "true" if credentials else ""),
            )
            if value
        )
        self._others = "Vary: Origin\r\n" if self.varies else ""
        self._by_origin = {
            origin: f"Access-Control-Allow-Origin: {origin}\r\n{lines}{self._others}" for origin in origins
        }
        if origins == ("*",):
            self._others = self._by_origin["*"]

    def lines(self, origin: str | None = None) -> str:
        """The header lines, each with its CRLF, of a response to a request from `origin`."""
        return self._by_origin.get(origin, self._others) if origin is not None else self._others

    @classmethod
    def from_configs(cls, configs: Mapping[str, str]) -> Cors:
        """What the configuration of the `http` capability says; keys without the prefix `CORS_` are ignored.

        Raises ConfigError for a value that makes no sense, and for an unknown key with the prefix.
        """
        for key in configs:
            if key.startswith("CORS_") and key not in KEYS:
                raise ConfigError(f"no such key; there are {', '.join(KEYS)}", key)
        origins = _origins(configs.get("CORS_ALLOW_ORIGIN", "*"))
        if not origins and any(key in configs for key in KEYS[1:]):
            raise ConfigError("'none' switches CORS off, which leaves the other CORS_ keys without a use", KEYS[0])
        credentials = _switch(configs.get("CORS_ALLOW_CREDENTIALS", "false"))
        if credentials and origins == ("*",):
            text = "browsers take credentials only with a list of origins: name them in CORS_ALLOW_ORIGIN"
            raise ConfigError(text, "CORS_ALLOW_CREDENTIALS")
        return cls(
            origins,
            _tokens(configs, "CORS_ALLOW_METHODS", credentials, "GET, HEAD, PUT, POST, DELETE"),
            _tokens(configs, "CORS_ALLOW_HEADERS", credentials, ""),
            _tokens(configs, "CORS_EXPOSE_HEADERS", credentials, ""),
            _max_age(configs.get("CORS_MAX_AGE")),
            credentials,
        )


def _origins(value: str) -> tuple[str, ...]:
    if value.strip() == "none":
        return ()
    if value.strip() == "*":
        return ("*",)
    return tuple(_origin(part.strip()) for part in value.split(","))


def _origin(text: str) -> str:
    """An origin as browsers write it: `scheme://host`, with the port where it isn't the scheme's own."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _not_an_origin() from None
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    plain = text.isascii() and text.isprintable() and not any(char in text for char in " *@")
    if not (plain and parts.scheme and parts.hostname and text.lower() == origin):
        raise _not_an_origin()
    return origin.removesuffix(f":{port}") if port == _PORTS.get(parts.scheme, -1) else origin


def _not_an_origin() -> ConfigError:
    example = "https://app.example or http://localhost:3000"
    return ConfigError(f"each origin is scheme://host or scheme://host:port, as in {example}", "CORS_ALLOW_ORIGIN")


def _tokens(configs: Mapping[str, str], key: str, credentials: bool, with_credentials: str) -> str:
    """A list of names. `*` means any, but the Fetch standard takes it for a name when credentials are sent."""
    value = configs.get(key)
    if value is None:
        return with_credentials if credentials else "*"
    names = [part.strip() for part in value.split(",")] if value.strip() else []
    if not all(name and TOKEN.issuperset(name) for name in names):
        raise ConfigError("it must be names separated by commas, or '*'", key)
    if credentials and "*" in names:
        raise ConfigError("'*' means nothing to browsers with CORS_ALLOW_CREDENTIALS: list the names", key)
    return ", ".join(names)


def _max_age(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise ConfigError("it must be a number of seconds, as in 3600", "CORS_MAX_AGE")
    return int(value)


def _switch(value: str) -> bool:
    if value not in ("true", "false"):
        raise ConfigError("it must be true or false", "CORS_ALLOW_CREDENTIALS")
    return value == "true"
