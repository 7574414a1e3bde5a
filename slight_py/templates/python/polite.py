"""The capability: what answers the functions of wit/greeter.wit."""

from __future__ import annotations

from collections.abc import Mapping

from bindgen.runtime import Err

from .bindings import greeter
from .bindings.greeter import GreeterErrorNameTooLong, GreeterErrorNobody

NAME_LIMIT = 40


class PoliteGreeter:
    """Implements `GreeterHost`. It is made once, with the configs of the slightfile."""

    INTERFACES = (greeter,)
    OPTIONAL = ("GREETING",)

    def __init__(self, configs: Mapping[str, str]) -> None:
        self._greeting = configs.get("GREETING", "Hello")

    async def greet(self, name: str) -> str:
        if not name:
            raise Err(GreeterErrorNobody())
        if len(name) > NAME_LIMIT:
            raise Err(GreeterErrorNameTooLong(NAME_LIMIT))
        return f"{self._greeting}, {name}!"
