"""How generated C calls imports and answers exports: the bodies of the functions between C and the binary interface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bindgen import plan
from bindgen.abi import Direction
from bindgen.backends.c_layout import converts, is_empty
from bindgen.backends.c_names import LOCALS, Names, local
from bindgen.backends.c_text import indented, listed
from bindgen.backends.c_values import Values
from bindgen.backends.scope import Scope
from bindgen.plan import Area, Call, Free, Reserve, choice
from bindgen.wit_parser.model import ExpectedOf, Function, FunctionKind, Type, unaliased


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as C declares it, be it imported or exported."""

    result: str
    params: tuple[tuple[str, Type], ...]
    """Names and types, without those that are empty."""
    outs: tuple[tuple[str, Type], ...]
    """What the function sets where its result is an `expected`: `ok` and `err`, unless they are empty."""

    def declared(self, names: Names) -> list[str]:
        """The parameters as in a declaration."""
        params = [f"{names.type(type_)} {name}" for name, type_ in self.params]
        return [*params, *(f"{names.type(type_)} *{name}" for name, type_ in self.outs)] or ["void"]


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A function as WebAssembly has it, in C types."""

    result: str
    params: tuple[tuple[str, str], ...]
    """Names and types."""

    def declared(self) -> list[str]:
        return [before_name(type_) + name for name, type_ in self.params]


def signature(names: Names, function: Function) -> Signature:
    types = [param.type for param in function.params]
    scope = _locals()
    shown = [scope.fresh(local(param.name)) for param in function.params]
    if function.kind is FunctionKind.METHOD and function.resource:
        shown.insert(0, "self")
        types.insert(0, function.resource)
    params = zip(shown, types, strict=True)
    result = unaliased(function.result)
    sides = [("ok", result.ok), ("err", result.err)] if isinstance(result, ExpectedOf) else []
    return Signature(
        "bool" if sides else "void" if is_empty(result) else names.type(function.result),
        tuple((name, type_) for name, type_ in params if not is_empty(type_)),
        tuple((name, type_) for name, type_ in sides if not is_empty(type_)),
    )


def _locals(params: Iterable[str] = ()) -> Scope:
    """The names in a function: those of its own variables, and of its parameters."""
    return Scope([*LOCALS, *params])


def raw_signature(names: Names, values: Values, function: Function, direction: Direction) -> RawSignature:
    core = plan.call(function, "guest", direction).core
    shown = signature(names, function).params
    scope = _locals([name for name, _ in shown])
    params = [
        (scope.fresh(f"{name}_{number}"), raw)
        for name, type_ in shown
        for number, raw in enumerate(values.raw_types(type_))
    ]
    if core.indirect_params:
        params = [("arguments", "const uint8_t *")]
    if core.result_pointer and direction == "import":
        params.append(("area", "uint8_t *"))
    if not core.result:
        return RawSignature("void", tuple(params))
    result = "const void *" if core.result_pointer else values.raw_types(function.result)[0]
    return RawSignature(result, tuple(params))


def import_body(names: Names, values: Values, function: Function, private: str) -> list[str]:
    """Statements that lower the arguments, call the import `private`, and lift its result."""
    shape = signature(names, function)
    call = plan.call(function, "guest", "import")
    core = call.core
    result = unaliased(function.result)
    before: list[str] = []
    if core.indirect_params:
        before += _stored_params(values, call, shape)
        arguments = ["arguments"]
    else:
        arguments = [flat for name, type_ in shape.params for flat in values.lower(type_, name, before)]
    after: list[str] = []
    if any(converts(type_) for _, type_ in shape.params):
        before.insert(0, "abi_block_t *blocks = NULL;")
        after.append("abi_blocks_free(blocks);")
    head = f"{private}("
    if is_empty(result):
        return [*before, *listed(head, arguments, ");"), *after]
    if core.result_pointer:
        before += _areas(call, "result")
        lines = [*before, *listed(head, [*arguments, "area"], ");"), *after]
        if shape.outs:
            return [*lines, *_loaded_sides(values, result, shape)]
        return [*lines, *_returned(shape, values.load(result, "result", "area"))]
    raw = raw_signature(names, values, function, "import").result
    lines = [*before, *listed(f"{raw} flat = {head}", arguments, ");"), *after]
    if isinstance(result, ExpectedOf):
        return [*lines, "return flat == 0;"]
    lifted = values.lift(result, "result", ["flat"])
    if lifted == ["result = flat;"] and not after:
        return [*before, *listed(f"return {head}", arguments, ");")]
    return [*lines, *_returned(shape, lifted)]


def export_body(names: Names, values: Values, function: Function) -> list[str]:
    """Statements that lift the arguments, call the C function `function`, and lower its result."""
    shape = signature(names, function)
    call = plan.call(function, "guest", "export")
    core = call.core
    result = unaliased(function.result)
    lines = _areas(call, "result")
    if core.indirect_params:
        lines += _loaded_params(names, values, call, shape)
    else:
        lines += _lifted_params(names, values, function, shape)
    lines += [f"{names.type(type_)} {name} = {{0}};" for name, type_ in shape.outs]
    arguments = [*(name for name, _ in shape.params), *(f"&{name}" for name, _ in shape.outs)]
    if is_empty(result):
        return [*lines, *listed("function(", arguments, ");")]
    if shape.outs:
        lines += listed("area[0] = !function(", arguments, ");")
        return [*lines, *_stored_sides(values, result, shape), "return area;"]
    if isinstance(result, ExpectedOf):
        return [*lines, *listed("return !function(", arguments, ");")]
    called = listed(f"{shape.result} result = function(", arguments, ");")
    if core.result_pointer:
        return [*lines, *called, *values.store(result, "area", "result", "NULL"), "return area;"]
    before: list[str] = []
    (flat,) = values.lower(result, "result", before)
    if flat == "result":
        return [*lines, *listed("return function(", arguments, ");")]
    return [*lines, *called, *before, f"return {flat};"]


# Parameters.


def _stored_params(values: Values, call: Call, shape: Signature) -> list[str]:
    """Statements that lay the arguments of an import out in memory."""
    lines = _areas(call, "params")
    for name, type_, at in _placed(call, shape):
        lines += values.store(type_, at, name, "&blocks")
    return lines


def _loaded_params(names: Names, values: Values, call: Call, shape: Signature) -> list[str]:
    """Statements that take the arguments of an export out of memory, which they free."""
    lines = []
    for name, type_, at in _placed(call, shape):
        lines += _declared(names, name, type_, values.load(type_, name, at))
    freed = [step for step in call.steps if isinstance(step, Free)]
    return [*lines, *(f"canonical_abi_free((void *)arguments, {step.extent}, {step.align});" for step in freed)]


def _lifted_params(names: Names, values: Values, function: Function, shape: Signature) -> list[str]:
    lines = []
    flats: Sequence[str] = [name for name, _ in raw_signature(names, values, function, "export").params]
    for name, type_ in shape.params:
        count = len(values.raw_types(type_))
        lines += _declared(names, name, type_, values.lift(type_, name, flats[:count]))
        flats = flats[count:]
    return lines


def _declared(names: Names, name: str, type_: Type, lines: list[str]) -> list[str]:
    """`lines`, which set a variable, with its declaration."""
    if lines[0].startswith(f"{name} = "):
        return [f"{names.type(type_)} {lines[0]}", *lines[1:]]
    return [f"{names.type(type_)} {name};", *lines]


def _placed(call: Call, shape: Signature) -> list[tuple[str, Type, str]]:
    """The parameters by name and type, and where they lie in memory."""
    placed = [part for part in call.params.parts if part.shape.slots]
    return [
        (name, type_, f"arguments + {part.offset}" if part.offset else "arguments")
        for (name, type_), part in zip(shape.params, placed, strict=True)
    ]


# Results.


def _loaded_sides(values: Values, result: Type, shape: Signature) -> list[str]:
    """Statements that take an `expected` in `area` apart."""
    at = f"area + {choice(result).payload_offset}"
    sides = {name: values.load(type_, f"*{name}", at) for name, type_ in shape.outs}
    if len(sides) == 1:
        return [*_if_side(sides), "return !area[0];"]
    return ["if (area[0]) {", *indented([*sides["err"], "return false;"]), "}", *sides["ok"], "return true;"]


def _stored_sides(values: Values, result: Type, shape: Signature) -> list[str]:
    """Statements that put an `expected` together in `area`, which has its tag."""
    at = f"area + {choice(result).payload_offset}"
    sides = {name: values.store(type_, at, name, "NULL") for name, type_ in shape.outs}
    if len(sides) == 1:
        return _if_side(sides)
    return ["if (area[0]) {", *indented(sides["err"]), "} else {", *indented(sides["ok"]), "}"]


def _if_side(sides: dict[str, list[str]]) -> list[str]:
    """Statements for the side that is there, of the one that can be."""
    ((name, lines),) = sides.items()
    return [f"if ({'' if name == 'err' else '!'}area[0]) {{", *indented(lines), "}"]


def _returned(shape: Signature, lines: list[str]) -> list[str]:
    """Statements that return the `result` which `lines` set."""
    if len(lines) == 1 and lines[0].startswith("result = "):
        return [f"return {lines[0].removeprefix('result = ')}"]
    return [f"{shape.result} result;", *lines, "return result;"]


def _areas(call: Call, area: Area) -> list[str]:
    """The declaration of an area that a call has room for."""
    name = {"params": "arguments", "result": "area"}[area]
    return [
        f"{'static ' if step.lasts else ''}_Alignas({step.align}) uint8_t {name}[{step.extent}];"
        for step in call.steps
        if isinstance(step, Reserve) and step.area == area
    ]


def before_name(type_: str) -> str:
    """A type as it stands before a name."""
    return type_ if type_.endswith("*") else f"{type_} "
