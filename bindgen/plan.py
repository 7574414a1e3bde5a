"""What lifting, lowering and calling take, worked out once for all languages.

A *shape* is a type with all that code for its values needs: where its parts lie in memory, in which flat values they
travel, which of them own memory. A *call* is a function as one side sees it: the steps, in order, from what arrives to
what is handed back. A backend prints shapes and steps, and computes no offset, size or slot of its own.

`Plans` makes them for one binary interface. Backends of WIT of 2022 use the module's functions, which are those of
`PLANS_2022`.

Sizes, alignments and offsets are in bytes. A slot is a flat WebAssembly value; its letter is that of `bindgen.abi`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal, TypeAlias, TypeVar

from bindgen.abi import Abi, Abi2022, CanonicalAbi, Direction, Signature
from bindgen.wit_parser.model import (
    Borrow,
    Enum,
    ExpectedOf,
    FixedListOf,
    Flags,
    Function,
    FunctionKind,
    FutureOf,
    ListOf,
    Own,
    Primitive,
    Record,
    Resource,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    cases,
    contains_handle,
    has_heap,
    unaliased,
)

T = TypeVar("T")

Side: TypeAlias = Literal["guest", "host"]
"""Which of the two that call each other the code is for."""


Ownership: TypeAlias = Literal["shared", "own", "borrow"]
"""What a handle means: one of those that share a resource (in WIT of 2022), the resource itself, a loan of it."""

# Shapes.


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    type: Type
    """Without aliases at its outside."""
    size: int
    """What a field of the type takes, and the stride of a list."""
    align: int
    extent: int
    """How far a value reaches from its start: `size`, or more where there is a variant in it."""
    slots: str
    """The letters of the flat values that a value travels as."""
    has_heap: bool
    """Whether a value may own memory besides its own: a string or a list anywhere in it."""
    has_handle: bool
    """Whether there is a handle anywhere in a value, inside its lists too."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to a value: `unit`, and what is made of it alone."""
        return not self.slots

    @property
    def owns(self) -> bool:
        """Whether a value owns something that has to be given up: memory, or handles."""
        return self.has_heap or self.has_handle


@dataclass(frozen=True, slots=True, eq=False)
class Nothing(_Shape):
    """`unit`."""


@dataclass(frozen=True, slots=True, eq=False)
class Number(_Shape):
    """A bool, a char, an integer or a float."""

    primitive: Primitive


@dataclass(frozen=True, slots=True, eq=False)
class Handle(_Shape):
    """A resource, by the number that the guest knows it by."""

    resource: Resource
    ownership: Ownership


@dataclass(frozen=True, slots=True, eq=False)
class Channel(_Shape):
    """The readable end of a stream or a future, by the number that the guest knows it by."""

    kind: Literal["stream", "future"]
    element: Shape | None
    """What is read from it, or None where only how much there is of it is passed on."""


@dataclass(frozen=True, slots=True, eq=False)
class Text(_Shape):
    """A string: a pointer and a length in bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Elements(_Shape):
    """A list: a pointer and a length in elements."""

    element: Shape

    @property
    def overhang(self) -> int:
        """How far the last element reaches past its stride."""
        return self.element.extent - self.element.size


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A field of a record, an item of a tuple, or a parameter."""

    name: str
    """As the interface has it; an item of a tuple has its number."""
    shape: Shape
    offset: int
    first_slot: int

    def slots_of(self, slots: Sequence[T]) -> Sequence[T]:
        """Those of the whole's slots in which the part travels."""
        return slots[self.first_slot : self.first_slot + len(self.shape.slots)]


