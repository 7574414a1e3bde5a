"""The functions of a generated Rust module: those that call imports, and those that exports are made of."""

from __future__ import annotations

from collections.abc import Sequence

from bindgen import abi
from bindgen.backends.rust_names import Names, all_functions, local, module, snake
from bindgen.backends.rust_text import Code, Items, Signature, Unsafe, docs
from bindgen.backends.rust_values import FLAT_TYPES, Flat, Lifting, Lowering, ending, flat_params, mentions
from bindgen.wit_parser.model import Function, FunctionKind, Interface, Resource, Type

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
    signature = abi.signature(function, "import")
    flats = _flats(function, signature)
    lending, arguments = _lent(names, function, signature, flats)
    declared = [f"{flat.text}: {'*const u8' if flat.kind == 'p' else FLAT_TYPES[flat.kind]}" for flat in flats]
    if signature.result_pointer:
        arguments.append("result.at()")
        declared.append("result: *mut u8")
    result = f" -> {FLAT_TYPES[signature.result]}" if signature.result else ""
    calling = _called(names, function, signature, lending, Items("import(", arguments, ")"))
    body = [*declaration(interface.name, function.field, declared, result), ""]
    if signature.indirect_params:
        extent = _params_extent([type_ for _, type_ in _params(function)])
        body.append(f"let mut params = abi::Area::<{extent}>::uninit();")
    if mentions(calling, "loan"):
        body.append("let mut loan = abi::Loan::default();")
    if signature.result_pointer:
        body.append(f"let mut result = abi::Area::<{abi.extent(function.result)}>::uninit();")
    parameters = [f"{local(param.name)}: {names.borrowed(param.type)}" for param in function.params]
    parameters = [each if mentions(calling, each) else f"_{each}" for each in parameters]
    if function.kind is FunctionKind.METHOD:
        parameters.insert(0, "&self")
    head = Signature(f"pub fn {snake(function.name)}", parameters, result_type(names, function))
    return [*docs(function.docs), head, [*body, *calling], "}"]


def _lent(
    names: Names, function: Function, signature: abi.Signature, flats: Sequence[Flat]
) -> tuple[list[Code], list[str]]:
    """Statements that make the parameters ready, and the arguments for the import."""
    params = [("self" if name == "this" else name, type_) for name, type_ in _params(function)]
    if signature.indirect_params:
        starts, _ = abi.offsets(type_ for _, type_ in params)
        lending: list[Code] = []
        for (name, type_), start in zip(params, starts, strict=True):
            value = name if names.borrowed(type_).startswith("&") else f"&{name}"
            at = f"params.at().add({start})" if start else "params.at()"
            if not abi.is_unit(type_):
                lending.append(Items("abi::lend(", [value, at, "&mut loan"], ");"))
        return lending, ["params.at()"]
    lowering = Lowering(names, {*(name for name, _ in params), *(flat.text for flat in flats)})
    lowered = [flat.text for name, type_ in params for flat in lowering.lower(type_, name, "param")]
    return lowering.statements, lowered


def _called(
    names: Names, function: Function, signature: abi.Signature, lending: Sequence[Code], call: Items
) -> list[Code]:
    """Calls the import, after the statements `lending`, and takes its result."""
    statement = Items(call.head, call.items, ");")
    if signature.result_pointer:
        return ["unsafe {", [*lending, statement, "abi::take(result.at())"], "}"]
    lifting = Lifting(names, {"result"})
    flats = [Flat("result", signature.result)] if signature.result else []
    value = lifting.lift(function.result, flats, "value")
    if value in ("result", "()"):
        return ["unsafe {", [*lending, call], "}"] if lending else [Unsafe(call)]
    if signature.result:
        statement = Items(call.head, call.items, ");", "let result =")
    return ["unsafe {", [*lending, statement, *ending(lifting.statements, value)], "}"]


# What a guest exports.


def exporting(interface: Interface, names: Names) -> list[Code]:
    """The trait that a guest implements, and the macros that make exports of functions."""
    functions = all_functions(interface)
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
    parameters = [f"{local(param.name)}: {names.owned(param.type)}" for param in function.params]
    if function.kind is FunctionKind.METHOD:
        parameters.insert(0, "&self")
    head, result = f"fn {snake(function.name)}", result_type(names, function)
    if function.kind is FunctionKind.STATIC:
        return [*docs(function.docs), Signature(head, parameters, result, ""), "where", ["Self: Sized;"]]
    return [*docs(function.docs), Signature(head, parameters, result, ";")]


def _export(names: Names, function: Function) -> list[Code]:
    """What an export does: takes the arguments, calls the guest's own function, and gives the result."""
    signature = abi.signature(function, "export")
    flats = _flats(function, signature)
    parameters: list[str | Items] = [f"{flat.text}: {FLAT_TYPES[flat.kind]}" for flat in flats]
    taking, arguments = _taken(names, function, signature, flats)
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        this, *arguments = arguments
        taking += [f"let this = {this};"] if this != "this" else []
        method = f"{names.guest_trait(function.resource)}::{snake(function.name)}"
        call = Items(f"{method}(", ["&*this", *arguments], ")")
    else:
        types = [names.owned(param.type) for param in function.params]
        parameters.insert(0, Items("function: fn(", types, f"){result_type(names, function)}", is_type=True))
        call = Items("function(", arguments, ")")
    body = [*taking, *_given(names, function, signature, call)]
    if signature.result_pointer:
        area = f"abi::Area<{abi.extent(function.result)}>"
        body = [f"static mut RESULT: {area} = abi::Area::uninit();", "", *body]
    head = Signature(f"pub unsafe fn __export_{snake(function.name)}", parameters, _export_result(signature))
    return ["#[doc(hidden)]", head, body, "}"]


