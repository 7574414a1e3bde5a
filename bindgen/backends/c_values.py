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

from collections.abc import Callable, Sequence

from bindgen.backends.c_layout import (
    agrees,
    canonical,
    converts,
    flags_count,
    is_copied,
    is_empty,
    is_leaf,
    is_record,
    is_variant,
    members,
    payload_groups,
)
from bindgen.backends.c_names import Names, field, tag_field
from bindgen.backends.c_text import indented, listed
from bindgen.backends.c_types import switch
from bindgen.plan import choice, parts, shape
from bindgen.wit_parser.model import (
    ExpectedOf,
    ListOf,
    OptionOf,
    Primitive,
    Resource,
    Type,
    components,
    unaliased,
)

RAW_TYPES = {"i": "uint32_t", "I": "uint64_t", "f": "float", "d": "double"}
"""The C types of WebAssembly values."""


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

    def _helper(self, operation: str, type_: Type, write: Callable[[Type, str], list[str]]) -> str:
        real = canonical(type_)
        name = self._names.static(operation, real)
        if (operation, real) not in self._functions:
            self._functions[operation, real] = write(real, name)
        return name

    def rely_on(self, type_: Type) -> None:
        """Notes that a type lies in memory as the host has it, and so do the elements of the lists in it."""
        real = canonical(type_)
        if real in self._layouts or not (is_record(real) or is_variant(real) or isinstance(real, ListOf)):
            return
        self._layouts[real] = []
        if not isinstance(real, ListOf):
            name, layout = self._names.type(real), shape(real)
            self._layouts[real] = listed(
                "_Static_assert(",
                [f"sizeof({name}) == {layout.size} &&", f"_Alignof({name}) == {layout.align},", f'"{name}"'],
                ");",
                "",
            )
        for part in _elements(real):
            self.rely_on(part)

    # Loading: from memory.

    def load(self, type_: Type, target: str, at: str) -> list[str]:
        """Statements that set `target` to the value in memory at `at`."""
        if is_empty(type_):
            return []
        if is_copied(type_):
            self.rely_on(type_)
            return [f"__builtin_memcpy({_address(target)}, {at}, sizeof {target});"]
        return [f"{target} = {self._helper('load', type_, self._write_load)}({at});"]

    def _write_load(self, type_: Type, name: str) -> list[str]:
        result = self._names.type(type_)
        if isinstance(type_, ListOf):
            body = [
                f"{result} value;",
                "__builtin_memcpy(&value, at, sizeof value);",
                f"return {self._helper('lift', type_, self._write_lift_list)}(value.ptr, value.len);",
            ]
            return _function(f"{result} {name}", ["const uint8_t *at"], body)
        body = [f"{result} value;"]
        if is_record(type_):
            for (number, part), offset in self._placed(type_):
                body += self.load(part, f"value.{field(type_, number)}", _plus("at", offset))
        else:
            view = choice(type_)
            body += [f"__builtin_memcpy(&value.{tag_field(type_)}, at, {view.tag_size});"]
            body += self._branches(
                type_,
                "value.",
                lambda tag, part: self.load(part, f"value.{field(type_, tag)}", _plus("at", view.payload_offset)),
            )
        return _function(f"{result} {name}", ["const uint8_t *at"], [*body, "return value;"])

    # Storing: into memory.

    def store(self, type_: Type, at: str, value: str, blocks: str) -> list[str]:
        """Statements that put `value` into memory at `at`."""
        if is_empty(type_):
            return []
        if is_copied(type_):
            self.rely_on(type_)
            return [f"__builtin_memcpy({at}, {_address(value)}, sizeof {value});"]
        return [f"{self._helper('store', type_, self._write_store)}({at}, {_address(value)}{_more(type_, blocks)});"]

    def _write_store(self, type_: Type, name: str) -> list[str]:
        parameters = ["uint8_t *at", f"const {self._names.type(type_)} *value", *_blocks_parameter(type_)]
        if isinstance(type_, ListOf):
            lower = self._helper("lower", type_, self._write_lower_list)
            body = [
                f"const void *ptr = {lower}(value, blocks);",
                "__builtin_memcpy(at, &ptr, 4);",
                "__builtin_memcpy(at + 4, &value->len, 4);",
            ]
        elif is_record(type_):
            body = []
            for (number, part), offset in self._placed(type_):
                body += self.store(part, _plus("at", offset), f"value->{field(type_, number)}", "blocks")
        else:
            view = choice(type_)
            body = [f"__builtin_memcpy(at, &value->{tag_field(type_)}, {view.tag_size});"]
            body += self._branches(
                type_,
                "value->",
                lambda tag, part: self.store(
                    part, _plus("at", view.payload_offset), f"value->{field(type_, tag)}", "blocks"
                ),
            )
        return _function(f"void {name}", parameters, body)

    def _placed(self, type_: Type) -> list[tuple[tuple[int, Type], int]]:
        """The fields of a record, each with its offset as the host has it."""
        return [((number, part), parts(type_)[number].offset) for number, part in members(type_)]

    # Lists whose elements the host has in another layout.

    def _write_lift_list(self, type_: Type, name: str) -> list[str]:
        assert isinstance(type_, ListOf)
        result, element = self._names.type(type_), self._names.type(type_.element)
        layout = shape(type_.element)
        body = [
            "const uint8_t *at = ptr;",
            f"if (len > SIZE_MAX / sizeof({element})) __builtin_trap();",
            f"{element} *items = canonical_abi_realloc(NULL, 0, _Alignof({element}), len * sizeof *items);",
            "for (size_t i = 0; i < len; i++) {",
            *indented(self.load(type_.element, "items[i]", "at")),
            f"    at += {layout.size};",
            "}",
            f"canonical_abi_free((void *)ptr, {_list_size(type_.element, 'len')}, {layout.align});",
            f"return ({result}){{items, len}};",
        ]
        return _function(f"{result} {name}", ["const void *ptr", "size_t len"], body)

    def _write_lower_list(self, type_: Type, name: str) -> list[str]:
        assert isinstance(type_, ListOf)
        layout = shape(type_.element)
        element, size = self._names.type(type_.element), "value->len * sizeof *value->ptr"
        body = [
            f"uint8_t *block = abi_block(blocks, {_list_size(type_.element, 'value->len')}, {layout.align});",
            "uint8_t *at = block;",
            "for (size_t i = 0; i < value->len; i++) {",
            *indented(self.store(type_.element, "at", "value->ptr[i]", "blocks")),
            f"    at += {layout.size};",
            "}",
            "if (!blocks) {",
            *indented(listed("canonical_abi_free(", ["(void *)value->ptr", size, f"_Alignof({element})"], ");")),
            "}",
            "return block;",
        ]
        parameters = [f"const {self._names.type(type_)} *value", "abi_block_t **blocks"]
        return _function(f"const void *{name}", parameters, body)

    # Lifting: from flat values.

    def raw_types(self, type_: Type) -> list[str]:
        """The C types of the flat values that a parameter travels as."""
        real = unaliased(type_)
        if is_empty(real):
            return []
        if is_leaf(real):
            return ["uint32_t"] if isinstance(real, Resource) else [self._names.type(real)]
        if real is Primitive.STRING or isinstance(real, ListOf):
            return ["const void *", "size_t"]
        if is_record(real):
            return [each for _, part in members(real) for each in self.raw_types(part)]
        return [RAW_TYPES[letter] for letter in shape(real).slots]

    def lift(self, type_: Type, target: str, flats: Sequence[str]) -> list[str]:
        """Statements that set `target` to what travels in flat values of `raw_types`."""
        real = canonical(type_)
        if is_empty(real):
            return []
        if isinstance(real, Resource):
            return [f"{target}.handle = {flats[0]};"]
        if is_leaf(real):
            return [f"{target} = {flats[0]};"]
        if real is Primitive.STRING or isinstance(real, ListOf):
            return [f"{target} = {self._lifted_list(real, flats[0], flats[1])};"]
        if is_record(real):
            return [
                line
                for number, part in members(real)
                for line in self.lift(part, f"{target}.{field(real, number)}", parts(real)[number].slots_of(flats))
            ]
        if flags_count(real):
            return _lift_flags(real, target, [f"(uint64_t){flat}" for flat in flats], flats)
        slots = [_slot_of(letter, flat) for letter, flat in zip(shape(real).slots, flats, strict=True)]
        lift = self._helper("lift", real, self._write_lift)
        return listed(f"{target} = {lift}((const uint64_t[]){{", slots, "});")

    def _lifted_list(self, type_: Type, pointer: str, length: str) -> str:
        if agrees(type_):
            self.rely_on(type_)
            return f"({self._names.type(type_)}){{{pointer}, {length}}}"
        return f"{self._helper('lift', type_, self._write_lift_list)}({pointer}, {length})"

    def _write_lift(self, type_: Type, name: str) -> list[str]:
        result = self._names.type(type_)
        tag = tag_field(type_)
        if isinstance(type_, OptionOf | ExpectedOf):
            body = [f"{result} value = {{.{tag} = slots[0] != 0}};"]
        else:
            body = [f"{result} value = {{.{tag} = (uint{8 * choice(type_).tag_size}_t)slots[0]}};"]
        body += self._branches(
            type_, "value.", lambda tag, part: self._lift_slots(part, f"value.{field(type_, tag)}", 1)
        )
        return _function(f"{result} {name}", ["const uint64_t *slots"], [*body, "return value;"])

    def _lift_slots(self, type_: Type, target: str, first: int) -> list[str]:
        """Statements that set `target` to what travels in `slots` from `first` on."""
        real = canonical(type_)
        slot = f"slots[{first}]"
        if isinstance(real, Resource):
            return [f"{target}.handle = (uint32_t){slot};"]
        if real is Primitive.BOOL:
            return [f"{target} = {slot} != 0;"]
        if real is Primitive.FLOAT32:
            return [f"{target} = abi_float_of_bits((uint32_t){slot});"]
        if real is Primitive.FLOAT64:
            return [f"{target} = abi_double_of_bits({slot});"]
        if is_leaf(real):
            return [f"{target} = ({self._names.type(real)}){slot};"]
        if real is Primitive.STRING or isinstance(real, ListOf):
            pointer = f"(const void *)(uintptr_t){slot}"
            return [f"{target} = {self._lifted_list(real, pointer, f'(size_t)slots[{first + 1}]')};"]
        if is_record(real):
            return [
                line
                for number, part in members(real)
                for line in self._lift_slots(
                    part, f"{target}.{field(real, number)}", first + parts(real)[number].first_slot
                )
            ]
        if flags_count(real):
            slots = [f"slots[{first + n}]" for n in range(len(shape(real).slots))]
            return _lift_flags(real, target, slots, [f"(uint32_t){each}" for each in slots])
        return [f"{target} = {self._helper('lift', real, self._write_lift)}({_plus('slots', first)});"]

    # Lowering: to flat values.

    def lower(self, type_: Type, value: str, before: list[str]) -> list[str]:
        """Expressions for the flat values of `value`, of `raw_types`. What has to come first is added to `before`.

        Lists are lent: `blocks` holds what is made for that.
        """
        real = canonical(type_)
        if is_empty(real):
            return []
        if isinstance(real, Resource):
            return [f"{value}.handle"]
        if is_leaf(real):
            return [value]
        if real is Primitive.STRING or isinstance(real, ListOf):
            return [self._lowered_list(real, value, "&blocks"), f"{value}.len"]
        if is_record(real):
            return [
                flat
                for number, part in members(real)
                for flat in self.lower(part, f"{value}.{field(real, number)}", before)
            ]
        if flags_count(real):
            return _lower_flags(real, value, "(uint32_t)")
        letters = shape(real).slots
        # No parameter begins with `lower_`.
        slots = f"lower_slots_{sum(line.startswith('uint64_t lower_slots_') for line in before)}"
        lower = self._helper("lower", real, self._write_lower)
        before += [f"uint64_t {slots}[{len(letters)}] = {{0}};", f"{lower}({slots}, &{value}{_more(real, '&blocks')});"]
        return [_flat_of(letter, f"{slots}[{n}]") for n, letter in enumerate(letters)]

    def _lowered_list(self, type_: Type, value: str, blocks: str) -> str:
        if agrees(type_):
            self.rely_on(type_)
            return f"{value}.ptr"
        return f"{self._helper('lower', type_, self._write_lower_list)}(&{value}, {blocks})"

    def _write_lower(self, type_: Type, name: str) -> list[str]:
        body = [f"slots[0] = value->{tag_field(type_)};"]
        body += self._branches(
            type_, "value->", lambda tag, part: self._lower_slots(part, f"value->{field(type_, tag)}", 1)
        )
        parameters = ["uint64_t *slots", f"const {self._names.type(type_)} *value", *_blocks_parameter(type_)]
        return _function(f"void {name}", parameters, body)

    def _lower_slots(self, type_: Type, value: str, first: int) -> list[str]:
        """Statements that put the flat values of `value` into `slots` from `first` on."""
        real = canonical(type_)
        slot = f"slots[{first}]"
        match real:
            case Resource():
                return [f"{slot} = {value}.handle;"]
            case Primitive.FLOAT32:
                return [f"{slot} = abi_bits_of_float({value});"]
            case Primitive.FLOAT64:
                return [f"{slot} = abi_bits_of_double({value});"]
            case Primitive.S8 | Primitive.S16 | Primitive.S32:
                return [f"{slot} = (uint32_t){value};"]
            case Primitive.S64:
                return [f"{slot} = (uint64_t){value};"]
            case Primitive.STRING | ListOf():
                pointer = self._lowered_list(real, value, "blocks")
                return [f"{slot} = (uintptr_t){pointer};", f"slots[{first + 1}] = {value}.len;"]
        if is_leaf(real):
            return [f"{slot} = {value};"]
        if is_record(real):
            return [
                line
                for number, part in members(real)
                for line in self._lower_slots(
                    part, f"{value}.{field(real, number)}", first + parts(real)[number].first_slot
                )
            ]
        if flags_count(real):
            return [f"slots[{first + n}] = {flat};" for n, flat in enumerate(_lower_flags(real, value, "(uint32_t)"))]
        lower = self._helper("lower", real, self._write_lower)
        return [f"{lower}({_plus('slots', first)}, &{value}{_more(real, 'blocks')});"]

    # What the operations share.

    def _branches(self, type_: Type, prefix: str, branch: Callable[[int, Type], list[str]]) -> list[str]:
        """What `branch` gives for the payload of the case that `value` is of."""
        found = [(tags, branch(tags[0], part)) for tags, part in payload_groups(type_)]
        return switch(self._names, type_, prefix, found)


