"""The slightfile: what a module is granted, under which names, and what stands behind it.

The format is that of upstream's `slight`, in its versions 0.1 and 0.2; docs/slightfile.md describes both. A file is
checked to its end, and every mistake in it is reported with its line. Values are looked up in the environment when
the file is loaded. They may be secrets: no message and no repr shows one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from capabilities import registry
from capabilities.permissions import Rule
from capabilities.registry import Family, RegistryError, ResourceType
from slight_py.errors import UsageError
from slight_py.stores import STORES, StoreError, Stores

if TYPE_CHECKING:
    import tomllib

Place: TypeAlias = tuple[str | int, ...]
"""A place in a TOML document: ("capability", 0, "name") is the name in the first [[capability]]."""

_SECRET_STORES = {
    "configs.envvars": "envvars",
    "configs.local": "usersecrets",
    "configs.azapp": "azapp",
    "configs.usersecrets": "usersecrets",
}
"""What may be a `secret_store`, and the store that is meant: `configs.local` is an older name of the users' secrets."""
_REFERENCE = re.compile(r"\$\{([^.{}]+)\.([^{}]+)\}")
_REFERENCE_START = re.compile(r"\$\{(envvars|azapp|usersecrets)\.")

_TOP_KEYS = ("specversion", "secret_store", "secret_settings", "capability")
_CAPABILITY_KEYS = ("resource", "name", "modules", "configs", "allow")
_ABOVE = "above the first [[capability]]"


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of a slightfile: a guest may open `name`, or any name if it is "*", of the resource's family.

    `family` is the resource's. `configs` holds the values as the backend needs them, already looked up. `line` is that
    of the [[capability]], 0 where there is no slightfile. `modules` are the modules that it is for, by the names of
    their files; none means all. `allow` says what they may do with it; without any, they may do everything.
    """

    resource: ResourceType
    family: Family
    name: str
    configs: Mapping[str, str] = field(repr=False)
    line: int
    modules: tuple[str, ...] = ()
    allow: tuple[Rule, ...] = ()

    def is_for(self, module: str) -> bool:
        return not self.modules or module in self.modules


@dataclass(frozen=True, slots=True)
class Slightfile:
    """A slightfile that was found to be right. `path` is None where there is none: see `embedded`."""

    path: Path | None
    specversion: str
    grants: tuple[Grant, ...]
    module: str = ""
    """The module that it was narrowed to, by the name of its file."""
    others: tuple[Grant, ...] = ()
    """The entries that are for other modules."""

    def for_module(self, module: str) -> Slightfile:
        """What it grants one module."""
        mine = tuple(grant for grant in self.grants if grant.is_for(module))
        others = tuple(grant for grant in self.grants if not grant.is_for(module))
        return replace(self, grants=mine, module=module, others=others)

    def modules(self) -> Iterator[tuple[str, str]]:
        """The modules that it names, each with the place of the entry that does."""
        for grant in self.grants:
            for module in (*grant.modules, *(module for rule in grant.allow for module in rule.modules)):
                yield self.place(grant), module

    def grants_for(self, family: str) -> tuple[Grant, ...]:
        """The entries of one capability family, in their order; none if the family is not granted.

        Raises UsageError if the family is another package's, there is no slightfile, and the package cannot be used.
        """
        granted = tuple(grant for grant in self.grants if grant.family.name == family)
        if granted or self.path is not None:
            return granted
        try:
            return _embedded_grants([registry.family(family)])
        except RegistryError as error:
            raise UsageError(str(error)) from error

    def place(self, grant: Grant) -> str:
        """Where a grant is declared, as messages begin: `PATH:LINE: `; nothing for one that is in no file."""
        return f"{self.path}:{grant.line}: " if self.path is not None and grant.line else ""


def embedded() -> Slightfile:
    """What a module is granted where there is no slightfile: any name of every capability, from embedded backends."""
    return Slightfile(None, "0.2", _embedded_grants(registry.families()))


def load(
    path: str | os.PathLike[str],
    environment: Mapping[str, str] = os.environ,
    look_up: Callable[[str, str], str] | None = None,
) -> Slightfile:
    """Read and check the slightfile at `path`, with the values that it refers to from `environment`, from the secrets
    in the file, and from Azure App Configuration.

    `look_up`, where it is given, says what stands for a value of the latter two, by the store and the name: nothing is
    then decrypted, and asked of nobody.

    Raises UsageError with a line for every mistake, each beginning with `PATH:LINE: `; with `PATH: ` if there is
    nothing to read.
    """
    import tomllib

    path = Path(path)
    text = _read(path)
    try:
        document = tomllib.loads(text)
        errors = _Errors(path, _lines(text))
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, text, error) from None
    except RecursionError:
        raise UsageError(f"{path}:1: arrays or tables are nested too deeply; a slightfile needs two levels") from None
    except ValueError:  # int() refuses thousands of digits, and says so without a place
        raise UsageError(f"{path}:1: a number is too long; a slightfile holds no numbers, only text") from None
    misplaced = dict.fromkeys(_CAPABILITY_KEYS, "inside a [[capability]]")
    _check_keys(document, (), "a slightfile", _TOP_KEYS, misplaced, errors)
    specversion = _specversion(document, errors)
    secrets = _secret_settings(document, errors)
    stores = Stores(path, environment, secrets, look_up)
    grants = _grants(document, specversion, stores, errors) if specversion else ()
    errors.check()
    return Slightfile(path, specversion, grants)


def suggest(family: str, specversion: str) -> str:
    """The lines that grant a capability family in a slightfile of `specversion`; "" if nothing can stand behind it.

    Raises UsageError if the family is another package's, which cannot be used.
    """
    try:
        known = registry.family(family)
        preferred = registry.resource_type(known.embedded) if known and known.embedded else None
        resource = preferred or next(iter(registry.available(family)), None)
    except RegistryError as error:
        raise UsageError(str(error)) from error
    if resource is None:
        return ""
    if specversion == "0.1":
        return f'[[capability]]\nname = "{resource.name}"'
    lines = ["[[capability]]", f'resource = "{resource.name}"', 'name = "*"']
    if resource.required:
        lines += ["[capability.configs]", *map(_example, resource.required)]
    return "\n".join(lines)


def _embedded_grants(families: Iterable[Family | None]) -> tuple[Grant, ...]:
    embedded = [(registry.resource_type(each.embedded), each) for each in families if each and each.embedded]
    return tuple(Grant(resource, family, "*", {}, line=0) for resource, family in embedded if resource)


# Reading the text


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the path of a slightfile, or run without one") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a directory; give the path of the slightfile in it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; give the path of a slightfile") from None
    try:
        text = content.decode("utf-8-sig")  # an editor's byte order mark is no mistake of the user's
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    if not text.strip():
        raise UsageError(f'{path}:1: the file is empty; begin it with specversion = "0.2"')
    return text


def _not_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> UsageError:
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
    message = str(error)[: place.start()] if place else str(error)
    if place and place[1]:
        line, column = place[1], f" at column {place[2]}"
    else:
        line, column = str(text.rstrip("\n").count("\n") + 1), ""
    return UsageError(f"{path}:{line}: not TOML: {message}{column}; check the quotes and brackets there")


def _lines(text: str) -> dict[Place, int]:
    """The line on which each key, table and array element of a valid TOML document is written.

    tomllib gives no lines. But a document is a sequence of statements, each a header or a key with its value, and a
    statement is valid by itself: it ends with the first line that makes it so. What is inside one value has the line on
    which its statement begins.
    """
    import tomllib

    lines: dict[Place, int] = {}
    lengths: Counter[Place] = Counter()  # of the arrays of tables, so far
    table: Place = ()
    statement = ""
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            start = number
        statement += line + "\n"
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # a string or an array that goes on
        places = list(_places(content))
        if places and statement.lstrip().startswith("["):
            keys = [key for key in places[-1] if isinstance(key, str)]
            table = _header_place(keys, lengths, is_array=statement.lstrip().startswith("[["))
            places = [table[:depth] for depth in range(1, len(table) + 1)]
        else:
            places = [(*table, *place) for place in places]
        for place in places:
            lines.setdefault(place, start)
        statement = ""
    return lines


def _places(value: object) -> Iterator[Place]:
    """The places of everything in a TOML value, outer before inner."""
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (key,)
        for place in _places(inner):
            yield (key, *place)


def _header_place(header: list[str], lengths: Counter[Place], *, is_array: bool) -> Place:
    """The place of the table that a header opens; a name of an array of tables means its last element."""
    table: Place = ()
    for depth, key in enumerate(header, 1):
        table = (*table, key)
        if is_array and depth == len(header):
            lengths[table] += 1
        if table in lengths:
            table = (*table, lengths[table] - 1)
    return table


class _Errors:
    """The mistakes found so far in one slightfile."""

    def __init__(self, path: Path, lines: Mapping[Place, int]) -> None:
        self.path = path
        self._lines = lines
        self._found: list[tuple[int, str]] = []

    def line(self, place: Place) -> int:
        """The line of a place, or of the closest thing around it that is written down."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def add(self, place: Place, message: str) -> None:
        self._found.append((self.line(place), message))

    def check(self) -> None:
        if self._found:
            in_order = sorted(self._found, key=lambda found: found[0])
            raise UsageError(*(f"{self.path}:{line}: {message}" for line, message in in_order))


