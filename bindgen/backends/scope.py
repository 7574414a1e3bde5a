"""The names in generated text: none replaces another, and none hides one that is used beside it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from bindgen.wit_parser.model import Function, FunctionKind, TupleOf, Type, spelling, unaliased


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`."""
    return name.replace("-", "_").lower()


def camel(name: str) -> str:
    """`http-error` as `HttpError`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("-"))


def full_name(function: Function) -> str:
    """The name of a function with that of its resource: `fields-new` for a constructor."""
    if function.resource and function.kind is FunctionKind.CONSTRUCTOR:
        return f"{function.resource.name}-new"
    return f"{function.resource.name}-{function.name}" if function.resource else function.name


def slug(type_: Type) -> str:
    """What a type is made of, as a part of a name: `option_list_u8`."""
    real = unaliased(type_)
    name, inner = spelling(real)
    return "_".join([f"tuple{len(inner)}" if isinstance(real, TupleOf) else snake(name), *map(slug, inner)])


class Scope:
    """The names of one place: a program, a module, a class, a function, a folder of files.

    A name that a scope gives out is different from those that are reserved in it, from those of the scopes around it,
    and from those of the scopes within it.
    """

    def __init__(
        self, reserved: Iterable[str] = (), outer: Scope | None = None, same: Callable[[str], str] = str
    ) -> None:
        """`same` maps names to one text that the language or the file system takes for one name."""
        self._outer = outer
        self._same: Callable[[str], str] = outer._same if outer else same
        self._used = {self._same(name) for name in reserved}
        self._used_within: set[str] = set()
        self._names: dict[Hashable, str] = {}

    def nested(self, reserved: Iterable[str] = ()) -> Scope:
        """A scope within this one."""
        return Scope(reserved, self)

    def claim(self, key: Hashable, *wishes: str) -> str:
        """The name of `key` from now on: the first wish that is free, or the last with underscores behind it."""
        if key not in self._names:
            self._names[key] = self.fresh(*wishes)
        return self._names[key]

    def fresh(self, *wishes: str) -> str:
        """A name for what nobody asks for again, made as `claim` makes them."""
        name = next(filter(self._is_free, wishes), wishes[-1])
        while not self._is_free(name):
            name += "_"
        same = self._same(name)
        self._used.add(same)
        for scope in self._outward():
            scope._used_within.add(same)
        return name

    def __getitem__(self, key: Hashable) -> str:
        """The name that `key` claimed here or in a scope around. Raises KeyError where it claimed none."""
        for scope in self._outward():
            if key in scope._names:
                return scope._names[key]
        raise KeyError(key)

    def _is_free(self, name: str) -> bool:
        same = self._same(name)
        return same not in self._used_within and not any(same in scope._used for scope in self._outward())

    def _outward(self) -> Iterator[Scope]:
        """This scope and those around it."""
        scope: Scope | None = self
        while scope:
            yield scope
            scope = scope._outer
