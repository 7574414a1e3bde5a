"""One wasmtime store, the instances in it, and the calls that are under way: the C API without its asynchrony.

A guest runs on its own stack (a fiber) inside `wasmtime_call_future_poll`. When it calls an import, the C API calls
back on that stack; the callback does nothing but note the call, and the poll returns. Whoever polls then has the import
answered on the thread's own stack, and polls again.

While a guest waits, its memory is read and written, and its turn renewed: wasmtime's header forbids to touch the store
of a call under way, but version 50 reads both anew when the guest goes on. Look again with each version.

Most stores hold one instance. A component of several modules has an instance of each of them in one store, and they
share functions, memories, tables and globals. Exports are known by one number: `export_number` puts it together.

There may be one call into a guest, and others nested in it, each made while the guest waits for an import. A nested
call runs inside the poll of the outer one, since that is where the guest's stacks may be used.

`_store.c` is the same in C, and is used where it was built; this is what it is measured and tested against. Ownership
of every pointer follows the headers of wasmtime's C API, `wasmtime/async.h` first of all.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from ctypes import addressof, c_bool, c_char, c_size_t, c_uint64, c_void_p
from struct import Struct
from typing import TYPE_CHECKING, Any

from slight_py import capi
from slight_py.capi import function

DONE, YIELDED, CALLED, REFUSED, TRAPPED, FAILED = range(6)
"""What `advance` says: the calls are made · the guest's turn is over · it has called an import · it has called one
where it must not · it has trapped · it has ended with an error, which may be an exit."""

MAX_DEPTH = 16
"""How many calls may be nested: a guest calls an import, which calls it (to allocate, say), and so on."""

MAX_PARAMS = 16

EXPORT_BITS = 20
"""An export's number holds its place among the exports of its instance in so many bits: a module has a million exports
at most. The number of the instance is in the bits above."""

HARMLESS = 1 << 31
"""Added to the number of an import that a guest may call at any time, in a guarded call, too: it reaches nothing but
the instance's own state."""


def export_number(instance: int, place: int) -> int:
    """The number of the export at a place of an instance, both counted from 0."""
    return instance << EXPORT_BITS | place


_store_new = function("store_new", c_void_p, c_void_p, c_void_p, c_void_p)
_store_context = function("store_context", c_void_p, c_void_p)
_store_delete = function("store_delete", None, c_void_p)
_store_limiter = function("store_limiter", None, c_void_p, *[ctypes.c_int64] * 5)
_set_epoch_deadline = function("context_set_epoch_deadline", None, c_void_p, ctypes.c_uint64)
_yield_on_epoch = function("context_epoch_deadline_async_yield_and_update", None, c_void_p, ctypes.c_uint64)
_get_data = function("context_get_data", c_void_p, c_void_p)
_caller_context = function("caller_context", c_void_p, c_void_p)
_caller_export = function("caller_export_get", c_bool, c_void_p, ctypes.c_char_p, c_size_t, c_void_p)
_instantiate = function("instance_pre_instantiate_async", c_void_p, *[c_void_p] * 5)
_linker_define = function(
    "linker_define", c_void_p, c_void_p, c_void_p, ctypes.c_char_p, c_size_t, ctypes.c_char_p, c_size_t, c_void_p
)
_instantiate_further = function("linker_instantiate_async", c_void_p, *[c_void_p] * 6)
_export_get = function("instance_export_get", c_bool, c_void_p, c_void_p, ctypes.c_char_p, c_size_t, c_void_p)
_export_nth = function("instance_export_nth", c_bool, c_void_p, c_void_p, c_size_t, *[c_void_p] * 3)
_call_async = function("func_call_async", c_void_p, *[c_void_p] * 3, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p)
_poll = function("call_future_poll", c_bool, c_void_p)
_future_delete = function("call_future_delete", None, c_void_p)
_memory_data = function("memory_data", c_void_p, c_void_p, c_void_p)
_memory_size = function("memory_data_size", c_size_t, c_void_p, c_void_p)

# A value is a kind (one byte) and a union at offset 8, 32 bytes in all (`wasmtime/val.h`), and so is what an instance
# exports (`wasmtime/extern.h`). An instance is 16 bytes (`wasmtime/instance.h`).
_VAL_SIZE = 32
_Extern = c_uint64 * 4
_Instance = c_uint64 * 2
_UNION = 8
_MEMORY = 3
"""The kind of an export that is a memory."""
_KINDS = {"i": 0, "I": 1, "f": 2, "d": 3}
_LETTERS = "iIfd"
_UNIONS = {"i": "I20x", "I": "Q16x", "f": "f20x", "d": "d16x"}
_PACK = {letter: Struct("<B7x" + union) for letter, union in _UNIONS.items()}
_UNPACK = {letter: Struct("<8x" + union) for letter, union in _UNIONS.items()}


