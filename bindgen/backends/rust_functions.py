"""The functions of a generated Rust module: those that call imports, and those that exports are made of."""

from __future__ import annotations

from collections.abc import Sequence

from bindgen.backends.rust_names import Names, params_of
from bindgen.backends.rust_text import Code, Items, Signature, Unsafe, docs
from bindgen.backends.rust_values import FLAT_TYPES, Flat, Lifting, Lowering, Place, ending, flat_params
from bindgen.backends.scope import Scope
from bindgen.plan import ABI, Call, Free, Reserve, call
from bindgen.wit_parser.model import (
    Function,
    FunctionKind,
    Interface,
    Resource,
    Type,
    functions_of,
    is_unit,
)

_LOCALS = ("function", "import", "loan", "params", "result", "this")
"""What variables generated functions have of their own."""


# What a guest imports.


def declaration(module_: str, field: str, parameters: Sequence[str], result: str = "") -> list[Code]:
    """The declaration of an import."""
    return [
        f'#[link(wasm_import_module = "{module_}")]',
        'extern "C" {',
        [f'#[link_name = "{field}"]', Signature("fn import", parameters, result, ";")],
        "}",
    ]


def importing(interface: Interface, names: Names, function: Function) -> list[Code]:
    """A function that calls an import."""
    plan = call(function, "guest", "import")
    signature = plan.core
    flats = _flats(plan)
    lending, arguments, lends = _lent(names, plan, flats)
    declared = [f"{flat.text}: {'*const u8' if flat.kind == 'p' else FLAT_TYPES[flat.kind]}" for flat in flats]
    if signature.result_pointer:
        arguments.append("result.at()")
        declared.append("result: *mut u8")
    result = f" -> {FLAT_TYPES[signature.result]}" if signature.result else ""
    calling = _called(names, plan, lending, Items("import(", arguments, ")"))
    body = [*declaration(interface.name, plan.name, declared, result), ""]
    areas: list[Code] = [
        f"let mut {step.area} = abi::Area::<{step.extent}>::uninit();"
        for step in plan.steps
        if isinstance(step, Reserve)
    ]
    if lends:
        body.append("let mut loan = abi::Loan::default();")
    body += areas
    parameters = [f"{name}: {names.borrowed(type_)}" for name, type_ in _own_parameters(function)]
    if function.kind is FunctionKind.METHOD:
        parameters.insert(0, "&self")
    head = Signature(f"pub fn {names.function(function)}", parameters, result_type(names, function))
    return [*docs(function.docs), head, [*body, *calling], "}"]


def _lent(names: Names, plan: Call, flats: Sequence[Flat]) -> tuple[list[Code], list[str], bool]:
    """Statements that make the parameters ready, the arguments for the import, and whether `loan` is used."""
    params = [("self" if name == "this" else name, type_) for name, type_ in params_of(plan.function)]
    if plan.core.indirect_params:
        lending: list[Code] = []
        for (name, type_), part in zip(params, plan.params.parts, strict=True):
            value = name if names.borrowed(type_).startswith("&") else f"&{name}"
            at = f"params.at().add({part.offset})" if part.offset else "params.at()"
            if not is_unit(type_):
                lending.append(Items("abi::lend(", [value, at, "&mut loan"], ");"))
        return lending, ["params.at()"], bool(lending)
    lowering = Lowering(names, Scope([*_LOCALS, *(name for name, _ in params), *(flat.text for flat in flats)]))
    lowered = [flat.text for name, type_ in params for flat in lowering.lower(type_, Place(name, _stem(name)), "param")]
    return lowering.statements, lowered, lowering.lends


def _called(names: Names, plan: Call, lending: Sequence[Code], call: Items) -> list[Code]:
    """Calls the import, after the statements `lending`, and takes its result."""
    signature = plan.core
    statement = Items(call.head, call.items, ");")
    if signature.result_pointer:
        return ["unsafe {", [*lending, statement, "abi::take(result.at())"], "}"]
    lifting = Lifting(names, Scope(_LOCALS))
    flats = [Flat("result", signature.result)] if signature.result else []
    value = lifting.lift(plan.function.result, flats, "value")
    if value in ("result", "()"):
        return ["unsafe {", [*lending, call], "}"] if lending else [Unsafe(call)]
    if signature.result:
        statement = Items(call.head, call.items, ");", "let result =")
    return ["unsafe {", [*lending, statement, *ending(lifting.statements, value)], "}"]


# What a guest exports.