@dataclass(frozen=True, slots=True, eq=False)
class Parts(_Shape):
    """A record or a tuple."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Labels(_Shape):
    """An enum: a number."""

    definition: TypeDef
    count: int

    @property
    def tag_size(self) -> int:
        return self.size


@dataclass(frozen=True, slots=True, eq=False)
class FlagSet(_Shape):
    """Flags: bits, the first flag being the lowest. With more than 32, a slot holds 32 of them."""

    definition: TypeDef
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A case of a variant, a union, an option or an expected."""

    number: int
    """Its tag."""
    name: str
    payload: Shape | None
    """None where nothing travels: there is no payload, or it is `unit`."""
    joined: str
    """The letters of the variant's slots that the payload travels in: where a letter differs from that of the payload's
    own slot, the value is converted (`conversion`)."""
    unused: str
    """The letters of the slots behind those, which are 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice(_Shape):
    """A variant, a union, an option or an expected: a tag, and a payload whose place all cases share."""

    tag_size: int
    payload_offset: int
    cases: tuple[Case, ...]

    @property
    def count(self) -> int:
        return len(self.cases)


Shape: TypeAlias = Nothing | Number | Handle | Channel | Text | Elements | Parts | Labels | FlagSet | Choice


def inner(whole: Shape) -> tuple[Shape, ...]:
    """What a value is made of: elements, fields, payloads."""
    match whole:
        case Elements(element=element):
            return (element,)
        case Parts(parts=those):
            return tuple(part.shape for part in those)
        case Choice(cases=those):
            return tuple(case.payload for case in those if case.payload)
    return ()


def conversions(case: Case) -> Iterator[tuple[str, str]]:
    """For each slot of a case's payload: its letter in the variant, and its own."""
    if case.payload:
        yield from zip(case.joined, case.payload.slots, strict=True)


# Calls.

Area: TypeAlias = Literal["params", "result"]
"""What lies in memory, where a pointer leads to it."""


@dataclass(frozen=True, slots=True)
class Check:
    """The host makes sure that an area to which the guest points lies in the guest's memory."""

    area: Area
    extent: int
    align: int
    """What the pointer has to be a multiple of: 1 in the interface of 2022, which doesn't ask."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """The guest has room for an area; where `lasts`, also after the function has returned."""

    area: Area
    extent: int
    align: int
    lasts: bool


@dataclass(frozen=True, slots=True)
class Allocate:
    """The host asks the guest for the blocks of texts and lists, and for the area of the parameters where there is
    one."""

    area: Parts | None


@dataclass(frozen=True, slots=True)
class LiftParam:
    """A parameter becomes a value. On the guest's side, what it owns is the guest's from now on."""

    number: int
    part: Part


@dataclass(frozen=True, slots=True)
class LowerParam:
    """A value becomes a parameter. On the guest's side, what it owns is only lent."""

    number: int
    part: Part


@dataclass(frozen=True, slots=True)
class Run:
    """The function is called: the host's or the guest's own, the guest's export, the host's import."""


@dataclass(frozen=True, slots=True)
class LiftResult:
    """The result becomes a value, whose handles, texts and lists are the receiver's."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class LowerResult:
    """A value becomes the result, and what it owns the receiver's."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Free:
    """The guest gives the area of its parameters back."""

    area: Area
    extent: int
    align: int


@dataclass(frozen=True, slots=True)
class FreeOwned:
    """The host has the guest free the texts and lists of the result."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The host has lifted the result: the guest's post-return function is called, where there is one."""


@dataclass(frozen=True, slots=True)
class Return:
    """The guest stops lending: what it made for the call alone is freed."""


Step: TypeAlias = (
    Check
    | Reserve
    | Allocate
    | LiftParam
    | LowerParam
    | Run
    | LiftResult
    | LowerResult
    | Free
    | FreeOwned
    | Finish
    | Return
)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function as one side sees it."""

    function: Function
    name: str
    """What the function is imported or exported as."""
    core: Signature
    returns: Signature | None
    """The type of `task.return`, by which the guest may hand its result over: of an export of a component's."""
    params: Parts
    """All that is passed, as a tuple: the area of the parameters, where they are in memory. A method's own resource
    comes first, and is named `self`."""
    has_self: bool
    result: Shape
    sides: tuple[Case, Case] | None
    """Where the result is an `expected` that is spelled out: its two cases, ok first. Languages say it in their own
    way: an exception, two out-parameters."""
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def result_offset(self) -> int:
        """Where the payload lies in the result's area, if there are `sides`."""
        return self.result.payload_offset if isinstance(self.result, Choice) else 0


