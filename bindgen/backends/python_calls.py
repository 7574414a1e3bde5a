"""The functions of a generated Python module that answer a guest's imports and call its exports: a call's steps."""

from __future__ import annotations

from bindgen.backends.python_names import Names, snake
from bindgen.backends.python_text import joined, names_in, tuple_
from bindgen.backends.python_values import Values
from bindgen.backends.text import indented, plus
from bindgen.plan import Allocate, Call, Case, Check, Handle, LiftParam, LowerParam, Nothing, Shape


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

    def _with_lift(self, lines: list[str], more: str = "") -> list[str]:
        """Statements behind what makes the `lift` that they use, if they do."""
        return [f'lift = Lift(guest, "{self._where}"{more})', *lines] if "lift" in names_in(lines) else lines

    def _with_lower(self, lines: list[str]) -> list[str]:
        return [f'lower = Lower(guest, "{self._where}")', *lines] if "lower" in names_in(lines) else lines

    def _annotation(self, shape: Shape | None) -> str:
        return self._names.annotation(shape.type) if shape else "None"


class Answer(_Function):
    """Answers an import."""

    def text(self, name: str, method: str) -> list[str]:
        """The function `name`, which calls the host's `method`."""
        core = self._plan.core
        slots = list(map(self._slots, self.params, (part.shape for part in self._plan.params.parts)))
        names = ["params_at"] if core.indirect_params else [slot for some in slots for slot in some]
        if core.result_pointer:
            names.append("result_at")
        lines: list[str] = []
        for step in self._plan.steps:
            match step:
                case Check(area, extent):
                    title = "parameters" if area == "params" else area
                    lines += [f'lift.at = "{title}"', f"lift.range({area}_at, {extent})"]
                case LiftParam(number, part):
                    lines += self._lifted(number, part.name, slots[number])
        head = f"async def {name}(host: {self._names.host}, guest: Guest, args: tuple[Any, ...])"
        unpacked = [f"{joined(names)} = args"] if names else []
        body = [*unpacked, *self._with_lift(lines), *self._asked(method)]
        return [f"{head} -> {'Flat' if core.result else 'None'}:", *indented(body)]

    def _slots(self, name: str, shape: Shape) -> list[str]:
        """The variables of the flat values that a parameter travels as."""
        if len(shape.slots) == 1 and not isinstance(shape, Handle):
            return [name]
        return [self._scope.fresh(f"{name}_{number}") for number in range(len(shape.slots))]

    def _lifted(self, number: int, title: str, slots: list[str]) -> list[str]:
        """Statements that lift a parameter; none where its flat value is what it is."""
        name, part = self.params[number], self._plan.params.parts[number]
        if self._plan.core.indirect_params:
            value = self._values.load(part.shape, plus("params_at", part.offset))
        else:
            value = self._values.lift(part.shape, slots)
        annotation = f": {self._annotation(part.shape)}" if isinstance(part.shape, Handle) else ""
        lines = [f"{name}{annotation} = {value}"] if value != name else []
        return [f'lift.at = "{title}"', *lines] if "lift" in names_in(lines) else lines

    def _asked(self, method: str) -> list[str]:
        """Statements that ask the host and lower what it answers."""
        plan = self._plan
        target, arguments = ("self_", self.params[1:]) if plan.has_self else ("host", self.params)
        invoke = f"await {target}.{method}({', '.join(arguments)})"
        if plan.sides is None:
            answered = f"answer = {invoke}" if plan.result.slots else invoke
            return [answered, *self._lowered(plan.result, "answer", "result_at")]
        ok, err = plan.sides
        caught = ["except Err:"]
        if err.payload:
            caught = ["except Err as err:", f"    problem: {self._annotation(err.payload)} = err.value"]
        problem = self._side(err, "problem")
        if not plan.core.result:
            problem.append("return")
        answered = f"answer = {invoke}" if ok.payload else invoke
        return ["try:", f"    {answered}", *caught, *indented(problem), *self._side(ok, "answer")]

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
        if self._plan.core.result:
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
        invoke = f"await guest.call(export, {tuple_(arguments)})"
        kind = "float" if core.result and core.result in "fd" else "int"
        called = f"result: {kind} = {invoke}" if core.result else invoke
        return [*self._with_lower([*lines, *fill, called]), *self._taken_over()]

    def _taken_over(self) -> list[str]:
        """Statements that lift the result and return it."""
        plan, result = self._plan, self._plan.result
        owns = ", owns=True" if result.owns else ""
        if plan.sides and plan.core.result_pointer:
            ok, err = plan.sides
            at = plus("result", plan.result_offset)
            failed = [*self._value("problem", err.payload, at), "raise Err(problem)"]
            lines = [f"lift.range(result, {result.extent})", 'if lift.tag(result, 2, "expected"):', *indented(failed)]
            lines += [*self._value("answer", ok.payload, at), "return answer"] if ok.payload else []
        elif plan.sides:
            lines = ['if lift.case(result, 2, "expected"):', "    raise Err(None)"]
        elif plan.core.result_pointer:
            lines = [f"lift.range(result, {result.extent})", *self._value("answer", result, "result"), "return answer"]
        elif isinstance(result, Nothing):
            lines = []
        else:
            lines = [f"answer: {self._annotation(result)} = {self._values.lift(result, ['result'])}", "return answer"]
        return self._with_lift(lines, owns)

    def _value(self, name: str, shape: Shape | None, at: str) -> list[str]:
        """Statements that lift a value and give its memory back to the guest."""
        lines = [f"{name}: {self._annotation(shape)} = {self._values.load(shape, at) if shape else 'None'}"]
        if shape and shape.has_heap:
            lines += ["if lift.owned:", "    await guest.free(lift.owned)"]
        return lines
