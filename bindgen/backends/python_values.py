"""How a generated Python module lifts and lowers values: the helper functions for the types that it uses.

Five operations, each a function in the generated module where the type is compound, and an expression where it isn't:

- *load*: a value from memory (`_load_T(lift, at)`)
- *lift*: a value from flat WebAssembly values (`_lift_T(lift, slot, …)`)
- *note*: the memory that a value's texts and lists take (`_note_T(lower, value)`)
- *store*: a value into memory (`_store_T(lower, memory, at, value)`)
- *flat*: a value as flat WebAssembly values (`_flat_T(lower, value)`, a tuple)

Helpers are written on demand, so a module holds those that its functions need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

from bindgen.backends.python_names import Names, field_names
from bindgen.backends.python_structure import Structure
from bindgen.backends.python_text import joined, names_in, tuple_
from bindgen.backends.text import indented, plus
from bindgen.plan import (
    PLANS,
    Case,
    Channel,
    Choice,
    Elements,
    FlagSet,
    Handle,
    Labels,
    Nothing,
    Number,
    Part,
    Parts,
    Shape,
    Text,
    conversions,
)
from bindgen.wit_parser.model import ExpectedOf, ListOf, OptionOf, Primitive, TupleOf, TypeDef, spelling

LONGEST_CONDITION = 60
"""Characters of a value that may stand in front of an `if`, in interfaces of packages."""


class _Format(NamedTuple):
    """How a number travels; `{}` is where it is."""

    letter: str
    """How `struct` spells it in memory."""
    load: str = "{}"
    """The Python value of what `struct` reads."""
    lift: str = "{}"
    """That of a flat value."""
    store: str = "{}"
    """What `struct` writes."""
    flat: str = "{}"


_FORMATS = {
    Primitive.BOOL: _Format("B", load="lift.bool({})", lift="lift.bool({})"),
    Primitive.U8: _Format("B", lift="lift.unsigned({}, 8)"),
    Primitive.S8: _Format("b", lift="lift.signed({}, 8)", flat="{} & 0xFFFF_FFFF"),
    Primitive.U16: _Format("H", lift="lift.unsigned({}, 16)"),
    Primitive.S16: _Format("h", lift="lift.signed({}, 16)", flat="{} & 0xFFFF_FFFF"),
    Primitive.U32: _Format("I"),
    Primitive.S32: _Format("i", lift="s32({})", flat="{} & 0xFFFF_FFFF"),
    Primitive.U64: _Format("Q"),
    Primitive.S64: _Format("q", lift="s64({})", flat="{} & 0xFFFF_FFFF_FFFF_FFFF"),
    Primitive.FLOAT32: _Format("f"),
    Primitive.FLOAT64: _Format("d"),
    Primitive.CHAR: _Format("I", "lift.char({})", "lift.char({})", "ord({})", "ord({})"),
}

_FORMATS_IN_PACKAGES = {
    **_FORMATS,
    Primitive.BOOL: _Format("B", load="bool({})", lift="bool({})"),
    Primitive.U8: _Format("B", lift="{} & 0xFF"),
    Primitive.S8: _Format("b", lift="signed({}, 8)", flat="{} & 0xFFFF_FFFF"),
    Primitive.U16: _Format("H", lift="{} & 0xFFFF"),
    Primitive.S16: _Format("h", lift="signed({}, 16)", flat="{} & 0xFFFF_FFFF"),
}
"""In the interface of components, what is too wide is cut off, and any number but 0 is true."""

_TAGS = {1: "B", 2: "H", 4: "I"}

_FLOATS_IN_SLOTS = {("i", "f"): "float32", ("I", "f"): "float32", ("I", "d"): "float64"}
"""The floats that travel as their bits, by the letters of the slot and of the float."""

_HEADS = {
    "load": "lift: Lift, {where}) -> {type}",
    "lift": "lift: Lift, {where}) -> {type}",
    "note": "lower: Lower, value: {type}) -> None",
    "store": "lower: Lower, memory: memoryview, at: int, value: {type}) -> None",
    "flat": "lower: Lower, value: {type}) -> tuple[Flat, ...]",
}
"""What the functions of the operations take and return."""


class Values:
    """Writes the helper functions that one generated module needs."""

    def __init__(self, names: Names, structure: Structure | None = None) -> None:
        """With `structure`, the interface is of a package, and values travel as the component model says."""
        self._names = names
        self._structure = structure
        self._in_package = structure is not None
        self._formats = _FORMATS_IN_PACKAGES if structure else _FORMATS
        self._functions: dict[str, list[str]] = {}
        self._structs: dict[str, str] = {}
        self._payloads: dict[str, list[str]] = {}

    def functions(self) -> list[list[str]]:
        """The texts of all helpers, in the order in which they were first needed."""
        return list(self._functions.values())

    def structs(self) -> list[str]:
        return [f'{name} = Struct("<{format_}")' for format_, name in self._structs.items()]

    def struct(self, format_: str) -> str:
        """The name of the Struct of a format."""
        return self._structs.setdefault(format_, self._names.struct(format_))

    def _helper(self, operation: str, shape: Shape, write: Callable[[], list[str]]) -> str:
        """The name of a function, whose body is written when it is asked for first."""
        name = self._names.helper(operation, shape.type)
        if name not in self._functions:
            lines: list[str] = []
            self._functions[name] = lines  # first, so that helpers stand in the order in which they are needed
            where = ", ".join(f"{parameter}: {type_}" for parameter, type_ in _parameters(operation, shape))
            head = _HEADS[operation].format(where=where, type=self._names.annotation(shape.type))
            lines += [f"def {name}({head}:", *indented(write())]
        return name

    # Loading: from memory.

    def load(self, shape: Shape, at: str) -> str:
        """An expression for the value in memory at `at`."""
        match shape:
            case Number() | Handle() | Channel():
                form = self._format(shape)
                return form.load.format(f"{self.struct(form.letter)}.unpack_from(lift.memory, {at})[0]")
            case Text():
                return f"lift.string_at({at})"
            case Elements() if _is_bytes(shape):
                return f"lift.bytes_at({at})"
            case Labels(definition=definition):
                return f"{self._names.use(definition)}({self._load_tag(shape, at)})"
            case FlagSet(size=size):
                return self.lift(shape, [f'int.from_bytes(lift.memory[{at} : {plus(at, size)}], "little")'])
            case Parts():
                return f"{self._helper('load', shape, partial(self._load_parts, shape))}(lift, {at})"
            case Choice():
                return self._chosen("load", shape, [at], self._load_cases)
        return self.lift(shape, [f"*lift.pair({at})"])

    def _load_parts(self, shape: Parts) -> list[str]:
        """A record's numbers come out of memory at once, its other fields one by one."""
        expressions: list[str] = []
        names: list[str] = []
        format_, end = "", 0
        for part in shape.parts:
            if isinstance(part.shape, Number | Handle | Channel):
                form = self._format(part.shape)
                names.append(f"v{len(names)}")
                expressions.append(form.load.format(names[-1]))
                gap = part.offset - end
                format_ += (f"{gap}x" if gap else "") + form.letter
                end = part.offset + part.shape.size
            else:
                expressions.append(self.load(part.shape, plus("at", part.offset)))
        lines = [f"{joined(names)} = {self.struct(format_)}.unpack_from(lift.memory, at)"] if names else []
        return [*lines, f"return {self._whole(shape, expressions)}"]

    def _load_cases(self, shape: Choice, where: Sequence[str]) -> tuple[str, list[str]]:
        (at,) = where
        payload_at = plus(at, shape.payload_offset)
        values = [self.load(case.payload, payload_at) if case.payload else "" for case in shape.cases]
        return self._load_tag(shape, at), values

    def _load_tag(self, shape: Choice | Labels, at: str) -> str:
        if shape.tag_size == 1:
            return f"lift.tag({at}, {self.told_apart(shape)})"
        number = f"{self.struct(_TAGS[shape.tag_size])}.unpack_from(lift.memory, {at})[0]"
        return f"lift.case({number}, {self.told_apart(shape)})"

    # Lifting: from flat values.

    def lift(self, shape: Shape, slots: Sequence[str]) -> str:
        """An expression for the value that travels in the flat values named `slots`."""
        match shape:
            case Nothing():
                return "None"
            case Number() | Handle() | Channel():
                return self._format(shape).lift.format(*slots)
            case Text():
                return f"lift.string({', '.join(slots)})"
            case Labels(definition=definition):
                return f"{self._names.use(definition)}(lift.case({slots[0]}, {self.told_apart(shape)}))"
            case FlagSet(definition=definition):
                bits = " | ".join(f"{slot} << {32 * n}" if n else slot for n, slot in enumerate(slots))
                checked = f"{bits} & {_mask(shape)}" if self._in_package else f"lift.flags({bits}, {shape.count})"
                return f"{self._names.use(definition)}({checked})"
            case Elements() if _is_bytes(shape):
                return f"lift.bytes({', '.join(slots)})"
            case Elements():
                return self._list(shape, ", ".join(slots))
            case Parts():
                return self._whole(shape, [self.lift(part.shape, part.slots_of(slots)) for part in shape.parts])
            case Choice():
                return self._chosen("lift", shape, slots, self._lift_cases)

    def _lift_cases(self, shape: Choice, slots: Sequence[str]) -> tuple[str, list[str]]:
        values = []
        for case in shape.cases:
            own = [self._from_slot(*each) for each in zip(slots[1:], conversions(case), strict=False)]
            values.append(self.lift(case.payload, own) if case.payload else "")
        return f"lift.case({slots[0]}, {self.told_apart(shape)})", values

    def _from_slot(self, slot: str, letters: tuple[str, str]) -> str:
        """The value of a slot, given its letter in the variant and its own."""
        if kind := _FLOATS_IN_SLOTS.get(letters):
            return f"{kind}_of({slot})"
        return f"({slot} & 0xFFFF_FFFF)" if letters == ("I", "i") else slot

    # What loading and lifting share.

    def _chosen(
        self,
        operation: str,
        shape: Choice,
        where: Sequence[str],
        cases: Callable[[Choice, Sequence[str]], tuple[str, list[str]]],
    ) -> str:
        """An expression for the value of a variant, option, expected or union. `cases` makes expressions for its tag,
        which is one that there is, and for the payload of each case, given where it is."""
        if isinstance(shape.type, OptionOf) and not isinstance(shape.cases[1].payload, Choice):
            tag, payloads = cases(shape, where)
            none, some = map(self._case, repeat(shape), shape.cases, payloads)
            if len(some) <= LONGEST_CONDITION or not self._in_package:
                return f"{some} if {tag} else {none}"

        def write() -> list[str]:
            tag, payloads = cases(shape, [name for name, _ in _parameters(operation, shape)])
            *values, last = map(self._case, repeat(shape), shape.cases, payloads)
            branches = [line for n, value in enumerate(values) for line in (f"if tag == {n}:", f"    return {value}")]
            end = [f"return {last}"]
            if isinstance(shape.type, OptionOf) and isinstance(shape.cases[1].payload, Handle | Channel):
                end = [f"value: {self._names.annotation(shape.type)} = {last}", "return value"]  # which was Any
            return [f"tag = {tag}" if branches else tag, *branches, *end]

        return f"{self._helper(operation, shape, write)}(lift, {', '.join(where)})"

    def _case(self, shape: Choice, case: Case, value: str) -> str:
        """The value of a case, given an expression for its payload, or nothing."""
        value = value or ("" if isinstance(shape.type, TypeDef) else "None")
        name = self._class(shape, case)
        return f"{name}({value})" if name else value

    def _class(self, shape: Choice, case: Case) -> str:
        """The class that says which case a value is of; none for None, and for the value of most options."""
        match shape.type:
            case OptionOf(inner):
                return "Some" if case.number and self._names.wrapped(inner) else ""
            case TypeDef() as definition:
                return self._names.case(definition, case.number)
        return "Err" if case.number else "Ok"

    def _list(self, shape: Elements, where: str) -> str:
        """An expression for a list, `where` being the arguments pointer and length."""
        element = shape.element
        if letter := self._numbers(element):
            numbers = f'lift.numbers({element.size}, {where}).cast("{letter}")'
            return f"list({numbers})" if letter in "fd" else f"{numbers}.tolist()"
        if isinstance(element, Text):
            return f"lift.texts({where})"
        if columns := _columns(shape):
            rows = f"lift.rows({columns}, {where})"
            record = "" if isinstance(element.type, TupleOf) else self._names.annotation(element.type)
            return f"[{record}(*each) for each in {rows}]" if record else rows
        addresses = f"lift.list({element.size}, {element.extent}, {element.align}, {where})"
        return f"[{self.load(element, 'each')} for each in {addresses}]"

    def _whole(self, shape: Parts, values: Sequence[str]) -> str:
        """A record or a tuple of some values."""
        if isinstance(shape.type, TypeDef):
            return f"{self._names.use(shape.type)}({', '.join(values)})"
        return tuple_(values)

    def _format(self, shape: Number | Handle | Channel) -> _Format:
        """How a number or a handle travels."""
        if isinstance(shape, Number):
            return self._formats[shape.primitive]
        if isinstance(shape, Channel):
            payload = self._payload(shape)
            lift, lower = f"lift.{shape.kind}({payload}, {{}})", f"lower.{shape.kind}({payload}, {{}})"
        elif shape.ownership != "shared":
            key = self._names.key(shape.resource)
            lift, lower = f"lift.{shape.ownership}({key}, {{}})", f"lower.{shape.ownership}({key}, {{}})"
        elif self._names.is_guests(shape.resource):
            name = shape.resource.name
            lift, lower = f'lift.resource({self._names.use(shape.resource)}, "{name}", {{}})', "lower.resource({})"
        else:
            name = shape.resource.name
            lift, lower = f'lift.handle("{name}", {{}})', f'lower.handle("{name}", {{}})'
        return _Format("I", lift, lift, lower, lower)

    def _numbers(self, element: Shape) -> str:
        """How `struct` spells the elements of a list of numbers that need no check; nothing for another list."""
        form = self._formats[element.primitive] if isinstance(element, Number) else None
        return form.letter if form and form.load == "{}" else ""

    def told_apart(self, shape: Choice | Labels) -> str:
        """The last arguments of what checks a tag: how many cases there are, and what messages call their type."""
        name = spelling(shape.type)[0]
        if self._in_package and isinstance(shape.type, ExpectedOf):
            name = "result"
        return f'{shape.count}, "{name}"'

    # Streams and futures.

    def payloads(self) -> list[list[str]]:
        """The constants that say what streams and futures carry."""
        return list(self._payloads.values())

    def _payload(self, channel: Channel) -> str:
        """The name of such a constant, which is written when it is asked for first."""
        name = self._names.payload(channel.type)
        if name not in self._payloads:
            self._payloads[name] = []
            self._payloads[name] = self._write_payload(name, channel.element)
        return name

    def _write_payload(self, name: str, element: Shape | None) -> list[str]:
        if element is None:
            items = ['""', "0", "1", "lambda _lift, _at, length: range(length)"]
            items += ["lambda _lower, _value: None", "lambda _lower, _memory, _at, _value: None"]
            return [f"{name} = Payload({', '.join(items)})"]
        assert self._structure is not None
        whole = PLANS.shape(ListOf(element.type))
        assert isinstance(whole, Elements)
        functions = [
            self._piece("load", whole, lambda: [f"return {self._list_at(whole)}"]),
            self._piece("note", whole, lambda: _each(self.note(element, "each")) or ["pass"]),
            self._piece("store", whole, lambda: self._store_piece(element)),
        ]
        items = [self._structure.type(element.type), str(element.size), str(element.align), *functions]
        return [f"{name} = Payload({', '.join(items)})"]

    def _piece(self, operation: str, whole: Elements, write: Callable[[], list[str]]) -> str:
        """The name of a function that does something with a piece of a stream."""
        name = self._names.piece(operation, whole.type)
        if name not in self._functions:
            lines = self._functions[name] = []
            received = operation == "load"
            head = _HEADS[operation].format(
                where="at: int, length: int", type=self._names.annotation(whole.type, received)
            )
            lines += [f"def {name}({head}:", *indented(write())]
        return name

    def _list_at(self, whole: Elements) -> str:
        return "lift.bytes(at, length)" if _is_bytes(whole) else self._list(whole, "at, length")

    def _store_piece(self, element: Shape) -> list[str]:
        if element.type is Primitive.U8:
            return ["memory[at : at + len(value)] = value"]
        if letter := self._numbers(element):
            return [f'pack_numbers(memory, at, "{letter}", value)']
        stored = self.store(element, "at", "each")
        return _each([*stored, f"at += {element.size}"]) if stored else ["pass"]

    # Noting: what memory a value's texts and lists take.

    def note(self, shape: Shape, value: str) -> list[str]:
        """Statements that note the blocks of the value `value`."""
        if not shape.has_heap:
            return []
        match shape:
            case Text():
                return [f"lower.string({value})"]
            case Elements() if _is_bytes(shape):
                return [f"lower.bytes({value})"]
            case Elements(element=Text()):
                return [f"lower.texts({value})"]
            case Elements(element=Parts() as row) if columns := _columns(shape):
                if isinstance(row.type, TypeDef):
                    texts = [f"each{path}" for _, path in self._paths(row)]
                    value = f"[{tuple_(texts)} for each in {value}]"
                return [f"lower.rows({value}, {columns})"]
            case Elements(element=element) if not element.has_heap:
                return [self._note_block(element, value)]
            case Parts():
                return [line for part, path in self._paths(shape) for line in self.note(part.shape, value + path)]
            case Choice(type=OptionOf(inner), cases=(_, Case(payload=some))) if some:
                lines = self.note(some, f"{value}.value" if self._names.wrapped(inner) else value)
                condition = f"if {value} is not None"
                if self._in_package and lines[0].startswith("if ") and all(each[0] == " " for each in lines[1:]):
                    return [f"{condition} and {lines[0].removeprefix('if ')}", *lines[1:]]
                return [f"{condition}:", *indented(lines)]
        return [f"{self._helper('note', shape, partial(self._write_note, shape))}(lower, {value})"]

    def _note_block(self, element: Shape, value: str) -> str:
        return f"lower.list({element.size}, {element.extent}, {element.align}, len({value}))"

    def _write_note(self, shape: Shape) -> list[str]:
        if isinstance(shape, Elements):
            lines = self.note(shape.element, "each")
            return [self._note_block(shape.element, "value"), "for each in value:", *indented(lines)]
        assert isinstance(shape, Choice)
        lines = []
        for case in shape.cases:
            if case.payload and case.payload.has_heap:
                lines += [f"case {self._class(shape, case)}():", *indented(self.note(case.payload, "value.value"))]
        return ["match value:", *indented(lines)]

    # Storing: into memory.

    def store(self, shape: Shape, at: str, value: str) -> list[str]:
        """Statements that put the value `value` into memory at `at`."""
        match shape:
            case _ if shape.is_empty:
                return []
            case Number() | Handle() | Channel():
                form = self._format(shape)
                return [self._store_number(form.letter, at, form.store.format(value))]
            case FlagSet(size=size):
                return [f'memory[{at} : {plus(at, size)}] = int({value}).to_bytes({size}, "little")']
            case Labels(definition=definition):
                return [self._store_number(_TAGS[shape.size], at, f"{self._names.use(definition)}({value})")]
            case Text() | Elements() if not _is_filled(shape):
                return [f"lower.put({at})"]
            case Elements():
                return [f"{self.struct('II')}.pack_into(memory, {at}, {', '.join(self.flat(shape, value))})"]
        return [f"{self._helper('store', shape, partial(self._write_store, shape))}(lower, memory, {at}, {value})"]

    def _store_number(self, letter: str, at: str, number: str) -> str:
        return (
            f"memory[{at}] = {number}" if letter == "B" else f"{self.struct(letter)}.pack_into(memory, {at}, {number})"
        )

    def _write_store(self, shape: Shape) -> list[str]:
        if isinstance(shape, Parts):
            lines = []
            for part, path in self._paths(shape):
                lines += self.store(part.shape, plus("at", part.offset), f"value{path}")
            return lines
        assert isinstance(shape, Choice)
        payload_at = plus("at", shape.payload_offset)

        def store(case: Case, value: str) -> list[str]:
            tag = self._store_number(_TAGS[shape.tag_size], "at", str(case.number))
            return [tag, *(self.store(case.payload, payload_at, value) if case.payload else [])]

        return self._match(shape, store)

    def _match(self, shape: Choice, branch: Callable[[Case, str], list[str]]) -> list[str]:
        """Does something for the case that `value` is of. `branch` gets the case and its payload."""
        lines = []
        for case in shape.cases:
            name = self._class(shape, case)
            pattern = f"{name}()" if name else "_" if case.number else "None"
            lines += [f"case {pattern}:", *indented(branch(case, "value.value" if name else "value"))]
        if not isinstance(shape.type, OptionOf):
            # To a type checker this says that it can't happen.
            what = "Ok or Err" if isinstance(shape.type, ExpectedOf) else f"a case of {spelling(shape.type)[0]}"
            lines += ["case _:", f'    wrong_type(value, "{what}")']
        return ["match value:", *indented(lines)]

    # Lowering to flat values.

    def flat(self, shape: Shape, value: str) -> list[str]:
        """Expressions for the flat values of `value`, to stand in a tuple: `a`, or `*f(a)` for several at once."""
        match shape:
            case Nothing():
                return []
            case Number() | Handle() | Channel():
                return [self._format(shape).flat.format(value)]
            case Labels(definition=definition):
                return [f"int({self._names.use(definition)}({value}))"]
            case FlagSet(slots="i"):
                return [f"int({value})"]
            case FlagSet():
                return [f"int({value}) >> {32 * n} & 0xFFFF_FFFF" for n in range(len(shape.slots))]
            case Text() | Elements() if not _is_filled(shape):
                return ["*lower.take()"]
            case Elements():
                write = partial(self._fill, shape)
            case Parts():
                return [item for part, path in self._paths(shape) for item in self.flat(part.shape, value + path)]
            case Choice():
                write = partial(self._match, shape, self._flat_case)
        return [f"*{self._helper('flat', shape, write)}(lower, {value})"]

    def _fill(self, shape: Elements) -> list[str]:
        """Statements that write the elements of `value` into the list's block."""
        element = shape.element
        if letter := self._numbers(element):
            return [
                "block, length = lower.take()",
                f'pack_numbers(lower.memory, block, "{letter}", value)',
                "return block, length",
            ]
        stored = self.store(element, "at", "each")
        mentioned = names_in(stored)
        memory = ["memory = lower.memory"] if "memory" in mentioned else []
        loop = _each([*stored, f"at += {element.size}"])
        return [*memory, "block, length = lower.take()", "at = block", *loop, "return block, length"]

    def _flat_case(self, case: Case, value: str) -> list[str]:
        tag, zeros = str(case.number), ["0"] * len(case.unused)
        items = self.flat(case.payload, value) if case.payload else []
        kinds = [_FLOATS_IN_SLOTS.get(letters) for letters in conversions(case)]
        if not any(kinds):
            return [f"return {joined([tag, *items, *zeros])}"]
        names = [f"f{tag}_{n}" for n in range(len(kinds))]
        moved = [f"bits_of_{kind}({name})" if kind else name for name, kind in zip(names, kinds, strict=True)]
        return [f"{joined(names)} = {joined(items)}", f"return {joined([tag, *moved, *zeros])}"]

    def _paths(self, shape: Parts) -> list[tuple[Part, str]]:
        """The parts, each with how to get to it in Python: `.uri`, `[0]`."""
        if isinstance(shape.type, TypeDef):
            return [(part, f".{name}") for part, name in zip(shape.parts, field_names(shape.type), strict=True)]
        return [(part, f"[{part.name}]") for part in shape.parts]


