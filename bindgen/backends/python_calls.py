"""The functions of a generated Python module that answer a guest's imports and call its exports: a call's steps."""

from __future__ import annotations

from bindgen.backends.python_names import Names, snake
from bindgen.backends.python_text import joined, names_in, tuple_
from bindgen.backends.python_values import Values
from bindgen.backends.text import LINE_LENGTH, indented, plus
from bindgen.plan import (
    Allocate,
    Call,
    Case,
    Channel,
    Check,
    Choice,
    Finish,
    Handle,
    LiftParam,
    LowerParam,
    Nothing,
    Shape,
)


class _Function:
    """What the two kinds of functions share."""

    def __init__(self, names: Names, values: Values, where: str, plan: Call) -> None:
        """`where` is what messages call the function."""
        self._names = names
        self._values = values
        self._where = where
        self._plan = plan
        self._in_package = names.in_package
        self._scope = names.function_scope()
        params = [self._scope.fresh(snake(param.name)) for param in plan.function.params]
        self.params = ["self_", *params] if plan.has_self else params
        """The variables of what is passed, a method's own resource first."""

    def _with_lift(self, lines: list[str], more: str = "") -> list[str]:
        """Statements behind what makes the `lift` that they use, if they do."""
        return [f'lift = Lift(guest, "{self._where}"{more})', *lines] if "lift" in names_in(lines) else lines

    def _with_lower(self, lines: list[str]) -> list[str]:
        return [f'lower = Lower(guest, "{self._where}")', *lines] if "lower" in names_in(lines) else lines

    def _unpacked(self, names: list[str]) -> list[str]:
        """A statement that takes the flat arguments; none where there are none."""
        line = f"{joined(names)} = args"
        if self._in_package and len(line) > LINE_LENGTH - 4:
            line = f"({joined(names)}) = args"
        return [line] if names else []

    def _annotation(self, shape: Shape | None, received: bool = False) -> str:
        return self._names.annotation(shape.type, received) if shape else "None"

    def _checked(self, pointer: str, check: Check) -> str:
        """A statement that checks where the guest points to."""
        if self._in_package:
            return f"lift.area({pointer}, {check.extent}, {check.align})"
        return f"lift.range({pointer}, {check.extent})"