# Plans.


class Plans:
    """The shapes of types and the plans of functions for one binary interface. Both are remembered."""

    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        self._shapes: dict[Type, Shape] = {}
        self._calls: dict[tuple[Function, Side, Direction, bool], Call] = {}

    def shape(self, type_: Type) -> Shape:
        """The shape of a type: the same object for the same type."""
        type_ = unaliased(type_)
        if type_ not in self._shapes:
            self._shapes[type_] = self._shape(type_)
        return self._shapes[type_]

    def _shape(self, type_: Type) -> Shape:
        layout = self.abi.size_align(type_)
        common = (
            type_,
            layout.size,
            layout.align,
            self.abi.extent(type_),
            self.abi.flatten(type_),
            has_heap(type_),
            contains_handle(type_),
        )
        match type_:
            case Primitive.UNIT:
                return Nothing(*common)
            case Primitive.STRING:
                return Text(*common)
            case Primitive():
                return Number(*common, type_)
            case Resource():
                return Handle(*common, type_, "shared")
            case Own(resource):
                return Handle(*common, resource, "own")
            case Borrow(resource):
                return Handle(*common, resource, "borrow")
            case StreamOf(element):
                return Channel(*common, "stream", self.shape(element) if element else None)
            case FutureOf(value):
                return Channel(*common, "future", self.shape(value) if value else None)
            case ListOf(element):
                return Elements(*common, self.shape(element))
            case FixedListOf(element, length):
                return self.shape(TupleOf((element,) * length))
            case TupleOf(items):
                return Parts(*common, self._parts([str(number) for number in range(len(items))], items))
            case TypeDef(kind=Record(fields)):
                return Parts(*common, self._parts([each.name for each in fields], [each.type for each in fields]))
            case TypeDef(kind=Enum(labels)):
                return Labels(*common, type_, len(labels))
            case TypeDef(kind=Flags(labels)):
                return FlagSet(*common, type_, len(labels))
        numbered = enumerate(cases(type_))
        slots = self.abi.flatten(type_)[1:]
        tag_size = self.abi.tag_size(len(cases(type_)))
        found = tuple(self._case(number, name, payload, slots) for number, (name, payload) in numbered)
        return Choice(*common, tag_size, self.abi.payload_offset(type_), found)

    def _parts(self, names: Sequence[str], types: Sequence[Type]) -> tuple[Part, ...]:
        shapes = [self.shape(type_) for type_ in types]
        starts, _ = self.abi.offsets(types)
        slots = accumulate((len(each.slots) for each in shapes), initial=0)
        return tuple(Part(*each) for each in zip(names, shapes, starts, slots, strict=False))

    def _case(self, number: int, name: str, payload: Type | None, slots: str) -> Case:
        if payload is None:
            return Case(number, name, None, "", slots)
        count = len(self.shape(payload).slots)
        return Case(number, name, self.shape(payload), slots[:count], slots[count:])

    def parts(self, type_: Type) -> tuple[Part, ...]:
        """The fields of a record, or the items of a tuple."""
        found = self.shape(type_)
        assert isinstance(found, Parts), type_
        return found.parts

    def choice(self, type_: Type) -> Choice:
        """The shape of a variant, a union, an option or an expected."""
        found = self.shape(type_)
        assert isinstance(found, Choice), type_
        return found

    def call(self, function: Function, side: Side, direction: Direction) -> Call:
        """The plan of a function that the guest imports or exports, for one side."""
        key = (function, side, direction, False)
        if key not in self._calls:
            core = self.abi.signature(function, direction)
            returns = None
            if direction == "export" and isinstance(self.abi, CanonicalAbi):
                returns = self.abi.return_signature(function)
            self._calls[key] = self._call(function, core, returns, _STEPS[side, direction])
        return self._calls[key]

    def async_call(self, function: Function) -> Call:
        """The plan of a function that the guest imports and lowers with `async`, for the host. Raises TypeError where
        the binary interface has no such calls."""
        if not isinstance(self.abi, CanonicalAbi):
            raise TypeError("only the component model has asynchronous calls")
        key: tuple[Function, Side, Direction, bool] = (function, "host", "import", True)
        if key not in self._calls:
            self._calls[key] = self._call(function, self.abi.async_signature(function), None, Plans._host_import)
        return self._calls[key]

    def _call(self, function: Function, core: Signature, returns: Signature | None, steps_of: _StepsOf) -> Call:
        has_self = function.kind is FunctionKind.METHOD
        params = self.shape(TupleOf(self.abi.param_types(function)))
        assert isinstance(params, Parts)
        names = [*(["self"] if has_self else []), *(param.name for param in function.params)]
        named = (replace(part, name=name) for name, part in zip(names, params.parts, strict=True))
        params = replace(params, parts=tuple(named))
        result = self.shape(function.result)
        sides = None
        if isinstance(function.result, ExpectedOf):
            assert isinstance(result, Choice)
            ok, err = result.cases
            sides = (ok, err)
        steps = steps_of(self, core, params, result)
        return Call(function, self.abi.name(function), core, returns, params, has_self, result, sides, tuple(steps))

    def _host_import(self, core: Signature, params: Parts, result: Shape) -> Iterator[Step]:
        if core.indirect_params:
            yield self._check("params", params)
        yield from (LiftParam(*each) for each in enumerate(params.parts))
        if core.result_pointer:
            yield self._check("result", result)
        yield Run()
        if result.has_heap:
            yield Allocate(None)
        yield LowerResult(result)

    def _host_export(self, core: Signature, params: Parts, result: Shape) -> Iterator[Step]:
        if params.has_heap or core.indirect_params:
            yield Allocate(params if core.indirect_params else None)
        yield from (LowerParam(*each) for each in enumerate(params.parts))
        yield Run()
        if core.result_pointer:
            yield self._check("result", result)
        yield LiftResult(result)
        if isinstance(self.abi, CanonicalAbi):
            yield Finish()
        elif result.has_heap:
            yield FreeOwned()

    def _check(self, area: Area, shape: Shape) -> Check:
        return Check(area, shape.extent, shape.align if isinstance(self.abi, CanonicalAbi) else 1)

    def _guest_import(self, core: Signature, params: Parts, result: Shape) -> Iterator[Step]:
        if core.indirect_params:
            yield Reserve("params", params.extent, params.align, lasts=False)
        if core.result_pointer:
            yield Reserve("result", result.extent, result.align, lasts=False)
        yield from (LowerParam(*each) for each in enumerate(params.parts))
        yield Run()
        yield Return()
        yield LiftResult(result)

    def _guest_export(self, core: Signature, params: Parts, result: Shape) -> Iterator[Step]:
        if core.result_pointer:
            yield Reserve("result", result.extent, result.align, lasts=True)
        yield from (LiftParam(*each) for each in enumerate(params.parts))
        if core.indirect_params:
            yield Free("params", params.extent, params.align)
        yield Run()
        yield LowerResult(result)


_StepsOf: TypeAlias = Callable[[Plans, Signature, Parts, Shape], Iterator[Step]]

_STEPS: dict[tuple[Side, Direction], _StepsOf] = {
    ("host", "import"): Plans._host_import,
    ("host", "export"): Plans._host_export,
    ("guest", "import"): Plans._guest_import,
    ("guest", "export"): Plans._guest_export,
}

# The interface of 2022, which most backends are for.

ABI = Abi2022()
PLANS_2022 = Plans(ABI)
shape = PLANS_2022.shape
parts = PLANS_2022.parts
choice = PLANS_2022.choice
call = PLANS_2022.call

PLANS = Plans(CanonicalAbi())
"""For components."""
