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
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, TypeAlias

from bindgen.backends.c_layout import WORD_FLAGS, agrees, canonical, converts, is_copied, is_number, members
from bindgen.backends.c_names import Names, field, tag_field
from bindgen.backends.c_text import indented, listed
from bindgen.backends.c_types import each_part
from bindgen.backends.scope import Scope
from bindgen.plan import Choice, Elements, FlagSet, Handle, Parts, Shape, Text, inner
from bindgen.wit_parser.model import ExpectedOf, OptionOf, Type

RAW_TYPES = {"i": "uint32_t", "I": "uint64_t", "f": "float", "d": "double"}
"""The C types of WebAssembly values."""

_OF_SLOT = {
    "bool": "{} != 0",
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


class Expression(NamedTuple):
    """An expression, or, with `items`, one that takes as many lines as they need (`listed`)."""

    head: str
    items: Sequence[str] = ()
    tail: str = ""

    def statement(self, head: str) -> list[str]:
        """What `head` does with it."""
        return listed(head + self.head, self.items, f"{self.tail};")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A value that arrives: what sets a variable to it."""

    expressions: Sequence[tuple[str, Expression]] = ()
    """Of parts of the value, each with how to get there from the variable: `.f0`, or nothing for all of it."""
    copied_from: str = ""
    """Where its bytes are, if they are those of the variable."""

    def put(self, target: str, address: str = "") -> list[str]:
        """Statements that set `target`."""
        if self.copied_from:
            return [f"__builtin_memcpy({address or f'&{target}'}, {self.copied_from}, sizeof {target});"]
        return [line for path, each in self.expressions for line in each.statement(f"{target}{path} = ")]

    def declared(self, type_: str, name: str) -> list[str]:
        """Statements that declare a variable and set it."""
        lines = self.put(name)
        return [f"{type_} {lines[0]}", *lines[1:]] if self._whole else [f"{type_} {name};", *lines]

    def returned(self, type_: str) -> list[str]:
        """Statements that return the value."""
        if self._whole:
            return self._whole.statement("return ")
        return [*self.declared(type_, "result"), "return result;"]

    @property
    def _whole(self) -> Expression | None:
        return next((expression for path, expression in self.expressions if not path), None)


class Variables:
    """Flat values in variables of the types that they travel as."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def get(self, number: int, type_: str) -> str:
        """One as a C type that travels in it."""
        return self._names[number]

    def wide(self, number: int) -> str:
        """One as a number of 64 bits."""
        return f"(uint64_t){self._names[number]}"

    def array(self, first: int, letters: str) -> Expression:
        """Several as an array of slots."""
        slots = [_to_slot(RAW_TYPES[letter], self._names[n]) for n, letter in enumerate(letters, first)]
        return Expression("(const uint64_t[]){", slots, "}")


class _Slots:
    """Flat values in an array of slots, behind the tag of a variant: the same."""

    def get(self, number: int, type_: str) -> str:
        return _of_slot(type_, self.wide(number))

    def wide(self, number: int) -> str:
        return f"slots[{number + 1}]"

    def array(self, first: int, letters: str) -> Expression:
        return Expression(f"slots + {first + 1}")


Flats: TypeAlias = Variables | _Slots


def _of_slot(type_: str, slot: str) -> str:
    return _OF_SLOT.get(type_, f"({type_}){{}}").format(slot)


def _to_slot(type_: str, value: str) -> str:
    return _TO_SLOT.get(type_, "{}").format(value)


# What lifts and lowers.


class Values:
    """Writes what one generated source needs."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._functions: dict[tuple[str, Type], list[str]] = {}
        self._layouts: dict[Type, list[str]] = {}

    def functions(self) -> list[str]:
        """The text of the private functions, each after those that it calls."""
        return [line for lines in self._functions.values() for line in ["", *lines]]

    def assertions(self) -> list[str]:
        """The text of what is held to be true of C's layouts."""
        return [line for lines in self._layouts.values() for line in lines]

    def _helper(self, operation: str, whole: Shape, write: Callable[[Shape, str], list[str]]) -> str:
        """The name of a private function, which is written when it is asked for first."""
        key = operation, canonical(whole.type)
        name = self._names.static(*key)
        if key not in self._functions:
            self._functions[key] = write(whole, name)
        return name

    def _rely_on(self, whole: Shape) -> None:
        """Notes that a type lies in memory as the host has it, and so do the elements of the lists in it."""
        key = canonical(whole.type)
        if key in self._layouts or whole.is_empty or not isinstance(whole, Parts | Choice | Elements):
            return
        self._layouts[key] = []
        if not isinstance(whole, Elements):
            name = self._names.type(whole.type)
            sizes = [f"sizeof({name}) == {whole.size} &&", f"_Alignof({name}) == {whole.align},", f'"{name}"']
            self._layouts[key] = listed("_Static_assert(", sizes, ");", "")
        for element in _elements(whole):
            self._rely_on(element)

    # Memory.

    def load(self, whole: Shape, at: str) -> Incoming:
        """The value in memory at `at`."""
        if is_copied(whole):
            self._rely_on(whole)
            return Incoming(copied_from=at)
        return Incoming([("", Expression(f"{self._helper('load', whole, self._write_load)}({at})"))])

    def _write_load(self, whole: Shape, name: str) -> list[str]:
        result = self._names.type(whole.type)
        body = [f"{result} value;"]
        if isinstance(whole, Elements):
            body += ["__builtin_memcpy(&value, at, sizeof value);"]
            body += [f"return {self._helper('lift', whole, self._write_lift_list)}(value.ptr, value.len);"]
            return _function(f"{result} {name}", ["const uint8_t *at"], body)
        if isinstance(whole, Choice):
            body += [f"__builtin_memcpy(&value.{tag_field(whole)}, at, {whole.tag_size});"]

        def load(part: Shape, target: str, offset: int) -> list[str]:
            return self.load(part, plus("at", offset)).put(target)

        body += each_part(self._names, whole, "value.", load)
        return _function(f"{result} {name}", ["const uint8_t *at"], [*body, "return value;"])

    def store(self, whole: Shape, at: str, value: str, blocks: str) -> list[str]:
        """Statements that put `value` into memory at `at`."""
        if is_copied(whole):
            self._rely_on(whole)
            return [f"__builtin_memcpy({at}, &{value}, sizeof {value});"]
        return [f"{self._helper('store', whole, self._write_store)}({at}, &{value}{_more(whole, blocks)});"]

    def _write_store(self, whole: Shape, name: str) -> list[str]:
        parameters = ["uint8_t *at", f"const {self._names.type(whole.type)} *value", *_blocks_parameter(whole)]
        if isinstance(whole, Elements):
            lower = self._helper("lower", whole, self._write_lower_list)
            body = [f"const void *ptr = {lower}(value, blocks);"]
            body += ["__builtin_memcpy(at, &ptr, 4);", "__builtin_memcpy(at + 4, &value->len, 4);"]
            return _function(f"void {name}", parameters, body)
        body = []
        if isinstance(whole, Choice):
            body += [f"__builtin_memcpy(at, &value->{tag_field(whole)}, {whole.tag_size});"]

        def store(part: Shape, value: str, offset: int) -> list[str]:
            return self.store(part, plus("at", offset), value, "blocks")

        return _function(f"void {name}", parameters, [*body, *each_part(self._names, whole, "value->", store)])

    # Lists whose elements the host has in another layout.

    def _write_lift_list(self, whole: Shape, name: str) -> list[str]:
        assert isinstance(whole, Elements)
        result, element = self._names.type(whole.type), self._names.type(whole.element.type)
        body = [
            "const uint8_t *at = ptr;",
            f"if (len > SIZE_MAX / sizeof({element})) __builtin_trap();",
            f"{element} *items = canonical_abi_realloc(NULL, 0, _Alignof({element}), len * sizeof *items);",
            "for (size_t i = 0; i < len; i++) {",
            *indented(self.load(whole.element, "at").put("items[i]")),
            f"    at += {whole.element.size};",
            "}",
            f"canonical_abi_free((void *)ptr, {_list_size(whole, 'len')}, {whole.element.align});",
            f"return ({result}){{items, len}};",
        ]
        return _function(f"{result} {name}", ["const void *ptr", "size_t len"], body)

    def _write_lower_list(self, whole: Shape, name: str) -> list[str]:
        assert isinstance(whole, Elements)
        element, size = self._names.type(whole.element.type), "value->len * sizeof *value->ptr"
        body = [
            f"uint8_t *block = abi_block(blocks, {_list_size(whole, 'value->len')}, {whole.element.align});",
            "uint8_t *at = block;",
            "for (size_t i = 0; i < value->len; i++) {",
            *indented(self.store(whole.element, "at", "value->ptr[i]", "blocks")),
            f"    at += {whole.element.size};",
            "}",
            "if (!blocks) {",
            *indented(listed("canonical_abi_free(", ["(void *)value->ptr", size, f"_Alignof({element})"], ");")),
            "}",
            "return block;",
        ]
        parameters = [f"const {self._names.type(whole.type)} *value", "abi_block_t **blocks"]
        return _function(f"const void *{name}", parameters, body)

    # Flat values.

    def raw_types(self, whole: Shape) -> list[str]:
        """The C types of the flat values that a parameter travels as."""
        return [type_ for leaf in leaves(whole) for type_ in self._leaf_types(leaf.shape)]

    def _leaf_types(self, leaf: Shape) -> list[str]:
        if isinstance(leaf, Text | Elements):
            return ["const void *", "size_t"]
        return [self._names.type(leaf.type)] if is_number(leaf) else [RAW_TYPES[letter] for letter in leaf.slots]

    def lift(self, whole: Shape, flats: Flats) -> Incoming:
        """The value that travels in flat values of `raw_types`."""
        found: list[tuple[str, Expression]] = []
        for leaf, path, first in leaves(whole):
            if isinstance(leaf, Handle):
                found.append((f"{path}.handle", Expression(flats.get(first, "uint32_t"))))
            elif isinstance(leaf, FlagSet) and leaf.count > WORD_FLAGS:
                words = [flats.get(first + n, "uint32_t") for n in range(len(leaf.slots))]
                found += [(f"{path}.words[{n}]", Expression(word)) for n, word in enumerate(words)]
            else:
                found.append((path, self._lift_leaf(leaf, flats, first)))
        return Incoming(found)

    def _lift_leaf(self, leaf: Shape, flats: Flats, first: int) -> Expression:
        match leaf:
            case Text() | Elements():
                pointer, length = flats.get(first, "const void *"), flats.get(first + 1, "size_t")
                if agrees(leaf):
                    self._rely_on(leaf)
                    return Expression(f"({self._names.type(leaf.type)}){{{pointer}, {length}}}")
                return Expression(f"{self._helper('lift', leaf, self._write_lift_list)}({pointer}, {length})")
            case FlagSet(slots="ii"):
                return Expression(f"{flats.wide(first)} | {flats.wide(first + 1)} << 32")
            case Choice():
                slots = flats.array(first, leaf.slots)
                lift = self._helper("lift", leaf, self._write_lift)
                return Expression(f"{lift}({slots.head}", slots.items, f"{slots.tail})")
        return Expression(flats.get(first, self._names.type(leaf.type)))

    def _write_lift(self, choice: Shape, name: str) -> list[str]:
        assert isinstance(choice, Choice)
        result = self._names.type(choice.type)
        is_bool = isinstance(choice.type, OptionOf | ExpectedOf)
        tag = _of_slot("bool" if is_bool else f"uint{8 * choice.tag_size}_t", "slots[0]")
        body = [f"{result} value = {{.{tag_field(choice)} = {tag}}};"]
        body += each_part(self._names, choice, "value.", lambda part, target, _: self.lift(part, _Slots()).put(target))
        return _function(f"{result} {name}", ["const uint64_t *slots"], [*body, "return value;"])

    def lower(self, those: Iterable[Leaf], scope: Scope) -> tuple[list[str], list[str]]:
        """Statements that have to come first, whose variables are of `scope`, and expressions for the flat values.

        Lists are lent: `blocks` holds what is made for that.
        """
        before: list[str] = []
        flats: list[str] = []
        numbers = count()
        for leaf in those:
            if isinstance(leaf.shape, Choice):
                slots = scope.fresh(f"lower_slots_{next(numbers)}")
                before.append(f"uint64_t {slots}[{len(leaf.shape.slots)}] = {{0}};")
                before.append(self._lower_choice(leaf.shape, slots, leaf.value, "&blocks"))
                flats += [_flat_of(letter, f"{slots}[{n}]") for n, letter in enumerate(leaf.shape.slots)]
            else:
                flats += self._lower_leaf(leaf.shape, leaf.value, "&blocks")
        return before, flats

    def _lower_leaf(self, leaf: Shape, value: str, blocks: str) -> list[str]:
        match leaf:
            case Handle():
                return [f"{value}.handle"]
            case Text() | Elements() if agrees(leaf):
                self._rely_on(leaf)
                return [f"{value}.ptr", f"{value}.len"]
            case Elements():
                return [f"{self._helper('lower', leaf, self._write_lower_list)}(&{value}, {blocks})", f"{value}.len"]
            case FlagSet() if leaf.count > WORD_FLAGS:
                return [f"{value}.words[{n}]" for n in range(len(leaf.slots))]
            case FlagSet(slots="ii"):
                return [f"(uint32_t){value}", f"(uint32_t)({value} >> 32)"]
        return [value]

    def _lower_choice(self, choice: Shape, slots: str, value: str, blocks: str) -> str:
        return f"{self._helper('lower', choice, self._write_lower)}({slots}, &{value}{_more(choice, blocks)});"

    def _write_lower(self, choice: Shape, name: str) -> list[str]:
        assert isinstance(choice, Choice)
        parameters = ["uint64_t *slots", f"const {self._names.type(choice.type)} *value", *_blocks_parameter(choice)]
        body = [f"slots[0] = value->{tag_field(choice)};"]
        body += each_part(self._names, choice, "value->", lambda part, value, _: self._lower_slots(part, value))
        return _function(f"void {name}", parameters, body)

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


def _elements(whole: Shape) -> list[Shape]:
    """What the lists in a value are lists of."""
    if isinstance(whole, Elements):
        return [whole.element]
    return [element for part in inner(whole) for element in _elements(part)]


def _flat_of(letter: str, slot: str) -> str:
    return slot if letter == "I" else _of_slot(RAW_TYPES[letter], slot)


def _list_size(whole: Elements, length: str) -> str:
    """How many bytes a list takes as the host has it."""
    text = f"{length} * {whole.element.size}"
    return f"{length} ? {text} + {whole.overhang} : 0" if whole.overhang else text


def _blocks_parameter(whole: Shape) -> list[str]:
    return ["abi_block_t **blocks"] if converts(whole) else []


def _more(whole: Shape, blocks: str) -> str:
    """The last argument for `_blocks_parameter`."""
    return f", {blocks}" if converts(whole) else ""


def _function(head: str, parameters: list[str], body: list[str]) -> list[str]:
    return [*listed(f"static {head}(", parameters, ") {"), *indented(body), "}"]


def plus(place: str, offset: int) -> str:
    """An address behind another."""
    return f"{place} + {offset}" if offset else place