class Answer(_Function):
    """Answers an import."""

    def text(self, name: str, method: str) -> list[str]:
        """The function `name`, which calls the host's `method`."""
        body = [*self._begun(), *self._asked(method)]
        return [f"{self._head(name)} -> {'Flat' if self._plan.core.result else 'None'}:", *indented(body)]

    def async_text(self, name: str, method: str) -> list[str]:
        """The same for a guest that goes on meanwhile. What the function returns is in memory."""
        body = self._begun(", lends=True")
        lower = "None"
        if self._plan.core.result_pointer:
            lower = "lower_answer"
            body += ["", *self._lower_answer(), ""]
        lent = "lift.lent or ()" if "lift" in names_in(body) else "()"
        body.append(f"return await guest.subtask({self._invocation(method)}, {lower}, {lent})")
        return [f"{self._head(name)} -> int:", *indented(body)]

    def _head(self, name: str) -> str:
        return f"async def {name}(host: {self._names.host}, guest: Guest, args: tuple[Any, ...])"

    def _lower_answer(self) -> list[str]:
        """A function that hands over what the host answered, or the Err that it raised."""
        plan = self._plan
        annotation = self._annotation(plan.result)
        lines = self._lowered(plan.result, "answer", "result_at")
        if plan.sides:
            ok, err = plan.sides
            annotation = _either(self._annotation(ok.payload), self._annotation(err.payload))
            value = [f"problem: {self._annotation(err.payload)} = answer.value"] if err.payload else []
            failed = [*value, *self._side(err, "problem"), "return"]
            lines = ["if isinstance(answer, Err):", *indented(failed), *self._side(ok, "answer")]
        return [f"async def lower_answer(answer: {annotation}) -> None:", *indented(lines)]

    def _begun(self, more: str = "") -> list[str]:
        """Statements that take the arguments and lift the parameters."""
        core = self._plan.core
        slots = list(map(self._slots, self.params, (part.shape for part in self._plan.params.parts)))
        names = ["params_at"] if core.indirect_params else [slot for some in slots for slot in some]
        if core.result_pointer:
            names.append("result_at")
        lines: list[str] = []
        for step in self._plan.steps:
            match step:
                case Check(area) as check:
                    title = "parameters" if area == "params" else area
                    lines += [f'lift.at = "{title}"', self._checked(f"{area}_at", check)]
                case LiftParam(number, part):
                    lines += self._lifted(number, part.name, slots[number])
        return [*self._unpacked(names), *self._with_lift(lines, more)]

    def _slots(self, name: str, shape: Shape) -> list[str]:
        """The variables of the flat values that a parameter travels as."""
        if len(shape.slots) == 1 and not isinstance(shape, Handle | Channel):
            return [name]
        return [self._scope.fresh(f"{name}_{number}") for number in range(len(shape.slots))]

    def _lifted(self, number: int, title: str, slots: list[str]) -> list[str]:
        """Statements that lift a parameter; none where its flat value is what it is."""
        name, part = self.params[number], self._plan.params.parts[number]
        if self._plan.core.indirect_params:
            value = self._values.load(part.shape, plus("params_at", part.offset))
        else:
            value = self._values.lift(part.shape, slots)
        annotation = f": {self._annotation(part.shape, True)}" if isinstance(part.shape, Handle | Channel) else ""
        lines = [f"{name}{annotation} = {value}"] if value != name else []
        return [f'lift.at = "{title}"', *lines] if "lift" in names_in(lines) else lines

    def _asked(self, method: str) -> list[str]:
        """Statements that ask the host and lower what it answers."""
        plan = self._plan
        invoke = f"await {self._invocation(method)}"
        if plan.sides is None:
            answered = f"answer = {invoke}" if plan.result.slots else invoke
            lowered = self._lowered(plan.result, "answer", "result_at")
            if self._in_package and lowered == ["return answer"]:
                return [f"return {invoke}"]
            return [answered, *lowered]
        ok, err = plan.sides
        caught = ["except Err:"]
        if err.payload:
            caught = ["except Err as err:", f"    problem: {self._annotation(err.payload)} = err.value"]
        problem = self._side(err, "problem")
        if not plan.core.result:
            problem.append("return")
        answered = f"answer = {invoke}" if ok.payload else invoke
        return ["try:", f"    {answered}", *caught, *indented(problem), *self._side(ok, "answer")]

    def _invocation(self, method: str) -> str:
        """The host's coroutine."""
        target, arguments = ("self_", self.params[1:]) if self._plan.has_self else ("host", self.params)
        return f"{target}.{method}({', '.join(arguments)})"

    def _side(self, case: Case, value: str) -> list[str]:
        """Statements that hand one side of an expected over."""
        if not self._plan.core.result_pointer:
            return [f"return {case.number}"]
        tag = [f"memory[result_at] = {case.number}"]
        return self._lowered(case.payload, value, plus("result_at", self._plan.result_offset), tag)

    def _lowered(self, shape: Shape | None, value: str, at: str, tag: list[str] | None = None) -> list[str]:
        """Statements that hand `value` over. In memory, `tag` comes with it."""
        noted = self._values.note(shape, value) if shape else []
        allocated = [*noted, "await guest.allocate(lower)"] if noted else []
        if self._plan.core.result and not self._plan.core.result_pointer:
            (flat,) = self._values.flat(shape, value) if shape else []
            return self._with_lower([f"return {flat[1:]}[0]" if flat.startswith("*") else f"return {flat}"])
        stored = [*(tag or []), *(self._values.store(shape, at, value) if shape else [])]
        memory = ["memory = guest.memory"] if "memory" in names_in(stored) else []
        return self._with_lower([*allocated, *memory, *stored])


