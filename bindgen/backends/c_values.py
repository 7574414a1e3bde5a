"""How generated C lifts and lowers values: statements, and the private functions that they call.

Four operations, each a function in the generated source where a value can't be copied as it lies:

- *load*: a value from memory (`load_T(at)`)
- *store*: a value into memory (`store_T(at, &value)`)
- *lift*: a value from flat WebAssembly values (`lift_T(slots)`), and a list from the host's layout
- *lower*: a value to flat WebAssembly values (`lower_T(slots, &value)`), and a list to the host's layout

Memory is bytes: nothing in it need be aligned. Flat values are 64-bit slots on their way, in which a float is its bits,
so that a slot holds whichever of the cases of a variant. Where the host's layout differs, lists are made anew: those
that a call only lends in blocks of that call (`blocks`), those that become the host's in blocks of their own, and then
the guest's list is freed. A function that makes lists takes `blocks` for that: NULL says that they become the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from bindgen.backends.c_layout import WORD_FLAGS, agrees, canonical, converts, is_number, members
from bindgen.backends.c_names import Names, field, tag_field
from bindgen.backends.c_text import define
from bindgen.backends.c_types import each_part
from bindgen.backends.scope import Scope
from bindgen.backends.text import indented, plus
from bindgen.plan import Choice, Elements, FlagSet, Handle, Parts, Shape, Text
from bindgen.wit_parser.model import ExpectedOf, OptionOf, Type

RAW_TYPES = {"i": "uint32_t", "I": "uint64_t", "f": "float", "d": "double"}
"""The C types of WebAssembly values."""

_OF_SLOT = {
    "bool": "{} != 0",
    "uint64_t": "{}",
    "float": "abi_float_of_bits((uint32_t){})",
    "double": "abi_double_of_bits({})",
    "const void *": "(const void *)(uintptr_t){}",
}
"""How a 64-bit slot becomes a value of a C type; others are cast."""

_TO_SLOT = {
    "float": "abi_bits_of_float({})",
    "double": "abi_bits_of_double({})",
    "const void *": "(uintptr_t){}",
    # Extended by zeros, as the host has 32 bits in a slot.
    **{f"int{bits}_t": "(uint32_t){}" for bits in (8, 16, 32)},
    "int64_t": "(uint64_t){}",
}
"""How a value of a C type becomes a 64-bit slot; others are as they are."""


# Values on their way.


class Leaf(NamedTuple):
    """What travels by itself in a value: everything but records, and what is in those."""

    shape: Shape
    value: str
    """Where it is in C: `request.body`."""
    first_slot: int


def leaves(whole: Shape, value: str = "", first_slot: int = 0) -> Iterator[Leaf]:
    """The leaves of `value`, which travels in slots from `first_slot` on."""
    if isinstance(whole, Parts):
        for part in members(whole):
            yield from leaves(part.shape, f"{value}.{field(whole, part)}", first_slot + part.first_slot)
    elif not whole.is_empty:
        yield Leaf(whole, value, first_slot)


class Variables:
    """Flat values in variables of the types that they travel as."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def get(self, number: int, type_: str) -> str:
        """One as a C type that travels in it."""
        return self._names[number]

    def array(self, first: int, letters: str) -> str:
        """Several as an array of slots."""
        slots = [_to_slot(RAW_TYPES[letter], self._names[n]) for n, letter in enumerate(letters, first)]
        return f"(const uint64_t[]){{{', '.join(slots)}}}"


class _Slots:
    """Flat values in an array of slots, behind the tag of a variant: the same."""

    def get(self, number: int, type_: str) -> str:
        return _of_slot(type_, f"slots[{number + 1}]")

    def array(self, first: int, letters: str) -> str:
        return f"slots + {first + 1}"


Flats: TypeAlias = Variables | _Slots


def _of_slot(type_: str, slot: str) -> str:
    return _OF_SLOT.get(type_, f"({type_}){{}}").format(slot)


def _to_slot(type_: str, value: str) -> str:
    return _TO_SLOT.get(type_, "{}").format(value)


def declared(type_: str, name: str, lines: Sequence[str]) -> list[str]:
    """Statements that declare a variable which `lines` set."""
    if len(lines) == 1 and lines[0].startswith(f"{name} = "):
        return [f"{type_} {lines[0]}"]
    return [f"{type_} {name};", *lines]


# What lifts and lowers.


