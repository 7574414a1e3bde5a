"""How a generated Python module lifts and lowers values: the helper functions for the types that it uses.

Five operations, each a function in the generated module where the type is compound, and an expression where it isn't:

- *load*: a value from memory (`_load_T(lift, at)`)
- *lift*: a value from flat WebAssembly values (`_lift_T(lift, slot, …)`)
- *plan*: notes what memory a value's texts and lists take (`_plan_T(lower, value)`)
- *store*: a value into memory (`_store_T(lower, memory, at, value)`)
- *flat*: a value as flat WebAssembly values (`_flat_T(lower, value)`, a tuple)

Helpers are written on demand, so a module holds those that its functions need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bindgen import abi
from bindgen.backends.python_names import Names, field_names
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    unaliased,
)

LINE_LENGTH = 120
"""Of the generated text, so that a formatter finds nothing to do."""

_SHORT = 80
"""How long an expression may be that stands within another."""

_FORMATS = {
    Primitive.BOOL: "B",
    Primitive.U8: "B",
    Primitive.S8: "b",
    Primitive.U16: "H",
    Primitive.S16: "h",
    Primitive.U32: "I",
    Primitive.S32: "i",
    Primitive.U64: "Q",
    Primitive.S64: "q",
    Primitive.FLOAT32: "f",
    Primitive.FLOAT64: "d",
    Primitive.CHAR: "I",
}
_NUMBERS = set(_FORMATS) - {Primitive.BOOL, Primitive.CHAR}
_NARROW = {Primitive.U8: 8, Primitive.U16: 16, Primitive.S8: 8, Primitive.S16: 16}


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A part of a record that `struct` reads and writes: its offset, its format, and how many values that is."""

    offset: int
    format: str
    type: Type
    path: str
    """How to get from the record to the part in Python: `.uri`, `[0]`."""