# Checking the document


def _specversion(document: Mapping[str, Any], errors: _Errors) -> str:
    """The file's specversion, or "" after an error: nothing else can be judged without it."""
    match document.get("specversion"):
        case None:
            errors.add((), 'no specversion; begin the file with specversion = "0.2"')
        case str(specversion) if specversion in ("0.1", "0.2"):
            return specversion
        case str(other):
            errors.add(("specversion",), f'specversion {other!r} does not exist; use "0.1" or "0.2"')
        case 0.1 | 0.2 as number:
            errors.add(("specversion",), f'specversion must be text; put it in quotes: specversion = "{number}"')
        case other:
            errors.add(("specversion",), f'specversion must be text, not {_kind(other)}; use "0.1" or "0.2"')
    return ""


def _secret_settings(document: Mapping[str, Any], errors: _Errors) -> dict[str, str]:
    """The user's secrets, still encrypted, by their names."""
    secrets: dict[str, str] = {}
    for place, entry in _tables(document, "secret_settings", errors):
        _check_keys(entry, place, "secret_settings", ("name", "value"), {}, errors)
        name, value = (_text(entry, key, place, errors) for key in ("name", "value"))
        for key in ("name", "value"):
            if key not in entry:
                errors.add(place, f"secret_settings without {key}; write secrets with `slight-py secret`")
        if name is not None and value is not None:
            secrets[name] = value  # slight adds a secret that is set again, so the last one counts
    return secrets


