"""Reads the canonical functions of a component: what is lifted, what is lowered, and the built-in functions.

Source: "Component Model Binary Format Explainer", "Canonical Definitions"; the rules for options and the types of
core functions are those of "Canonical ABI Explainer", sections "canon lift" and following.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slight_py.component import core_module
from slight_py.component.items import NOWHERE, CoreItem
from slight_py.component.matching import core_text
from slight_py.component.plan import Builtin, BuiltinName, CoreExport, CoreFunction, Encoding, LiftedFunction, Lower
from slight_py.component.plan import Options as PlanOptions
from slight_py.component.reading import Reader
from slight_py.component.scopes import Scope
from slight_py.component.type_section import TypeReader
from slight_py.component.types import (
    MAX_FLAT_ASYNC_PARAMS,
    MAX_FLAT_PARAMS,
    CoreFuncType,
    Field,
    FuncType,
    FutureOf,
    MemoryType,
    ResourceType,
    StreamOf,
    ValueType,
    lifted_core_type,
    lowered_core_type,
    params_in_memory,
    result_in_memory,
)

_REALLOC = CoreFuncType(("i32",) * 4, ("i32",))
_CALLBACK = CoreFuncType(("i32",) * 3, ("i32",))
_ENCODINGS: dict[int, Encoding] = {0: "utf8", 1: "utf16", 2: "latin1+utf16"}

_PLAIN: dict[int, tuple[BuiltinName, CoreFuncType]] = {
    0x05: ("task.cancel", CoreFuncType((), ())),
    0x0D: ("subtask.drop", CoreFuncType(("i32",), ())),
    0x1E: ("error-context.drop", CoreFuncType(("i32",), ())),
    0x1F: ("waitable-set.new", CoreFuncType((), ("i32",))),
    0x22: ("waitable-set.drop", CoreFuncType(("i32",), ())),
    0x23: ("waitable.join", CoreFuncType(("i32", "i32"), ())),
    0x24: ("backpressure.inc", CoreFuncType((), ())),
    0x25: ("backpressure.dec", CoreFuncType((), ())),
}
"""Built-in functions without anything to say about them."""
_RESOURCE: dict[int, tuple[BuiltinName, CoreFuncType]] = {
    0x02: ("resource.new", CoreFuncType(("i32",), ("i32",))),
    0x03: ("resource.drop", CoreFuncType(("i32",), ())),
    0x04: ("resource.rep", CoreFuncType(("i32",), ("i32",))),
}
_COPY = CoreFuncType(("i32", "i32", "i32"), ("i32",))
_COPY_ONE = CoreFuncType(("i32", "i32"), ("i32",))
_CANCEL = CoreFuncType(("i32",), ("i32",))
_DROP = CoreFuncType(("i32",), ())
_NEW = CoreFuncType((), ("i64",))
_STREAM: dict[int, tuple[BuiltinName, CoreFuncType]] = {
    0x0E: ("stream.new", _NEW),
    0x0F: ("stream.read", _COPY),
    0x10: ("stream.write", _COPY),
    0x11: ("stream.cancel-read", _CANCEL),
    0x12: ("stream.cancel-write", _CANCEL),
    0x13: ("stream.drop-readable", _DROP),
    0x14: ("stream.drop-writable", _DROP),
    0x15: ("future.new", _NEW),
    0x16: ("future.read", _COPY_ONE),
    0x17: ("future.write", _COPY_ONE),
    0x18: ("future.cancel-read", _CANCEL),
    0x19: ("future.cancel-write", _CANCEL),
    0x1A: ("future.drop-readable", _DROP),
    0x1B: ("future.drop-writable", _DROP),
}
_READS = (0x0F, 0x16)
_COPIES = (0x0F, 0x10, 0x16, 0x17)
_CANCELS = (0x11, 0x12, 0x18, 0x19)
_UNSUPPORTED = {
    0x26: "thread.index",
    0x27: "thread.new-indirect",
    0x28: "thread.resume-later",
    0x29: "thread.suspend",
    0x2A: "thread.suspend-then-resume",
    0x2B: "thread.yield-then-resume",
    0x2C: "thread.suspend-then-promote",
    0x2D: "thread.yield-then-promote",
    0x2E: "stream.forward",
    0x2F: "future.forward",
    0x40: "thread.spawn-ref",
    0x41: "thread.spawn-indirect",
    0x42: "thread.available-parallelism",
}


@dataclass(slots=True)
class _Options:
    """The canonical options as they are read, with the types of the core functions among them."""

    memory: CoreExport | None = None
    realloc: CoreItem | None = None
    post_return: CoreItem | None = None
    callback: CoreItem | None = None
    is_async: bool = False
    encoding: Encoding | None = None

    def plan(self) -> PlanOptions:
        return PlanOptions(
            self.memory,
            _source(self.realloc),
            _source(self.post_return),
            _source(self.callback),
            self.is_async,
            self.encoding or "utf8",
        )


def _source(item: CoreItem | None) -> CoreFunction | None:
    return None if item is None else item.source


class CanonReader:
    """Reads canonical functions from a range of the file into a scope."""

    def __init__(self, scope: Scope, reader: Reader, types: TypeReader) -> None:
        self.scope = scope
        self.reader = reader
        self.types = types
        self.instance = NOWHERE if scope.number is None else scope.number
        self.at = reader.at

    def read(self) -> None:
        """One definition. Raises InvalidComponent and UnsupportedComponent."""
        reader = self.reader
        self.at = self.scope.work.at = reader.at
        self.scope.work.spend(1)
        opcode = reader.byte()
        if opcode in _UNSUPPORTED:
            raise reader.unsupported(f"the built-in function {_UNSUPPORTED[opcode]} is not supported", self.at)
        if opcode in _PLAIN:
            self._builtin(*_PLAIN[opcode])
        elif opcode in _RESOURCE:
            self._resource(opcode)
        elif opcode in _STREAM:
            self._stream(opcode)
        else:
            self._other(opcode)

    def _other(self, opcode: int) -> None:
        match opcode:
            case 0x00:
                self._lift()
            case 0x01:
                self._lower()
            case 0x06:
                self._builtin("subtask.cancel", _CANCEL, PlanOptions(is_async=self.reader.flag()))
            case 0x09:
                self._task_return()
            case 0x0A:
                self._context("context.get", CoreFuncType((), ("i32",)))
            case 0x0B:
                self._context("context.set", CoreFuncType(("i32",), ()))
            case 0x0C:
                self._builtin("thread.yield", CoreFuncType((), ("i32",)), is_cancellable=self.reader.flag())
            case 0x1C:
                self._error_context("error-context.new", _COPY_ONE)
            case 0x1D:
                self._error_context("error-context.debug-message", CoreFuncType(("i32", "i32"), ()))
            case 0x20:
                self._waitable_set("waitable-set.wait")
            case 0x21:
                self._waitable_set("waitable-set.poll")
            case _:
                raise self.reader.invalid(f"{opcode:#x} is no canonical function", self.at)

    def _builtin(
        self,
        name: BuiltinName,
        core_type: CoreFuncType,
        options: PlanOptions | None = None,
        type_: ValueType | ResourceType | None = None,
        is_cancellable: bool = False,
        slot: int = 0,
    ) -> None:
        builtin = Builtin(name, self.instance, core_type, type_, options or PlanOptions(), is_cancellable, slot)
        self.scope.spaces["core func"].append(CoreItem(builtin, core_type))

    # Lifting and lowering.

    def _lift(self) -> None:
        self.reader.expect(0, "for a function")
        core: CoreItem = self.scope.get("core func", self.reader)
        options = self._options()
        type_ = self._function_type()
        self._check_async(type_, options)
        self._check_lift_options(core, options)
        self._need_for_lift(type_, options)
        self._same(core, lifted_core_type(type_, options.is_async, options.callback is not None))
        assert isinstance(core.type, CoreFuncType)
        lifted = LiftedFunction(core.source, type_, options.plan(), self.instance, core.type)
        self.scope.spaces["func"].append(lifted)

    def _function_type(self) -> FuncType:
        at = self.reader.at
        found = self.scope.get("type", self.reader)
        if not isinstance(found, FuncType):
            raise self.reader.invalid("a type that is no function's where one is expected", at)
        return found

    def _check_async(self, type_: FuncType, options: _Options) -> None:
        if options.is_async and not type_.is_async:
            raise self._invalid("the option async is for functions of an async type")

    def _check_lift_options(self, core: CoreItem, options: _Options) -> None:
        assert isinstance(core.type, CoreFuncType)
        if options.post_return is not None:
            self._same(options.post_return, CoreFuncType(core.type.results, ()), "post-return")
        if options.callback is not None:
            self._same(options.callback, _CALLBACK, "callback")

    def _need_for_lift(self, type_: FuncType, options: _Options) -> None:
        spilled = params_in_memory(type_)
        self._need_realloc(options, spilled or any(each.type.has_pointer for each in type_.params))
        if type_.result is not None:
            pointer = type_.result.has_pointer
            spilled = type_.result.flat is None if options.is_async else result_in_memory(type_)
            self._need_memory(options, pointer or spilled)

    def _lower(self) -> None:
        self.reader.expect(0, "for a function")
        function = self.scope.get("func", self.reader)
        options = self._options()
        self._check_async(function.type, options)
        core_type = self._lowered(function.type, options)
        lowered = Lower(function, options.plan(), self.instance, core_type)
        self.scope.spaces["core func"].append(CoreItem(lowered, core_type))

    def _lowered(self, type_: FuncType, options: _Options) -> CoreFuncType:
        """The core type of what is lowered so. Makes sure that the options for that are there, and no others."""
        self._check_lower_options(options)
        most = MAX_FLAT_ASYNC_PARAMS if options.is_async else MAX_FLAT_PARAMS
        self._need_memory(options, params_in_memory(type_, most) or any(each.type.has_pointer for each in type_.params))
        if type_.result is not None:
            self._need_realloc(options, type_.result.has_pointer)
            self._need_memory(options, options.is_async or result_in_memory(type_))
        return lowered_core_type(type_, options.is_async)

    def _check_lower_options(self, options: _Options) -> None:
        for name, option in (("post-return", options.post_return), ("callback", options.callback)):
            if option is not None:
                raise self._invalid(f"the option {name} is for functions that are lifted")

    # Built-in functions.

    def _resource(self, opcode: int) -> None:
        name, core_type = _RESOURCE[opcode]
        at = self.reader.at
        found = self.scope.get("type", self.reader)
        if not isinstance(found, ResourceType):
            raise self.reader.invalid(f"{name} is for resources", at)
        if name != "resource.drop" and found not in self.scope.own_resources:
            raise self.reader.invalid(f"{name} is for a resource that the component itself defines", at)
        self._builtin(name, core_type, type_=found)

    def _stream(self, opcode: int) -> None:
        name, core_type = _STREAM[opcode]
        at = self.reader.at
        type_ = self.scope.get("type", self.reader)
        asked = StreamOf if opcode < 0x15 else FutureOf
        if not isinstance(type_, StreamOf | FutureOf) or not isinstance(type_, asked):
            raise self.reader.invalid(f"{name} is for another type", at)
        options = PlanOptions()
        if opcode in _COPIES:
            options = self._copy_options(type_, opcode in _READS)
        elif opcode in _CANCELS:
            options = PlanOptions(is_async=self.reader.flag())
        self._builtin(name, core_type, options, type_)

    def _copy_options(self, type_: StreamOf | FutureOf, is_read: bool) -> PlanOptions:
        options = self._options()
        self._check_lower_options(options)
        if type_.element is not None:
            self._need_memory(options, True)
            self._need_realloc(options, is_read and type_.element.has_pointer)
        return options.plan()

    def _task_return(self) -> None:
        result = self.types.result()
        options = self._options()
        if options.realloc is not None or options.is_async:
            raise self._invalid("task.return takes neither realloc nor async")
        params = () if result is None else (Field("result", result),)
        core_type = self._lowered(FuncType(params, None), options)
        self._builtin("task.return", core_type, options.plan(), result)

    def _context(self, name: BuiltinName, core_type: CoreFuncType) -> None:
        kind = core_module.value_type(self.reader)
        slot = self.reader.u32()
        if kind == "i64":
            raise self.reader.unsupported(f"{name} of an i64", self.at)
        if kind != "i32":
            raise self._invalid(f"{name} is for an i32")
        if slot > 0:
            raise self.reader.unsupported(f"{name} of another slot than the first, as threads have", self.at)
        self._builtin(name, core_type, slot=slot)

    def _error_context(self, name: BuiltinName, core_type: CoreFuncType) -> None:
        options = self._options()
        self._check_lower_options(options)
        if options.is_async:
            raise self._invalid(f"{name} doesn't take async")
        self._need_memory(options, True)
        self._need_realloc(options, name == "error-context.debug-message")
        self._builtin(name, core_type, options.plan())

    def _waitable_set(self, name: BuiltinName) -> None:
        is_cancellable = self.reader.flag()
        options = PlanOptions(memory=self._memory())
        self._builtin(name, _COPY_ONE, options, is_cancellable=is_cancellable)

    # Options.

    def _options(self) -> _Options:
        options = _Options()
        for _ in range(self.reader.count("canonical options", 10)):
            self._option(options)
        self._check_options(options)
        return options

    def _option(self, options: _Options) -> None:
        at = self.reader.at
        opcode = self.reader.byte()
        match opcode:
            case 0 | 1 | 2:
                self._set(options, "encoding", lambda: _ENCODINGS[opcode], at)
            case 3:
                self._set(options, "memory", self._memory, at)
            case 4:
                self._set(options, "realloc", self._core_function, at)
            case 5:
                self._set(options, "post_return", self._core_function, at)
            case 6:
                self._set(options, "is_async", lambda: True, at)
            case 7:
                self._set(options, "callback", self._core_function, at)
            case 8 | 9:
                raise self.reader.unsupported("the canonical ABI for garbage collected values", at)
            case _:
                raise self.reader.invalid(f"{opcode:#x} is no canonical option", at)

    def _set(self, options: _Options, name: str, read: Callable[[], Any], at: int) -> None:
        if getattr(options, name):
            raise self.reader.invalid("a canonical option is given twice", at)
        setattr(options, name, read())

    def _core_function(self) -> CoreItem:
        item: CoreItem = self.scope.get("core func", self.reader)
        return item

    def _memory(self) -> CoreExport:
        at = self.reader.at
        item: CoreItem = self.scope.get("core memory", self.reader)
        assert isinstance(item.type, MemoryType)
        if item.type.limits.is_64:
            raise self.reader.unsupported("a memory with 64-bit addresses, passed values by", at)
        if item.type.limits.is_shared:
            raise self.reader.invalid("values can't be passed by a memory that is shared between threads", at)
        assert isinstance(item.source, CoreExport)
        return item.source

    def _check_options(self, options: _Options) -> None:
        if options.callback is not None and not options.is_async:
            raise self._invalid("the option callback is given without async")
        if options.post_return is not None and options.is_async:
            raise self._invalid("the options post-return and async exclude each other")
        if options.realloc is not None:
            if options.memory is None:
                raise self._invalid("the option realloc is given without memory")
            self._same(options.realloc, _REALLOC, "realloc")

    def _need_memory(self, options: _Options, needed: bool) -> None:
        if needed and options.memory is None:
            raise self._invalid("the option memory is missing: values are passed by memory")

    def _need_realloc(self, options: _Options, needed: bool) -> None:
        self._need_memory(options, needed)
        if needed and options.realloc is None:
            raise self._invalid("the option realloc is missing: values are written into the guest's memory")

    def _same(self, item: CoreItem, expected: CoreFuncType, what: str = "the core function") -> None:
        if item.type != expected:
            raise self._invalid(f"{what} is {core_text(item.type)}, and must be {core_text(expected)}")

    def _invalid(self, problem: str) -> Exception:
        return self.reader.invalid(problem, self.at)
