"""Writes C guest bindings: a header and a source for each interface, and `canonical_abi.{h,c}` for them all.

What a guest imports becomes functions that it calls. What it exports becomes a type of function to write, and a macro
that exports such a function under a name. An interface that only others use becomes its types. The result is C11 for
clang, and needs no C library.
"""

from __future__ import annotations

from collections.abc import Sequence

from bindgen.abi import Direction
from bindgen.backends import interfaces_of
from bindgen.backends.c_calls import Glue, before_name
from bindgen.backends.c_names import Names
from bindgen.backends.c_text import HEADER, SHARED_FILES, comment, define, unit
from bindgen.backends.c_types import Types, imported
from bindgen.backends.c_values import Values
from bindgen.backends.text import folded
from bindgen.plan import ABI
from bindgen.wit_parser.model import ExpectedOf, Function, Interface, Resource, components, functions_of, unaliased

_OWN_RESOURCE_HEADER = """
/* Makes a handle for `rep`. */
{type} {new}(void *rep);

/* What a handle was made for. */
void *{rep}({type} handle);

/* Makes another handle for the same. */
{type} {clone}({type} handle);

/* Exports a `void function(void *rep)`, which is called when the last handle for `rep` is given up. */
#define {macro}(function) \\
    __attribute__((export_name("canonical_abi_drop_{name}"))) \\
    void function##_export(void *rep) {{ \\
        function(rep); \\
    }}
"""

_OWN_RESOURCE_SOURCE = """
__attribute__((import_module("canonical_abi"), import_name("resource_new_{name}")))
uint32_t {import_new}(void *rep);

__attribute__((import_module("canonical_abi"), import_name("resource_get_{name}")))
void *{import_rep}(uint32_t handle);

__attribute__((import_module("canonical_abi"), import_name("resource_clone_{name}")))
uint32_t {import_clone}(uint32_t handle);

{type} {new}(void *rep) {{
    return ({type}){{{import_new}(rep)}};
}}

void *{rep}({type} handle) {{
    return {import_rep}(handle.handle);
}}

{type} {clone}({type} handle) {{
    return ({type}){{{import_clone}(handle.handle)}};
}}
"""


def write(imports: Sequence[Interface], exports: Sequence[Interface]) -> dict[str, str]:
    """The files of the bindings, by name. What the interfaces use is among them.

    Raises BackendError for an interface with resources that is both imported and exported.
    """
    interfaces = interfaces_of(imports, exports)
    names = Names(interfaces)
    files = dict(SHARED_FILES)
    for interface in interfaces:
        unit = _Unit(names, interface)
        if interface in exports:
            for resource in interface.resources:
                unit.add_own_resource(resource)
        for function in functions_of(interface):
            if interface in imports:
                unit.add_import(function)
            if interface in exports:
                unit.add_export(function)
        stem = names.stem(interface)
        files[f"{stem}.h"] = unit.header()
        files[f"{stem}.c"] = unit.source()
    return files


class _Unit:
    """The header and the source of one interface."""

    def __init__(self, names: Names, interface: Interface) -> None:
        self._names = names
        self._interface = interface
        self._types = Types(names, interface)
        self._values = Values(names)
        self._header: list[list[str]] = []
        self._imports: list[list[str]] = []
        self._source: list[list[str]] = []
        for definition in interface.types:
            self._types.need(definition)
        for resource in interface.resources:
            self._types.need(resource)

    def header(self) -> str:
        guard = self._names.guard(self._interface)
        docs = self._interface.docs or f"The interface `{self._interface.name}`."
        stems = sorted(self._names.stem(each) for each in self._types.used)
        head = [*comment(f"{docs}\n\n{HEADER}"), f"#ifndef {guard}", f"#define {guard}"]
        includes = [f'#include "{stem}.h"' for stem in ("canonical_abi", *stems)]
        return unit([head, includes, *self._types.header, *self._header, ["#endif"]])

    def source(self) -> str:
        head = [*comment(HEADER), f'#include "{self._names.stem(self._interface)}.h"']
        functions = [*self._types.source, *self._values.functions(), *self._source]
        return unit([head, *self._imports, *functions])

    def add_import(self, function: Function) -> None:
        """A function that the guest calls."""
        glue = self._glue(function, "import")
        name = self._names.function(function)
        private = self._names.claim(("import", function), f"import_{name}")
        types = ", ".join(type_ for _, type_ in glue.params) or "void"
        declaration = f"{before_name(glue.result)}{private}({types});"
        self._imports.append(imported(self._interface.name, ABI.name(function), declaration))
        head, parameters = f"{glue.signature.result} {name}", glue.signature.declared(self._names)
        self._header.append([*comment(function.docs), f"{head}({', '.join(parameters)});"])
        self._source.append(define(head, parameters, glue.import_body(private)))

    def add_export(self, function: Function) -> None:
        """The type of a function that the guest has, what calls such a function, and the macro that exports that."""
        glue = self._glue(function, "export")
        name = self._names.function(function)
        type_ = self._names.claim(("function type", function), f"{name}_fn")
        call = self._names.claim(("call", function), f"{name}_call")
        macro = self._names.export_macro(function)
        result = before_name(glue.result)
        verb = "" if glue.result == "void" else "return "
        passed = ", ".join(["function", *(name for name, _ in glue.params)])
        exported = define(f"{result}function##_export", glue.declared(), [f"{verb}{call}({passed});"])
        lines = [line for each in exported for line in folded(f"    {each}")]
        about = f'Exports a `{type_}` under a name: {macro}("{ABI.name(function)}", function)'
        declared = ", ".join(glue.signature.declared(self._names))
        parameters = [f"{type_} *function", *glue.declared()]
        self._header += [
            [*comment(function.docs), f"typedef {glue.signature.result} {type_}({declared});"],
            [
                *comment(about),
                f"#define {macro}(name, function) \\",
                "    __attribute__((export_name(name))) \\",
                *(f"{line} \\" for line in lines[:-1]),
                lines[-1],
            ],
            [*comment("What that export does."), f"{result}{call}({', '.join(parameters)});"],
        ]
        self._source.append(define(f"{result}{call}", parameters, glue.export_body()))

    def _glue(self, function: Function, direction: Direction) -> Glue:
        """What writes a function, once its types are there: they get their names before its parameters do."""
        result = unaliased(function.result)
        results = components(result) if isinstance(result, ExpectedOf) else (function.result,)
        for type_ in (*ABI.param_types(function), *results):
            self._types.need(type_)
        return Glue(self._names, self._values, function, direction)

    def add_own_resource(self, resource: Resource) -> None:
        """What the guest does with a resource that it defines: `rep` is whatever it knows it by."""
        operations = {each: self._names.helper(each, resource) for each in ("new", "rep", "clone")}
        names = {
            "name": resource.name,
            "type": self._names.type(resource),
            "macro": self._names.destructor_macro(resource),
            **operations,
        }
        for operation, name in operations.items():
            names[f"import_{operation}"] = self._names.claim((f"import {operation}", resource), f"import_{name}")
        self._header.append(_OWN_RESOURCE_HEADER.format(**names).strip().split("\n"))
        self._source.append(_OWN_RESOURCE_SOURCE.format(**names).strip().split("\n"))
