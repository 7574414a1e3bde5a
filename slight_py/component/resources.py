"""`canon resource.new`, `resource.drop` and `resource.rep`; the other built-in functions are in builtins.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bindgen.runtime import GuestFault, Import
from slight_py.component import builtins
from slight_py.component.handles import Resource, dropped, key_of
from slight_py.component.instance import ComponentInstance
from slight_py.component.plan import Builtin
from slight_py.component.types import ResourceType
from slight_py.engine import AtOnce, ExportedFunction, Harmless, UnsupportedModule


@dataclass(frozen=True, slots=True)
class Destructor:
    """A core function that ends a resource, and the component instance that it belongs to."""

    function: ExportedFunction
    part: int


def builtin(of: Builtin, destructor: Destructor | None) -> Import:
    """What answers a built-in function. Raises UnsupportedModule for one that isn't known."""
    resource = of.type
    if isinstance(resource, ResourceType):
        match of.name:
            case "resource.new":
                return _new(resource, destructor)
            case "resource.rep":
                return _rep(resource)
            case "resource.drop":
                return _drop(resource, of.instance)
    found = builtins.builtin(of)
    if found is None:
        raise UnsupportedModule(f"the built-in function {of.name} is not supported")
    return found


def _new(resource: ResourceType, destructor: Destructor | None) -> Import:
    where = f"resource.new of {resource.key or 'a resource'}"

    def answer(_host: Any, guest: Any, args: tuple[int]) -> int:
        destroy = None if destructor is None else _destroyer(guest.whole, destructor)
        handle: int = guest.handles.add(resource, Resource(resource, args[0], destroy), where)
        return handle

    return AtOnce("component", where, "i", "i", answer)


def _destroyer(instance: ComponentInstance, destructor: Destructor) -> Any:
    async def destroy(rep: int) -> None:
        await instance.call(destructor.function, (rep,))

    return destroy


def _rep(resource: ResourceType) -> Import:
    where = f"resource.rep of {resource.key or 'a resource'}"

    def answer(_host: Any, guest: Any, args: tuple[int]) -> int:
        rep: int = guest.handles.get(resource, args[0], where).rep
        return rep

    return Harmless("component", where, "i", "i", answer)


def _drop(resource: ResourceType, caller: int) -> Import:
    where = f"resource.drop of {resource.key or 'a resource'}"
    key = key_of(resource)

    def drop(_host: Any, guest: Any, args: tuple[int]) -> None:
        value = guest.handles.drop(key, args[0], where)
        if value is not None:
            dropped(value)

    async def drop_local(_host: Any, guest: Any, args: tuple[int]) -> None:
        value = guest.handles.drop(key, args[0], where)
        if isinstance(value, Resource):
            if resource.instance != caller and guest.whole.part(resource.instance or 0).entered:
                raise GuestFault(f"{where}: cannot enter component instance: it is called by the caller")
            await value.drop()

    if resource.instance is None:
        return AtOnce("component", where, "i", "", drop)
    return Import("component", where, "i", "", drop_local)