@functools.cache
def _packer(letters: str) -> tuple[list[int], Callable[..., bytes]]:
    """What packs the arguments of a call: the kind that stands before each value, and a Struct's method."""
    return [_KINDS[letter] for letter in letters], Struct("<" + "".join("B7x" + _UNIONS[each] for each in letters)).pack


# The callbacks. They run on the guest's stack and must not raise. What they are given is a token: the number of the
# store, and how deep the call is nested in others.

_stores: dict[int, Store] = {}
_numbers = itertools.count(1)
_DEPTH_BITS = 4
_CONTINUATION = Struct("<QQQ")


def _resume(token: int) -> bool:
    """Polled until the import's answer is in place."""
    return _stores[token >> _DEPTH_BITS]._resumed(token % MAX_DEPTH)


def _enter(
    number: int | None, caller: int, args: int, count: int, results: int, _nresults: int, _trap: int, continuation: int
) -> None:
    """A guest calls an import."""
    store = _stores[_get_data(_caller_context(caller))]
    number = number or 0
    if store._memory is None:
        store._note_memory(caller)
    code = _CONTINUATION.pack(_RESUME, store._entered(number, args, count, results), 0)
    ctypes.memmove(continuation, code, len(code))


_CALLBACKS = (
    ctypes.CFUNCTYPE(c_bool, c_void_p)(_resume),
    ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p)(_enter),
)
_RESUME, _ENTER = (ctypes.cast(callback, c_void_p).value or 0 for callback in _CALLBACKS)


class _Activation:
    """Calls into a guest, one after the other, and the import that it called meanwhile, if it waits for one."""

    __slots__ = ("answered", "calls", "function", "future", "guarded", "imported", "params", "result", "results")

    def __init__(self, guarded: bool, calls: list[bytes], function: int = 0, params: int = 0, result: str = "") -> None:
        self.guarded = guarded
        self.calls = calls
        """The arguments of the calls that are still to be made, the first last."""
        self.function = function
        self.params = params
        self.result = result
        self.results: list[Any] = []
        self.future: int | None = None
        self.imported: tuple[int, int, int, int] | None = None
        """The import that the guest called: its number, where its arguments are and how many, where results go."""
        self.answered = False


