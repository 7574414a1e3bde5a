"""Components read into plans: what the plan says, and what is refused."""

from __future__ import annotations

import inspect
import sys
import time

import pytest
import wasmtime

from slight_py.component import binary
from slight_py.component.binary import InvalidComponent, UnsupportedComponent
from slight_py.component.plan import (
    Builtin,
    ComponentInstance,
    CoreExport,
    CoreImport,
    ExportedInstance,
    ImportedFunction,
    ImportedInstance,
    LiftedFunction,
    Lower,
    Plan,
)
from slight_py.component.types import FuncType, ResourceType, ResultOf, text
from tests.component.texts import LIBC, VALID, component
from tests.component.verdicts import wasmtime_says


def compiled(source: str) -> bytes:
    return bytes(wasmtime.wat2wasm(source))


def plan_of(*parts: str) -> Plan:
    return binary.read(compiled(component(*parts)))


def refused(wasm: bytes) -> str:
    """Why a component is invalid, which wasmtime must find, too."""
    assert wasmtime_says(wasm) is not None
    with pytest.raises(InvalidComponent) as error:
        binary.read(wasm)
    assert str(error.value) == f"component: at byte {error.value.at:#x}: {error.value.problem}"
    assert 0 <= error.value.at <= len(wasm)
    return error.value.problem


def unsupported(wasm: bytes) -> str:
    with pytest.raises(UnsupportedComponent) as error:
        binary.read(wasm)
    return error.value.problem


# What plans say.


@pytest.mark.parametrize("name", VALID)
def test_what_wasmtime_takes_is_taken(name: str) -> None:
    wasm = compiled(VALID[name])
    assert wasmtime_says(wasm) is None
    binary.read(wasm)


def test_core_instances_come_in_order_with_what_their_imports_are() -> None:
    plan = binary.read(compiled(VALID["hello"]))
    libc, main = plan.core_instances
    assert (libc.number, libc.module.name, libc.imports) == (0, "libc", ())
    assert (main.number, main.module.name, main.instance) == (1, "main", 0)
    memory, arguments = main.imports
    assert memory == CoreImport("env", "memory", CoreExport(0, "memory", "memory"))
    assert (arguments.module, arguments.name) == ("wasi:cli/environment@0.2.0", "get-arguments")
    lowered = arguments.source
    assert isinstance(lowered, Lower)
    assert lowered.options.memory == CoreExport(0, "memory", "memory")
    assert lowered.options.realloc == CoreExport(0, "realloc", "func")
    assert (lowered.core_type.params, lowered.core_type.results) == (("i32",), ())
    assert isinstance(lowered.function, ImportedFunction)
    assert (lowered.function.interface, lowered.function.name) == ("wasi:cli/environment@0.2.0", "get-arguments")
    assert text(lowered.function.type) == "func() -> list<string>"


def test_a_core_module_is_a_range_of_the_file() -> None:
    wasm = compiled(VALID["hello"])
    libc, main = binary.read(wasm).modules
    assert wasm[libc.start : libc.start + 8] == wasm[main.start : main.start + 8] == b"\0asm\1\0\0\0"
    assert set(main.type.exports) == {"run", "text"}
    wasmtime.Module.validate(wasmtime.Engine(), wasm[main.start : main.end])


def test_exports_through_a_nested_component_are_the_lifted_functions() -> None:
    plan = binary.read(compiled(VALID["hello"]))
    run = plan.exports["wasi:cli/run@0.2.0"]
    assert isinstance(run, ExportedInstance)
    function = run.exports["run"]
    assert isinstance(function, LiftedFunction)
    assert (function.core, function.instance) == (CoreExport(1, "run", "func"), 0)
    assert function.type == FuncType((), ResultOf(None, None))
    named = plan.exports["text"]
    assert isinstance(named, LiftedFunction)
    assert named.options.post_return == CoreExport(0, "free", "func")
    assert plan.component_instances == (ComponentInstance(0, None), ComponentInstance(1, 0))


def test_an_imported_resource_has_the_name_of_its_interface_without_the_version() -> None:
    plan = binary.read(compiled(VALID["imports"]))
    streams = plan.imports["wasi:io/streams@0.2.12"]
    assert isinstance(streams, ImportedInstance)
    read = streams.exports["[method]input-stream.read"]
    assert isinstance(read, ImportedFunction)
    error = "variant{closed, failed(string)}"
    assert text(read.type) == (
        f"func(self: borrow<wasi:io/streams/input-stream>, len: u64) -> result<list<u8>, {error}>"
    )