class Request(_Function):
    """Calls an export."""

    def body(self) -> list[str]:
        """The statements of the function, given `guest`, `export` and what is passed."""
        core = self._plan.core
        lines: list[str] = []
        fill: list[str] = []
        arguments: list[str] = []
        for step in self._plan.steps:
            match step:
                case Allocate(area):
                    if area:
                        lines.append(f"lower.block({area.extent}, {area.align})")
                        fill += ["memory = lower.memory", "params_at, _ = lower.take()"]
                        arguments.append("params_at")
                case LowerParam(number, part):
                    lines += self._values.note(part.shape, self.params[number])
                    if core.indirect_params:
                        fill += self._values.store(part.shape, plus("params_at", part.offset), self.params[number])
                    else:
                        arguments += self._values.flat(part.shape, self.params[number])
        if lines:
            lines.append("await guest.allocate(lower)")
        if self._plan.function.is_async:
            return self._with_lower([*lines, *fill, *self._run(arguments)])
        invoke = f"await guest.call(export, {tuple_(arguments)})"
        kind = "float" if core.result and core.result in "fd" else "int"
        called = f"result: {kind} = {invoke}" if core.result else invoke
        return [*self._with_lower([*lines, *fill, called]), *self._taken_over()]

    def _run(self, arguments: list[str]) -> list[str]:
        """Statements that call an asynchronous function and return what it returned."""
        function, plan = self._plan.function, self._plan
        names = [self._names.lifting(function, operation) for operation in ("lift", "returned")]
        run = f"await guest.run(export, {', '.join([tuple_(arguments), *names])})"
        if isinstance(plan.result, Nothing):
            return [run]
        if not plan.sides:
            return [f"return {run}"]
        end = ["return answer"] if plan.sides[0].payload else []
        return [f"answer = {run}", "if isinstance(answer, Err):", "    raise answer", *end]

    def lifting(self) -> list[list[str]]:
        """The functions that lift the result of an asynchronous function: what it returns, and what it passes to
        `task.return`, if the guest lifts it with `async`."""
        plan, result = self._plan, self._plan.result
        annotation = self._annotation(result, True)
        if plan.sides:
            ok, err = (self._annotation(side.payload, True) for side in plan.sides)
            annotation = _either(ok, err)
        lift, returned = (self._names.lifting(plan.function, operation) for operation in ("lift", "returned"))
        core = plan.returns
        assert core is not None
        slots = ["result"] if core.indirect_params else [f"s{number}" for number in range(len(core.params))]
        unpacked = self._unpacked(slots)
        return [
            [
                f"def {lift}(guest: Guest, result: Any) -> {annotation}:",
                *indented(self._lifted(["result"], plan.core.result_pointer)),
            ],
            [
                f"def {returned}(guest: Guest, args: Sequence[Any]) -> {annotation}:",
                *indented([*unpacked, *self._lifted(slots, core.indirect_params)]),
            ],
        ]

    def _lifted(self, slots: list[str], in_memory: bool) -> list[str]:
        """Statements that lift a result and return it, an Err being returned, too."""
        plan, result = self._plan, self._plan.result
        if isinstance(result, Nothing):
            return ["return None"]
        check = [self._checked("result", Check("result", result.extent, result.align))] if in_memory else []
        value = self._values.load(result, "result") if in_memory else self._values.lift(result, slots)
        if not plan.sides:
            return self._with_lift([*check, f"return {value}"])
        lines = [*check, f"answer = {value}", "return answer if isinstance(answer, Err) else answer.value"]
        return self._with_lift(lines)

    def _taken_over(self) -> list[str]:
        """Statements that lift the result and return it."""
        plan, result = self._plan, self._plan.result
        owns = ", owns=True" if result.owns and not self._in_package else ""
        check = [self._checked("result", each) for each in plan.steps if isinstance(each, Check)]
        lines: list[str] = []
        if plan.sides and plan.core.result_pointer:
            ok, err = plan.sides
            at = plus("result", plan.result_offset)
            assert isinstance(result, Choice)
            failed = [*self._value("problem", err.payload, at), "raise Err(problem)"]
            lines = [*check, f"if lift.tag(result, {self._values.told_apart(result)}):", *indented(failed)]
            lines += [*self._value("answer", ok.payload, at), "return answer"] if ok.payload else self._finished()
        elif plan.sides:
            assert isinstance(result, Choice)
            failed = [*self._finished(), "raise Err(None)"]
            lines = [f"if lift.case(result, {self._values.told_apart(result)}):", *indented(failed), *self._finished()]
        elif plan.core.result_pointer:
            lines = [*check, *self._value("answer", result, "result"), "return answer"]
        elif isinstance(result, Nothing):
            lines = self._finished()
        else:
            value = f"answer: {self._annotation(result, True)} = {self._values.lift(result, ['result'])}"
            lines = [value, *self._finished(), "return answer"]
        return self._with_lift(lines, owns)

    def _finished(self) -> list[str]:
        """A statement that ends the call, where the binary interface asks for it."""
        result = "result" if self._plan.core.result else "None"
        return [f"await guest.finish(export, {result})" for step in self._plan.steps if isinstance(step, Finish)]

    def _value(self, name: str, shape: Shape | None, at: str) -> list[str]:
        """Statements that lift a value and give its memory back to the guest."""
        value = self._values.load(shape, at) if shape else "None"
        lines = [f"{name}: {self._annotation(shape, True)} = {value}", *self._finished()]
        if shape and shape.has_heap and not self._in_package:
            lines += ["if lift.owned:", "    await guest.free(lift.owned)"]
        return lines


def _either(ok: str, err: str) -> str:
    """The annotation of a value or an Err, None coming last."""
    others = [part for part in ok.split(" | ") if part != "None"]
    return " | ".join([*others, f"Err[{err}]", *(["None"] if "None" in ok.split(" | ") else [])])
