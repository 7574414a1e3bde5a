"""How a generated Rust module of a host lifts and lowers values: the functions for the types that it uses.

Five operations, each a function in the generated module where the type is compound, and an expression where it isn't:

- *load*: a value from the guest's memory (`load_T(lift, at)`)
- *lift*: a value from flat WebAssembly values (`lift_T(lift, slot, …)`), and a list from pointer and length
- *note*: the blocks of memory that a value's texts and lists take (`note_T(blocks, value)`)
- *store*: a value into memory (`store_T(lower, at, value)`)
- *flat*: a value as flat WebAssembly values (`flat_T(lower, value)`), and a list as pointer and length

Functions are written on demand, so a module holds those that it needs. Values are passed by reference (`Ref`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bindgen.backends.rust_names import PRIMITIVES, HostNames, case_names
from bindgen.backends.rust_text import Code, Items, Signature, Value, arm, bind
from bindgen.backends.rust_types import FLAT_TYPES, case_path, case_payload, construct, fields, flags_representation
from bindgen.plan import (
    Choice,
    Elements,
    FlagSet,
    Handle,
    Labels,
    Nothing,
    Number,
    Parts,
    Text,
    conversions,
    parts,
    shape,
)
from bindgen.wit_parser.model import ExpectedOf, ListOf, OptionOf, Primitive, Type, TypeDef, unaliased

_CHECKED = (Primitive.BOOL, Primitive.CHAR, Primitive.STRING, Primitive.UNIT)
_NUMBERS = {primitive: name for primitive, name in PRIMITIVES.items() if primitive not in _CHECKED}
"""The numbers of which every one is a value."""

_LIFT, _LOWER, _BLOCKS = "lift: &mut abi::Lift<'_>", "lower: &mut abi::Lower<'_>", "blocks: &mut abi::Blocks"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a value, as an expression: a variable that holds one, or the place that the value is in."""

    name: str
    is_place: bool = False

    def __str__(self) -> str:
        return f"&{self.name}" if self.is_place else self.name

    @property
    def behind(self) -> str:
        """The value, which is copied."""
        return self.name if self.is_place else f"*{self.name}"

    def field(self, name: str) -> Ref:
        """A field, or an item of a tuple. How rustfmt writes `x.0.0` depends on its version."""
        return Ref(f"({self.name}).{name}" if self.is_place else f"{self.name}.{name}", True)


VALUE = Ref("value")
"""What helper functions are given, and patterns give."""