def test_a_resource_that_another_interface_uses_is_one_and_the_same() -> None:
    plan = binary.read(compiled(VALID["imports"]))
    streams, http = plan.imports["wasi:io/streams@0.2.12"], plan.imports["wasi:http/types@0.2.12"]
    assert isinstance(streams, ImportedInstance)
    assert isinstance(http, ImportedInstance)
    assert isinstance(streams.exports["input-stream"], ResourceType)
    assert streams.exports["input-stream"] is http.exports["input-stream"]
    assert http.exports["body"] is not http.exports["input-stream"]


def test_a_resource_of_the_component_has_its_destructor_and_the_name_it_is_exported_by() -> None:
    plan = binary.read(compiled(VALID["resources"]))
    ((resource, local),) = plan.resources.items()
    assert local.destructor == CoreExport(0, "free", "func")
    assert (resource.key, resource.instance) == ("docs:counters/counters/counter", 0)
    builtins = [each.source for each in plan.core_instances[1].imports]
    assert all(isinstance(each, Builtin) and each.type is resource and each.instance == 0 for each in builtins)
    assert [each.name for each in builtins if isinstance(each, Builtin)] == [
        "resource.new",
        "resource.drop",
        "resource.rep",
    ]
    exported = plan.exports["docs:counters/counters@1.0.0"]
    assert isinstance(exported, ExportedInstance)
    get = exported.exports["[method]counter.get"]
    assert isinstance(get, LiftedFunction)
    assert text(get.type) == "func(self: borrow<docs:counters/counters/counter>) -> u32"


def test_every_instantiation_of_a_component_has_resources_and_core_instances_of_its_own() -> None:
    plan = binary.read(compiled(VALID["composed"]))
    assert [each.parent for each in plan.component_instances] == [None, 0, 0, 0, 3, 3]
    assert [each.instance for each in plan.core_instances] == [1, 2, 4, 5]
    assert len({each.module for each in plan.core_instances}) == 1
    assert [each.instance for each in plan.resources] == [1, 2, 4, 5]
    both = plan.exports["both"]
    assert isinstance(both, ExportedInstance)
    first, second = both.exports["first"], both.exports["second"]
    assert isinstance(first, ExportedInstance)
    assert isinstance(second, ExportedInstance)
    assert set(first.exports) == {"session", "log"}
    assert set(second.exports) == {"log"}  # what the imported component is known to export
    log = plan.exports["log"]
    assert isinstance(log, LiftedFunction)
    assert (log.core, log.instance) == (CoreExport(1, "log", "func"), 2)


def test_a_core_module_given_as_an_argument_is_instantiated_where_it_is_imported() -> None:
    plan = binary.read(compiled(VALID["modules"]))
    helper, code = plan.core_instances
    assert (helper.module.name, code.module.name) == ("helper", "code")
    assert code.imports == (CoreImport("env", "f", CoreExport(0, "f", "func")),)
    assert plan.exports["code"] is code.module


def test_what_is_said_of_the_component_by_custom_sections() -> None:
    plan = binary.read(compiled("(component $greeter)") + producers("processed-by", "wit-component", "0.240.0"))
    assert plan.name == "greeter"
    assert plan.producers == {"processed-by": (("wit-component", "0.240.0"),)}


def producers(field: str, name: str, version: str) -> bytes:
    content = string("producers") + b"\1" + string(field) + b"\1" + string(name) + string(version)
    return section(0, content)


