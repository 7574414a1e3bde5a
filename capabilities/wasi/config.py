"""Answers a component's `wasi:config` imports with the settings that it is granted.

The interface has no name for them: it means those that the slightfile grants under NAME or, where it grants settings
under one name alone, those. Values are text: one that isn't UTF-8 is an error, and left out where all are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, cast

from bindgen.runtime import Err
from capabilities import notices
from capabilities.configs import Backend, ConfigsError, InvalidValue, IoFailed, Listed, NotFound, check_key
from capabilities.errors import CapabilityError

NAME = "default"
"""What the settings are called that a component means which names none."""

INTERFACES = {
    "wasi:config/store@0.2.0-rc.1": "wasi_config_0_2_0_rc_1.store",
    "wasi:config/store@0.2.0-draft-2024-09-27": "wasi_config_0_2_0_draft_2024_09_27.store",
    "wasi:config/store@0.2.0-draft": "wasi_config_0_2_0_draft.store",
    "wasi:config/runtime@0.2.0-draft": "wasi_config_0_2_0_draft.runtime",
}
"""The generated module of each form of the interface: their functions are the same."""


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers each form of the interface. `grants` says which backend keeps the settings of which name."""
    return {interface: Settings(grants, module) for interface, module in INTERFACES.items()}


class Settings:
    """Implements the host of one form of the interface."""

    __slots__ = ("_grants", "_module")

    def __init__(self, grants: Mapping[str, Backend], module: str) -> None:
        self._grants = grants
        self._module = module

    async def get(self, key: str) -> str | None:
        """Raises Err."""
        try:
            check_key(key)
            name, backend = self._granted()
            return _decoded(await backend.get(name, key))
        except NotFound:
            return None
        except CapabilityError as error:
            raise self._failure(error) from None

    async def get_all(self) -> list[tuple[str, str]]:
        """Raises Err, also where the backend can't list its settings."""
        try:
            name, backend = self._granted()
            if not hasattr(backend, "items"):
                raise ConfigsError("these settings can't be listed: what keeps them has no such operation")
            items = await cast(Listed, backend).items(name)
        except CapabilityError as error:
            raise self._failure(error) from None
        return [(key, text) for key, value in items if (text := value.decode(errors="replace")).encode() == value]

    def _granted(self) -> tuple[str, Backend]:
        """The name of the settings, and what keeps them. Raises ConfigsError where more than one could be meant."""
        if NAME in self._grants:
            return NAME, self._grants[NAME]
        if len(self._grants) == 1:
            ((name, backend),) = self._grants.items()
            return NAME if name == "*" else name, backend
        notice = (
            "configs: the module asks for settings without a name (wasi:config), and more than one name is granted; "
        )
        raise ConfigsError(f"no settings {NAME!r} are granted", f'{notice}grant those that it is to have as "{NAME}"')

    def _failure(self, error: CapabilityError) -> Err[Any]:
        """What the component is told; whoever runs it is told the notice."""
        if error.notice is not None:
            notices.tell(error.notice)
        upstream, io = _cases(self._module)
        return Err((io if isinstance(error, IoFailed) else upstream)(str(error)))


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidValue("the setting is no text: it isn't UTF-8") from None


@cache
def _cases(module: str) -> tuple[Any, Any]:
    """The cases `upstream` and `io` of a form of the interface."""
    bindings: Any = import_module(f"capabilities.bindings.{module}")
    if hasattr(bindings, "ErrorIo"):
        return bindings.ErrorUpstream, bindings.ErrorIo
    return bindings.ConfigErrorUpstream, bindings.ConfigErrorIo
