"""Several core instances in one store: what `_store.c` and store.py do alike."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from bindgen.runtime import GuestFault, Import
from slight_py import engine as engine_module
from slight_py.engine import AtOnce, Engine, Harmless, InvalidModule, Program, Shape, Traits, describe, serialize
from slight_py.store import export_number
from tests import wat

FIRST = bytes(
    wasmtime.wat2wasm("""
(module
  (import "host" "ask" (func $ask (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 4) "first")
  (func (export "seven") (result i32) (i32.const 7))
  (func (export "ask") (result i32) (call $ask)))
""")
)

SECOND = bytes(
    wasmtime.wat2wasm("""
(module
  (import "first" "seven" (func $seven (result i32)))
  (import "first" "memory" (memory 1))
  (import "host" "ask" (func $ask (result i32)))
  (func (export "sum") (result i32) (i32.add (call $seven) (call $ask)))
  (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0))))
""")
)


@pytest.fixture(autouse=True, params=wat.STORES)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(request.param, monkeypatch)


@pytest.fixture
def engine() -> Engine:
    return wat.engine()


async def _five(_host: Any, _guest: Any, _args: tuple[()]) -> int:
    return 5


ASK = Import("host", "ask", "", "i", _five)


def program(engine: Engine, given: tuple[str, str, int, str] | None = None, ask: Import = ASK) -> Program:
    """Both modules. `given` is what the second gets in place of the first one's function."""
    first, second = engine.compile_together([FIRST, SECOND], Shape(instances=2, tables=1))
    traits = Traits(None, None, engine_module.Instance)
    made = Program(engine, first, {("host", "ask"): (ask, None)}, traits=traits)
    function = given or ("first", "seven", 0, "seven")
    made.add(
        second, {("host", "ask"): (ask, None)}, [function, ("first", "memory", 0, "memory")], describe(second)
    )  # fmt: skip
    return made


def exported(made: Program, instance: int, name: str, params: str, result: str) -> Any:
    info = made.info if instance == 0 else describe(made.further[instance - 1].module)
    return engine_module.ExportedFunction(name, export_number(instance, info.functions[name].index), params, result)


def test_a_module_uses_what_an_earlier_one_exports_and_what_the_host_gives(engine: Engine) -> None:
    made = program(engine)

    async def main() -> None:
        instance = await made.instantiate(reused=True)
        try:
            assert await instance.call(exported(made, 1, "sum", "", "i"), ()) == 12
            assert await instance.call(exported(made, 1, "byte", "i", "i"), (4,)) == ord("f")
            assert await instance.call(exported(made, 0, "seven", "", "i"), ()) == 7
            memory = instance._store.memory_at(export_number(0, made.info.exports["memory"][1]))
            assert bytes(memory[4:9]) == b"first"
        finally:
            instance.close()

    wat.run(main())


def test_what_is_not_there_is_an_index_error(engine: Engine) -> None:
    made = program(engine)

    async def main() -> None:
        instance = await made.instantiate()
        store = instance._store
        try:
            for number in (export_number(2, 0), export_number(1, 99), -1):
                with pytest.raises(IndexError):
                    store.memory_at(number)
            with pytest.raises(IndexError, match="is no memory"):
                store.memory_at(export_number(1, 0))
            for number, name in ((0, "nothing"), (2, "seven"), (-1, "seven")):
                with pytest.raises(IndexError):
                    store.define(made.further[0].linker.pointer, "a", "b", number, name)
        finally:
            instance.close()
        with pytest.raises(IndexError):
            store.memory_at(0)

    wat.run(main())


def test_an_export_of_another_type_is_refused(engine: Engine) -> None:
    async def main() -> None:
        made = program(engine, ("first", "seven", 0, "memory"))
        with pytest.raises((engine_module.Trap, InvalidModule), match="expected func, but found memory"):
            await made.instantiate()

    wat.run(main())
    assert engine.instances == 0


def test_no_module_is_instantiated_while_a_call_is_under_way(engine: Engine) -> None:
    tried = []

    async def while_called(_host: Any, guest: Any, _args: tuple[()]) -> int:
        further = made.further[0]
        with pytest.raises(RuntimeError, match="a call is under way"):
            guest._store.instantiate_further(further.linker.pointer, further.module.pointer)
        tried.append(True)
        return 1

    made = program(engine, ask=Import("host", "ask", "", "i", while_called))

    async def main() -> None:
        instance = await made.instantiate()
        try:
            assert await instance.call(exported(made, 0, "ask", "", "i"), ()) == 1
        finally:
            instance.close()

    wat.run(main())
    assert tried == [True]


def _at_once(_host: Any, _guest: Any, _args: tuple[()]) -> int:
    return 30


@pytest.mark.parametrize(
    ("ask", "refused"),
    [
        (ASK, True),
        (AtOnce("host", "ask", "", "i", _at_once), True),
        (Harmless("host", "ask", "", "i", _at_once), False),
    ],
)
@pytest.mark.parametrize("calls", [1, 3])
def test_a_guarded_call_reaches_harmless_imports_alone(engine: Engine, ask: Import, refused: bool, calls: int) -> None:
    made = program(engine, ask=ask)

    async def main() -> None:
        instance = await made.instantiate(reused=True)
        try:
            function = exported(made, 0, "ask", "", "i")
            if refused:
                with pytest.raises(GuestFault, match="ask calls host::ask"):
                    await instance._call(function, [()] * calls, True)
            else:
                assert await instance._call(function, [()] * calls, True) == [30] * calls
        finally:
            instance.close()

    wat.run(main())


def test_modules_that_were_compiled_together_are_loaded_together(engine: Engine) -> None:
    shape = Shape(instances=2, tables=1)
    compiled = serialize(engine.compile_together([FIRST, SECOND], shape))
    loaded = engine.load_together(compiled)
    assert [describe(each).functions.keys() for each in loaded] == [{"seven", "ask"}, {"sum", "byte"}]
    assert loaded[0].core is loaded[1].core
    assert loaded[0].core.shape == shape
    for cut in (0, 1, 20, 30, len(compiled) - 1):
        with pytest.raises(InvalidModule):
            engine.load_together(compiled[:cut])
