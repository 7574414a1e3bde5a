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

from bindgen.backends.python_names import Names, field_names
from bindgen.backends.python_text import call, indented, inline, joined, plus
from bindgen.backends.scope import Scope
from bindgen.plan import (
    Case,
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
from bindgen.wit_parser.model import ExpectedOf, OptionOf, Primitive, TupleOf, TypeDef, spelling

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
"""The numbers in memory, for `struct`."""
_CHECKED = (Primitive.BOOL, Primitive.CHAR)
"""The numbers of which not every one is a value."""
_TAGS = {1: "B", 2: "H", 4: "I"}


_FLOATS_IN_SLOTS = {("i", "f"): "float32", ("I", "f"): "float32", ("I", "d"): "float64"}
"""The floats that travel as their bits, by the letters of the slot and of the float."""

_HEADS = {
    "load": (["at: int"], "{}"),
    "lift": (["tag: int"], "{}"),
    "note": (["value: {}"], "None"),
    "store": (["memory: memoryview", "at: int", "value: {}"], "None"),
    "flat": (["value: {}"], "tuple[Any, ...]"),
}
"""What the functions of the operations take, behind `lift` or `lower`, and return; `{}` is the type of the values."""


class Conditional(str):
    """`a if b else c`, which is hard to read within another."""


class Spread(str):
    """What stands in a tuple for several flat values: `*f(a)`."""

    values: str
    """The expression for a tuple of them."""

    def __new__(cls, values: str) -> Spread:
        self = super().__new__(cls, f"*{values}")
        self.values = values
        return self


class Values:
    """Writes the helper functions that one generated module needs."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._functions: dict[str, list[str]] = {}
        self._structs: dict[str, str] = {}

    def functions(self) -> list[str]:
        """The text of all helpers, in the order in which they were first needed."""
        return [line for lines in self._functions.values() for line in ["", "", *lines]]

    def structs(self) -> list[str]:
        return [f'{name} = Struct("<{text}")' for text, name in self._structs.items()]

    def struct(self, text: str) -> str:
        """The name of the Struct of a format."""
        return self._structs.setdefault(text, self._names.struct(text, len(self._structs)))

    def _helper(self, operation: str, shape: Shape, write: Callable[[Shape], list[str]]) -> str:
        """The name of a function, whose body is written when it is asked for first."""
        name = self._names.helper(operation, shape.type)
        if name not in self._functions:
            lines: list[str] = []
            self._functions[name] = lines  # first, so that helpers stand in the order in which they are needed
            lines += [*self._head(operation, shape, name), *indented(write(shape))]
        return name

    def _head(self, operation: str, shape: Shape, name: str) -> list[str]:
        annotation = self._names.annotation(shape.type)
        parameters, result = _HEADS[operation]
        kind = self._names.need("Lift" if operation in ("load", "lift") else "Lower")
        parameters = [f"{kind.lower()}: {kind}", *(each.format(annotation) for each in parameters)]
        if operation == "lift":
            letters = enumerate(shape.slots[1:])
            parameters += [f"s{number}: {'float' if letter in 'fd' else 'int'}" for number, letter in letters]
        if operation == "flat":
            self._names.need("Any", "typing")
        end = f" -> {result.format(annotation)}:"
        # Those of the others are few, so that they stay on one line.
        many = operation in ("lift", "store")
        return call("def ", name, parameters, end) if many else [f"def {inline(name, parameters)}{end}"]

    # Loading: from memory.

    def load(self, shape: Shape, at: str) -> str:
        """An expression for the value in memory at `at`."""
        match shape:
            case Number() | Handle():
                return self._checked(shape, f"{self.struct(_format(shape))}.unpack_from(lift.memory, {at})[0]")
            case Nothing():
                return "None"
            case Text():
                return f"lift.string_at({at})"
            case Elements() if _is_bytes(shape):
                return f"lift.bytes_at({at})"
            case Elements() if _columns(shape):
                return self._list(shape, f"*lift.pair({at})")
            case Choice(type=OptionOf(), cases=(_, some)):
                value = self.load(some.payload, plus(at, shape.payload_offset)) if some.payload else ""
                option = Conditional(f'{self._case_value(shape, some, value)} if lift.tag({at}, 2, "option") else None')
                if len(option) <= _SHORT and not isinstance(value, Conditional):
                    return option
        return f"{self._helper('load', shape, self._write_load)}(lift, {at})"

    def _write_load(self, shape: Shape) -> list[str]:
        match shape:
            case Elements():
                return [f"return {self._list(shape, '*lift.pair(at)')}"]
            case FlagSet(size=size):
                bits = f'int.from_bytes(lift.memory[at : at + {size}], "little")'
                return [f"return {self._flags(shape, bits)}"]
            case Parts():
                return self._load_parts(shape)
        assert isinstance(shape, Choice | Labels)
        if shape.tag_size == 1:
            tag = f"lift.tag(at, {_told_apart(shape)})"
        else:
            number = f"{self.struct(_TAGS[shape.tag_size])}.unpack_from(lift.memory, at)[0]"
            tag = f"lift.case({number}, {_told_apart(shape)})"
        payload_at = plus("at", shape.payload_offset if isinstance(shape, Choice) else 0)
        return self._switch(shape, tag, lambda _, payload: self.load(payload, payload_at))

    def _load_parts(self, shape: Parts) -> list[str]:
        """A record's numbers come out of memory at once, its other fields one by one."""
        expressions: list[str] = []
        names: list[str] = []
        format_, end = "", 0
        for part in shape.parts:
            if isinstance(part.shape, Number | Handle):
                names.append(f"v{len(names)}")
                expressions.append(self._checked(part.shape, names[-1]))
                format_ += "x" * (part.offset - end) + _format(part.shape)
                end = part.offset + part.shape.size
            else:
                expressions.append(self.load(part.shape, plus("at", part.offset)))
        lines = [f"{joined(names)} = {self.struct(format_)}.unpack_from(lift.memory, at)"] if names else []
        return [*lines, *call("return ", self._constructor(shape), expressions, within=4)]

    def _switch(self, shape: Choice | Labels, tag: str, payload: Callable[[Case, Shape], str]) -> list[str]:
        """Tells the cases of a variant, option, expected, union or enum apart. `tag` is one that there is."""
        if isinstance(shape, Labels):
            return [f"return {self._names.use(shape.definition)}({tag})"]
        payloads = [payload(case, case.payload) if case.payload else "" for case in shape.cases]
        values = [self._case_value(shape, *each) for each in zip(shape.cases, payloads, strict=True)]
        if len(values) == 1:
            return [tag, f"return {values[0]}"]
        if isinstance(shape.type, OptionOf) and isinstance(shape.cases[1].payload, Handle):
            # What a handle stands for has no type for a type checker.
            some = f"some: {self._names.annotation(shape.type.value)} = {values[1]}"
            return [f"if {tag}:", f"    {some}", "    return some", f"return {values[0]}"]
        if len(values) == 2:
            return [f"if {tag}:", f"    return {values[1]}", f"return {values[0]}"]
        lines = [f"tag = {tag}"]
        for number, value in enumerate(values[:-1]):
            lines += [f"if tag == {number}:", f"    return {value}"]
        return [*lines, f"return {values[-1]}"]

    def _case_value(self, shape: Choice, case: Case, value: str) -> str:
        """The Python value of a case, given an expression for its payload, or nothing."""
        if name := self._class(shape, case):
            return f"{name}({value})" if value or isinstance(shape.type, TypeDef) else f"{name}(None)"
        if isinstance(case.payload, Number) and case.payload.primitive not in _CHECKED:
            # What `struct` reads has no type for a type checker.
            return f"{self._names.annotation(case.payload.type)}({value})"
        return value or "None"

    def _list(self, shape: Elements, where: str) -> str:
        """An expression for a list, `where` being the arguments pointer and length."""
        element = shape.element
        if letter := _numbers(element):
            numbers = f'lift.numbers({element.size}, {where}).cast("{letter}")'
            return f"list({numbers})" if letter in "fd" else f"{numbers}.tolist()"
        if isinstance(element, Text):
            return f"lift.texts({where})"
        if columns := _columns(shape):
            rows = f"lift.rows({columns}, {where})"
            record = self._constructor(element) if isinstance(element, Parts) else ""
            return f"[{record}(*each) for each in {rows}]" if record else rows
        addresses = f"lift.list({element.size}, {element.extent}, {element.align}, {where})"
        if isinstance(element.type, OptionOf):
            return f"[{self._helper('load', element, self._write_load)}(lift, each) for each in {addresses}]"
        return f"[{self.load(element, 'each')} for each in {addresses}]"

    # Lifting: from flat values.

    def lift(self, shape: Shape, slots: Sequence[str]) -> str:
        """An expression for the value that travels in the flat values named `slots`."""
        match shape:
            case Nothing():
                return "None"
            case Text():
                return f"lift.string({', '.join(slots)})"
            case Number(primitive=Primitive.U8 | Primitive.U16):
                return f"lift.unsigned({slots[0]}, {8 * shape.size})"
            case Number(primitive=Primitive.S8 | Primitive.S16):
                return f"lift.signed({slots[0]}, {8 * shape.size})"
            case Number(primitive=Primitive.S32 | Primitive.S64 as signed):
                return f"{self._names.need(signed.value)}({slots[0]})"
            case Number() | Handle():
                return self._checked(shape, slots[0])
            case Elements() if _is_bytes(shape):
                return f"lift.bytes({', '.join(slots)})"
            case Elements():
                return self._list(shape, ", ".join(slots))
            case FlagSet():
                bits = " | ".join(f"{slot} << {32 * n}" if n else slot for n, slot in enumerate(slots))
                return self._flags(shape, bits)
            case Parts():
                arguments = [self.lift(part.shape, part.slots_of(slots)) for part in shape.parts]
                return inline(self._constructor(shape), arguments)
        return f"{self._helper('lift', shape, self._write_lift)}({', '.join(['lift', *slots])})"

    def _write_lift(self, shape: Shape) -> list[str]:
        assert isinstance(shape, Choice | Labels)

        def payload(case: Case, it: Shape) -> str:
            return self.lift(it, [self._from_slot(f"s{n}", each) for n, each in enumerate(conversions(case))])

        return self._switch(shape, f"lift.case(tag, {_told_apart(shape)})", payload)

    def _from_slot(self, slot: str, letters: tuple[str, str]) -> str:
        """The value of a slot, given its letter in the variant and its own."""
        if kind := _FLOATS_IN_SLOTS.get(letters):
            return f"{self._names.need(f'{kind}_of')}({slot})"
        return f"({slot} & 0xFFFF_FFFF)" if letters == ("I", "i") else slot

    # Noting: what memory a value's texts and lists take.

    def note(self, shape: Shape, value: str, scope: Scope) -> list[str]:
        """Statements that note the blocks of the value `value`.

        The variables of loops are new in `scope`: a type checker wants one type for a name in all of a function.
        """
        if not shape.has_heap:
            return []
        match shape:
            case Text():
                return [f"lower.string({value})"]
            case Elements():
                return self._note_list(shape, value, scope)
            case Parts():
                parts = self._paths(shape)
                return [line for part, path in parts for line in self.note(part.shape, value + path, scope)]
            case Choice(type=OptionOf(inner), cases=(_, Case(payload=some))) if some:
                lines = self.note(some, f"{value}.value" if self._names.wrapped(inner) else value, scope)
                return [f"if {value} is not None:", *indented(lines)]
        return [f"{self._helper('note', shape, self._write_note)}(lower, {value})"]

    def _note_list(self, shape: Elements, value: str, scope: Scope) -> list[str]:
        element = shape.element
        if _is_bytes(shape):
            return [f"lower.bytes({value})"]
        if isinstance(element, Text):
            return [f"lower.texts({value})"]
        each = scope.fresh("each")
        if columns := _columns(shape):
            if isinstance(element.type, TupleOf):
                return [f"lower.rows({value}, {columns})"]
            assert isinstance(element, Parts)
            row = inline("", [each + path for _, path in self._paths(element)])
            return [f"lower.rows([{row} for {each} in {value}], {columns})"]
        lines = [f"lower.list({element.size}, {element.extent}, {element.align}, len({value}))"]
        if inner := self.note(element, each, scope):
            lines += [f"for {each} in {value}:", *indented(inner)]
        return lines

    def _write_note(self, shape: Shape) -> list[str]:
        scope = self._names.function_scope()
        return self._branches(shape, lambda _, it, value: self.note(it, value, scope) if it else [], skip_empty=True)

    def _branches(
        self,
        shape: Shape,
        branch: Callable[[Case, Shape | None, str], list[str]],
        skip_empty: bool = False,
        returns: bool = False,
    ) -> list[str]:
        """Does something for the case that `value` is of. `branch` gets the case, its payload's shape and the payload.

        With `skip_empty`, a case without statements is left out, and values of a wrong type pass. With `returns`, every
        branch ends with a return.
        """
        assert isinstance(shape, Choice)
        found = [(case, branch(case, case.payload, self._payload(shape, case))) for case in shape.cases]
        found = [(case, lines) for case, lines in found if lines or not skip_empty]
        if isinstance(shape.type, OptionOf):
            if skip_empty:
                return [line for _, body in found for line in ("if value is not None:", *indented(body))]
            (_, none), (_, some) = found
            return ["if value is None:", *indented(none), *(some if returns else ["else:", *indented(some)])]
        # To a type checker this says that it can't happen.
        wrong = "" if skip_empty else f"{self._names.need('wrong_type')}(value, "
        lines = []
        if isinstance(shape.type, ExpectedOf):
            for number, (case, body) in enumerate(found):
                keyword = "elif" if number else "if"
                lines += [f"{keyword} isinstance(value, {self._class(shape, case)}):", *indented(body)]
            return [*lines, "else:", f'    {wrong}"Ok or Err")'] if wrong else lines
        for case, body in found:
            lines += [f"case {self._class(shape, case)}():", *indented(body)]
        lines += ["case _:", f'    {wrong}"a case of {spelling(shape.type)[0]}")'] if wrong else []
        return ["match value:", *indented(lines)]

    def _class(self, shape: Choice, case: Case) -> str:
        """The class that says which case a value is of; none for None, and for the value of most options."""
        match shape.type:
            case OptionOf(inner):
                return self._names.need("Some") if case.number and self._names.wrapped(inner) else ""
            case TypeDef() as definition:
                return self._names.case(definition, case.number)
        return self._names.need("Err" if case.number else "Ok")

    def _payload(self, shape: Choice, case: Case) -> str:
        """The payload of `value`."""
        return "value.value" if self._class(shape, case) else "value"

    # Storing: into memory.

    def store(self, shape: Shape, at: str, value: str) -> list[str]:
        """Statements that put the value `value` into memory at `at`."""
        match shape:
            case Nothing():
                return []
            case Number() | Handle():
                if _format(shape) == "B":
                    return [f"memory[{at}] = {self._plain(shape, value)}"]
                return [f"{self.struct(_format(shape))}.pack_into(memory, {at}, {self._plain(shape, value)})"]
            case FlagSet(size=size):
                return [f'memory[{at} : {at} + {size}] = int({value}).to_bytes({size}, "little")']
            case Text() | Elements() if not _is_filled(shape):
                return [f"lower.put({at})"]
        return [f"{self._helper('store', shape, self._write_store)}(lower, memory, {at}, {value})"]

    def stores_directly(self, shape: Shape) -> bool:
        """Whether `store` itself writes to `memory`, and does not have `lower` write."""
        return not isinstance(shape, Nothing) and (not isinstance(shape, Text | Elements) or _is_filled(shape))

    def _write_store(self, shape: Shape) -> list[str]:
        match shape:
            case Elements():
                return ["block = lower.put(at)", *self._fill(shape)]
            case Parts():
                lines = []
                for part, path in self._paths(shape):
                    lines += self.store(part.shape, plus("at", part.offset), f"value{path}")
                return lines or ["pass"]
            case Labels(definition=definition):
                return [self._store_tag(shape.size, f"{self._names.use(definition)}(value)")]
        assert isinstance(shape, Choice)
        tag_size, payload_at = shape.tag_size, plus("at", shape.payload_offset)

        def branch(case: Case, it: Shape | None, value: str) -> list[str]:
            return [self._store_tag(tag_size, str(case.number)), *(self.store(it, payload_at, value) if it else [])]

        return self._branches(shape, branch)

    def _store_tag(self, size: int, tag: str) -> str:
        if size == 1:
            return f"memory[at] = {tag}"
        return f"{self.struct(_TAGS[size])}.pack_into(memory, at, {tag})"

    def _fill(self, shape: Elements) -> list[str]:
        """Statements that write the elements of `value` at `block`."""
        element = shape.element
        if letter := _numbers(element):
            return [f'{self._names.need("pack_numbers")}(memory, block, "{letter}", value)']
        loop = "_" if isinstance(element, Text | Elements) and not _is_filled(element) else "each"
        body = [*self.store(element, "block", "each"), f"block += {element.size}"]
        return [f"for {loop} in value:", *indented(body)]

    # Lowering to flat values.

    def flat(self, shape: Shape, value: str) -> list[str]:
        """Expressions for the flat values of `value`, to stand in a tuple: `a`, or `*f(a)` for several at once."""
        match shape:
            case Nothing():
                return []
            case Number(primitive=Primitive.S8 | Primitive.S16 | Primitive.S32):
                return [f"{value} & 0xFFFF_FFFF"]
            case Number(primitive=Primitive.S64):
                return [f"{value} & 0xFFFF_FFFF_FFFF_FFFF"]
            case Number() | Handle():
                return [self._plain(shape, value)]
            case Text() | Elements() if not _is_filled(shape):
                return [Spread("lower.take()")]
            case FlagSet(slots="i"):
                return [f"int({value})"]
            case FlagSet():
                return [f"int({value}) >> {32 * n} & 0xFFFF_FFFF" for n in range(len(shape.slots))]
            case Labels(definition=definition):
                return [f"int({self._names.use(definition)}({value}))"]
            case Parts():
                return [item for part, path in self._paths(shape) for item in self.flat(part.shape, value + path)]
        return [Spread(f"{self._helper('flat', shape, self._write_flat)}(lower, {value})")]

    def _write_flat(self, shape: Shape) -> list[str]:
        if isinstance(shape, Elements):
            is_direct = _numbers(shape.element) or self.stores_directly(shape.element)
            body = ["memory = lower.memory"] if is_direct else []
            return [*body, "flat = lower.take()", "block = flat[0]", *self._fill(shape), "return flat"]

        def branch(case: Case, it: Shape | None, value: str) -> list[str]:
            tag, zeros = str(case.number), ["0"] * len(case.unused)
            items: Sequence[str] = self.flat(it, value) if it else []
            letters = [*conversions(case)]
            if all(slot == own for slot, own in letters):
                return [f"return {joined([tag, *items, *zeros])}"]
            names = [f"f{tag}_{n}" for n in range(len(letters))]
            moved = [self._to_slot(*each) for each in zip(names, letters, strict=True)]
            return [f"{joined(names)} = {joined(items)}", f"return {joined([tag, *moved, *zeros])}"]

        return self._branches(shape, branch, returns=True)

    def _to_slot(self, value: str, letters: tuple[str, str]) -> str:
        """What travels in a slot, given its letter in the variant and that of the value."""
        kind = _FLOATS_IN_SLOTS.get(letters)
        return f"{self._names.need(f'bits_of_{kind}')}({value})" if kind else value

    def needs_lower(self, shape: Shape, stored: bool) -> bool:
        """Whether `store`, or else `flat`, takes the variable `lower`."""
        match shape:
            case Nothing() | Number() | FlagSet():
                return False
            case Labels():
                return stored
            case Parts(parts=parts) if not stored:
                return any(self.needs_lower(part.shape, False) for part in parts)
        return True

    # What the operations share.

    def _paths(self, shape: Parts) -> list[tuple[Part, str]]:
        """The parts, each with how to get to it in Python: `.uri`, `[0]`."""
        if isinstance(shape.type, TypeDef):
            paths = [f".{name}" for name in field_names(shape.type)]
        else:
            paths = [f"[{part.name}]" for part in shape.parts]
        return list(zip(shape.parts, paths, strict=True))

    def _constructor(self, shape: Parts) -> str:
        return self._names.use(shape.type) if isinstance(shape.type, TypeDef) else ""

    def _flags(self, shape: FlagSet, bits: str) -> str:
        return f"{self._names.use(shape.definition)}(lift.flags({bits}, {shape.count}))"

    def _checked(self, shape: Number | Handle, value: str) -> str:
        """An expression for the Python value of a number that `struct` read."""
        match shape:
            case Number(primitive=Primitive.BOOL | Primitive.CHAR as kind):
                return f"lift.{kind.value}({value})"
            case Handle(resource=resource):
                if self._names.is_guests(resource):
                    return f'lift.resource({self._names.use(resource)}, "{resource.name}", {value})'
                return f'lift.handle("{resource.name}", {value})'
        return value

    def _plain(self, shape: Number | Handle, value: str) -> str:
        """An expression for what `struct` writes, given the Python value."""
        match shape:
            case Number(primitive=Primitive.CHAR):
                return f"ord({value})"
            case Handle(resource=resource):
                if self._names.is_guests(resource):
                    return f"lower.resource({value})"
                return f'lower.handle("{resource.name}", {value})'
        return value


def checks(shape: Shape) -> bool:
    """Whether lifting a value from flat values takes a `Lift`: there is something to check, or to look up."""
    match shape:
        case Nothing():
            return False
        case Number(primitive=primitive):
            return primitive in _CHECKED or shape.size < 4
        case Parts(parts=parts):
            return any(checks(part.shape) for part in parts)
    return True


def _format(shape: Number | Handle) -> str:
    """How `struct` spells a number in memory."""
    return _FORMATS[shape.primitive] if isinstance(shape, Number) else "I"


def _numbers(element: Shape) -> str:
    """How `struct` spells the elements of a list of numbers that need no check; nothing for another list."""
    return _format(element) if isinstance(element, Number) and element.primitive not in _CHECKED else ""


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


def _told_apart(shape: Choice | Labels) -> str:
    """The last arguments of what checks a tag: how many cases there are, and what messages call their type."""
    return f'{shape.count}, "{spelling(shape.type)[0]}"'
