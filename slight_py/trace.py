"""Shows each call of a capability with its time and what came of it, as strace does for a system: for `--verbose`.

    keyvalue::get("greeting") = 5 bytes  0.3 ms

What is shown is what helps to see what a module does, and holds no secret: the names of things, numbers, errors. Of any
other text, of bytes and of lists only the size is shown.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Any, get_args

from bindgen.runtime import Err, GuestFault, Import, Ok
from capabilities.grants import toml

log = logging.getLogger("slight_py")

TEXT_LIMIT = 80
"""How many characters of a name are shown."""

ERROR_LIMIT = 200
"""How many of an error's text."""

NAMES = frozenset(
    ("address", "base", "container", "handler", "identifier", "key", "lock_name", "name", "object", "route", "topic")
)
"""The parameters and fields whose texts are shown: they name something. Any other text is a value."""

URIS = frozenset(("uri", "url"))
"""Those that are shown without a user and without what follows the host: there are services whose paths are secrets."""

_USER = re.compile(r"(?<=://)[^/?#]*@")
_PATH = re.compile(r"(?<![:/])[/?#].+", re.DOTALL)
_CONSTANTS = re.compile(r"""(['"]|\$\w*\$).*""", re.DOTALL)
_SELF = re.compile(r"(?:async )?func\(self: borrow<([^>]+)>")
"""How the type of a method of a component's interface begins."""
_NUMBER = re.compile(r"(?<![\w$])\d[\w.]*")