def _parameters(operation: str, shape: Shape) -> list[tuple[str, str]]:
    """Where `load` or `lift` find a value: names and types."""
    if operation == "load":
        return [("at", "int")]
    return [(f"s{n}", "float" if letter in "fd" else "int") for n, letter in enumerate(shape.slots)]


def _is_bytes(shape: Shape) -> bool:
    return isinstance(shape, Elements) and shape.element.type is Primitive.U8


def _is_filled(shape: Shape) -> bool:
    """Whether the elements of a list are written after its block is allocated, and not with it."""
    if not isinstance(shape, Elements) or _is_bytes(shape):
        return False
    return not _columns(shape) and not isinstance(shape.element, Nothing)


def _columns(shape: Elements) -> int:
    """How many texts each element of a list holds, where it holds nothing else: such lists are tables, lifted in one
    step. 0 for another list."""
    match shape.element:
        case Text():
            return 1
        case Parts(parts=parts) if all(isinstance(part.shape, Text) for part in parts):
            return len(parts)
    return 0


def _each(lines: list[str]) -> list[str]:
    """Statements for each element of `value`; none if there are none."""
    each = "each" if "each" in names_in(lines) else "_"
    return [f"for {each} in value:", *indented(lines)] if lines else []


def _mask(shape: FlagSet) -> str:
    """The bits that mean something, the others being ignored."""
    return f"0x{(1 << shape.count) - 1:X}"