def _taken(
    names: Names, function: Function, signature: abi.Signature, flats: Sequence[Flat]
) -> tuple[list[Code], list[str | Items]]:
    """Statements that take the arguments over, and what to pass on."""
    params = _params(function)
    if not signature.indirect_params:
        lifting = Lifting(names, {"function", *(flat.text for flat in flats)})
        lifted = [
            lifting.lift(type_, mine, name) for (name, type_), mine in zip(params, flat_params(params), strict=True)
        ]
        return lifting.statements, lifted
    types = [type_ for _, type_ in params]
    starts, layout = abi.offsets(types)
    taking: list[Code] = []
    for (name, type_), start in zip(params, starts, strict=True):
        # A method's own handle is not passed on, which would tell its type.
        of = f": {names.owned(type_)}" if name == "this" else ""
        value = "()" if abi.is_unit(type_) else f"abi::take(params.add({start}))" if start else "abi::take(params)"
        taking.append(Items(value, (), ";", f"let {name}{of} ="))
    taking.append(f"abi::canonical_abi_free(params, {_params_extent(types)}, {layout.align});")
    return taking, [name for name, _ in params]


def _given(names: Names, function: Function, signature: abi.Signature, call: Items) -> list[Code]:
    """Calls the guest's own function and gives the result to the host."""
    binding = Items(call.head, call.items, ");", "let result =")
    if signature.result_pointer:
        place = "let at = std::ptr::addr_of_mut!(RESULT).cast::<u8>();"
        return [binding, place, "abi::give(result, at);", "at"]
    if not signature.result:
        return [Items(call.head, call.items, ");")]
    lowering = Lowering(names, set())
    (flat,) = lowering.lower(function.result, "result", "place")
    if flat.text == "result":
        return [call]
    if abi.contains_handle(function.result):
        binding = Items("std::mem::ManuallyDrop::new(", [call], ");", "let result =")
    return [binding, *ending(lowering.statements, flat.text)]


def _export_macro(interface: Interface, names: Names, function: Function) -> list[Code]:
    name = f"export_{snake(function.name)}"
    types = ", ".join(names.owned(param.type) for param in function.params)
    about = f"""
Exports a function under a name of its own: `{name}!("NAME", function)`.

The function is a `fn({types}){result_type(names, function)}`, a path or a closure without captures.
"""
    wired = _wired(interface, names, function, "$name", "$function")
    return _macro(interface, name, "$name:literal, $function:expr", wired, about)


def _export_all_macro(interface: Interface, names: Names, functions: Sequence[Function], has_guest: bool) -> list[Code]:
    here = f"$crate::{module(interface)}"
    wired: list[Code] = []
    for function in functions:
        owner = f"<$guest as {here}::Guest>"
        if function.kind is FunctionKind.STATIC:
            assert function.resource is not None
            owner = f"<{owner}::{names.use(function.resource)} as {here}::{names.guest_trait(function.resource)}>"
        wired += _wired(interface, names, function, f'"{function.field}"', f"{owner}::{snake(function.name)}")
    if not has_guest:
        return _macro(interface, "export", "", wired, f"Exports `{interface.name}`: `export!()`.")
    about = f"Exports `{interface.name}` as a type implements it: `export!(Type)`, where `Type` implements [`Guest`]."
    return _macro(interface, "export", "$guest:ty", wired, about)


def _macro(interface: Interface, name: str, pattern: str, body: Sequence[Code], about: str) -> list[Code]:
    """A macro of this module. All macros have their names in the crate's root, where it gets one that is its alone."""
    hidden = f"__{module(interface)}__{name}"
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
    signature = abi.signature(function, "export")
    flats = _flats(function, signature)
    parameters = [f"{flat.text}: {FLAT_TYPES[flat.kind]}" for flat in flats]
    owner = f"{names.use(function.resource)}::" if function.resource else ""
    passed = [] if function.kind is FunctionKind.METHOD else [called]
    path = f"$crate::{module(interface)}::{owner}__export_{snake(function.name)}"
    return [
        "const _: () = {",
        [
            f"#[export_name = {name}]",
            Signature('extern "C" fn export', parameters, _export_result(signature)),
            [Unsafe(Items(f"{path}(", [*passed, *(flat.text for flat in flats)], ")"))],
            "}",
        ],
        "};",
    ]


def _export_result(signature: abi.Signature) -> str:
    if signature.result_pointer:
        return " -> *const u8"
    return f" -> {FLAT_TYPES[signature.result]}" if signature.result else ""


# What both have in common.


def result_type(names: Names, function: Function) -> str:
    """What follows the parameters of a function."""
    return "" if abi.is_unit(function.result) else f" -> {names.owned(function.result)}"


def _params(function: Function) -> list[tuple[str, Type]]:
    """Names and types of what a call passes, a method's own resource first."""
    params = [(local(param.name), param.type) for param in function.params]
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        return [("this", function.resource), *params]
    return params


def _flats(function: Function, signature: abi.Signature) -> list[Flat]:
    """The flat parameters of a function, but for a pointer to the result."""
    if signature.indirect_params:
        return [Flat("params", "p")]
    return [flat for flats in flat_params(_params(function)) for flat in flats]


def _params_extent(types: Sequence[Type]) -> int:
    """How many bytes the parameters of a call reach over when they are in memory."""
    starts, layout = abi.offsets(types)
    return max([layout.size, *(start + abi.extent(type_) for start, type_ in zip(starts, types, strict=True))])