def _grants(document: Mapping[str, Any], specversion: str, stores: Stores, errors: _Errors) -> tuple[Grant, ...]:
    store = _secret_store(document, specversion, errors)
    grants: dict[Place, Grant] = {}
    for place, entry in _tables(document, "capability", errors):
        if specversion == "0.1":
            grant = _grant_of_first_version(entry, place, store, stores, errors)
        else:
            grant = _grant(entry, place, stores, errors)
        if grant is not None:
            grants[place] = grant
    _check_names(grants, specversion, errors)
    _check_interfaces(grants, errors)
    return tuple(grants.values())


def _tables(
    table: Mapping[str, Any], key: str, errors: _Errors, within: Place = ()
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The tables of a [[key]], each with its place; an error if it is anything else. `within` is the table's place."""
    entries = table.get(key, [])
    header = ".".join((*(each for each in within if isinstance(each, str)), key))
    if not isinstance(entries, list):
        errors.add((*within, key), f"{key} must be an array of tables, not {_kind(entries)}; write it as [[{header}]]")
        return
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield (*within, key, number), entry
        else:
            place = (*within, key, number)
            errors.add(place, f"{key} must hold tables, not {_kind(entry)}; write each as [[{header}]]")


def _secret_store(document: Mapping[str, Any], specversion: str, errors: _Errors) -> str | None:
    if "secret_store" not in document:
        return None
    if specversion != "0.1":
        errors.add(
            ("secret_store",),
            "secret_store belongs to specversion 0.1, and this file has 0.2; "
            'write each value under [capability.configs], as in KEY = "${envvars.KEY}"',
        )
        return None
    store = _text(document, "secret_store", (), errors)
    if store is not None and store not in _SECRET_STORES:
        hint = _did_you_mean(store, _SECRET_STORES) or 'use "configs.envvars"'
        errors.add(("secret_store",), f"unknown secret_store {store!r}; {hint}")
    return store


def _grant(entry: Mapping[str, Any], place: Place, stores: Stores, errors: _Errors) -> Grant | None:
    """The grant of a [[capability]] of specversion 0.2; None if an error leaves it without a resource or a name."""
    resource, family = None, None
    if "resource" not in entry:
        errors.add(place, _no_resource(entry.get("name")))
    else:
        resource, family = _resource(entry, "resource", place, errors)
    misplaced = dict.fromkeys(_TOP_KEYS, _ABOVE)
    if resource is not None:
        misplaced |= dict.fromkeys(_config_keys(resource), "under [capability.configs]")
    _check_keys(entry, place, "a capability", _CAPABILITY_KEYS, misplaced, errors)
    if "name" not in entry:
        errors.add(place, 'no name; add the name that the guest opens, or name = "*" for any')
    name = _text(entry, "name", place, errors)
    configs = entry.get("configs", {})
    if not isinstance(configs, dict):
        errors.add((*place, "configs"), f"configs must be a table, not {_kind(configs)}; write [capability.configs]")
        return None
    modules = _texts(entry, "modules", place, "a module's file, as in", "app.wasm", errors)
    for number, module in enumerate(modules):
        if "/" in module:
            errors.add((*place, "modules", number), f"{module!r} is a path; give the name of the file alone")
    allow = _rules(entry, family, modules, place, errors)
    if resource is None or family is None:
        return None
    values = _config_values(resource, configs, (*place, "configs"), stores, errors)
    if name is None:
        return None
    return Grant(resource, family, name, values, errors.line(place), modules, allow)


def _rules(
    entry: Mapping[str, Any], family: Family | None, modules: tuple[str, ...], place: Place, errors: _Errors
) -> tuple[Rule, ...]:
    """What the [[capability.allow]] of a capability say."""
    tables = list(_tables(entry, "allow", errors, place))
    if family is None:
        return ()
    if "allow" in entry and not family.actions:
        able = " and ".join(each.name for each in registry.families() if each.actions)
        errors.add((*place, "allow"), f"allow is for {able}, not for {family.name}; remove it")
        return ()
    if entry.get("allow") == []:
        errors.add((*place, "allow"), "allow is empty; write [[capability.allow]], or remove it to allow everything")
    rules = []
    for at, table in tables:
        _check_keys(table, at, "an allow", ("modules", *family.actions), {}, errors)
        named = _texts(table, "modules", at, "a module's file, as in", "app.wasm", errors)
        for number, module in enumerate(named):
            if modules and module not in modules:
                errors.add(
                    (*at, "modules", number), f"{module!r} is not among the modules of this capability; add it there"
                )
        if not any(action in table for action in family.actions):
            actions = " or ".join(f'{action} = ["*"]' for action in family.actions)
            errors.add(at, f"this allow allows nothing; add {actions}, or a name in place of the *")
        patterns = {
            action: _texts(
                table, action, at, "names, with * for any text, as in", "orders.*", errors, may_be_empty=True
            )
            for action in family.actions
        }
        rules.append(Rule(named, patterns))
    return tuple(rules)


def _no_resource(name: object) -> str:
    if isinstance(name, str) and name in registry.names():
        return (
            "this capability has the form of specversion 0.1, and this file has 0.2; "
            f'write resource = "{name}" and name = "*"'
        )
    return 'no resource; add what stands behind the name, as in resource = "keyvalue.memory"'


def _grant_of_first_version(
    entry: Mapping[str, Any], place: Place, store: str | None, stores: Stores, errors: _Errors
) -> Grant | None:
    """The grant of a [[capability]] of specversion 0.1; None if an error leaves it without a resource."""
    later = [key for key in ("resource", "configs", "modules", "allow") if key in entry]
    if later:
        errors.add(
            (*place, later[0]),
            f'{later[0]} belongs to specversion 0.2, and this file has 0.1; write specversion = "0.2"',
        )
        return None
    _check_keys(entry, place, "a capability", ("name",), dict.fromkeys(_TOP_KEYS, _ABOVE), errors)
    if "name" not in entry:
        errors.add(place, 'no name; add the resource type, as in name = "keyvalue.memory"')
        return None
    resource, family = _resource(entry, "name", place, errors)
    if resource is None or family is None:
        return None
    values = _stored_values(resource, store, (*place, "name"), stores, errors)
    return Grant(resource, family, "*", values, errors.line(place))


def _resource(
    entry: Mapping[str, Any], key: str, place: Place, errors: _Errors
) -> tuple[ResourceType | None, Family | None]:
    """The resource type that `entry` names under `key`, and its family; None after an error, except that one that is
    known by name alone is returned: its names still count."""
    name = _text(entry, key, place, errors)
    if name is None:
        return None, None
    file, class_name = _python_file(name)
    try:
        if file:
            if key != "resource":
                raise RegistryError(
                    f"{name!r} is a Python file, which belongs to specversion 0.2, and this file has 0.1; "
                    'write specversion = "0.2"'
                )
            if not class_name.isidentifier():
                raise RegistryError(f'{name!r} names no class; write it as in resource = "{file}:Greeter"')
            return _declared(name, errors.path.parent / file, class_name)
        resource = registry.resource_type(name)
        family = registry.family(resource.family) if resource else None
    except RegistryError as error:
        errors.add((*place, key), str(error))
        return None, None
    if resource is None:
        hint = _did_you_mean(name, registry.names()) or "docs/slightfile.md lists those that there are"
        errors.add((*place, key), f"unknown resource type {name!r}; {hint}")
    return resource, family


def _python_file(resource: str) -> tuple[str, str]:
    """The file and the class that `FILE.py:CLASS` means; "" and "" for a resource of any other form."""
    file, colon, class_name = resource.rpartition(":")
    if colon and file.endswith(".py"):
        return file, class_name
    return (resource, "") if resource.endswith(".py") else ("", "")


def _declared(name: str, file: Path, class_name: str) -> tuple[ResourceType, Family]:
    """What a class in a Python file says of itself. Raises RegistryError."""
    from capabilities import custom  # What a run of built-in types never pays.

    return custom.declared(name, os.path.abspath(file), class_name)


def _check_names(grants: Mapping[Place, Grant], specversion: str, errors: _Errors) -> None:
    """Each name once in a family, "*" alone in it, and one entry of a family that has no names."""
    seen: dict[str, dict[Place, Grant]] = {}
    for place, grant in grants.items():
        earlier = seen.setdefault(grant.family.name, {})
        clash = next((other for other in earlier if _clash(earlier[other], grant)), None)
        if clash is not None:
            line = errors.line((*clash, "name"))
            errors.add((*place, "name"), _clash_message(earlier[clash], grant, specversion, line))
        earlier[place] = grant


def _clash(one: Grant, other: Grant) -> bool:
    same = one.name == other.name or "*" in (one.name, other.name) or not one.family.named
    return same and _meet(one, other)


def _meet(one: Grant, other: Grant) -> bool:
    """Whether some module has both."""
    return not one.modules or not other.modules or not set(one.modules).isdisjoint(other.modules)


def _clash_message(earlier: Grant, grant: Grant, specversion: str, line: int) -> str:
    family = grant.family.name
    twice = f"is declared twice, here and on line {line}"
    if not grant.family.named:
        return f"{family} {twice}; keep one"
    if specversion == "0.1":
        return (
            f"{family} {twice}, and in specversion 0.1 each stands for every name; "
            f"keep one, or write specversion 0.2, where each has a name"
        )
    if earlier.name == grant.name:
        return f"the name {grant.name!r} of {family} {twice}; give each a name of its own"
    return f'"*" must be the only entry of {family}, and line {line} has another; keep "*" or the names'


def _check_interfaces(grants: Mapping[Place, Grant], errors: _Errors) -> None:
    """Each interface from one family, and those that the runtime answers itself from no other."""
    runtime = [family for family in registry.families() if family.host == registry.RUNTIME]
    serving: dict[str, list[tuple[Place, Grant]]] = {}
    for place, grant in grants.items():
        for interface in (each for each, module in grant.family.interfaces.items() if module):
            earlier = serving.setdefault(interface, [])
            first = next(
                (at for at, each in earlier if each.family.name != grant.family.name and _meet(each, grant)), None
            )
            earlier.append((place, grant))
            if any(interface in own.interfaces and own.name != grant.family.name for own in runtime):
                errors.add(
                    (*place, "resource"),
                    f"{grant.resource.name} serves {interface}, which slight-py answers itself; leave it to the "
                    "resource that is built in",
                )
            elif first is not None:
                errors.add(
                    (*place, "resource"),
                    f"{grant.resource.name} serves {interface}, and so does the resource on line "
                    f"{errors.line((*first, 'resource'))}; keep one",
                )


# Config values


def _config_keys(resource: ResourceType) -> tuple[str, ...]:
    return (*resource.required, *resource.optional)


def _config_values(
    resource: ResourceType,
    configs: Mapping[str, Any],
    place: Place,
    stores: Stores,
    errors: _Errors,
) -> dict[str, str]:
    """The values of a [capability.configs], looked up; those in error are left out."""
    misplaced = dict.fromkeys(("resource", "name"), "above [capability.configs]") | dict.fromkeys(_TOP_KEYS, _ABOVE)
    what = f"the configs of {resource.name}"
    if any(_python_file(resource.name)):
        what += ", whose class names them in REQUIRED and OPTIONAL"
    _check_keys(configs, place, what, _config_keys(resource), misplaced, errors)
    written = {key: configs[key] for key in _config_keys(resource) if key in configs}
    values = {key: _resolve(key, value, (*place, key), stores, errors) for key, value in written.items()}
    for key in resource.required:
        if key not in configs:
            errors.add(place, f"{resource.name} needs {key}; add under [capability.configs]: {_example(key)}")
        elif values[key] == "":
            errors.add((*place, key), f"{key} is empty; give it a value")
    return {key: value for key, value in values.items() if value is not None} | _own_secrets(resource, stores)


def _resolve(key: str, written: object, place: Place, stores: Stores, errors: _Errors) -> str | None:
    """The value that is meant by what is written; None after an error. No message shows it: it may be a secret."""
    if not isinstance(written, str):
        errors.add(place, _not_text(key, written))
        return None
    reference = _REFERENCE.fullmatch(written)
    if reference is None:
        if written.startswith("${") or _REFERENCE_START.search(written):
            errors.add(
                place, f"the value of {key} holds a malformed reference; write the whole value as {_example(key)}"
            )
            return None
        return written
    store, name = reference.groups()
    if store in STORES:
        return _stored(stores, store, key, name, place, errors)
    known = ", ".join(f"${{{known}.{key}}}" for known in STORES)
    errors.add(place, f"the value of {key} refers to an unknown store; use one of {known}")
    return None


def _stored_values(
    resource: ResourceType, store: str | None, place: Place, stores: Stores, errors: _Errors
) -> dict[str, str]:
    """What the secret_store of a file of specversion 0.1 holds for a resource type, under its config keys' names."""
    own = _own_secrets(resource, stores)
    if store is None:
        for key in resource.required:
            errors.add(
                place,
                f"{resource.name} needs {key}, and there is no secret_store; "
                f'write secret_store = "configs.envvars" {_ABOVE} and set the environment variable {key}',
            )
        return own
    if store not in _SECRET_STORES:  # an error already
        return {}
    kind = _SECRET_STORES[store]
    wanted = [*resource.required, *(key for key in resource.optional if stores.has(kind, key))]
    values = {key: _stored(stores, kind, key, key, place, errors) for key in wanted}
    for key in resource.required:
        if values[key] == "":
            errors.add(place, f"{STORES[kind].format(key)}, which {resource.name} needs, is empty; give it a value")
    return {key: value for key, value in values.items() if value is not None} | own


def _own_secrets(resource: ResourceType, stores: Stores) -> dict[str, str]:
    return dict(stores.secrets) if resource.secrets else {}


def _stored(stores: Stores, store: str, key: str, name: str, place: Place, errors: _Errors) -> str | None:
    """The value of a config key that is in one of the stores, under `name`; None after an error."""
    try:
        return stores.find(store, name)
    except StoreError as error:
        errors.add(place, f"{STORES[store].format(name)}, the value of {key}, {error}")
        return None


def _example(key: str) -> str:
    return f'{key} = "${{envvars.{key}}}"'


# Checks that any table needs


def _check_keys(
    table: Mapping[str, Any],
    place: Place,
    what: str,
    known: tuple[str, ...],
    misplaced: Mapping[str, str],
    errors: _Errors,
) -> None:
    """An error for each key of `table` that is not `known`; `misplaced` says where the keys of other tables belong."""
    for key in table:
        if key in known:
            continue
        if key in misplaced:
            hint = f"it belongs {misplaced[key]}"
        else:
            hint = _did_you_mean(key, known) or (f"known: {', '.join(known)}" if known else "remove it")
        errors.add((*place, key), f"unknown key {key!r} in {what}; {hint}")


def _text(table: Mapping[str, Any], key: str, place: Place, errors: _Errors) -> str | None:
    """The text under `key`; None where it is missing, and after an error where it is empty or not text."""
    value = table.get(key)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, str):
        errors.add((*place, key), f"{key} is empty; give it a value")
    elif value is not None:
        errors.add((*place, key), _not_text(key, value))
    return None