def string(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + unsigned(len(content)) + content


def unsigned(number: int) -> bytes:
    """In LEB128."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def test_an_interface_that_is_imported_twice_has_two_names() -> None:
    interface = '(instance (export "bucket" (type (sub resource))))'
    names = (f'(import "{name}" (implements "wasi:keyvalue/store@0.2.0") {interface})' for name in ("hot", "cold"))
    plan = plan_of(*names)
    for name in ("hot", "cold"):
        imported = plan.imports[name]
        assert isinstance(imported, ImportedInstance)
        assert imported.implements == "wasi:keyvalue/store@0.2.0"
        bucket = imported.exports["bucket"]
        assert isinstance(bucket, ResourceType)
        assert bucket.key == "wasi:keyvalue/store/bucket"


def test_functions_are_lifted_with_their_options() -> None:
    exports = binary.read(compiled(VALID["async"])).exports
    callback, stackful = exports["callback"], exports["stackful"]
    assert isinstance(callback, LiftedFunction)
    assert isinstance(stackful, LiftedFunction)
    assert callback.options.is_async
    assert callback.options.callback == CoreExport(0, "callback", "func")
    assert text(callback.type) == "async func(x: u32) -> string"
    assert stackful.options.is_async
    assert stackful.options.callback is None


# What is refused.

PAIR = '(component $pair (import "a" (type $a (sub resource))) (import "b" (type (eq $a))))'

INVALID = {
    # Index spaces.
    "a function that there is not": ('(export "f" (func 0))', "there is no func 0"),
    "an alias of an export that there is not": (
        '(import "i" (instance $i)) (alias export $i "f" (func))',
        "has no export f",
    ),
    "an alias of another sort": (
        '(import "i" (instance $i (export "f" (func)))) (alias export $i "f" (instance))',
        "is a func and not a instance",
    ),
    "a core export that there is not": (LIBC + '(alias core export $libc "x" (core func))', "has no export x"),
    "a core export of another kind": (LIBC + '(alias core export $libc "memory" (core func))', "is no func"),
    "a type that is no value's": ("(type (func)) (type (list 0))", "a type that no value has"),
    "a function's type that is none": ('(type $t u8) (import "f" (func (type $t)))', "of another kind"),
    "a resource of the component around": (
        "(type $r (resource (rep i32))) (component (alias outer 1 $r (type)))",
        "of the component around it",
    ),
    # Types.
    "an empty record": ("(type (record))", "at least one field"),
    "two fields of one name": ('(type (record (field "a" u8) (field "A" u8)))', "a field called A"),
    "two fields that only differ in a hyphen": ('(type (record (field "ab" u8) (field "a-b" u8)))', "too like it"),
    "a name that is not in kebab-case": ('(type (record (field "aB" u8)))', "not in kebab-case"),
    "more than 32 flags": (
        f"(type (flags {' '.join(f'{chr(34)}f{n}{chr(34)}' for n in range(33))}))",
        "more than 32 flags",
    ),
    "a stream of characters": ("(type (stream char))", "no stream<char>"),
    "a map with floating point keys": ("(type (map f32 u8))", "the keys of a map"),
    "a borrowed handle as a result": (
        '(import "r" (type $r (sub resource))) (import "f" (func (result (borrow $r))))',
        "can't return a borrowed handle",
    ),
    "a borrowed handle in a stream": (
        '(import "r" (type $r (sub resource))) (type (stream (borrow $r)))',
        "can't be carried by a stream",
    ),
    "a list of a fixed length without elements": ("(type (list u8 0))", "at least one element"),
    "a value of 256 MiB": ("(type (list u8 268435456))", "of which it may have 268,435,455"),
    "a memory of more pages than there are": (
        '(core type (module (import "a" "b" (memory 65537))))',
        "a memory of more than 65,536 pages",
    ),
    "a destructor of another type": (
        LIBC + "(type (resource (rep i32) (dtor (core func $none))))",
        "the destructor of a resource",
    ),
    # Names.
    "an import twice": ('(import "f" (func)) (import "f" (func))', "is too like the import f"),
    "two imports that only differ in case": ('(import "a-b" (func)) (import "a-B" (func))', "is too like"),
    "a name that is none": ('(import "f_g" (func))', "is no name for an import"),
    "a version that is none": ('(import "a:b/c@1.2" (instance))', "is no name for an import"),
    "a method without self": (
        '(import "r" (type $r (sub resource))) (import "[method]r.m" (func (param "x" (borrow $r))))',
        "the first parameter of a method is self",
    ),
    "a method of another resource": (
        '(import "r" (type $r (sub resource))) (import "q" (type (sub resource)))'
        '(import "[method]q.m" (func (param "self" (borrow $r))))',
        "is not the one that is called q",
    ),
    "a static function of no resource": ('(import "[static]r.m" (func))', "there is no resource r here"),
    "a constructor that makes something else": (
        '(import "r" (type (sub resource))) (import "[constructor]r" (func (result u32)))',
        "a constructor returns an own handle",
    ),
    "a static function called like its resource": (
        '(import "a" (type (sub resource))) (import "[static]a.a" (func))',
        "is too like the import a",
    ),
    "a method of an instance that is put together": (
        LIBC + '(type $r (resource (rep i32))) (func $f (param "self" (borrow $r)) (canon lift (core func $take)))'
        '(instance (export "r" (type $r)) (export "[method]r.f" (func $f)))',
        "is not the one that is called r here",
    ),
    "an import's name for an export": (
        '(import "f" (func $f)) (export "url=<https://example.org>" (func $f))',
        "a name for imports only",
    ),
    "an imported function that uses a resource of the component": (
        '(type $r (resource (rep i32))) (import "f" (func (param "x" (own $r))))',
        "not imported by a name",
    ),
    "an exported function that uses a record without a name": (
        LIBC + '(type $t (record (field "x" u32))) (func $f (param "x" $t) (canon lift (core func $take)))'
        '(export "f" (func $f))',
        "not exported by a name",
    ),
    "an export that is not of the type it is said to be": (
        LIBC + '(func $f (param "x" u32) (canon lift (core func $take)))(export "f" (func $f) (func (param "x" s32)))',
        "func(x: u32) where func(x: s32) is asked for",
    ),
    # Canonical functions.
    "a core function of another type": (
        LIBC + '(func (param "x" u64) (canon lift (core func $take)))',
        "must be a function (i64) -> ()",
    ),
    "a string without memory": (
        LIBC + '(func (param "x" string) (canon lift (core func $take2)))',
        "memory is missing",
    ),
    "a string without realloc": (
        LIBC + '(func (param "x" string) (canon lift (core func $take2) (memory $memory)))',
        "realloc is missing",
    ),
    "a realloc of another type": (
        LIBC + '(func (param "x" string) (canon lift (core func $take2) (memory $memory) (realloc $none)))',
        "realloc is a function () -> ()",
    ),
    "a realloc without memory": (
        LIBC + '(import "f" (func $f)) (core func (canon lower (func $f) (realloc $realloc)))',
        "realloc is given without memory",
    ),
    "a post-return of another type": (
        LIBC + '(func (param "x" u32) (result u32) (canon lift (core func $map) (post-return $none)))',
        "post-return is a function () -> ()",
    ),
    "a post-return of a function that is lowered": (
        LIBC + '(import "f" (func $f)) (core func (canon lower (func $f) (post-return $none)))',
        "post-return is for functions that are lifted",
    ),
    "an option twice": (
        '(import "f" (func $f)) (core func (canon lower (func $f) string-encoding=utf8 string-encoding=utf16))',
        "given twice",
    ),
    "async of a function that is not": (
        '(import "f" (func $f)) (core func (canon lower (func $f) async))',
        "for functions of an async type",
    ),
    "a callback without async": (
        LIBC + "(func async (canon lift (core func $none) (callback $callback)))",
        "callback is given without async",
    ),
    "a callback of another type": (
        LIBC + "(func async (canon lift (core func $one) async (callback $none)))",
        "callback is a function () -> ()",
    ),
    "a representation of a resource that is the host's": (
        '(import "r" (type $r (sub resource))) (core func (canon resource.rep $r))',
        "that the component itself defines",
    ),
    "a memory that is shared": (
        '(core module $m (memory (export "m") 1 2 shared)) (core instance $i (instantiate $m))'
        '(import "f" (func $f)) (core func (canon lower (func $f) (memory (core memory $i "m"))))',
        "shared between threads",
    ),
    "task.return with realloc": (
        LIBC + "(core func (canon task.return (result u32) (memory $memory) (realloc $realloc)))",
        "takes neither realloc nor async",
    ),
    "a stream's built-in function for a future": (
        "(type $f (future)) (core func (canon stream.new $f))",
        "stream.new is for another type",
    ),
    # Instantiation.
    "a core module without what it imports": (
        '(core module $m (import "a" "b" (func))) (core instance (instantiate $m))',
        "imports a b, which it is not given",
    ),
    "a core module with an import of another type": (
        LIBC
        + '(core module $m (import "a" "take" (func))) (core instance (instantiate $m (with "a" (instance $libc))))',
        "a function (i32) -> () where a function () -> () is asked for",
    ),
    "a core module with a memory that is too small": (
        LIBC + '(core module $m (import "a" "memory" (memory 2)))'
        '(core instance (instantiate $m (with "a" (instance $libc))))',
        "a smallest size of 1 where 2 is asked for",
    ),
    "a component without an argument": (
        '(component $c (import "f" (func))) (instance (instantiate $c))',
        "f is missing",
    ),
    "a component with an argument of another sort": (
        '(component $c (import "f" (func))) (import "i" (instance $i))'
        '(instance (instantiate $c (with "f" (instance $i))))',
        "an instance where a function is asked for",
    ),
    "an instance that lacks an export": (
        '(component $c (import "i" (instance (export "f" (func))))) (import "i" (instance $i))'
        '(instance (instantiate $c (with "i" (instance $i))))',
        "it has no f",
    ),
    "a function of another resource": (
        '(import "t" (type $t (sub resource))) (import "u" (type $u (sub resource)))'
        '(import "f" (func $f (param "x" (own $u))))'
        '(component $c (import "t" (type $t (sub resource))) (import "f" (func (param "x" (own $t)))))'
        '(instance (instantiate $c (with "t" (type $t)) (with "f" (func $f))))',
        "is asked for",
    ),
    "two resources where one is asked for": (
        f"{PAIR} (type $q (resource (rep i32))) (type $r (resource (rep i32)))"
        '(instance (instantiate $pair (with "a" (type $q)) (with "b" (type $r))))',
        "another resource",
    ),
    "the resources of two instances of one type": (
        '(type $i (instance (export "r" (type (sub resource))))) (import "x" (instance $x (type $i)))'
        f'(import "y" (instance $y (type $i))) {PAIR}'
        '(instance (instantiate $pair (with "a" (type $x "r")) (with "b" (type $y "r"))))',
        "another resource",
    ),
    "the resources of two instances of one component": (
        '(component $c (type $r (resource (rep i32))) (export "r" (type $r)))'
        f"(instance $x (instantiate $c)) (instance $y (instantiate $c)) {PAIR}"
        '(instance (instantiate $pair (with "a" (type $x "r")) (with "b" (type $y "r"))))',
        "another resource",
    ),
    "an export that the component doesn't show": (
        '(component $c (import "i" (component $inner)) (instance $x (instantiate $inner))'
        ' (alias export $x "f" (func)))',
        "has no export f",
    ),
    "a component that needs more than it is given": (
        '(component $c (import "inner" (component (import "a" (func)))))'
        '(component $d (import "a" (func)) (import "b" (func)))'
        '(instance (instantiate $c (with "inner" (component $d))))',
        "import b is missing",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_component_is_invalid_with(name: str) -> None:
    source, problem = INVALID[name]
    assert problem in refused(compiled(component(source)))


def test_a_nested_component_is_checked_though_nothing_instantiates_it() -> None:
    source = component("(component", LIBC, '(func (param "x" u64) (canon lift (core func $take))))')
    assert "must be a function (i64) -> ()" in refused(compiled(source))


@pytest.mark.parametrize(
    ("wasm", "problem"),
    [
        (b"", "the file is no WebAssembly"),
        (b"\0asm", "the file is no component"),
        (b"\0asm\1\0\0\0", "the file is no component"),
        (b"\0asm\x0d\0\1\0\x07\x05\1", "section 7 is longer than what is left of the file"),
        (b"\0asm\x0d\0\1\0\x0d\0", "there is no section 13 in a component"),
        (b"\0asm\x0d\0\1\0" + section(7, b"\1\x7f\0"), "section 7 ends with 1 bytes too many"),
        (b"\0asm\x0d\0\1\0" + section(7, b"\xff\xff\xff\xff\x7f"), "a number of more than 32 bits"),
        (b"\0asm\x0d\0\1\0" + section(7, b"\x7f"), "there are not as many as 127 entries of a section"),
        (b"\0asm\x0d\0\1\0" + section(10, b"\1\0\1\xff\1\0"), "a name that is not UTF-8"),
        (b"\0asm\x0d\0\1\0" + section(1, b"\0asm\x0d\0\1\0"), "doesn't begin as one of version 1 does"),
        (b"\0asm\x0d\0\1\0" + section(8, b"\1\x43"), "0x43 is no canonical function"),
    ],
)
def test_bytes_are_no_component(wasm: bytes, problem: str) -> None:
    assert problem in refused(wasm)


def test_an_error_says_at_which_byte_of_the_file() -> None:
    wasm = b"\0asm\x0d\0\1\0" + section(7, b"\2\x7f\x20")
    with pytest.raises(InvalidComponent, match=r"component: at byte 0xc: 0x20 is no kind of type"):
        binary.read(wasm)


def test_names_in_an_error_are_escaped_and_cut() -> None:
    module = r'(core module $m (import "\1b[31m\0a" "f" (func))) (core instance (instantiate $m))'
    assert r"imports \x1b[31m\n f, which" in refused(compiled(component(module)))
    module = f'(core module $m (import "{"x" * 5000}" "f" (func))) (core instance (instantiate $m))'
    assert len(refused(compiled(component(module)))) < 1100


UNSUPPORTED = {
    "threads": ("(core func (canon thread.index))", "thread.index"),
    "context.get of a second value": ("(core func (canon context.get i32 1))", "another slot"),
    "an imported core module": ('(import "m" (core module))', "the import m is a component or a core module"),
    "an imported component": ('(import "c" (component))', "the import c is a component or a core module"),
    "values": ('(import "v" (value u32))', "values"),
    "a start function": ('(import "f" (func $f)) (start $f)', "a start function"),
    "nested packages": ('(import "a:b:c/d" (instance))', "nested namespaces"),
    "memories with 64-bit addresses": (
        '(core module $m (memory (export "m") i64 1)) (core instance $i (instantiate $m))'
        '(import "f" (func $f)) (core func (canon lower (func $f) (memory (core memory $i "m"))))',
        "64-bit addresses",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_named(name: str) -> None:
    source, problem = UNSUPPORTED[name]
    assert problem in unsupported(compiled(component(source)))


def test_a_later_version_of_components_is_named() -> None:
    assert "version 0e00" in unsupported(b"\0asm\x0e\0\1\0")


def test_files_that_begin_as_components_do() -> None:
    assert binary.is_component(b"\0asm\x0d\0\1\0")
    assert binary.is_component(b"\0asm\x0e\0\1\0")
    assert not binary.is_component(b"\0asm\1\0\0\0")
    assert not binary.is_component(b"\0asm")


# Small files that describe very much.


def quickly(wasm: bytes) -> str:
    """Why a component is not supported, which must be found in a few seconds."""
    begun = time.process_time()
    problem = unsupported(wasm)
    assert time.process_time() - begun < 10
    return problem


def test_components_that_instantiate_each_other_many_times_are_counted() -> None:
    levels = ["(component $c0)"]
    for level in range(1, 12):
        inner = f"(alias outer 1 $c{level - 1} (component $inner))"
        levels.append(f"(component $c{level} {inner} {'(instance (instantiate $inner))' * 10})")
    assert "components are instantiated" in quickly(compiled(component(*levels, "(instance (instantiate $c11))")))


def test_core_modules_that_are_instantiated_many_times_are_counted() -> None:
    many = "(core instance (instantiate $m))" * 1001
    assert "core modules are instantiated" in quickly(compiled(component("(core module $m)", many)))


def test_instances_of_instances_are_counted() -> None:
    levels = ['(import "i0" (instance $i0 (export "a" (func)) (export "b" (func))))']
    levels += [
        f'(instance $i{level} (export "a" (instance $i{level - 1})) (export "b" (instance $i{level - 1})))'
        for level in range(1, 20)
    ]
    assert "too large" in quickly(compiled(component(*levels, '(export "all" (instance $i19))')))


def test_instance_types_made_of_instance_types_are_counted() -> None:
    levels = ['(type $i0 (instance (export "a" (func)) (export "b" (func))))']
    levels += [
        f"""(type $i{level} (instance (alias outer 1 $i{level - 1} (type $i))
          (export "a" (instance (type $i))) (export "b" (instance (type $i)))))"""
        for level in range(1, 20)
    ]
    assert "too large" in quickly(compiled(component(*levels, '(import "i" (instance (type $i19)))')))
    of_resources = component(*levels, '(import "i" (instance (type $i19)))').replace(
        '"a" (func)', '"a" (type (sub resource))'
    )
    assert "too large" in quickly(compiled(of_resources))


def test_types_made_of_types_are_counted() -> None:
    doubled = ["(type $t0 (tuple u8 u8))"]
    doubled += [f"(type $t{level} (tuple $t{level - 1} $t{level - 1}))" for level in range(1, 60)]
    assert "more than 100,000 types" in quickly(compiled(component(*doubled)))


def test_many_functions_of_a_large_type_are_counted() -> None:
    record = "(record " + " ".join(f'(field "f{n}" string)' for n in range(5000)) + ")"
    imports = [f'(import "f{n}" (func (param "x" $t)))' for n in range(2000)]
    wasm = compiled(component(f'(type $r {record}) (import "t" (type $t (eq $r)))', *imports))
    assert "too large" in quickly(wasm)


def nested(depth: int, wrap: bytes, innermost: bytes) -> bytes:
    """Something that holds itself, written backwards so that its text needs no recursion."""
    found = innermost
    for _ in range(depth):
        found = wrap + section(4, found)
    return found


def test_components_that_are_nested_too_deeply_are_refused() -> None:
    preamble = b"\0asm\x0d\0\1\0"
    assert "more than 20 deep" in quickly(nested(2000, preamble, preamble))
    binary.read(nested(19, preamble, preamble))


def test_types_that_are_nested_too_deeply_are_refused() -> None:
    types = b"\x42\0"
    for _ in range(2000):
        types = b"\x42\1\1" + types
    assert "more than 20 deep" in quickly(b"\0asm\x0d\0\1\0" + section(7, b"\1" + types))
    lists = b"".join(b"\x70" + (bytes([number - 1]) if number else b"\x7f") for number in range(59))
    binary.read(b"\0asm\x0d\0\1\0" + section(7, b"\x3b" + lists))
    deeper = "(type $t0 (list u8))" + "".join(f"(type $t{n} (list $t{n - 1}))" for n in range(1, 200))
    assert "nested more than 60 deep" in quickly(compiled(component(deeper)))


def test_instances_that_hold_the_one_before_are_refused() -> None:
    chain = ['(import "i" (instance $i0))'] + [
        f'(instance $i{n} (export "i" (instance $i{n - 1})))' for n in range(1, 500)
    ]
    assert "more than 20 deep" in quickly(compiled(component(*chain)))
    types = ["(type $i0 (instance))"]
    types += [
        f'(type $i{n} (instance (alias outer 1 $i{n - 1} (type $i)) (export "i" (instance (type $i)))))'
        for n in range(1, 500)
    ]
    assert "more than 20 deep" in quickly(compiled(component(*types)))


def test_what_is_nested_as_deeply_as_may_be_takes_few_frames() -> None:
    """Of the thousand that Python has, of which callers need some."""
    types = ['(import "r" (type $r (sub resource)))', "(type $t0 (own $r))"]
    types += [f"(type $t{n} (option $t{n - 1}))" for n in range(1, 58)]
    function = '(import "f" (func (param "x" $t57)))'
    inner = f"(component $c {' '.join(types)} {function})"
    for _ in range(17):
        inner = f"""(component $c {inner} {" ".join(types)} (import "f" (func $f (param "x" $t57)))
          (instance (instantiate $c (with "r" (type $r)) (with "f" (func $f)))))"""
    wasm = compiled(
        component(
            *types,
            '(import "f" (func $f (param "x" $t57)))',
            inner,
            '(instance (instantiate $c (with "r" (type $r)) (with "f" (func $f))))',
        )
    )
    frames = len(inspect.stack())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(frames + 600)
    try:
        binary.read(wasm)
    finally:
        sys.setrecursionlimit(limit)


def test_a_chain_of_components_that_instantiate_the_one_before_is_refused() -> None:
    chain = ["(component $c0)"]
    chain += [
        f"(component $c{n} (alias outer 1 $c{n - 1} (component $i)) (instance (instantiate $i)))" for n in range(1, 500)
    ]
    assert "more than 20 deep" in quickly(compiled(component(*chain, "(instance (instantiate $c499))")))