class Values:
    """Writes what one generated source needs."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._functions: dict[tuple[str, Type], list[str]] = {}

    def functions(self) -> list[list[str]]:
        """The texts of the private functions, each after those that it calls."""
        return list(self._functions.values())

    def _helper(self, operation: str, whole: Shape, write: Callable[[Shape, str], list[str]]) -> str:
        """The name of a private function, which is written when it is asked for first."""
        key = operation, canonical(whole.type)
        name = self._names.static(*key)
        if key not in self._functions:
            self._functions[key] = write(whole, name)
        return name

    # Memory.

    def load(self, whole: Shape, at: str, target: str) -> list[str]:
        """Statements that set `target` to the value in memory at `at`."""
        if agrees(whole):
            return [f"__builtin_memcpy({_address(target)}, {at}, sizeof {target});"]
        return [f"{target} = {self._helper('load', whole, self._write_load)}({at});"]

    def _write_load(self, whole: Shape, name: str) -> list[str]:
        result = self._names.type(whole.type)
        body = [f"{result} value;"]
        if isinstance(whole, Elements):
            body += ["__builtin_memcpy(&value, at, sizeof value);"]
            body += [f"return {self._helper('lift', whole, self._write_lift_list)}(value.ptr, value.len);"]
            return define(f"static {result} {name}", ["const uint8_t *at"], body)
        if isinstance(whole, Choice):
            body += [f"__builtin_memcpy(&value.{tag_field(whole)}, at, {whole.tag_size});"]

        def load(part: Shape, target: str, offset: int) -> list[str]:
            return self.load(part, plus("at", offset), target)

        body += [*each_part(self._names, whole, "value.", load), "return value;"]
        return define(f"static {result} {name}", ["const uint8_t *at"], body)

    def store(self, whole: Shape, at: str, value: str, blocks: str) -> list[str]:
        """Statements that put `value` into memory at `at`."""
        if agrees(whole):
            return [f"__builtin_memcpy({at}, &{value}, sizeof {value});"]
        return [f"{self._helper('store', whole, self._write_store)}({at}, &{value}{_more(whole, blocks)});"]

    def _write_store(self, whole: Shape, name: str) -> list[str]:
        body = []
        if isinstance(whole, Elements):
            body += [f"const void *ptr = {self._helper('lower', whole, self._write_lower_list)}(value, blocks);"]
            body += ["__builtin_memcpy(at, &ptr, 4);", "__builtin_memcpy(at + 4, &value->len, 4);"]
        else:
            if isinstance(whole, Choice):
                body += [f"__builtin_memcpy(at, &value->{tag_field(whole)}, {whole.tag_size});"]

            def store(part: Shape, value: str, offset: int) -> list[str]:
                return self.store(part, plus("at", offset), value, "blocks")

            body += each_part(self._names, whole, "value->", store)
        return define(f"static void {name}", ["uint8_t *at", *self._lowered_parameters(whole)], body)

    def _lowered_parameters(self, whole: Shape) -> list[str]:
        """What a function takes that lowers `value`."""
        parameters = [f"const {self._names.type(whole.type)} *value"]
        return [*parameters, "abi_block_t **blocks"] if converts(whole) else parameters

    # Lists whose elements the host has in another layout.

    def _write_lift_list(self, whole: Shape, name: str) -> list[str]:
        assert isinstance(whole, Elements)
        result, element = self._names.type(whole.type), self._names.type(whole.element.type)
        body = [
            "const uint8_t *at = ptr;",
            f"if (len > SIZE_MAX / sizeof({element})) __builtin_trap();",
            f"{element} *items = canonical_abi_realloc(NULL, 0, _Alignof({element}), len * sizeof *items);",
            "for (size_t i = 0; i < len; i++) {",
            *indented(self.load(whole.element, "at", "items[i]")),
            f"    at += {whole.element.size};",
            "}",
            f"canonical_abi_free((void *)ptr, {_list_size(whole, 'len')}, {whole.element.align});",
            f"return ({result}){{items, len}};",
        ]
        return define(f"static {result} {name}", ["const void *ptr", "size_t len"], body)

    def _write_lower_list(self, whole: Shape, name: str) -> list[str]:
        assert isinstance(whole, Elements)
        align = f"_Alignof({self._names.type(whole.element.type)})"
        body = [
            f"uint8_t *block = abi_block(blocks, {_list_size(whole, 'value->len')}, {whole.element.align});",
            "uint8_t *at = block;",
            "for (size_t i = 0; i < value->len; i++) {",
            *indented(self.store(whole.element, "at", "value->ptr[i]", "blocks")),
            f"    at += {whole.element.size};",
            "}",
            f"if (!blocks) canonical_abi_free((void *)value->ptr, value->len * sizeof *value->ptr, {align});",
            "return block;",
        ]
        return define(f"static const void *{name}", self._lowered_parameters(whole), body)

    # Flat values.

    def raw_types(self, whole: Shape) -> list[str]:
        """The C types of the flat values that a parameter travels as."""
        return [type_ for leaf in leaves(whole) for type_ in self._leaf_types(leaf.shape)]

    def _leaf_types(self, leaf: Shape) -> list[str]:
        if isinstance(leaf, Text | Elements):
            return ["const void *", "size_t"]
        return [self._names.type(leaf.type)] if is_number(leaf) else [RAW_TYPES[letter] for letter in leaf.slots]

    def lift(self, whole: Shape, flats: Flats, target: str) -> list[str]:
        """Statements that set `target` to the value that travels in flat values of `raw_types`."""
        lines = []
        for leaf, path, first in leaves(whole, target):
            values = [flats.get(n, type_) for n, type_ in enumerate(self._leaf_types(leaf), first)]
            match leaf:
                case Handle():
                    lines.append(f"{path}.handle = {values[0]};")
                case FlagSet() if leaf.count > WORD_FLAGS:
                    lines += [f"{path}.words[{n}] = {word};" for n, word in enumerate(values)]
                case Choice():
                    lift = self._helper("lift", leaf, self._write_lift)
                    lines.append(f"{path} = {lift}({flats.array(first, leaf.slots)});")
                case Text() | Elements() if agrees(leaf):
                    lines.append(f"{path} = ({self._names.type(leaf.type)}){{{', '.join(values)}}};")
                case Elements():
                    lift = self._helper("lift", leaf, self._write_lift_list)
                    lines.append(f"{path} = {lift}({', '.join(values)});")
                case _:
                    lines.append(f"{path} = {values[0]};")
        return lines

    def _write_lift(self, choice: Shape, name: str) -> list[str]:
        assert isinstance(choice, Choice)
        result = self._names.type(choice.type)
        is_bool = isinstance(choice.type, OptionOf | ExpectedOf)
        tag = _of_slot("bool" if is_bool else f"uint{8 * choice.tag_size}_t", "slots[0]")
        body = [f"{result} value = {{.{tag_field(choice)} = {tag}}};"]
        body += each_part(self._names, choice, "value.", lambda part, target, _: self.lift(part, _Slots(), target))
        return define(f"static {result} {name}", ["const uint64_t *slots"], [*body, "return value;"])

    def lower(self, those: Iterable[Leaf], scope: Scope) -> tuple[list[str], list[str]]:
        """Statements that have to come first, whose variables are of `scope`, and expressions for the flat values.

        Lists are lent: `blocks` holds what is made for that.
        """
        before: list[str] = []
        flats: list[str] = []
        for leaf in those:
            if isinstance(leaf.shape, Choice):
                slots = scope.fresh("lower_slots")
                before.append(f"uint64_t {slots}[{len(leaf.shape.slots)}] = {{0}};")
                before.append(self._lower_choice(leaf.shape, slots, leaf.value, "&blocks"))
                flats += [_of_slot(RAW_TYPES[letter], f"{slots}[{n}]") for n, letter in enumerate(leaf.shape.slots)]
            else:
                flats += self._lower_leaf(leaf.shape, leaf.value, "&blocks")
        return before, flats

    def _lower_leaf(self, leaf: Shape, value: str, blocks: str) -> list[str]:
        match leaf:
            case Handle():
                return [f"{value}.handle"]
            case Text() | Elements() if agrees(leaf):
                return [f"{value}.ptr", f"{value}.len"]
            case Elements():
                return [f"{self._helper('lower', leaf, self._write_lower_list)}(&{value}, {blocks})", f"{value}.len"]
            case FlagSet() if leaf.count > WORD_FLAGS:
                return [f"{value}.words[{n}]" for n in range(len(leaf.slots))]
        return [value]

    def _lower_choice(self, choice: Shape, slots: str, value: str, blocks: str) -> str:
        return f"{self._helper('lower', choice, self._write_lower)}({slots}, &{value}{_more(choice, blocks)});"

    def _write_lower(self, choice: Shape, name: str) -> list[str]:
        assert isinstance(choice, Choice)
        body = [f"slots[0] = value->{tag_field(choice)};"]
        body += each_part(self._names, choice, "value->", lambda part, value, _: self._lower_slots(part, value))
        return define(f"static void {name}", ["uint64_t *slots", *self._lowered_parameters(choice)], body)

    def _lower_slots(self, payload: Shape, value: str) -> list[str]:
        """Statements that put the flat values of the payload `value` into `slots`, behind the tag."""
        lines = []
        for leaf, part, first in leaves(payload, value, 1):
            if isinstance(leaf, Choice):
                lines.append(self._lower_choice(leaf, f"slots + {first}", part, "blocks"))
            else:
                flats = zip(self._leaf_types(leaf), self._lower_leaf(leaf, part, "blocks"), strict=True)
                lines += [f"slots[{n}] = {_to_slot(*flat)};" for n, flat in enumerate(flats, first)]
        return lines


def _address(target: str) -> str:
    """A pointer to a variable, or to what a pointer points to."""
    return target.removeprefix("*") if target.startswith("*") else f"&{target}"


def _list_size(whole: Elements, length: str) -> str:
    """How many bytes a list takes as the host has it."""
    text = f"{length} * {whole.element.size}"
    return f"{length} ? {text} + {whole.overhang} : 0" if whole.overhang else text


def _more(whole: Shape, blocks: str) -> str:
    """The last argument of what may have to make lists."""
    return f", {blocks}" if converts(whole) else ""
