"""What is used of aiohttp: its parser, imported without its client.

The package's `__init__` imports the client, which takes longer than all else and more memory: it reads the
certificates of all authorities, for one. So the package is put in place without its `__init__`, which runs as soon as
somebody asks for a name that it would have set: a capability that uses `aiohttp.ClientSession`, say.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any


def _without_init(spec: ModuleSpec) -> ModuleType:
    """The package with nothing in it but its version, by which its modules name themselves to their peers."""
    package = module_from_spec(spec)
    code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]  # it was found, so there is a loader
    package.__dict__["__version__"] = code.co_consts[0]  # its first statement
    return package


def _complete_on_demand(package: ModuleType, spec: ModuleSpec) -> None:
    """Runs the package's `__init__` when a name is missing (PEP 562)."""
    lock = RLock()
    begun = False

    def look_up(name: str) -> Any:
        nonlocal begun
        submodule = f"{spec.name}.{name}"
        if find_spec(submodule) is not None:  # which may be asked for by one that is being imported
            return import_module(submodule)
        with lock:
            if begun:  # by another thread, or `__init__` itself asks
                if name in vars(package):
                    return vars(package)[name]
                raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")
            begun = True
            try:
                spec.loader.exec_module(package)  # type: ignore[union-attr]  # as above
            except BaseException:  # whatever it is goes to who asked, and the next one tries again
                begun = False
                raise
        return getattr(package, name)

    package.__dict__["__getattr__"] = look_up


_spec = find_spec("aiohttp") if "aiohttp" not in sys.modules else None
if _spec is not None:
    _package = sys.modules["aiohttp"] = _without_init(_spec)

# Below the code that must run before them: hence E402.
from aiohttp.base_protocol import BaseProtocol  # noqa: E402
from aiohttp.http import HttpRequestParser, HttpVersion10, HttpVersion11, RawRequestMessage  # noqa: E402
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong  # noqa: E402
from aiohttp.streams import StreamReader  # noqa: E402

if _spec is not None:
    _complete_on_demand(_package, _spec)

__all__ = [
    "BadHttpMessage",
    "BadHttpMethod",
    "BaseProtocol",
    "HttpProcessingError",
    "HttpRequestParser",
    "HttpVersion10",
    "HttpVersion11",
    "LineTooLong",
    "RawRequestMessage",
    "StreamReader",
]
