"""The functions of a generated Python module that answer a guest's imports and call its exports: a call's steps."""

from __future__ import annotations

from collections.abc import Iterator

from bindgen.backends.python_names import Names, snake
from bindgen.backends.python_text import LINE_LENGTH, call, indented, inline, joined, plus
from bindgen.backends.python_values import Spread, Values, checks
from bindgen.plan import (
    Allocate,
    Call,
    Case,
    Check,
    Elements,
    FreeOwned,
    Handle,
    LiftParam,
    LowerParam,
    Nothing,
    Run,
    Shape,
    Text,
)
from bindgen.wit_parser.model import ExpectedOf, Type


class _Function:
    """What the two kinds of functions share."""

    def __init__(self, names: Names, values: Values, where: str, plan: Call) -> None:
        """`where` is what messages call the function."""
        self._names = names
        self._values = values
        self._where = where
        self._plan = plan
        self._scope = names.function_scope()
        params = [self._scope.fresh(snake(param.name)) for param in plan.function.params]
        self.params = ["self_", *params] if plan.has_self else params
        """The variables of what is passed, a method's own resource first."""

    def _sides(self) -> tuple[tuple[Case, Type], tuple[Case, Type]] | None:
        """The cases of an `expected` that the function returns, each with the type as the interface spells it."""
        result = self._plan.function.result
        if self._plan.sides is None or not isinstance(result, ExpectedOf):
            return None
        ok, err = self._plan.sides
        return (ok, result.ok), (err, result.err)

    def _new_lower(self) -> str:
        return f'lower = {self._names.need("Lower")}(guest, "{self._where}")'

    def _new_lift(self, more: str = "") -> str:
        return f'lift = {self._names.need("Lift")}(guest, "{self._where}"{more})'


class Answer(_Function):
    """Answers an import."""

    def text(self, name: str, method: str) -> list[str]:
        """The function `name`, which calls the host's `method`."""
        core = self._plan.core
        slots = self._slots()
        names = ["params_at"] if core.indirect_params else [slot for some in slots for slot in some]
        if core.result_pointer:
            names.append("result_at")
        lifted: list[tuple[str, str]] = []
        needs_lift = False
        for step in self._plan.steps:
            match step:
                case Check(area, extent):
                    lifted.append(("parameters" if area == "params" else area, f"lift.range({area}_at, {extent})"))
                    needs_lift = True
                case LiftParam(number, part) if line := self._lifted(number, slots[number]):
                    lifted.append((part.name, line))
                    needs_lift |= core.indirect_params or checks(part.shape)
        unpacked = [f"{joined(names)} = args"] if names else []
        guest, any_ = self._names.need("Guest"), self._names.need("Any", "typing")
        parameters = [f"host: {self._names.host}", f"guest: {guest}", f"args: tuple[{any_}, ...]"]
        result = self._names.need("Flat") if core.result else "None"
        head = call("async def ", name, parameters, f" -> {result}:")
        body = [*self._in_order(lifted, unpacked, needs_lift), *self._asked(method)]
        return [*head, *indented(body)]

    def _slots(self) -> list[list[str]]:
        """For each parameter the variables of the flat values that it travels as."""
        found: list[list[str]] = []
        for name, part in zip(self.params, self._plan.params.parts, strict=True):
            match part.shape:
                case Text() | Elements():
                    slots = [f"{name}_pointer", f"{name}_length"]
                case Handle():
                    slots = [f"{name}_handle"]
                case shape if len(shape.slots) == 1:
                    found.append([name])
                    continue
                case shape:
                    slots = [f"{name}_{number}" for number in range(len(shape.slots))]
            found.append(list(map(self._scope.fresh, slots)))
        return found

    def _lifted(self, number: int, slots: list[str]) -> str:
        """A statement that lifts a parameter; nothing where its flat value is what it is."""
        name, part = self.params[number], self._plan.params.parts[number]
        if self._plan.core.indirect_params:
            value = self._values.load(part.shape, plus("params_at", part.offset))
        else:
            value = self._values.lift(part.shape, slots)
        annotation = f": {self._names.annotation(part.shape.type)}" if isinstance(part.shape, Handle) else ""
        return f"{name}{annotation} = {value}" if value != name else ""

    def _in_order(self, lifted: list[tuple[str, str]], unpacked: list[str], needs_lift: bool) -> Iterator[str]:
        """The statements that lift, each after what says for messages what is being lifted."""
        if needs_lift:
            first = lifted[0][0]
            yield self._new_lift("" if first == "result" else f', "{first}"')
        yield from unpacked
        for number, (title, line) in enumerate(lifted):
            if needs_lift and number:
                yield f'lift.at = "{title}"'
            yield line

    def _asked(self, method: str) -> list[str]:
        """Statements that ask the host and lower what it answers."""
        plan = self._plan
        target, arguments = ("self_", self.params[1:]) if plan.has_self else ("host", self.params)
        invoke = f"await {target}.{inline(method, arguments)}"
        sides = self._sides()
        if sides is None:
            if not plan.result.slots:
                return [invoke]
            return [f"answer = {invoke}", *self._lowered(plan.result, "answer")]
        (ok, _), (err, err_type) = sides
        self._names.need("Err")
        caught = ["except Err:"]
        if err.payload:
            caught = ["except Err as err:", f"    problem: {self._names.annotation(err_type)} = err.value"]
        problem = self._lowered(err.payload, "problem", err)
        if not plan.core.result:
            problem.append("return")
        asked = f"answer = {invoke}" if ok.payload else invoke
        return ["try:", f"    {asked}", *caught, *indented(problem), *self._lowered(ok.payload, "answer", ok)]

    def _lowered(self, shape: Shape | None, value: str, case: Case | None = None) -> list[str]:
        """Statements that hand `value` over: all of a result, or one side of an expected."""
        by_pointer = self._plan.core.result_pointer
        if case and not by_pointer:
            return [f"return {case.number}"]
        tagged = ["memory = guest.memory", *([f"memory[result_at] = {case.number}"] if case else [])]
        at = plus("result_at", self._plan.result_offset if case else 0)
        if isinstance(shape, Handle) and not self._names.is_guests(shape.resource):
            arguments = [f'"{shape.resource.name}"', value, f'"{self._where}: result"']
            if not by_pointer:
                return call("return ", "guest.handles.add", arguments)
            added = call("handle = ", "guest.handles.add", arguments)
            return [*added, *tagged, f"{self._values.struct('I')}.pack_into(memory, {at}, handle)"]
        if shape is None:
            return tagged
        lines = [self._new_lower()] if self._values.needs_lower(shape, by_pointer) else []
        if not by_pointer:
            (flat,) = self._values.flat(shape, value)
            if isinstance(flat, Spread):
                return [*lines, f"flat: Flat = {flat.values}[0]", "return flat"]
            return [*lines, f"return {flat}"]
        if shape.has_heap:
            lines += [*self._values.note(shape, value, self._scope), "await guest.allocate(lower)"]
        if case or self._values.stores_directly(shape):
            lines += tagged
        return [*lines, *self._values.store(shape, at, value)]


