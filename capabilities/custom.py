"""Capabilities that come from elsewhere: their Python files, what is asked of their classes, and their exceptions.

This is code that the user chose to run, with all the rights of this process. It is checked so that a mistake in it is
named where it is made, not to keep it from anything. docs/custom-capabilities.md is for those who write it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from capabilities.http.access import printable
from capabilities.registry import Family, RegistryError, ResourceType

TEXT_LIMIT = 300
"""How many characters of an exception's text are shown."""

_PACKAGES = "slight_py_file_"
"""How the names of the packages begin that stand for folders of Python files."""


# A class in a Python file, which a slightfile names.


def declared(name: str, path: str, class_name: str) -> tuple[ResourceType, Family]:
    """What the class in the file at the absolute `path` says of itself, under the `name` that a slightfile gives it.

    Its `INTERFACES` are the generated modules of the interfaces that it serves, REQUIRED and OPTIONAL its config keys.
    Raises RegistryError where the file can't be imported, or the class is not as it must be.
    """
    found = load_class(path, class_name)
    required, optional = (_config_keys(found, attribute) for attribute in ("REQUIRED", "OPTIONAL"))
    if not _accepts(found, 1):
        raise RegistryError(
            f"{class_name} can't be made from its configs; write `def __init__(self, configs: Mapping[str, str])`"
        )
    return ResourceType(name, name, required, optional, f"{path}:{class_name}"), Family(name, _interfaces(found))


def load_class(path: str, name: str) -> type:
    """The class `name` in the Python file at the absolute `path`. Raises RegistryError."""
    module = load(path)
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    file = os.path.basename(path)
    if found is not None:
        raise RegistryError(f"{name} in {file} is not a class; name the class that serves the interface")
    choices = [each for each, value in vars(module).items() if isinstance(value, type) and hasattr(value, "INTERFACES")]
    hint = f"there is {', '.join(choices)}" if choices else "write it, or correct the name"
    raise RegistryError(f"{file} has no class {name!r}; {hint}")


def load(path: str) -> ModuleType:
    """The module of the Python file at the absolute `path`, imported once. Raises RegistryError.

    It belongs to a package of its own whose folder is that of the file, so what lies beside it can be imported as
    `from . import greeter_bindings`, and by nobody else.
    """
    folder, file = os.path.split(path)
    stem = file.removesuffix(".py")
    if not os.path.isfile(path):
        raise RegistryError(f"there is no file {path!r}; the path counts from the slightfile's folder")
    if not stem.isidentifier():
        raise RegistryError(f"{file!r} can't be imported by its name; rename it to letters, digits and _")
    name = f"{_package(folder)}.{stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = describe(error, folder).replace(f"{_package(folder)}.", "")
        raise RegistryError(f"{file} can't be imported: {reason}{_hint(error, folder)}") from error
    return module


def _package(folder: str) -> str:
    """The name of the package that stands for a folder of Python files, the same in every process."""
    name = f"{_PACKAGES}{hashlib.sha256(folder.encode(errors='surrogateescape')).hexdigest()[:16]}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    return name


def is_of_file(module: str) -> bool:
    """Whether the module of that name is a Python file that a slightfile names, or lies beside one."""
    return module.startswith(_PACKAGES)


def _hint(error: BaseException, folder: str) -> str:
    """What to do about a module that a file imports and that isn't found."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    if error.name.startswith(f"{_package(folder)}."):
        return "; it must lie beside the file"
    beside = os.path.join(folder, error.name)
    if os.path.exists(f"{beside}.py") or os.path.isdir(beside):
        return f"; it lies beside the file, so write `from . import {error.name}`"
    return "; install it with pip"


def _interfaces(found: type) -> dict[str, str]:
    """The generated modules of the interfaces that a class serves, by name."""
    modules = getattr(found, "INTERFACES", None)
    if not isinstance(modules, tuple | list) or not modules:
        raise RegistryError(
            f"{found.__name__} does not say which interfaces it serves; write `INTERFACES = (greeter,)` in the class, "
            "for the module `greeter` that `slight-py bindgen python` makes of your interface"
        )
    interfaces: dict[str, str] = {}
    for module in modules:
        imports = getattr(module, "IMPORTS", ())
        if not isinstance(module, ModuleType) or not imports:
            shown = module.__name__.rpartition(".")[2] if isinstance(module, ModuleType) else repr(module)[:80]
            raise RegistryError(
                f"INTERFACES of {found.__name__} holds {shown}, which is no module that "
                "`slight-py bindgen python` made of an interface that guests import"
            )
        interfaces[imports[0].module] = module.__name__
    return interfaces


def _config_keys(found: type, attribute: str) -> tuple[str, ...]:
    keys = getattr(found, attribute, ())
    if not isinstance(keys, tuple | list) or not all(isinstance(key, str) and key for key in keys):
        raise RegistryError(f'{attribute} of {found.__name__} must be a tuple of texts, as in {attribute} = ("KEY",)')
    return tuple(keys)


# What answers an interface.


def faults(host: object, bindings: ModuleType) -> list[str]:
    """What keeps an object from answering the interface of a generated module, one line a method; nothing where it can.

    Only the methods of the module's Protocol `...Host` are looked at. What they return shows when a guest calls it.
    """
    protocol = getattr(bindings, bindings.IMPORTS[0].call.__annotations__["host"])
    wanted = [function for name, function in vars(protocol).items() if name[0] != "_" and inspect.isfunction(function)]
    return [fault for function in wanted if (fault := _fault(host, function))]


def _fault(host: object, wanted: Callable[..., Any]) -> str:
    name = wanted.__name__
    parameters = [*inspect.signature(wanted).parameters]
    head = f"async def {name}({', '.join(parameters)})"
    found = getattr(host, name, None)
    what = type(host).__name__
    if not callable(found) or getattr(found, "__func__", None) is wanted:  # a Protocol's own methods do nothing
        return f"{what} has no method {name}; add `{head}`"
    if inspect.isroutine(found) and not inspect.iscoroutinefunction(inspect.unwrap(found)):
        return f"{what}.{name} is no coroutine; write `{head}`"
    if not _accepts(found, len(parameters) - 1):
        return f"{what}.{name} takes other parameters; write `{head}`"
    return ""


def _accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a function of C's, which doesn't say
        return True
    return True


# Exceptions.


def describe(error: BaseException, folder: str, *, secret: bool = False) -> str:
    """An exception in one line: what it is, and the last place of `folder` that it came through.

    With `secret`, its text may hold a value of the configuration: it's left out, unless the call itself was wrong.
    """
    text, place = str(error), _place(error, folder)
    if isinstance(error, SyntaxError) and error.filename:
        text, place = error.msg, f"{error.filename}:{error.lineno}"
    if secret and error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        text = ""
    text = printable(" ".join(text.split()), TEXT_LIMIT)
    return f"{type(error).__name__}{f': {text}' if text else ''}{f', at {place}' if place else ''}"


def _place(error: BaseException, folder: str) -> str:
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.startswith(os.path.join(folder, ""))
    ]
    return places[-1] if folder and places else ""


def home(made_by: object) -> str:
    """The folder of the file that a class or a function is from; "" where it's from none."""
    file = getattr(sys.modules.get(getattr(made_by, "__module__", "")), "__file__", None)
    return os.path.dirname(file) if file else ""
