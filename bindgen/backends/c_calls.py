"""How generated C calls imports and answers exports: the functions between C and the binary interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bindgen import plan
from bindgen.abi import Direction
from bindgen.backends.c_layout import converts, payloads
from bindgen.backends.c_names import Names
from bindgen.backends.c_text import guarded
from bindgen.backends.c_values import Values, Variables, declared, leaves
from bindgen.backends.scope import Scope, snake
from bindgen.backends.text import plus
from bindgen.plan import Area, Choice, Free, Reserve, Shape, shape
from bindgen.wit_parser.model import ExpectedOf, Function, Type, components, unaliased


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as C declares it, be it imported or exported."""

    result: str
    params: tuple[tuple[str, Type], ...]
    """Names and types, without those that are empty."""
    outs: tuple[tuple[str, Type], ...]
    """What the function sets where its result is an `expected`: `ok` and `err`, unless they are empty."""
    scope: Scope = field(repr=False)
    """The names in its body."""

    def declared(self, names: Names) -> list[str]:
        """The parameters as in a declaration."""
        params = [f"{names.type(type_)} {name}" for name, type_ in self.params]
        return [*params, *(f"{names.type(type_)} *{name}" for name, type_ in self.outs)] or ["void"]


def signature(names: Names, function: Function) -> Signature:
    call, scope = plan.call(function, "guest", "import"), names.locals()
    shown = ["self"] * call.has_self + [scope.fresh(snake(param.name)) for param in function.params]
    params = [each for each in zip(shown, components(call.params.type), strict=True) if not shape(each[1]).is_empty]
    result = unaliased(function.result)
    if isinstance(result, ExpectedOf):
        sides = ("ok", result.ok), ("err", result.err)
        return Signature("bool", tuple(params), tuple(each for each in sides if not shape(each[1]).is_empty), scope)
    return Signature("void" if call.result.is_empty else names.type(function.result), tuple(params), (), scope)


class Glue:
    """A function between C and the binary interface."""

    def __init__(self, names: Names, values: Values, function: Function, direction: Direction) -> None:
        self._names = names
        self._values = values
        self._call = plan.call(function, "guest", direction)
        self.signature = signature(names, function)
        self._scope = self.signature.scope
        core, result = self._call.core, self._call.result
        parts = [part for part in self._call.params.parts if not part.shape.is_empty]
        self._params = [(name, part) for (name, _), part in zip(self.signature.params, parts, strict=True)]
        self.params = [
            (self._scope.fresh(f"{name}_{number}"), type_)
            for name, part in self._params
            for number, type_ in enumerate(values.raw_types(part.shape))
        ]
        """The parameters as WebAssembly has them, in C types: names and types."""
        if core.indirect_params:
            self.params = [("arguments", "const uint8_t *")]
        if core.result_pointer and direction == "import":
            self.params.append(("area", "uint8_t *"))
        self.result = "void"
        if core.result:
            self.result = "const void *" if core.result_pointer else values.raw_types(result)[0]

    def declared(self) -> list[str]:
        """The parameters as in a declaration."""
        return [before_name(type_) + name for name, type_ in self.params]

    def import_body(self, private: str) -> list[str]:
        """Statements that lower the arguments, call the import `private`, and lift its result."""
        core, result = self._call.core, self._call.result
        lends = any(converts(part.shape) for _, part in self._params)
        lines = ["abi_block_t *blocks = NULL;"] if lends else []
        freed = ["abi_blocks_free(blocks);"] if lends else []
        if core.indirect_params:
            lines += self._area("params", "arguments")
            for name, part in self._params:
                lines += self._values.store(part.shape, plus("arguments", part.offset), name, "&blocks")
            arguments = ["arguments"]
        else:
            travelling = [leaf for name, part in self._params for leaf in leaves(part.shape, name, part.first_slot)]
            before, arguments = self._values.lower(travelling, self._scope)
            lines += before
        if core.result_pointer:
            lines += [*self._area("result", "area"), f"{private}({', '.join([*arguments, 'area'])});", *freed]
            if self.signature.outs:
                return [*lines, *self._sides(self._loaded_side), "return !area[0];"]
            return [*lines, *self._returned(self._values.load(result, "area", "result"))]
        called = f"{private}({', '.join(arguments)});"
        if not core.result:
            return [*lines, called, *freed]
        lines += [f"{self.result} flat = {called}", *freed]
        if isinstance(result.type, ExpectedOf):
            return [*lines, "return flat == 0;"]
        return [*lines, *self._returned(self._values.lift(result, Variables(["flat"]), "result"))]

    def _returned(self, lines: list[str]) -> list[str]:
        return [*declared(self.signature.result, "result", lines), "return result;"]

    def export_body(self) -> list[str]:
        """Statements that lift the arguments, call the C function `function`, and lower its result."""
        core, result = self._call.core, self._call.result
        lines = self._area("result", "area")
        flats = [name for name, _ in self.params]
        for (name, type_), (_, part) in zip(self.signature.params, self._params, strict=True):
            if core.indirect_params:
                lifted = self._values.load(part.shape, plus("arguments", part.offset), name)
            else:
                lifted = self._values.lift(part.shape, Variables(part.slots_of(flats)), name)
            lines += declared(self._names.type(type_), name, lifted)
        for step in self._call.steps:
            if isinstance(step, Free):
                lines.append(f"canonical_abi_free((void *)arguments, {step.extent}, {step.align});")
        lines += [f"{self._names.type(type_)} {name} = {{0}};" for name, type_ in self.signature.outs]
        arguments = [name for name, _ in self._params] + [f"&{name}" for name, _ in self.signature.outs]
        called = f"function({', '.join(arguments)});"
        if not core.result:
            return [*lines, called]
        if self.signature.outs:
            return [*lines, f"area[0] = !{called}", *self._sides(self._stored_side), "return area;"]
        if isinstance(result.type, ExpectedOf):
            return [*lines, f"return !{called}"]
        lines.append(f"{self.signature.result} result = {called}")
        if core.result_pointer:
            return [*lines, *self._values.store(result, "area", "result", "NULL"), "return area;"]
        before, (flat,) = self._values.lower(leaves(result, "result"), self._scope)
        return [*lines, *before, f"return {flat};"]

    def _area(self, area: Area, name: str) -> list[str]:
        """The declaration of an area that the call has room for."""
        return [
            f"{'static ' if step.lasts else ''}_Alignas({step.align}) uint8_t {name}[{step.extent}];"
            for step in self._call.steps
            if isinstance(step, Reserve) and step.area == area
        ]

    # An expected, whose sides are `ok` and `err`, of which one may be empty. Its tag is in `area`.

    def _sides(self, act: Callable[[str, Shape, str], list[str]]) -> list[str]:
        result = self._call.result
        assert isinstance(result, Choice)
        lines = []
        for case, payload in payloads(result):
            body = act(case.name, payload, plus("area", result.payload_offset))
            lines += guarded("area[0]" if case.number else "!area[0]", body)
        return lines

    def _loaded_side(self, name: str, side: Shape, at: str) -> list[str]:
        return self._values.load(side, at, f"*{name}")

    def _stored_side(self, name: str, side: Shape, at: str) -> list[str]:
        return self._values.store(side, at, name, "NULL")


def before_name(type_: str) -> str:
    """A type as it stands before a name."""
    return type_ if type_.endswith("*") else f"{type_} "
