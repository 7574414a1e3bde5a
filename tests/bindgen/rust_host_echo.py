"""A host in Rust around a guest that is an echo: it answers each function with its arguments, sends values through the
guest's exports, and says for each whether the function that it stands for was asked, and the values came back.

Its own names contain `zz`, so that no name of an interface is one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bindgen.backends import reachable
from bindgen.backends.rust_host_values import is_passed_by_value
from bindgen.backends.rust_names import HostNames, name_modules
from bindgen.wit_parser.model import Function, FunctionKind, Interface, Type, functions_of, is_unit
from tests.bindgen.roundtrip import export_names, pairs
from tests.bindgen.rust_host import constructed, expression

SHARED = """\
use std::sync::Mutex;

pub struct ZzHost;

/// What is behind every resource of the host.
pub struct ZzResource;

static ZZ_CALLED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

pub fn zz_called(name: &'static str) {
    ZZ_CALLED.lock().unwrap().push(name);
}

pub fn zz_same<T: core::fmt::Debug>(function: &str, name: &str, answer: &T, value: &T) {
    let called = core::mem::take(&mut *ZZ_CALLED.lock().unwrap());
    let (answer, value) = (format!("{answer:?}"), format!("{value:?}"));
    assert_eq!(called, [name], "{function}");
    assert_eq!(answer, value, "{function}");
}
"""

MAIN = """\
use harness as zz_harness;

fn main() -> wasmtime::Result<()> {{
    let path = std::env::args().nth(1).unwrap();
    let engine = zz_harness::engine()?;
    let module = zz_harness::load(&engine, &path)?;
    let mut linker = wasmtime::Linker::new(&engine);
{linked}
    zz_harness::block_on(async {{
        let (mut store, instance) = zz_harness::instance(&linker, &module, zz_shared::ZzHost).await?;
        let before = zz_harness::live_blocks(&mut store, &instance).await?;
{called}
        assert_eq!(zz_harness::live_blocks(&mut store, &instance).await?, before);
        println!("{count} came back");
        Ok(())
    }})
}}
"""

_CALLS = """\
#![allow(unused_imports, unused_variables)]
use super::zz_harness::Data as ZzData;
use super::zz_shared::*;
use super::{module}::*;

type ZzStore = wasmtime::Store<ZzData<ZzHost>>;

/// Resources of the guest that there are methods of.
#[derive(Default)]
struct ZzOwn {{
{owned}}}

pub async fn zz_call(store: &mut ZzStore, instance: &wasmtime::Instance) -> wasmtime::Result<()> {{
    let own = &mut ZzOwn::default();
{called}{drops}    Ok(())
}}
{functions}"""

_CALL = """
async fn zz_{number}(store: &mut ZzStore, instance: &wasmtime::Instance, own: &mut ZzOwn) -> wasmtime::Result<()> {{
{body}    Ok(())
}}
"""

_DROP = """\
    if let Some(own) = own.own_{number}.take() {{
        own.drop(store, instance).await?;
    }}