def _elements(type_: Type) -> list[Type]:
    """What the lists in a value are lists of."""
    if isinstance(type_, ListOf):
        return [type_.element]
    return [each for part in components(type_) for each in _elements(canonical(part))]


def _lift_flags(type_: Type, target: str, wide: Sequence[str], words: Sequence[str]) -> list[str]:
    """Statements for more than 32 flags."""
    if flags_count(type_) <= 64:
        return [f"{target} = {wide[0]} | {wide[1]} << 32;"]
    return [f"{target}.words[{n}] = {word};" for n, word in enumerate(words)]


def _lower_flags(type_: Type, value: str, cast: str) -> list[str]:
    if flags_count(type_) <= 64:
        return [f"{cast}{value}", f"{cast}({value} >> 32)"]
    return [f"{value}.words[{n}]" for n in range(len(shape(type_).slots))]


def _slot_of(letter: str, flat: str) -> str:
    """The 64-bit slot of a flat value."""
    return {"f": f"abi_bits_of_float({flat})", "d": f"abi_bits_of_double({flat})"}.get(letter, flat)


def _flat_of(letter: str, slot: str) -> str:
    return {
        "i": f"(uint32_t){slot}",
        "f": f"abi_float_of_bits((uint32_t){slot})",
        "d": f"abi_double_of_bits({slot})",
    }.get(letter, slot)


def _list_size(element: Type, length: str) -> str:
    """How many bytes a list takes as the host has it."""
    size, reach = shape(element).size, shape(element).extent
    text = f"{length} * {size}"
    return text if reach <= size else f"{length} ? {text} + {reach - size} : 0"


def _blocks_parameter(type_: Type) -> list[str]:
    return ["abi_block_t **blocks"] if converts(type_) else []


def _more(type_: Type, blocks: str) -> str:
    """The last argument for `_blocks_parameter`."""
    return f", {blocks}" if converts(type_) else ""


def _function(head: str, parameters: list[str], body: list[str]) -> list[str]:
    return [*listed(f"static {head}(", parameters, ") {"), *indented(body), "}"]


def _address(value: str) -> str:
    return value[1:] if value.startswith("*") else f"&{value}"


def _plus(name: str, offset: int) -> str:
    return f"{name} + {offset}" if offset else name