def traced(definition: Import) -> Import:
    """The same import, but that each call is logged with level DEBUG once it is answered."""
    observe = partial(_observe, definition)

    def observed(ask: Callable[[Any, Any, tuple[Any, ...]], Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(host: Any, guest: Any, arguments: tuple[Any, ...]) -> Any:
            lent = _Lent(guest.handles, definition, arguments)
            lent.exchange(lambda resource: _Observed(resource, observe, lent.give_back))
            try:
                return await ask(_Observed(host, observe, lent.give_back), guest, arguments)
            finally:
                lent.give_back()

        return call

    lowered = definition.call_async
    if lowered is not None:
        lowered = replace(lowered, call=observed(lowered.call))
    return replace(definition, call=observed(definition.call), call_async=lowered)


class _Lent:
    """The resource that a method is called of, by the handle that the guest gives first.

    Something else stands in its place until the method is called, which is before anybody else has a turn.
    """

    def __init__(self, handles: Any, definition: Import, arguments: tuple[Any, ...]) -> None:
        self._handles = handles
        self._handle = arguments[0] if arguments else -1
        self._resource: Any = None
        # What is no handle of that resource belongs to a function that is no method, or the call refuses it.
        with suppress(GuestFault):
            self._resource = handles.get(_key(definition), self._handle, "")

    def exchange(self, made: Callable[[Any], Any]) -> None:
        if self._resource is not None:
            self._handles.exchange(self._handle, made(self._resource))

    def give_back(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            self._handles.exchange(self._handle, resource)


def _key(definition: Import) -> str:
    """What the table of handles calls the resource that a method is called of."""
    of_component = _SELF.match(definition.type)
    return of_component[1] if of_component else definition.name.partition("::")[0]


class _Observed:
    """A host or a resource whose methods are observed."""

    __slots__ = ("_begin", "_observe", "_target")

    def __init__(self, target: Any, observe: Callable[..., Awaitable[Any]], begin: Callable[[], None]) -> None:
        self._target = target
        self._observe = observe
        self._begin = begin

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        self._begin()
        method = getattr(self._target, name)

        def call(*arguments: Any) -> Awaitable[Any]:
            # A method may be given the resource that it is called of once more.
            given = [each._target if type(each) is _Observed else each for each in arguments]
            return self._observe(name, method, given)

        return call


async def _observe(definition: Import, name: str, method: Callable[..., Awaitable[Any]], arguments: list[Any]) -> Any:
    shown = _Shown(definition, name)
    outcome = "cancelled"
    began = time.perf_counter()
    try:
        answer = await method(*arguments)
        outcome = shown.result(answer)
        return answer
    except Err as err:
        outcome = _error(err.value)
        raise
    except Exception as error:
        outcome = f"failed with {type(error).__name__}"
        raise
    finally:
        milliseconds = (time.perf_counter() - began) * 1000
        log.debug("%s = %s  %.1f ms", shown.call(arguments), outcome, milliseconds)


# How values are shown.


class _Shown:
    """What is shown of one call of a function."""

    def __init__(self, definition: Import, method: str) -> None:
        self._interface = definition.module
        self._name = definition.name if "::" in definition.name else f"{definition.module}::{definition.name}"
        self._parameters, self._result = _signature(definition, method)

    def call(self, arguments: list[Any]) -> str:
        names = [*self._parameters, *[("", "")] * len(arguments)]
        shown = [self._value(value, *named) for value, named in zip(arguments, names, strict=False)]
        return f"{self._name}({', '.join(shown)})"

    def result(self, value: Any) -> str:
        return "ok" if value is None and self._result == "None" else self._value(value, "", self._result)

    def _value(self, value: Any, name: str, annotation: str) -> str:
        """A value of a parameter or a field of that name, "" for a result."""
        if isinstance(value, str) and self._interface == "sql" and name == "query":
            return _text(_NUMBER.sub("…", _CONSTANTS.sub("…", value)))
        if isinstance(value, bytes) and name in NAMES:
            with suppress(UnicodeDecodeError):
                return _text(value.decode())
        if isinstance(value, Ok):
            return f"ok({self._value(value.value, '', 'resource')})"
        if isinstance(value, Err):
            return _error(value.value)
        if is_dataclass(value) and not isinstance(value, type):
            return self._record(value)
        return _plain(value, name) or _kebab(re.split(r"[ \[]", annotation, maxsplit=1)[0].rpartition(".")[2])

    def _record(self, value: Any) -> str:
        case = _case(type(value))
        named = [
            (each.name, self._value(getattr(value, each.name), each.name, str(each.type))) for each in fields(value)
        ]
        if case is None:
            return f"{{{', '.join(f'{name}: {shown}' for name, shown in named)}}}"
        return f"{case}({', '.join(shown for _, shown in named)})" if named else case


def _plain(value: Any, name: str) -> str:
    """A value that is made of nothing else; "" for a resource."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Enum():
            return value.name.lower().replace("_", "-")
        case int() | float():
            return str(value)
        case str() if name in NAMES:
            return _text(value)
        case str() if name in URIS:
            return _text(_PATH.sub("/…", _USER.sub("…@", value)))
        case str():
            return _count(len(value), "character")
        case bytes() | bytearray() | memoryview():
            return _count(len(value), "byte")
        case list() | tuple():
            return _count(len(value), "element")
    return ""


def _error(value: Any) -> str:
    """The error that a call ends with. Its text is for the guest, so it is no secret."""
    if isinstance(value, str):
        return f"error({_text(value, ERROR_LIMIT)})"
    if not is_dataclass(value) or isinstance(value, type):
        return f"error({_plain(value, '') or '…'})"
    inner = [getattr(value, each.name) for each in fields(value)]
    shown = [_text(each, ERROR_LIMIT) if isinstance(each, str) else _plain(each, "") or "…" for each in inner]
    name = _case(type(value)) or "error"
    return f"{name}({', '.join(shown)})" if shown else name


def _text(text: str, limit: int = TEXT_LIMIT) -> str:
    return toml(text) if len(text) <= limit else f"{toml(text[:limit])}…"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# What the generated modules say.


def _signature(definition: Import, method: str) -> tuple[list[tuple[str, str]], str]:
    """The names and types of a method's parameters, and the type of its result, as the generated module has them."""
    module = sys.modules[definition.call.__module__]
    host = definition.call.__annotations__["host"]
    name = definition.name.partition("]")[2].partition(".")[0] or definition.name.partition("::")[0]
    resource = "".join(word.capitalize() for word in name.split("-"))
    for protocol in (getattr(module, host, None), getattr(module, resource, None)):
        function = getattr(protocol, method, None)
        if function is not None:
            signature = inspect.signature(function)
            parameters = [(each.name, str(each.annotation)) for each in signature.parameters.values()]
            return parameters[1:], str(signature.return_annotation)
    return [], "resource"


def _case(kind: type[Any]) -> str | None:
    """The name of the variant's case that a class stands for; None for a record's."""
    module: ModuleType | None = sys.modules.get(kind.__module__)
    for name, value in vars(module).items() if module else ():
        if name != kind.__name__ and kind.__name__.startswith(name) and (value is kind or kind in get_args(value)):
            return _kebab(kind.__name__.removeprefix(name))
    return None


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