class Store:
    """A store and the instances in it. It belongs to one thread at a time, and must be closed.

    A call is `begin`, then `advance` until that says DONE, then `results` and `end`. CALLED in between asks for
    `imported` and `answer`; calls that are begun before the answer are nested.
    """

    __slots__ = (
        "_args",
        "_args_at",
        "_callers_memory",
        "_context",
        "_error",
        "_externs",
        "_instances",
        "_memory",
        "_number",
        "_refused",
        "_stack",
        "_state",
        "_store",
        "_trap",
    )

    def __init__(self, engine: int, memory: int, table_elements: int, driver: int) -> None:
        """`engine` and `driver` are addresses. The limits are in bytes and elements. `driver` is a linker with the
        driver in it, which is of use to the form in C alone."""
        self._number = next(_numbers)
        self._store: int | None = _store_new(engine, self._number, None)
        self._context = _store_context(self._store)
        _store_limiter(self._store, memory, table_elements, -1, -1, -1)
        _yield_on_epoch(self._context, 1)
        _set_epoch_deadline(self._context, 1)
        self._externs: dict[int, Any] = {}
        self._memory: int | None = None
        self._callers_memory: Any = None
        self._instances: list[Any] = []
        self._trap = c_void_p()
        self._error = c_void_p()
        self._refused = 0
        self._state = DONE
        # Arguments, and behind them the result. Calls copy their arguments at once, so one place serves all of them.
        self._args = (c_char * (_VAL_SIZE * (MAX_PARAMS + 1)))()
        self._args_at = addressof(self._args)
        self._stack: list[_Activation] = []
        _stores[self._number] = self

    def close(self) -> None:
        """Ends the calls under way and the instance."""
        while self._stack:
            self.end()
        if self._store is not None:
            _store_delete(self._store)
            self._store = None
            self._memory = self._callers_memory = None
            self._externs.clear()
            self._instances.clear()
            del _stores[self._number]

    def instantiate(self, pre: int) -> None:
        """Begins the instantiation of what `pre` is the address of."""
        self._stack_instantiation()
        where = addressof(self._instances[-1]), addressof(self._trap), addressof(self._error)
        self._stack[-1].future = _instantiate(pre, self._context, *where)

    def instantiate_further(self, linker: int, module: int) -> None:
        """Begins the instantiation of another module, both given by their addresses. Until it is done, the linker must
        be there.

        Raises RuntimeError while a call is under way.
        """
        if self._stack:
            raise RuntimeError("a call is under way")
        self._stack_instantiation()
        where = addressof(self._instances[-1]), addressof(self._trap), addressof(self._error)
        self._stack[-1].future = _instantiate_further(linker, self._context, module, *where)

    def _stack_instantiation(self) -> None:
        self._push(_Activation(False, []))
        self._trap.value = self._error.value = None
        self._instances.append(_Instance())

    def define(self, linker: int, module: str, name: str, instance: int, export: str) -> int:
        """Has a linker give an export of an instance to a module that imports it as `name` of `module`. Returns 0, or
        the address of an error, which is the caller's. Raises IndexError where there is no such export.

        By its name and not by its place: to find the n-th export takes wasmtime n steps.
        """
        extern = _Extern()
        found, wanted = addressof(extern), export.encode()
        there = 0 <= instance < len(self._instances)
        if not there or not _export_get(
            self._context, addressof(self._instances[instance]), wanted, len(wanted), found
        ):
            raise IndexError(f"there is no export {export}")
        place, what = module.encode(), name.encode()
        return _linker_define(linker, self._context, place, len(place), what, len(what), found) or 0

    def set_memory(self, index: int) -> None:
        """Says which export is the memory."""
        self._memory = addressof(self._extern(index)) + _UNION

    def memory_at(self, index: int) -> memoryview:
        """The exported memory at `index` as it is now. It is stale once the guest has run.

        Raises IndexError where there is none.
        """
        found = self._extern(index)
        if found[0] & 0xFF != _MEMORY:
            raise IndexError(f"the export {index} is no memory")
        at = addressof(found) + _UNION
        return _view(_memory_data(self._context, at), _memory_size(self._context, at))

    @property
    def memory(self) -> memoryview | None:
        """The memory as it is now. It is stale once the guest has run."""
        if self._memory is None:
            return None
        return _view(_memory_data(self._context, self._memory), _memory_size(self._context, self._memory))

    @property
    def callers_memory(self) -> memoryview | None:
        """The memory that the guest exported when it called an import before `set_memory`, from its start function."""
        if self._callers_memory is None:
            return None
        at = addressof(self._callers_memory) + _UNION
        return _view(_memory_data(self._context, at), _memory_size(self._context, at))

    def begin(self, index: int, params: str, result: str, calls: Sequence[Sequence[Any]], guarded: bool) -> None:
        """Begins to call the export at `index` once for each of `calls`. `guarded` refuses it the imports.

        Raises RecursionError where too many calls are nested, IndexError where there is no such export.
        """
        address = addressof(self._extern(index)) + _UNION
        kinds, pack = _packer(params)
        chain = itertools.chain.from_iterable
        packed = [pack(*chain(zip(kinds, args, strict=True))) for args in reversed(calls)]
        self._push(_Activation(guarded, packed, address, len(params), result))

    def _push(self, activation: _Activation) -> None:
        if len(self._stack) == MAX_DEPTH:
            raise RecursionError("calls are nested too deep")
        self._stack.append(activation)

    def _extern(self, index: int) -> Any:
        found = self._externs.get(index)
        if found is None:
            found = _Extern()
            name, length = c_void_p(), c_size_t()
            instance, place = index >> EXPORT_BITS, index & ((1 << EXPORT_BITS) - 1)
            where = (addressof(name), addressof(length), addressof(found))
            if not 0 <= instance < len(self._instances) or not _export_nth(
                self._context, addressof(self._instances[instance]), place, *where
            ):
                raise IndexError(f"there is no export {index}")
            self._externs[index] = found
        return found

    def start(self, pre: int) -> int:
        """`instantiate`, and what the first `advance` says."""
        self.instantiate(pre)
        return self.advance()

    def call(
        self, index: int, params: str, result: str, calls: Sequence[Sequence[Any]], guarded: bool
    ) -> list[Any] | int:
        """The results of calls that are made at once, from `begin` to `end`; else what the first `advance` says, to go
        on from. Raises what `begin` does."""
        self.begin(index, params, result, calls, guarded)
        state = self.advance()
        if state != DONE:
            return state
        results = self.results()
        self.end()
        return results

    def advance(self) -> int:
        """Runs the guest until the innermost calls are made, it has called an import, or its turn is over."""
        self._advance(self._stack[0])
        top = self._stack[-1]
        if self._state == DONE and (top.future is not None or top.calls):
            return YIELDED if top.imported is None else CALLED
        return self._state

    def _advance(self, activation: _Activation) -> None:
        """Advances one level. One that is nested is advanced on the stack of the one around it."""
        results = self._args_at + MAX_PARAMS * _VAL_SIZE
        while self._state == DONE:
            if activation.future is None:
                if not activation.calls:
                    return
                args = activation.calls.pop()
                ctypes.memmove(self._args_at, args, len(args))
                self._trap.value = self._error.value = None
                activation.future = _call_async(
                    *(self._context, activation.function, self._args_at, activation.params),
                    *(results, len(activation.result), addressof(self._trap), addressof(self._error)),
                )
            if not _poll(activation.future):
                return
            _future_delete(activation.future)
            activation.future = None
            if self._trap.value or self._error.value:
                self._state = TRAPPED if self._trap.value else FAILED
            elif activation.result:
                value = _UNPACK[activation.result].unpack_from(self._args, MAX_PARAMS * _VAL_SIZE)[0]
                activation.results.append(value)
            elif activation.function:
                activation.results.append(None)

    def imported(self) -> tuple[int, tuple[Any, ...]]:
        """The import that the guest called: its number, and the flat arguments."""
        top = self._stack[-1]
        assert top.imported is not None
        number, args, count, _ = top.imported
        data = ctypes.string_at(args, count * _VAL_SIZE)
        starts = range(0, len(data), _VAL_SIZE)
        return number, tuple(_UNPACK[_LETTERS[data[at]]].unpack_from(data, at)[0] for at in starts)

    def answer(self, result: str, value: Any) -> None:
        """Puts the answer of that import in place."""
        top = self._stack[-1]
        assert top.imported is not None
        if result:
            ctypes.memmove(top.imported[3], _PACK[result].pack(_KINDS[result], value), _VAL_SIZE)
        top.imported = None
        top.answered = True

    def go_on(self, result: str, value: Any) -> int:
        """`answer`, and what `advance` says."""
        self.answer(result, value)
        return self.advance()

    def renew(self) -> None:
        """Begins the guest's turn anew: it yields when it has computed for as long as if it had just begun. A store
        that was closed meanwhile stays as it is."""
        if self._store is not None:
            _set_epoch_deadline(self._context, 1)

    def results(self) -> list[Any]:
        """What the innermost calls returned, None for a function without a result."""
        return self._stack[-1].results

    def end(self) -> None:
        """Ends the innermost calls, whether they are made or not."""
        if self._stack:
            activation = self._stack.pop()
            if activation.future is not None:
                _future_delete(activation.future)

    def failure(self) -> int | None:
        """What made `advance` say TRAPPED or FAILED, as an address that is the caller's to release; for REFUSED, the
        number of the import."""
        failed = {TRAPPED: self._trap.value, FAILED: self._error.value}.get(self._state, self._refused)
        self._trap.value = self._error.value = None
        return failed

    # On the guest's stack.

    def _note_memory(self, caller: int) -> None:
        found = _Extern()
        if _caller_export(caller, b"memory", 6, addressof(found)) and found[0] & 0xFF == _MEMORY:
            self._callers_memory = found

    def _entered(self, number: int, args: int, count: int, results: int) -> int:
        """It calls an import. Returns the token to resume it with."""
        depth = len(self._stack) - 1
        top = self._stack[depth]
        top.answered = False
        if top.guarded and not number & HARMLESS:
            self._state, self._refused = REFUSED, number
        else:
            top.imported = (number & ~HARMLESS, args, count, results)
        return self._number << _DEPTH_BITS | depth

    def _resumed(self, depth: int) -> bool:
        """An import that it called is polled. True once the answer is in place."""
        if self._state == DONE and depth + 1 < len(self._stack):
            self._advance(self._stack[depth + 1])
            return False
        return self._state == DONE and self._stack[depth].answered


_views: dict[tuple[int, int], memoryview] = {}


def _view(base: int, size: int) -> memoryview:
    """The memory at `base`. Slots of the pool come again, so their views are kept."""
    view = _views.get((base, size))
    if view is None:
        if len(_views) > 4096:
            _views.clear()
        view = memoryview((ctypes.c_ubyte * size).from_address(base)).cast("B")
        _views[base, size] = view
    return view


enter_address = _ENTER
"""What imports are defined with: the address of a `wasmtime_func_async_callback_t`, its data the import's number."""

driver_address = 0
"""The address of a `wasmtime_func_unchecked_callback_t` that makes several calls in one, or 0 where there is none."""

if not TYPE_CHECKING and not os.environ.get("SLIGHT_PY_PURE"):
    try:
        from slight_py import _store
    except ImportError:
        pass
    else:
        enter_address, driver_address = _store.setup(capi.address, _VAL_SIZE, ctypes.sizeof(_Extern))
        PureStore, Store = Store, _store.Store