def _texts(
    table: Mapping[str, Any],
    key: str,
    place: Place,
    what: str,
    example: str,
    errors: _Errors,
    may_be_empty: bool = False,
) -> tuple[str, ...]:
    """The texts of an array under `key`, those in error left out; none where it is missing."""
    hint = f'write {what} {key} = ["{example}"]'
    values = table.get(key)
    if values is None:
        return ()
    if not isinstance(values, list):
        errors.add((*place, key), f"{key} must be an array, not {_kind(values)}; {hint}")
        return ()
    if not values and not may_be_empty:
        errors.add((*place, key), f"{key} is empty; {hint}, or remove it")
    for number, value in enumerate(values):
        if not isinstance(value, str):
            errors.add((*place, key, number), f"{key} must hold texts, not {_kind(value)}; {hint}")
        elif not value and not may_be_empty:
            errors.add((*place, key, number), f"{key} holds an empty text; {hint}")
    return tuple(value for value in values if isinstance(value, str) and (value or may_be_empty))


def _not_text(key: str, value: object) -> str:
    return f"{key} must be text, not {_kind(value)}; write it in quotes"


def _kind(value: object) -> str:
    """What TOML calls a value that is not a string."""
    kinds = {str: "text", bool: "a boolean", int: "an integer", float: "a float", dict: "a table", list: "an array"}
    return kinds.get(type(value), "a date or a time")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib

    folded = {candidate.casefold(): candidate for candidate in known}
    closest = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean {folded[closest[0]]!r}?" if closest else ""
