"""How today's WIT writes types, where that of 2022 has it otherwise."""

from __future__ import annotations

from bindgen.wit_parser.model import ExpectedOf, FixedListOf, Primitive, Type, is_unit, spelling

_PRIMITIVES = {Primitive.FLOAT32: "f32", Primitive.FLOAT64: "f64", Primitive.UNIT: "_"}


def spelling_in_packages(type_: Type) -> tuple[str, tuple[Type | str, ...]]:
    """The name of a type, and what stands in brackets behind it: types, or text that is none."""
    match type_:
        case Primitive():
            return _PRIMITIVES.get(type_, type_.value), ()
        case FixedListOf(element, length):
            return "list", (element, str(length))
        case ExpectedOf(ok, err) if is_unit(err):
            return "result", () if is_unit(ok) else (ok,)
        case ExpectedOf(ok, err):
            return "result", (ok, err)
    return spelling(type_)