class HostValues:
    """Writes the functions that one generated module needs."""

    def __init__(self, names: HostNames) -> None:
        self._names = names
        self._functions: dict[str, list[Code]] = {}

    def functions(self) -> list[Code]:
        """The text of all functions, in the order in which they were first needed."""
        return [line for lines in self._functions.values() for line in ["", *lines]]

    def _function(self, operation: str, type_: Type, write: Callable[[Type, str], list[Code]]) -> str:
        name = self._names.helper(operation, type_)
        if name not in self._functions:
            self._functions[name] = []  # first, so that functions stand in the order in which they are needed
            self._functions[name] = write(type_, f"fn {name}")
        return name

    # Lifting: from memory.

    def load(self, type_: Type, at: str) -> Value:
        """An expression for the value in memory at `at`."""
        match shape(type_):
            case Nothing():
                return "()"
            case Number(primitive=primitive) if primitive in _NUMBERS:
                return f"lift.get({at})?"
            case Number(primitive=Primitive.BOOL):
                return f"lift.get::<u8>({at}).and_then(|byte| lift.bool(byte.into()))?"
            case Number() | Handle() as it:
                return self.lift(it.type, [f"lift.get({at})?"])
            case Text() | Elements() as it:
                return self._list(it, f"lift.pair({at})?")
        name = self._function("load", type_, self._write_load)
        return f"{name}(lift, {at})?"

    def _write_load(self, type_: Type, head: str) -> list[Code]:
        body: list[Code] = []
        match shape(type_):
            case Parts() as it:
                values = [self.load(part, _plus("at", at)) for (_, part), at in _placed(it)]
                body = [Items("Ok(", [construct(self._names, type_, values)], ")")]
            case FlagSet(size=size) as it:
                word = "lift.get(at)?" if size == 4 else f"lift.get::<u{8 * size}>(at)?.into()"
                body = [f"Ok({self._flags(it, word if size <= 4 else 'lift.get_words(at)?')})"]
            case Labels() | Choice() as it:
                tag_size = it.tag_size
                offset = it.payload_offset if isinstance(it, Choice) else 0
                tag = f"lift.get::<u{8 * tag_size}>(at)?"
                body = self._switch(it, tag if tag_size == 4 else f"u32::from({tag})", _from_memory(self, offset))
        parameters = [_LIFT, "at: u64"]
        return [Signature(head, parameters, f" -> abi::Result<{self._names.owned(type_)}>"), body, "}"]

    # Lifting: from flat values.

    def lift(self, type_: Type, slots: Sequence[str]) -> Value:
        """An expression for the value that travels in the flat values `slots`."""
        match shape(type_):
            case Nothing():
                return "()"
            case Number(primitive=Primitive.BOOL | Primitive.CHAR as primitive):
                return f"lift.{primitive.value}({slots[0]})?"
            case Number(primitive=Primitive.U8 | Primitive.U16):
                return f"lift.unsigned({slots[0]})?"
            case Number(primitive=Primitive.S8 | Primitive.S16):
                return f"lift.signed({slots[0]})?"
            case Number(primitive=Primitive.S32 | Primitive.S64 as primitive):
                return f"{slots[0]} as {_NUMBERS[primitive]}"
            case Number():
                return slots[0]
            case Handle(resource=resource):
                if self._names.is_guests(resource):
                    return f'{self._names.use(resource)}(lift.resource("{resource.name}", {slots[0]})?)'
                return f'lift.handle("{resource.name}", {slots[0]})?'
            case Text() | Elements() as it:
                return self._list(it, f"({', '.join(slots)})")
            case FlagSet() as it:
                return self._flags(it, slots[0] if len(slots) == 1 else f"[{', '.join(slots)}]")
        name = self._function("lift", type_, self._write_lift)
        return Items(f"{name}(", ["lift", *slots], ")?")

    def _write_lift(self, type_: Type, head: str) -> list[Code]:
        it = shape(type_)
        slots = [f"s{number}" for number in range(len(it.slots))]
        parameters = [_LIFT, *(f"{slot}: {FLAT_TYPES[letter]}" for slot, letter in zip(slots, it.slots, strict=True))]
        body: list[Code] = []
        if isinstance(it, Parts):
            values = [
                self.lift(part_type, part.slots_of(slots))
                for (_, part_type), part in zip(fields(type_), it.parts, strict=True)
            ]
            body = [Items("Ok(", [construct(self._names, type_, values)], ")")]
        elif isinstance(it, Labels | Choice):
            body = self._switch(it, slots[0], _from_slots(self, slots[1:]))
        return [Signature(head, parameters, f" -> abi::Result<{self._names.owned(type_)}>"), body, "}"]

    def _switch(self, it: Choice | Labels, tag: str, payload: Callable[[Choice, int, Type], Value]) -> list[Code]:
        """Tells the cases of a variant, union, enum, option or expected apart."""
        arms: list[Code] = []
        if isinstance(it, Labels):
            labels = case_names(it.definition)
            arms = [f"{number} => Ok({self._names.use(it.definition)}::{name})," for number, name in enumerate(labels)]
        else:
            for number in range(len(it.cases)):
                path, held = case_path(self._names, it.type, number), case_payload(it.type, number)
                value = Items(f"{path}(", [payload(it, number, held)], ")") if held is not None else path
                arms += arm(str(number), [], Items("Ok(", [value], ")"))
        return [f"match {tag} {{", [*arms, f'tag => lift.unknown_case("{_called(it)}", tag),'], "}"]

    def _list(self, it: Text | Elements, pair: str) -> str:
        """An expression for the text or list of which `pair` is pointer and length."""
        if isinstance(it, Text):
            return f"lift.string({pair})?"
        element = it.element
        if element.type is Primitive.U8:
            return f"lift.bytes({pair})?"
        if isinstance(element, Number) and element.primitive in _NUMBERS:
            return f"lift.numbers({pair})?"
        return f"{self._function('list', it.type, self._write_list)}({pair}, lift)?"

    def _write_list(self, type_: Type, head: str) -> list[Code]:
        it, element = _elements(type_)
        result = f" -> abi::Result<Vec<{self._names.owned(element)}>>"
        item = f"|lift, at| Ok({self.load(element, 'at')})"
        body = [f"let elements = {_layout(it)};", f"lift.list(pair, elements, {item})"]
        return [Signature(head, ["pair: (u32, u32)", _LIFT], result), body, "}"]

    def _flags(self, it: FlagSet, words: str) -> str:
        """An expression for flags, given one for their word, or for the array of their words."""
        name, representation = self._names.use(it.definition), flags_representation(it.definition)
        if it.size > 4:
            return f"{name}(lift.words({words}, {it.count})?)"
        cast = "" if representation == "u32" else f" as {representation}"
        return f"{name}(lift.flags({words}, {it.count})?{cast})"

    # Noting: what blocks of memory a value takes.

    def note(self, type_: Type, value: Ref) -> list[Code]:
        """Statements that note the blocks of the value behind the reference `value`."""
        match shape(type_):
            case it if not it.has_heap:
                return []
            case Text():
                return [f"blocks.string({value});"]
            case Elements(element=Number(primitive=primitive)) if primitive in _NUMBERS:
                return [f"blocks.numbers({value});"]
        name = self._function("note", type_, self._write_note)
        return [Items(f"{name}(", ["blocks", str(value)], ");")]

    def _write_note(self, type_: Type, head: str) -> list[Code]:
        body: list[Code] = []
        match shape(type_):
            case Elements():
                it, element = _elements(type_)
                body = [f"blocks.list(value.len(), {_layout(it)});"]
                if inner := self.note(element, Ref("item")):
                    body += ["for item in value {", inner, "}"]
            case Parts():
                body = [line for name, part in fields(type_) for line in self.note(part, VALUE.field(name))]
            case Choice() as it:
                body = self._cases(it, lambda _, held: self.note(held, VALUE) if held is not None else [])
        return [Signature(head, [_BLOCKS, f"value: &{self._names.viewed(type_)}"], ""), body, "}"]

    # Lowering: into memory.

    def store(self, type_: Type, at: str, value: Ref) -> list[Code]:
        """Statements that put the value behind the reference `value` into memory at `at`."""
        match shape(type_):
            case Nothing():
                return []
            case Number(primitive=Primitive.BOOL):
                return [f"lower.put({at}, u8::from({value.behind}))?;"]
            case Number(primitive=Primitive.CHAR):
                return [f"lower.put({at}, u32::from({value.behind}))?;"]
            case Number():
                return [f"lower.put({at}, {value.behind})?;"]
            case Labels(size=size):
                return [f"lower.put({at}, {value.behind} as u{8 * size})?;"]
            case Handle() as it:
                return [f"let handle = {self._handle(it, value)};", f"lower.put({at}, handle)?;"]
            case FlagSet(size=size) if size <= 4:
                return [f"lower.put({at}, {value.field('0').name})?;"]
            case FlagSet(size=size):
                bits = value.field("0").name
                return [f"lower.put({_plus(at, 4 * n)}, {bits}[{n}])?;" for n in range(size // 4)]
            case Text() | Elements() as it:
                return [bind("pair", self._fill(it, value)), f"lower.put_pair({at}, pair)?;"]
        name = self._function("store", type_, self._write_store)
        return [Items(f"{name}(", ["lower", at, str(value)], ")?;")]

    def _write_store(self, type_: Type, head: str) -> list[Code]:
        body: list[Code] = []
        match shape(type_):
            case Parts() as it:
                for (name, part), at in _placed(it):
                    body += self.store(part, _plus("at", at), VALUE.field(name))
            case Choice() as it:
                payload_at = _plus("at", it.payload_offset)

                def store_case(number: int, held: Type | None) -> list[Code]:
                    tag = f"lower.put(at, {number}_u{8 * it.tag_size})?;"
                    return [tag, *(self.store(held, payload_at, VALUE) if held is not None else [])]

                body = self._cases(it, store_case)
        parameters = [_LOWER, "at: u64", f"value: &{self._names.viewed(type_)}"]
        return [Signature(head, parameters, " -> abi::Result<()>"), [*body, "Ok(())"], "}"]

    def _fill(self, it: Text | Elements, value: Ref) -> Value:
        """An expression that fills the next block with a text or a list, for pointer and length."""
        if isinstance(it, Text):
            return f"lower.string({value})?"
        if isinstance(it.element, Number) and it.element.primitive in _NUMBERS:
            return f"lower.numbers({value})?"
        name = self._function("fill", it.type, self._write_fill)
        return Items(f"{name}(", ["lower", str(value)], ")?")

    def _write_fill(self, type_: Type, head: str) -> list[Code]:
        it, element = _elements(type_)
        put = self.store(element, "at", Ref("item"))
        parameters = [_LOWER, f"value: &{self._names.viewed(type_)}"]
        filling = "lower.list(value, elements, |lower, at, item|"
        body: list[Code] = [f"let elements = {_layout(it)};"]
        body += [f"{filling} {{", [*put, "Ok(())"], "})"] if put else [f"{filling} Ok(()))"]
        return [Signature(head, parameters, " -> abi::Result<(u32, u32)>"), body, "}"]

    # Lowering: to flat values.

    def flat(self, type_: Type, value: Ref, before: list[Code], fresh: Callable[[], str]) -> list[str]:
        """Expressions for the flat values of what is behind the reference `value`. What has to come first is added to
        `before`; `fresh` gives a name for a variable in it."""
        match shape(type_):
            case Nothing():
                return []
            case Number(primitive=Primitive.S8 | Primitive.S16 | Primitive.S32):
                return [f"{value.behind} as u32"]
            case Number(primitive=Primitive.S64):
                return [f"{value.behind} as u64"]
            case Number(primitive=Primitive.BOOL | Primitive.U8 | Primitive.U16 | Primitive.CHAR):
                return [f"u32::from({value.behind})"]
            case Number():
                return [value.behind]
            case Labels():
                return [f"{value.behind} as u32"]
            case FlagSet(size=size):
                bits = value.field("0").name
                words = [f"{bits}[{n}]" for n in range(size // 4)]
                return words if size > 4 else [bits if size == 4 else f"u32::from({bits})"]
            case Handle() as it:
                name = fresh()
                before.append(f"let {name} = {self._handle(it, value)};")
                return [name]
            case Text() | Elements() as it:
                name = fresh()
                before.append(bind(name, self._fill(it, value)))
                return [f"{name}.0", f"{name}.1"]
            case Parts():
                return [
                    slot for name, part in fields(type_) for slot in self.flat(part, value.field(name), before, fresh)
                ]
            case it:
                flat = self._function("flat", type_, self._write_flat)
                name = fresh()
                before.append(bind(name, Items(f"{flat}(", ["lower", str(value)], ")?")))
                return [name] if len(it.slots) == 1 else [f"{name}.{number}" for number in range(len(it.slots))]

    def _write_flat(self, type_: Type, head: str) -> list[Code]:
        it = shape(type_)
        assert isinstance(it, Choice)
        arms: list[Code] = []
        for case in it.cases:
            held, before = case_payload(type_, case.number), list[Code]()
            names = map("f{}".format, range(len(it.slots)))
            flats = self.flat(held, VALUE, before, names.__next__) if held is not None else []
            moved = [_to_slot(*each) for each in zip(flats, conversions(case), strict=True)]
            zeros = ["0.0" if letter in "fd" else "0" for letter in case.unused]
            slots = [str(case.number), *moved, *zeros]
            value = Items("Ok((", slots, "))") if len(slots) > 1 else Items("Ok(", slots, ")")
            arms += arm(_pattern(self._names, type_, case.number), before, value)
        kinds = [FLAT_TYPES[letter] for letter in it.slots]
        result = f"({', '.join(kinds)})" if len(kinds) > 1 else kinds[0]
        parameters = [_LOWER, f"value: &{self._names.viewed(type_)}"]
        return [Signature(head, parameters, f" -> abi::Result<{result}>"), ["match value {", arms, "}"], "}"]

    # What the operations share.

    def _cases(self, it: Choice, branch: Callable[[int, Type | None], list[Code]]) -> list[Code]:
        """Does something for the case that `value` is of."""
        arms: list[Code] = []
        for number in range(len(it.cases)):
            body = branch(number, case_payload(it.type, number))
            pattern = _pattern(self._names, it.type, number)
            arms += [f"{pattern} => {{", body, "}"] if body else [f"{pattern} => {{}}"]
        return ["match value {", arms, "}"]

    def _handle(self, it: Handle, value: Ref) -> str:
        if self._names.is_guests(it.resource):
            return f"lower.resource({value.field('0')})?"
        return f'lower.handle("{it.resource.name}", {value})?'


def is_passed_by_value(type_: Type) -> bool:
    """Whether a parameter of an export is a value, and not a reference to one."""
    return isinstance(shape(type_), Number | Labels | FlagSet | Nothing)


def _from_memory(values: HostValues, offset: int) -> Callable[[Choice, int, Type], Value]:
    """What loads the payload of a case."""
    return lambda _it, _number, held: values.load(held, _plus("at", offset))


def _from_slots(values: HostValues, slots: Sequence[str]) -> Callable[[Choice, int, Type], Value]:
    """What lifts the payload of a case from the slots of its variant."""

    def lift(it: Choice, number: int, held: Type) -> Value:
        mine = [_from_slot(*each) for each in zip(slots, conversions(it.cases[number]), strict=False)]
        return values.lift(held, mine)

    return lift


def _from_slot(slot: str, conversion: tuple[str, str]) -> str:
    match conversion:
        case "i", "f":
            return f"f32::from_bits({slot})"
        case "I", "f":
            return f"f32::from_bits({slot} as u32)"
        case "I", "d":
            return f"f64::from_bits({slot})"
        case "I", "i":
            return f"{slot} as u32"
    return slot


def _to_slot(flat: str, conversion: tuple[str, str]) -> str:
    match conversion:
        case ("i", "f") | ("I", "d"):
            return f"({flat}).to_bits()"
        case "I", "f":
            return f"u64::from(({flat}).to_bits())"
        case "I", "i":
            return f"u64::from({flat})"
    return flat


def _pattern(names: HostNames, type_: Type, number: int) -> str:
    path = case_path(names, type_, number)
    return path if case_payload(type_, number) is None else f"{path}(value)"


def _placed(it: Parts) -> list[tuple[tuple[str, Type], int]]:
    """The names and types of fields, each with its offset."""
    offsets = [part.offset for part in parts(it.type)]
    return list(zip(fields(it.type), offsets, strict=True))


def _elements(type_: Type) -> tuple[Elements, Type]:
    """The shape of a list, and the type of its elements as the interface spells it."""
    it, real = shape(type_), unaliased(type_)
    assert isinstance(it, Elements)
    assert isinstance(real, ListOf)
    return it, real.element


def _layout(it: Elements) -> str:
    element = it.element
    return f"abi::Elements {{ stride: {element.size}, extent: {element.extent}, align: {element.align} }}"


def _called(it: Choice | Labels) -> str:
    """What messages call a variant, union, enum, option or expected."""
    match it.type:
        case TypeDef(name=name):
            return name
        case OptionOf():
            return "option"
        case ExpectedOf():
            return "expected"
    raise AssertionError(it)


def _plus(at: str, offset: int) -> str:
    return f"{at} + {offset}" if offset else at