def exporting(interface: Interface, names: Names) -> list[Code]:
    """The trait that a guest implements, and the macros that make exports of functions."""
    functions = functions_of(interface)
    if not functions:
        return []
    constructed = [
        resource
        for resource in interface.resources
        if any(function.kind is FunctionKind.STATIC for function in resource.functions)
    ]
    has_guest = bool(interface.functions or constructed)
    code: list[Code] = ["", *_guest_trait(interface, names, constructed)] if has_guest else []
    for function in interface.functions:
        code += ["", *_export(names, function)]
    for resource in interface.resources:
        exports = [line for function in resource.functions for line in ["", *_export(names, function)]]
        code += ["", f"impl {names.use(resource)} {{", exports[1:], "}"] if exports else []
    for function in interface.functions:
        code += _export_macro(interface, names, function)
    return code + _export_all_macro(interface, names, functions, has_guest)


def _guest_trait(interface: Interface, names: Names, constructed: Sequence[Resource]) -> list[Code]:
    members: list[Code] = []
    for resource in constructed:
        members += ["", f"/// What implements the resource `{resource.name}`."]
        members += [f"type {names.use(resource)}: {names.guest_trait(resource)};"]
    for function in interface.functions:
        members += ["", *trait_method(names, function)]
    return [f"/// What the guest implements to export `{interface.name}`.", "pub trait Guest {", members[1:], "}"]


def trait_method(names: Names, function: Function) -> list[Code]:
    """A function that the guest implements."""
    parameters = [f"{name}: {names.owned(type_)}" for name, type_ in _own_parameters(function)]
    if function.kind is FunctionKind.METHOD:
        parameters.insert(0, "&self")
    head, result = f"fn {names.function(function)}", result_type(names, function)
    if function.kind is FunctionKind.STATIC:
        return [*docs(function.docs), Signature(head, parameters, result, ""), "where", ["Self: Sized;"]]
    return [*docs(function.docs), Signature(head, parameters, result, ";")]


def _export(names: Names, function: Function) -> list[Code]:
    """What an export does: takes the arguments, calls the guest's own function, and gives the result."""
    plan = call(function, "guest", "export")
    flats = _flats(plan)
    parameters: list[str | Items] = [f"{flat.text}: {FLAT_TYPES[flat.kind]}" for flat in flats]
    taking, arguments = _taken(names, plan, flats)
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        this, *arguments = arguments
        taking += [f"let this = {this};"] if this != "this" else []
        method = f"{names.guest_trait(function.resource)}::{names.function(function)}"
        calling = Items(f"{method}(", ["&*this", *arguments], ")")
    else:
        types = [names.owned(param.type) for param in function.params]
        parameters.insert(0, Items("function: fn(", types, f"){result_type(names, function)}", is_type=True))
        calling = Items("function(", arguments, ")")
    body = [*taking, *_given(names, plan, calling)]
    for step in plan.steps:
        if isinstance(step, Reserve):
            body = [f"static mut RESULT: abi::Area<{step.extent}> = abi::Area::uninit();", "", *body]
    head = Signature(f"pub unsafe fn __export_{names.function(function)}", parameters, _export_result(plan))
    return ["#[doc(hidden)]", head, body, "}"]


def _taken(names: Names, plan: Call, flats: Sequence[Flat]) -> tuple[list[Code], list[str | Items]]:
    """Statements that take the arguments over, and what to pass on."""
    params = params_of(plan.function)
    if not plan.core.indirect_params:
        lifting = Lifting(names, Scope([*_LOCALS, *(flat.text for flat in flats)]))
        lifted = [
            lifting.lift(type_, mine, name) for (name, type_), mine in zip(params, flat_params(params), strict=True)
        ]
        return lifting.statements, lifted
    taking: list[Code] = []
    for (name, type_), part in zip(params, plan.params.parts, strict=True):
        # A method's own handle is not passed on, which would tell its type.
        of = f": {names.owned(type_)}" if name == "this" else ""
        at = f"params.add({part.offset})" if part.offset else "params"
        value = "()" if is_unit(type_) else f"abi::take({at})"
        taking.append(Items(value, (), ";", f"let {name}{of} ="))
    for step in plan.steps:
        if isinstance(step, Free):
            taking.append(f"abi::canonical_abi_free(params, {step.extent}, {step.align});")
    return taking, [name for name, _ in params]