class Values:
    """Writes the helper functions that one generated module needs."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._functions: dict[str, list[str]] = {}
        self._structs: dict[str, str] = {}
        self._writers: dict[str, Callable[[Type, str], list[str]]] = {
            "load": self._write_load,
            "lift": self._write_lift,
            "plan": self._write_plan,
            "store": self._write_store,
            "flat": self._write_flat,
        }

    def functions(self) -> list[str]:
        """The text of all helpers, in the order in which they were first needed."""
        return [line for lines in self._functions.values() for line in ["", "", *lines]]

    def structs(self) -> list[str]:
        return [f'{name} = Struct("<{text}")' for text, name in self._structs.items()]

    def struct(self, text: str) -> str:
        """The name of the Struct of a format."""
        return self._structs.setdefault(text, self._names.struct(text, len(self._structs)))

    def _helper(self, operation: str, type_: Type) -> str:
        name = self._names.helper(operation, type_)
        if name not in self._functions:
            lines: list[str] = []
            self._functions[name] = lines  # first, so that a type within itself would find it
            lines += self._writers[operation](type_, name)
        return name

    # Loading: from memory.

    def load(self, type_: Type, at: str) -> str:
        """An expression for the value in memory at `at`."""
        if leaf := self._leaf_format(type_):
            return self._checked(type_, f"{self.struct(leaf)}.unpack_from(lift.memory, {at})[0]")
        if abi.is_unit(type_):
            return "None"
        if self._is_string(type_) or self._is_bytes(type_):
            return f"lift.{'string' if self._is_string(type_) else 'bytes'}_at({at})"
        real = unaliased(type_)
        if isinstance(real, ListOf) and _columns(real.element):
            return self._list(real, f"*lift.pair({at})")
        if isinstance(real, OptionOf):
            payload = self._case_value(real, 1, self.load(real.value, _plus(at, abi.cases(real).payload_offset)))
            option = f'{payload} if lift.tag({at}, 2, "option") else None'
            if len(option) <= _SHORT and " if " not in payload:
                return option
        return f"{self._helper('load', type_)}(lift, {at})"

    def _write_load(self, type_: Type, name: str) -> list[str]:
        head = f"def {name}(lift: Lift, at: int) -> {self._names.annotation(type_)}:"
        real = unaliased(type_)
        match real:
            case ListOf():
                return [head, f"    return {self._list(real, '*lift.pair(at)')}"]
            case TypeDef(kind=Flags(labels)):
                size = abi.flags_size(len(labels))
                bits = f'int.from_bytes(lift.memory[at : at + {size}], "little")'
                return [head, f"    return {self._names.use(real)}(lift.flags({bits}, {len(labels)}))"]
            case TypeDef(kind=Record()) | TupleOf():
                return [head, *self._load_record(real)]
        return [head, *self._load_cases(real)]

    def _load_record(self, type_: Type) -> list[str]:
        """A record's plain parts come out of memory at once, the others one by one."""
        lines, expressions = [], []
        plain: list[tuple[int, str]] = []
        for part in self._parts(type_):
            if leaf := self._leaf_format(part.type):
                expressions.append(self._checked(part.type, f"v{len(plain)}"))
                plain.append((part.offset, leaf))
            else:
                expressions.append(self.load(part.type, _plus("at", part.offset)))
        if plain:
            names = joined([f"v{number}" for number in range(len(plain))])
            lines.append(f"    {names} = {self.struct(_padded(plain))}.unpack_from(lift.memory, at)")
        return [*lines, *call("    return ", self._constructor(type_), expressions)]

    def _load_cases(self, type_: Type) -> list[str]:
        view = abi.cases(type_)
        known = f'{len(view.cases)}, "{_case_name(type_)}"'
        if view.tag_size == 1:
            tag = f"lift.tag(at, {known})"
        else:
            letter = "H" if view.tag_size == 2 else "I"
            tag = f"lift.case({self.struct(letter)}.unpack_from(lift.memory, at)[0], {known})"
        payload = _plus("at", view.payload_offset)
        return self._switch(type_, tag, lambda case: self.load(case, payload))

    def _switch(self, type_: Type, tag: str, payload: Callable[[Type], str]) -> list[str]:
        """Tells the cases of a variant, option, expected, union or enum apart. `tag` is one that there is."""
        view = abi.cases(type_)
        real = unaliased(type_)
        if isinstance(real, TypeDef) and isinstance(real.kind, Enum):
            return [f"    return {self._names.use(real)}({tag})"]
        values = [
            self._case_value(type_, number, payload(case) if case is not None else None)
            for number, (_, case) in enumerate(view.cases)
        ]
        if len(values) == 1:
            return [f"    {tag}", f"    return {values[0]}"]
        if isinstance(real, OptionOf) and isinstance(unaliased(real.value), Resource):
            # What a handle stands for has no type for a type checker.
            some = f"some: {self._names.annotation(real.value)} = {values[1]}"
            return [f"    if {tag}:", f"        {some}", "        return some", f"    return {values[0]}"]
        if len(values) == 2:
            return [f"    if {tag}:", f"        return {values[1]}", f"    return {values[0]}"]
        lines = [f"    tag = {tag}"]
        for number, value in enumerate(values[:-1]):
            lines += [f"    if tag == {number}:", f"        return {value}"]
        return [*lines, f"    return {values[-1]}"]

    def _case_value(self, type_: Type, number: int, value: str | None) -> str:
        """The Python value of a case, given its payload."""
        match unaliased(type_):
            case OptionOf(inner):
                if number == 0:
                    return "None"
                value = value or "None"
                if self._names.wrapped(inner):
                    return self._names.support(f"Some({value})")
                # What `struct` reads has no type for a type checker.
                kind = self._names.annotation(unaliased(inner))
                return f"{kind}({value})" if unaliased(inner) in _NUMBERS else value
            case ExpectedOf():
                return self._names.support(f"{'Err' if number else 'Ok'}({value or 'None'})")
            case real:
                assert isinstance(real, TypeDef)
                return f"{self._names.case(real, number)}({value or ''})"

    def _list(self, type_: ListOf, where: str) -> str:
        """An expression for a list, `where` being the arguments pointer and length."""
        element = type_.element
        real = unaliased(element)
        if real in _NUMBERS:
            size = abi.size_align(real).size
            letter = _FORMATS[real]
            numbers = f'lift.numbers({size}, {where}).cast("{letter}")'
            return f"list({numbers})" if letter in "fd" else f"{numbers}.tolist()"
        if real is Primitive.STRING:
            return f"lift.texts({where})"
        if columns := _columns(element):
            rows = f"lift.rows({len(columns)}, {where})"
            return rows if isinstance(real, TupleOf) else f"[{self._constructor(real)}(*each) for each in {rows}]"
        layout = abi.size_align(element)
        addresses = f"lift.list({layout.size}, {abi.extent(element)}, {layout.align}, {where})"
        if isinstance(real, OptionOf):
            return f"[{self._helper('load', element)}(lift, each) for each in {addresses}]"
        return f"[{self.load(element, 'each')} for each in {addresses}]"

    # Lifting: from flat values.

    def lift(self, type_: Type, slots: list[str]) -> str:
        """An expression for the value that travels in the flat values named `slots`."""
        real = unaliased(type_)
        match real:
            case Primitive.UNIT:
                return "None"
            case Primitive.STRING:
                return f"lift.string({', '.join(slots)})"
            case Primitive.U8 | Primitive.U16:
                return f"lift.unsigned({slots[0]}, {_NARROW[real]})"
            case Primitive.S8 | Primitive.S16:
                return f"lift.signed({slots[0]}, {_NARROW[real]})"
            case Primitive.S32 | Primitive.S64:
                return self._names.support(f"{real.value}({slots[0]})")
            case Primitive() | Resource():
                return self._checked(type_, slots[0])
            case ListOf(element):
                if unaliased(element) is Primitive.U8:
                    return f"lift.bytes({', '.join(slots)})"
                return self._list(real, ", ".join(slots))
            case TypeDef(kind=Flags(labels)):
                bits = " | ".join(slot if not n else f"{slot} << {32 * n}" for n, slot in enumerate(slots))
                return f"{self._names.use(real)}(lift.flags({bits}, {len(labels)}))"
            case TypeDef(kind=Record()) | TupleOf():
                arguments = []
                for part in self._parts(real):
                    count = len(abi.flatten(part.type))
                    arguments.append(self.lift(part.type, slots[:count]))
                    slots = slots[count:]
                return _inline(self._constructor(real), arguments)
        return f"{self._helper('lift', type_)}({', '.join(['lift', *slots])})"

    def _write_lift(self, type_: Type, name: str) -> list[str]:
        letters = abi.flatten(type_)
        slots = [f"s{n}" for n in range(len(letters) - 1)]
        kinds = {"i": "int", "I": "int", "f": "float", "d": "float"}
        parameters = ["lift: Lift", "tag: int"]
        parameters += [f"{slot}: {kinds[letter]}" for slot, letter in zip(slots, letters[1:], strict=True)]
        head = call("def ", name, parameters, f" -> {self._names.annotation(type_)}:")

        def payload(case: Type) -> str:
            mine = [
                self._from_slot(slot, letters[1 + n], want)
                for n, (slot, want) in enumerate(zip(slots, abi.flatten(case), strict=False))
            ]
            return self.lift(case, mine)

        tag = f'lift.case(tag, {len(abi.cases(type_).cases)}, "{_case_name(type_)}")'
        return [*head, *self._switch(type_, tag, payload)]

    def _from_slot(self, slot: str, have: str, want: str) -> str:
        match have, want:
            case (("i" | "I"), "f"):
                return self._names.support(f"float32_of({slot})")
            case "I", "d":
                return self._names.support(f"float64_of({slot})")
            case "I", "i":
                return f"({slot} & 0xFFFF_FFFF)"
        return slot

    # Planning: what memory a value's texts and lists take.

    def plan(self, type_: Type, value: str) -> list[str]:
        """Statements that note the blocks of the value `value`."""
        real = unaliased(type_)
        if not abi.has_heap(type_):
            return []
        if real is Primitive.STRING:
            return [f"lower.string({value})"]
        if self._is_bytes(type_):
            return [f"lower.bytes({value})"]
        if isinstance(real, ListOf):
            each = _each(value)
            if unaliased(real.element) is Primitive.STRING:
                return [f"lower.texts({value})"]
            if columns := _columns(real.element):
                if isinstance(unaliased(real.element), TupleOf):
                    return [f"lower.rows({value}, {len(columns)})"]
                row = _inline("", [each + part.path for part in self._parts(real.element)])
                return [f"lower.rows([{row} for {each} in {value}], {len(columns)})"]
            layout, reach = abi.size_align(real.element), abi.extent(real.element)
            lines = [f"lower.list({layout.size}, {reach}, {layout.align}, len({value}))"]
            if inner := self.plan(real.element, each):
                lines += [f"for {each} in {value}:", *(f"    {line}" for line in inner)]
            return lines
        if isinstance(real, TupleOf) or (isinstance(real, TypeDef) and isinstance(real.kind, Record)):
            return [line for part in self._parts(real) for line in self.plan(part.type, value + part.path)]
        if isinstance(real, OptionOf):
            some = self.plan(real.value, f"{value}.value" if self._names.wrapped(real.value) else value)
            # A type checker wants one type for the variable of all loops in a function.
            if not any(line.lstrip().startswith("for ") for line in some):
                return [f"if {value} is not None:", *(f"    {line}" for line in some)]
        return [f"{self._helper('plan', type_)}(lower, {value})"]

    def _write_plan(self, type_: Type, name: str) -> list[str]:
        head = f"def {name}(lower: Lower, value: {self._names.annotation(type_)}) -> None:"
        return [head, *self._branches(type_, lambda _, case, value: self.plan(case, value) if case else [], True)]

    def _branches(
        self, type_: Type, branch: Callable[[int, Type | None, str], list[str]], skip_empty: bool = False
    ) -> list[str]:
        """Does something for the case that `value` is of. `branch` gets number, payload type, and payload."""
        view = abi.cases(type_)
        real = unaliased(type_)
        lines: list[str] = []

        def add(condition: str, number: int, payload: str) -> None:
            body = branch(number, view.cases[number][1], payload)
            if body or not skip_empty:
                lines.extend([f"    {condition}", *(f"        {line}" for line in body)])

        match real:
            case OptionOf(inner):
                if skip_empty:
                    add("if value is not None:", 1, "value.value" if self._names.wrapped(inner) else "value")
                else:
                    add("if value is None:", 0, "None")
                    add("else:", 1, "value.value" if self._names.wrapped(inner) else "value")
            case ExpectedOf():
                add(f"if isinstance(value, {self._names.support('Ok')}):", 0, "value.value")
                add(
                    f"{'' if skip_empty else 'el'}if isinstance(value, {self._names.support('Err')}):", 1, "value.value"
                )
                if not skip_empty:
                    lines += ["    else:", f"        {self._wrong_type('Ok or Err')}"]
            case TypeDef():
                lines.append("    match value:")
                for number in range(len(view.cases)):
                    body = branch(number, view.cases[number][1], "value.value")
                    if body or not skip_empty:
                        lines.append(f"        case {self._names.case(real, number)}():")
                        lines += [f"            {line}" for line in body]
                if not skip_empty:
                    lines += ["        case _:", f"            {self._wrong_type(f'a case of {real.name}')}"]
        return lines

    def _wrong_type(self, expected: str) -> str:
        """A statement that refuses `value`. To a type checker it says that this can't happen."""
        return self._names.support(f'wrong_type(value, "{expected}")')

    # Storing: into memory.

    def store(self, type_: Type, at: str, value: str) -> list[str]:
        """Statements that put the value `value` into memory at `at`."""
        real = unaliased(type_)
        if abi.is_unit(type_):
            return []
        if leaf := self._leaf_format(type_):
            if leaf == "B":
                return [f"memory[{at}] = {self._plain(type_, value)}"]
            return [f"{self.struct(leaf)}.pack_into(memory, {at}, {self._plain(type_, value)})"]
        if real is Primitive.STRING or (isinstance(real, ListOf) and not self._fill_list(real.element)):
            return [f"lower.put({at})"]
        match real:
            case TypeDef(kind=Flags(labels)):
                size = abi.flags_size(len(labels))
                return [f'memory[{at} : {at} + {size}] = int({value}).to_bytes({size}, "little")']
        return [f"{self._helper('store', type_)}(lower, memory, {at}, {value})"]

    def _write_store(self, type_: Type, name: str) -> list[str]:
        head = call(
            "def ",
            name,
            ["lower: Lower", "memory: memoryview", "at: int", f"value: {self._names.annotation(type_)}"],
            " -> None:",
        )
        real = unaliased(type_)
        match real:
            case ListOf(element):
                return [*head, "    block = lower.put(at)", *self._fill_list(element)]
            case TypeDef(kind=Record()) | TupleOf():
                lines = [
                    line
                    for part in self._parts(real)
                    for line in self.store(part.type, _plus("at", part.offset), f"value{part.path}")
                ]
                return [*head, *(f"    {line}" for line in lines or ["pass"])]
        view = abi.cases(type_)
        if isinstance(real, TypeDef) and isinstance(real.kind, Enum):
            return [*head, f"    {self._store_tag(view.tag_size, f'{self._names.use(real)}(value)')}"]
        payload_at = _plus("at", view.payload_offset)

        def branch(number: int, case: Type | None, value: str) -> list[str]:
            tag = self._store_tag(view.tag_size, str(number))
            return [tag, *(self.store(case, payload_at, value) if case else [])]

        return [*head, *self._branches(type_, branch)]

    def _store_tag(self, size: int, tag: str) -> str:
        if size == 1:
            return f"memory[at] = {tag}"
        return f"{self.struct('H' if size == 2 else 'I')}.pack_into(memory, at, {tag})"

    def _fill_list(self, element: Type) -> list[str]:
        """Statements that write the elements of `value` at `block`, if that is not done when it is allocated."""
        real = unaliased(element)
        if real is Primitive.U8 or _columns(element):
            return []
        if real in _NUMBERS:
            letter = _FORMATS[real]
            return [f'    {self._names.support("pack_numbers")}(memory, block, "{letter}", value)']
        inner = self.store(element, "block", "each")
        if not inner:
            return []
        loop = "each" if any("each" in line for line in inner) else "_"
        stride = abi.size_align(element).size
        return [f"    for {loop} in value:", *(f"        {line}" for line in inner), f"        block += {stride}"]

    # Lowering to flat values.

    def flat(self, type_: Type, value: str) -> list[str]:
        """Expressions for the flat values of `value`, to stand in a tuple: `a`, or `*f(a)` for several at once."""
        real = unaliased(type_)
        match real:
            case Primitive.UNIT:
                return []
            case Primitive.STRING:
                return ["*lower.take()"]
            case Primitive.S8 | Primitive.S16 | Primitive.S32:
                return [f"{value} & 0xFFFF_FFFF"]
            case Primitive.S64:
                return [f"{value} & 0xFFFF_FFFF_FFFF_FFFF"]
            case Primitive() | Resource():
                return [self._plain(type_, value)]
            case ListOf(element) if not self._fill_list(element):
                return ["*lower.take()"]
            case TypeDef(kind=Flags(labels)):
                words = max(1, abi.flags_size(len(labels)) // 4)
                if words == 1:
                    return [f"int({value})"]
                return [f"int({value}) >> {32 * n} & 0xFFFF_FFFF" for n in range(words)]
            case TypeDef(kind=Enum()):
                return [f"int({self._names.use(real)}({value}))"]
            case TypeDef(kind=Record()) | TupleOf():
                return [item for part in self._parts(real) for item in self.flat(part.type, value + part.path)]
        return [f"*{self._helper('flat', type_)}(lower, {value})"]

    def _write_flat(self, type_: Type, name: str) -> list[str]:
        head = f"def {name}(lower: Lower, value: {self._names.annotation(type_)}) -> tuple[Any, ...]:"
        real = unaliased(type_)
        if isinstance(real, ListOf):
            fill = self._fill_list(real.element)
            memory = ["    memory = lower.memory"] if any("memory" in line for line in fill) else []
            return [head, *memory, "    flat = lower.take()", "    block = flat[0]", *fill, "    return flat"]
        letters = abi.flatten(type_)[1:]

        def branch(number: int, case: Type | None, value: str) -> list[str]:
            wants = abi.flatten(case) if case is not None else ""
            items = self.flat(case, value) if case is not None else []
            zeros = ["0"] * (len(letters) - len(wants))
            if wants == letters[: len(wants)]:
                return [f"return {joined([str(number), *items, *zeros])}"]
            names = [f"f{number}_{n}" for n in range(len(wants))]
            moved = [self._to_slot(name, have, want) for name, have, want in zip(names, wants, letters, strict=False)]
            return [f"{joined(names)} = {joined(items)}", f"return {joined([str(number), *moved, *zeros])}"]

        lines = self._branches(type_, branch)
        if isinstance(real, OptionOf):
            # Both branches return, so the second needs no `else`.
            at = lines.index("    else:")
            lines = [*lines[:at], *(line.removeprefix("    ") for line in lines[at + 1 :])]
        return [head, *lines]

    def _to_slot(self, name: str, have: str, want: str) -> str:
        if have == "f" and want in "iI":
            return self._names.support(f"bits_of_float32({name})")
        if have == "d" and want == "I":
            return self._names.support(f"bits_of_float64({name})")
        return name

    # What the operations share.

    def _parts(self, type_: Type) -> list[_Leaf]:
        """The fields of a record or a tuple."""
        real = unaliased(type_)
        if isinstance(real, TupleOf):
            types, paths = real.items, [f"[{n}]" for n in range(len(real.items))]
        else:
            assert isinstance(real, TypeDef)
            assert isinstance(real.kind, Record)
            types = tuple(field.type for field in real.kind.fields)
            paths = [f".{name}" for name in field_names(real)]
        starts, _ = abi.offsets(types)
        return [_Leaf(start, "", each, path) for start, each, path in zip(starts, types, paths, strict=True)]

    def _constructor(self, type_: Type) -> str:
        real = unaliased(type_)
        return "" if isinstance(real, TupleOf) else self._names.use(real)  # type: ignore[arg-type]  # a TypeDef then

    def _is_string(self, type_: Type) -> bool:
        return unaliased(type_) is Primitive.STRING

    def _is_bytes(self, type_: Type) -> bool:
        real = unaliased(type_)
        return isinstance(real, ListOf) and unaliased(real.element) is Primitive.U8

    def _leaf_format(self, type_: Type) -> str:
        """The struct format of a type that is a single number in memory, or nothing."""
        real = unaliased(type_)
        if isinstance(real, Resource):
            return "I"
        return _FORMATS.get(real, "") if isinstance(real, Primitive) else ""

    def _checked(self, type_: Type, value: str) -> str:
        """An expression for the Python value of a number that `struct` read."""
        real = unaliased(type_)
        match real:
            case Primitive.BOOL | Primitive.CHAR:
                return f"lift.{real.value}({value})"
            case Resource():
                if self._names.is_guests(real):
                    return f'lift.resource({self._names.use(real)}, "{real.name}", {value})'
                return f'lift.handle("{real.name}", {value})'
        return value

    def _plain(self, type_: Type, value: str) -> str:
        """An expression for what `struct` writes, given the Python value."""
        real = unaliased(type_)
        match real:
            case Primitive.CHAR:
                return f"ord({value})"
            case Resource():
                if self._names.is_guests(real):
                    return f"lower.resource({value})"
                return f'lower.handle("{real.name}", {value})'
        return value


def _columns(element: Type) -> tuple[Type, ...]:
    """What the elements of a list hold, where that is nothing but texts: such lists are tables, lifted in one step."""
    real = unaliased(element)
    if real is Primitive.STRING:
        return (real,)
    if isinstance(real, TupleOf) or (isinstance(real, TypeDef) and isinstance(real.kind, Record)):
        parts = abi.components(real)
        return parts if all(unaliased(part) is Primitive.STRING for part in parts) else ()
    return ()


def _case_name(type_: Type) -> str:
    """What messages call a variant, union, enum, option or expected."""
    real = unaliased(type_)
    return real.name if isinstance(real, TypeDef) else "option" if isinstance(real, OptionOf) else "expected"


# Text.


def _each(value: str) -> str:
    """What a loop over `value` calls its elements: not what the loop around it does."""
    root = value.partition(".")[0].partition("[")[0]
    return f"{root}_" if root.startswith("each") else "each"


def _plus(place: str, offset: int) -> str:
    """An address behind another: `at + 4`, and not `at + 4 + 0` or `at + 2 + 2`."""
    name, _, number = place.partition(" + ")
    total = int(number or 0) + offset
    return f"{name} + {total}" if total else name


def joined(items: list[str]) -> str:
    """The items of a tuple, to be assigned to or from, or returned."""
    return ", ".join(items) if len(items) != 1 else f"({items[0]},)"


def _inline(function: str, arguments: list[str]) -> str:
    trailing = "," if not function and len(arguments) == 1 else ""
    return f"{function}({', '.join(arguments)}{trailing})"


def call(prefix: str, function: str, arguments: list[str], suffix: str = "") -> list[str]:
    """A call or a definition, on one line where it fits, else an argument a line, as the formatter has it."""
    line = prefix + _inline(function, arguments) + suffix
    if len(line) <= LINE_LENGTH or not arguments:
        return [line]
    indent = " " * (len(prefix) - len(prefix.lstrip()))
    return [f"{prefix}{function}(", *(f"{indent}    {argument}," for argument in arguments), f"{indent}){suffix}"]


def _padded(parts: list[tuple[int, str]]) -> str:
    """A struct format with padding between its parts."""
    text, end = "", 0
    sizes = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "Q": 8, "q": 8, "d": 8}
    for offset, format_ in parts:
        text += "x" * (offset - end) + format_
        end = offset + sum(sizes[letter] for letter in format_)
    return text