class Request(_Function):
    """Calls an export."""

    def body(self) -> list[str]:
        """The statements of the function, given `guest`, `export` and what is passed."""
        plan, core = self._plan, self._plan.core
        notes: list[str] = []
        fill: list[str] = []
        arguments: list[str] = []
        lines: list[str] = []
        allocates = False
        for step in plan.steps:
            match step:
                case Allocate(area):
                    allocates = True
                    if area:
                        notes.append(f"lower.block({area.extent}, {area.align})")
                        fill += ["memory = lower.memory", "params_at, _ = lower.take()"]
                        arguments.append("params_at")
                case LowerParam(number, part):
                    name = self.params[number]
                    notes += self._values.note(part.shape, name, self._scope)
                    if core.indirect_params:
                        fill += self._values.store(part.shape, plus("params_at", part.offset), name)
                    else:
                        arguments += self._values.flat(part.shape, name)
                case Run():
                    if allocates or any(self._values.needs_lower(part.shape, False) for part in plan.params.parts):
                        lines.append(self._new_lower())
                    lines += [*notes, "await guest.allocate(lower)"] if allocates else []
                    lines += [*fill, *self._invoked(arguments)]
        return [*lines, *self._taken_over()]

    def _invoked(self, arguments: list[str]) -> list[str]:
        invoke = f"await guest.call(export, {inline('', arguments)})"
        if not self._plan.core.result:
            return [invoke]
        kind = "float" if self._plan.core.result in "fd" else "int"
        text = f"result: {kind} = {invoke}"
        if len(text) + 4 <= LINE_LENGTH:
            return [text]
        listed = ["(", *(f"    {argument}," for argument in arguments), "),"]
        return [f"result: {kind} = await guest.call(", "    export,", *indented(listed), ")"]

    def _taken_over(self) -> list[str]:
        """Statements that lift the result and return it."""
        plan, result = self._plan, self._plan.result
        sides = self._sides()
        if not plan.core.result:
            return [] if isinstance(result, Nothing) else [f"return {self._values.lift(result, [])}"]
        owns = ", owns=True" if result.has_heap or result.has_handle else ""
        if not plan.core.result_pointer:
            if sides:
                self._names.need("Err")
                return [self._new_lift(owns), 'if lift.case(result, 2, "expected"):', "    raise Err(None)"]
            return [
                *([self._new_lift(owns)] if checks(result) else []),
                f"return {self._values.lift(result, ['result'])}",
            ]
        lines = [self._new_lift(owns), f"lift.range(result, {result.extent})"]
        if not sides:
            return [*lines, *self._value("answer", result, plan.function.result, "result"), "return answer"]
        self._names.need("Err")
        (ok, ok_type), (err, err_type) = sides
        at = plus("result", plan.result_offset)
        problem = [*self._value("problem", err.payload, err_type, at), "raise Err(problem)"]
        lines += ['if lift.tag(result, 2, "expected"):', *indented(problem)]
        if ok.payload is None:
            return lines
        return [*lines, *self._value("answer", ok.payload, ok_type, at), "return answer"]

    def _value(self, name: str, shape: Shape | None, type_: Type, at: str) -> Iterator[str]:
        """Statements that lift a value and give its memory back to the guest."""
        value = self._values.load(shape, at) if shape else "None"
        yield f"{name}: {self._names.annotation(type_)} = {value}"
        if shape and shape.has_heap and FreeOwned() in self._plan.steps:
            yield from ("if lift.owned:", "    await guest.free(lift.owned)")