def _given(names: Names, plan: Call, call: Items) -> list[Code]:
    """Calls the guest's own function and gives the result to the host."""
    binding = Items(call.head, call.items, ");", "let result =")
    if plan.core.result_pointer:
        place = "let at = std::ptr::addr_of_mut!(RESULT).cast::<u8>();"
        return [binding, place, "abi::give(result, at);", "at"]
    if not plan.core.result:
        return [Items(call.head, call.items, ");")]
    lowering = Lowering(names, Scope(_LOCALS))
    (flat,) = lowering.lower(plan.function.result, Place("result", "result"), "place")
    if flat.text == "result":
        return [call]
    if plan.result.has_handle:
        binding = Items("std::mem::ManuallyDrop::new(", [call], ");", "let result =")
    return [binding, *ending(lowering.statements, flat.text)]


def _export_macro(interface: Interface, names: Names, function: Function) -> list[Code]:
    name = f"export_{names.function(function)}"
    types = ", ".join(names.owned(param.type) for param in function.params)
    about = f"""
Exports a function under a name of its own: `{name}!("NAME", function)`.

The function is a `fn({types}){result_type(names, function)}`, a path or a closure without captures.
"""
    wired = _wired(interface, names, function, "$name", "$function")
    return _macro(names, name, "$name:literal, $function:expr", wired, about)


def _export_all_macro(interface: Interface, names: Names, functions: Sequence[Function], has_guest: bool) -> list[Code]:
    here = f"$crate::{names.module}"
    wired: list[Code] = []
    for function in functions:
        owner = f"<$guest as {here}::Guest>"
        if function.kind is FunctionKind.STATIC:
            assert function.resource is not None
            owner = f"<{owner}::{names.use(function.resource)} as {here}::{names.guest_trait(function.resource)}>"
        wired += _wired(interface, names, function, f'"{ABI.name(function)}"', f"{owner}::{names.function(function)}")
    if not has_guest:
        return _macro(names, "export", "", wired, f"Exports `{interface.name}`: `export!()`.")
    about = f"Exports `{interface.name}` as a type implements it: `export!(Type)`, where `Type` implements [`Guest`]."
    return _macro(names, "export", "$guest:ty", wired, about)


def _macro(names: Names, name: str, pattern: str, body: Sequence[Code], about: str) -> list[Code]:
    """A macro of this module. All macros have their names in the crate's root, where it gets one that is its alone."""
    hidden = f"__{names.module}__{name}"
    return [
        "",
        "#[doc(hidden)]",
        "#[macro_export]",
        f"macro_rules! {hidden} {{",
        [f"({pattern}) => {{", body, "};"],
        "}",
        "",
        *docs(about),
        "#[doc(inline)]",
        f"pub use {hidden} as {name};",
    ]


def _wired(interface: Interface, names: Names, function: Function, name: str, called: str) -> list[Code]:
    """In a macro, an export: `name` and the function `called` are as the macro has them."""
    plan = call(function, "guest", "export")
    flats = _flats(plan)
    parameters = [f"{flat.text}: {FLAT_TYPES[flat.kind]}" for flat in flats]
    owner = f"{names.use(function.resource)}::" if function.resource else ""
    passed = [] if function.kind is FunctionKind.METHOD else [called]
    path = f"$crate::{names.module}::{owner}__export_{names.function(function)}"
    return [
        "const _: () = {",
        [
            f"#[export_name = {name}]",
            Signature('extern "C" fn export', parameters, _export_result(plan)),
            [Unsafe(Items(f"{path}(", [*passed, *(flat.text for flat in flats)], ")"))],
            "}",
        ],
        "};",
    ]


def _export_result(plan: Call) -> str:
    if plan.core.result_pointer:
        return " -> *const u8"
    return f" -> {FLAT_TYPES[plan.core.result]}" if plan.core.result else ""


# What both have in common.


def _stem(name: str) -> str:
    """What the flat values of a parameter are called, without their numbers."""
    return name.rstrip("_") or name


def result_type(names: Names, function: Function) -> str:
    """What follows the parameters of a function."""
    return "" if is_unit(function.result) else f" -> {names.owned(function.result)}"


def _own_parameters(function: Function) -> tuple[tuple[str, Type], ...]:
    """Those of a function without the resource that a method is of."""
    return params_of(function)[1 if function.kind is FunctionKind.METHOD else 0 :]


def _flats(plan: Call) -> list[Flat]:
    """The flat parameters of a function, but for a pointer to the result."""
    if plan.core.indirect_params:
        return [Flat("params", "p")]
    return [flat for flats in flat_params(params_of(plan.function)) for flat in flats]
