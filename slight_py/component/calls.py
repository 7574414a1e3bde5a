"""Calls of component functions by their types at run time: from the host by name, and from one component to another.

Rules and their order are those of CanonicalABI.md, `canon_lift` and `canon_lower`. A rule that is broken is a
GuestFault or a Trap, and ends all component instances of the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bindgen.runtime import GuestFault, Import
from slight_py.component import task_calls
from slight_py.component.handles import BorrowScope
from slight_py.component.instance import ComponentInstance, Guest, Lifted
from slight_py.component.task_calls import params_of, result_of
from slight_py.engine import Trap


async def call(instance: ComponentInstance, export: Lifted, args: Sequence[Any]) -> Any:
    """Calls an exported function with values as `values.py` has them; returns its result, None without one.

    Raises GuestFault or Trap where the guest breaks a rule, ValueError for values of another type.
    """
    results = await _call(instance, export, args, export.name)
    return results[0] if results else None


async def _call(instance: ComponentInstance, export: Lifted, args: Sequence[Any], where: str) -> list[Any]:
    """Calls an exported function; returns its results, none or one of them."""
    if export.type.is_async:
        return [await task_calls.call(instance.guest(export), export, args, where)]
    part = instance.part(export.place.part)
    if part.entered:
        raise GuestFault(f"{where}: cannot enter component instance: a call of it isn't done")
    part.entered = True
    try:
        guest = instance.guest(export)
        scope = BorrowScope()
        flat_args = await params_of(export.type).lower(guest, args, where, scope)
        flat = await instance.call(export, flat_args)
        results = result_of(export.type).lift(guest, [] if flat is None else [flat], where)
        if scope.borrows:
            raise GuestFault(f"{where}: {scope.borrows} borrow handles still remain at the end of the call")
        await instance.finish(export, flat)
    except (GuestFault, Trap) as fault:
        instance.fail(fault)
        raise
    finally:
        part.entered = False
    return results


def between(name: str, params: str, result: str, export: Lifted, is_async: bool = False) -> Import:
    """What answers a component that imports a function of another one; `is_async` if it doesn't wait for the answer."""
    if is_async or export.type.is_async:
        return _between_async(name, params, result, export, is_async)
    passed, returned = params_of(export.type), result_of(export.type)

    async def answer(_host: Any, caller: Guest, args: tuple[Any, ...]) -> Any:
        lenders: list[int] = []
        values = passed.lift(caller, args, name, lenders)
        results = await _call(caller.whole, export, values, name)
        out = args[-1] if returned.in_memory else None
        flat = await returned.lower(caller, results, name, out=out)
        for index in lenders:
            caller.handles.give_back(index)
        return flat[0] if flat else None

    return Import("component", name, params, result, answer)


def _between_async(name: str, params: str, result: str, export: Lifted, is_async: bool) -> Import:
    async def answer(_host: Any, caller: Guest, args: tuple[Any, ...]) -> Any:
        return await task_calls.call_component(caller, caller.whole.guest(export), export, args, is_async, name)

    return Import("component", name, params, result, answer)


def refused(name: str, params: str, result: str) -> Import:
    """What answers a component that calls the one it is nested in, or one nested in it: the component model lets no
    call go in a circle, and refuses all of these."""

    async def answer(_host: Any, _guest: Any, _args: tuple[Any, ...]) -> Any:
        raise GuestFault(f"{name}: cannot enter component instance: it is nested in the caller, or the caller in it")

    return Import("component", name, params, result, answer)
