"""The functions of a generated Rust module: those that call imports, and those that exports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bindgen.backends.rust_names import Names, is_reference, params_of
from bindgen.backends.rust_text import Code, Items, Signature, Unsafe, bind, docs
from bindgen.backends.rust_types import FLAT_TYPES
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

# On its way to and from a type a flat value is in a slot of 64 bits, a float as its bits.
_TO_SLOT = {
    "i": "u64::from({})".format,
    "I": "{}".format,
    "f": "u64::from({}.to_bits())".format,
    "d": "{}.to_bits()".format,
}
_FROM_SLOT = {
    "i": "{} as u32".format,
    "I": "{}".format,
    "f": "f32::from_bits({} as u32)".format,
    "d": "f64::from_bits({})".format,
}


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
    core = plan.core
    lending, arguments = _lent(plan)
    if core.result_pointer:
        arguments.append("result.at() as u32")
    result = f" -> {FLAT_TYPES[core.result]}" if core.result else ""
    body = [*declaration(interface.name, plan.name, _flat_parameters(plan), result), ""]
    if lending:
        body.append("let mut loan = abi::Loan::default();")
    for step in plan.steps:
        if isinstance(step, Reserve):
            body.append(f"let mut {step.area} = abi::Area::<{step.extent}>::uninit();")
    calling = Items("import(", arguments, ");")
    taking: list[Code] = [calling]
    if core.result_pointer:
        taking.append("abi::take(result.at())")
    elif core.result:
        taking = [replace(calling, target="let result ="), f"abi::take_flat(&[{_TO_SLOT[core.result]('result')}])"]
    elif not is_unit(function.result):
        taking.append("abi::take_flat(&[])")
    parameters = [f"{name}: {names.borrowed(type_)}" for name, type_ in _own_parameters(function)]
    if function.kind is FunctionKind.METHOD:
        parameters.insert(0, "&self")
    head = Signature(f"pub fn {names.function(function)}", parameters, result_type(names, function))
    return [*docs(function.docs), head, [*body, "unsafe {", [*lending, *taking], "}"], "}"]


def _lent(plan: Call) -> tuple[list[Code], list[str | Items]]:
    """Statements that lend the parameters to the host, and the arguments for the import."""
    lending: list[Code] = []
    for (name, type_), part in zip(params_of(plan.function), plan.params.parts, strict=True):
        value = "self" if name == "this" else name if is_reference(type_) else f"&{name}"
        if part.shape.is_empty:
            continue
        if plan.core.indirect_params:
            at = f"params.at().add({part.offset})" if part.offset else "params.at()"
            lending.append(Items("abi::lend(", [value, at, "&mut loan"], ");"))
        else:
            slots = f"&mut slots[{part.first_slot}..]" if part.first_slot else "&mut slots"
            lending.append(Items("abi::lend_flat(", [value, slots, "&mut loan"], ");"))
    if plan.core.indirect_params:
        return lending, ["params.at() as u32"]
    if lending:
        lending.insert(0, f"let mut slots = [0; {len(plan.params.slots)}];")
    return lending, [_FROM_SLOT[letter](f"slots[{number}]") for number, letter in enumerate(plan.params.slots)]


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
    body, arguments = _taken(names, plan)
    parameters: list[str | Items] = [*_flat_parameters(plan)]
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        # The handle is not passed on, which would tell its type.
        this, *arguments = arguments
        body.append(bind(f"this: {names.use(function.resource)}", this))
        method = f"{names.guest_trait(function.resource)}::{names.function(function)}"
        calling = Items(f"{method}(", ["&*this", *arguments], ");")
    else:
        types = [names.owned(param.type) for param in function.params]
        parameters.insert(0, Items("function: fn(", types, f"){result_type(names, function)}", is_type=True))
        calling = Items("function(", arguments, ");")
    binding = replace(calling, target="let result =")
    if plan.core.result_pointer:
        place = "let at = std::ptr::addr_of_mut!(RESULT).cast::<u8>();"
        body += [binding, place, "abi::give(result, at);", "at"]
    elif plan.core.result:
        body += [binding, _FROM_SLOT[plan.core.result]("abi::give_flat(result)")]
    else:
        body.append(calling)
    for step in plan.steps:
        if isinstance(step, Reserve):
            body = [f"static mut RESULT: abi::Area<{step.extent}> = abi::Area::uninit();", "", *body]
    head = Signature(f"pub unsafe fn __export_{names.function(function)}", parameters, _export_result(plan))
    return ["#[doc(hidden)]", head, body, "}"]


def _taken(names: Names, plan: Call) -> tuple[list[Code], list[str | Items]]:
    """Statements that take the arguments over, and what to pass on."""
    if not plan.core.indirect_params:
        slots = [_TO_SLOT[letter](f"p{number}") for number, letter in enumerate(plan.params.slots)]
        taken = [
            f"abi::take_flat(&slots[{part.first_slot}..])" if part.first_slot else "abi::take_flat(&slots)"
            for part in plan.params.parts
        ]
        if not slots:
            return [], ["abi::take_flat(&[])" for _ in taken]
        return [Items("[", slots, "];", "let slots =")], [*taken]
    taking: list[Code] = ["let params = p0 as *mut u8;"]
    for number, part in enumerate(plan.params.parts):
        at = f"params.add({part.offset})" if part.offset else "params"
        type_ = names.owned(params_of(plan.function)[number][1])
        taking.append(bind(f"a{number}: {type_}", f"abi::take({at})"))
    for step in plan.steps:
        if isinstance(step, Free):
            taking.append(f"abi::canonical_abi_free(params, {step.extent}, {step.align});")
    return taking, [f"a{number}" for number in range(len(plan.params.parts))]


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
    parameters = _flat_parameters(plan)
    owner = f"{names.use(function.resource)}::" if function.resource else ""
    passed = [] if function.kind is FunctionKind.METHOD else [called]
    path = f"$crate::{names.module}::{owner}__export_{names.function(function)}"
    return [
        "const _: () = {",
        [
            f"#[export_name = {name}]",
            Signature('extern "C" fn export', parameters, _export_result(plan)),
            [Unsafe(Items(f"{path}(", [*passed, *(f"p{number}" for number in range(len(parameters)))], ")"))],
            "}",
        ],
        "};",
    ]


def _export_result(plan: Call) -> str:
    if plan.core.result_pointer:
        return " -> *const u8"
    return f" -> {FLAT_TYPES[plan.core.result]}" if plan.core.result else ""


# What both have in common.


def result_type(names: Names, function: Function) -> str:
    """What follows the parameters of a function."""
    return "" if is_unit(function.result) else f" -> {names.owned(function.result)}"


def _own_parameters(function: Function) -> tuple[tuple[str, Type], ...]:
    """Those of a function without the resource that a method is of."""
    return params_of(function)[1 if function.kind is FunctionKind.METHOD else 0 :]


def _flat_parameters(plan: Call) -> list[str]:
    """The parameters of an import or an export as WebAssembly has them."""
    return [f"p{number}: {FLAT_TYPES[letter]}" for number, letter in enumerate(plan.core.params)]