"""

Draw = Callable[[Sequence[Type]], Sequence[Any]]
"""Values of some types, as the Python bindings have them."""


class EchoHost:
    """The sources of the host, `main.rs` and what belongs to it."""

    def __init__(self, imports: Sequence[Interface], exports: Sequence[Interface], draw: Draw) -> None:
        self._imports, self._exports = imports, exports
        self._draw = draw
        self._modules = name_modules(reachable([*imports, *exports]))
        self._names = {each: HostNames(each, self._modules, exports) for each in self._modules}
        self._exported_as = export_names(exports)
        self.count = len(pairs(imports, exports))
        """How many functions there are."""

    def files(self) -> Mapping[str, str]:
        hosts = {f"zz_host_{number}.rs": self._host(each) for number, each in enumerate(self._imports)}
        calls = {f"zz_calls_{number}.rs": self._calls(each) for number, each in enumerate(self._exports)}
        return {"main.rs": self._main(), "zz_shared.rs": SHARED, **hosts, **calls}

    def _main(self) -> str:
        linked = []
        for interface, module in self._modules.items():
            asked = interface in self._imports and any(map(_is_hosts, functions_of(interface)))
            if interface in self._imports or interface.resources:
                linked.append(f"    {module}::add_to_linker(&mut linker{', zz_harness::host' if asked else ''})?;")
        called = [
            f"        zz_calls_{number}::zz_call(&mut store, &instance).await?;" for number in range(len(self._exports))
        ]
        return MAIN.format(linked="\n".join(linked), called="\n".join(called), count=self.count)

    def _host(self, interface: Interface) -> str:
        """What answers the functions of an interface."""
        module, names = self._modules[interface], self._names[interface]
        asked = [function for function in functions_of(interface) if _is_hosts(function)]
        text = f"use super::canonical_abi as zz_abi;\nuse super::zz_shared::*;\nuse super::{module}::*;\n"
        if asked:
            methods = "".join(self._method(names, function) for function in asked)
            text += f"\nimpl super::{module}::Host for ZzHost {{{methods}\n}}\n"
        for resource in interface.resources:
            methods = "".join(self._method(names, each) for each in resource.functions if not _is_hosts(each))
            text += f"\nimpl super::{module}::{names.trait(resource)} for ZzResource {{{methods}\n}}\n"
        return f"#![allow(unused_imports)]\n{text}"

    def _method(self, names: HostNames, function: Function) -> str:
        params = "".join(f", zz{n}: {names.owned(param.type)}" for n, param in enumerate(function.params))
        arguments = [f"zz{n}" for n in range(len(function.params))]
        answer = "()" if is_unit(function.result) else constructed(names, function.result, arguments)
        unused = "" if not is_unit(function.result) else "".join(f"        let _ = {each};\n" for each in arguments)
        return f"""
    async fn {names.method(function)}(&self{params}) -> zz_abi::Result<{names.owned(function.result)}> {{
        zz_called("{_key(function)}");
{unused}        Ok({answer})
    }}
"""

    def _calls(self, interface: Interface) -> str:
        """What calls the exports of an interface, one after the other."""
        module, names = self._modules[interface], self._names[interface]
        called = {function: each for each, function in pairs(self._imports, self._exports)}
        calls = [self._call(names, called[each], each) for each in functions_of(interface)]
        owned = "".join(f"    own_{n}: Option<{names.use(each)}>,\n" for n, each in enumerate(interface.resources))
        drops = "".join(_DROP.format(number=number) for number in range(len(interface.resources)))
        # A function of its own for each, in a box: rustc takes minutes and gigabytes for one with thousands of awaits.
        functions = "".join(_CALL.format(number=number, body=body) for number, body in enumerate(calls))
        called_all = "".join(f"    Box::pin(zz_{n}(store, instance, own)).await?;\n" for n in range(len(calls)))
        return _CALLS.format(module=module, owned=owned, functions=functions, called=called_all, drops=drops)

    def _call(self, names: HostNames, called: Function, function: Function) -> str:
        """Statements that call an export, and look at what came of that.

        One that stands for a function without a result makes a resource of the guest's, for its methods.
        """
        types = [param.type for param in function.params]
        texts = [expression(names, *each) for each in zip(types, self._draw(types), strict=True)]
        passed = [f"{'' if is_passed_by_value(type_) else '&'}{text}" for type_, text in zip(types, texts, strict=True)]
        own = f"own.own_{function.resource.interface.resources.index(function.resource)}" if function.resource else ""
        if function.kind is FunctionKind.METHOD:
            passed.insert(0, f"{own}.as_ref().unwrap()")
        name = self._exported_as[function]
        found = f'{names.exported(function)}::find(store, instance, "{name}")?'
        call = f"    let answer = {found}.call({', '.join(['store', *passed])}).await?;\n"
        if is_unit(called.result):
            kept = f"    {own} = Some(answer);\n" if own else ""
            return f'{call}    zz_same("{name}", "{_key(called)}", &(), &());\n{kept}'
        # A method of the host's is asked through a function of the guest's that takes the resource first.
        sent = constructed(names, function.result, texts[len(texts) - len(called.params) :])
        return f'{call}    zz_same("{name}", "{_key(called)}", &answer, &{sent});\n'


def _is_hosts(function: Function) -> bool:
    """Whether the host itself answers, and not a resource of it."""
    return function.kind is not FunctionKind.METHOD


def _key(function: Function) -> str:
    """What tells a function from all others."""
    owner = f"{function.resource.interface.name}/{function.resource.name}::" if function.resource else ""
    return f"{owner}{function.name}/{len(function.params)}"
