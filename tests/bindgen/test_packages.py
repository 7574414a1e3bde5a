"""Packages of today's WIT to resolved interfaces and worlds, and what is said about those that are wrong.

A case is two things in `packages`: `NAME.wit`, or a folder `NAME`, and beside it either `NAME.expected`, what
`described` says of the package, or `NAME.error`, what a person is shown. The feature `on` is on in all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.wit_packages import ResolvedPackage, WitError, interfaces_of, load_package
from bindgen.wit_packages.lexer import KEYWORDS, PUNCTUATION, is_version, precedence
from bindgen.wit_parser.model import (
    Alias,
    Borrow,
    Case,
    Enum,
    ExpectedOf,
    Field,
    FixedListOf,
    Flags,
    Function,
    FutureOf,
    Interface,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    Resource,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    Variant,
    World,
)

CASES = Path(__file__).parent / "packages"
NAMES = sorted(path.stem for path in CASES.iterdir() if path.is_dir() or path.suffix == ".wit")
WASI = Path(__file__).parents[2] / "wit" / "wasi"
FEATURES = frozenset({"on"})


# A package as text.


def described(package: ResolvedPackage) -> str:
    """The package itself, then the others, without what is in none of them."""
    others = [each for each in package.packages.values() if each.id != package.id]
    return "\n".join(line for each in (package, *others) for line in _package_lines(each)) + "\n"


def _package_lines(package: ResolvedPackage) -> Iterator[str]:
    version = f"@{package.id.version}" if package.id.version else ""
    yield f"package {package.id.namespace}:{package.id.name}{version}"
    yield from _docs(package.docs)
    for name, interface in package.interfaces.items():
        assert (interface.name, interface.package) == (name, package.id)
        yield f"interface {name}"
        yield from _docs(interface.docs)
        yield from _indented(_interface_lines(interface))
    for name, world in package.worlds.items():
        assert (world.name, world.package) == (name, package.id)
        yield f"world {name}"
        yield from _docs(world.docs)
        yield from _indented(_world_lines(world))


def _interface_lines(interface: Interface) -> Iterator[str]:
    for use in interface.uses:
        yield f"use {use.name} = {use.target.interface.id}.{use.target.name}"
    yield from _definition_lines(interface.types, interface.resources, interface)
    for function in interface.functions:
        assert function.resource is None
        yield from _function_lines(function, interface)


def _definition_lines(
    types: tuple[TypeDef, ...], resources: tuple[Resource, ...], interface: Interface
) -> Iterator[str]:
    for type_def in types:
        assert type_def.interface is interface
        yield from _type_lines(type_def)
    for resource in resources:
        assert resource.interface is interface
        yield f"resource {resource.name}"
        yield from _docs(resource.docs)
        for function in resource.functions:
            assert function.resource is resource
            yield from _indented(_function_lines(function, interface))


def _world_lines(world: World) -> Iterator[str]:
    own = next((each.interface for each in (*world.types, *world.resources)), None)
    if own:
        yield from _definition_lines(world.types, world.resources, own)
    for keyword, things in (("import", world.imports), ("export", world.exports)):
        for thing in things:
            if isinstance(thing, Function):
                assert own or not world.types
                first, *rest = _function_lines(thing, own)
                yield from (f"{keyword} {first}", *rest)
            else:
                yield f"{keyword} interface {thing.id}"
                if thing.package is None:
                    yield from _docs(thing.docs)
                    yield from _indented(_interface_lines(thing))


def _docs(docs: str) -> Iterator[str]:
    yield from (f"| {line}".rstrip() for line in docs.splitlines())


def _indented(lines: Iterator[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines)


def _type_lines(type_def: TypeDef) -> Iterator[str]:
    kind = type_def.kind
    if isinstance(kind, Alias):
        yield f"type {type_def.name} = {_named(kind.type, type_def.interface)}"
        yield from _docs(type_def.docs)
        return
    yield f"{type(kind).__name__.lower()} {type_def.name}"
    yield from _docs(type_def.docs)
    members = kind.fields if isinstance(kind, Record) else kind.names if isinstance(kind, Flags) else kind.cases
    assert isinstance(kind, Record | Flags | Variant | Enum)
    for member in members:
        match member:
            case Field(name, _, type_):
                yield f"  {name}: {_named(type_, type_def.interface)}"
            case Case(name, _, payload) if payload is not None:
                yield f"  {name}({_named(payload, type_def.interface)})"
            case _:
                yield f"  {member.name}"
        yield from _indented(_docs(member.docs))


def _function_lines(function: Function, interface: Interface | None) -> Iterator[str]:
    params = ", ".join(f"{param.name}: {_named(param.type, interface)}" for param in function.params)
    result = "" if function.result is Primitive.UNIT else f" -> {_named(function.result, interface)}"
    yield f"{'async ' if function.is_async else ''}{function.kind.value} {function.name}({params}){result}"
    yield from _docs(function.docs)


def _named(type_: Type | None, seen_from: Interface | None) -> str:
    match type_:
        case Primitive():
            return {"float32": "f32", "float64": "f64", "unit": "_"}.get(type_.value, type_.value)
        case ListOf(element):
            return f"list<{_named(element, seen_from)}>"
        case FixedListOf(element, length):
            return f"list<{_named(element, seen_from)}, {length}>"
        case OptionOf(value):
            return f"option<{_named(value, seen_from)}>"
        case ExpectedOf(Primitive.UNIT, Primitive.UNIT):
            return "result"
        case ExpectedOf(ok, Primitive.UNIT):
            return f"result<{_named(ok, seen_from)}>"
        case ExpectedOf(ok, err):
            return f"result<{_named(ok, seen_from)}, {_named(err, seen_from)}>"
        case TupleOf(items):
            return f"tuple<{', '.join(_named(item, seen_from) for item in items)}>"
        case StreamOf(None) | FutureOf(None):
            return "stream" if isinstance(type_, StreamOf) else "future"
        case StreamOf(inner):
            return f"stream<{_named(inner, seen_from)}>"
        case FutureOf(inner):
            return f"future<{_named(inner, seen_from)}>"
        case Own(resource):
            return f"own<{_path(resource, seen_from)}>"
        case Borrow(resource):
            return f"borrow<{_path(resource, seen_from)}>"
    assert isinstance(type_, TypeDef), f"{type_} stands for no value"
    return _path(type_, seen_from)


def _path(target: TypeDef | Resource, seen_from: Interface | None) -> str:
    return target.name if target.interface is seen_from else f"{target.interface.id}.{target.name}"


# Cases.


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_resolved_or_refused_as_the_file_beside_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    path = Path(name) if Path(name).is_dir() else Path(f"{name}.wit")
    expected, error = Path(f"{name}.expected"), Path(f"{name}.error")
    assert expected.exists() != error.exists(), "a case has one result"
    if expected.exists():
        assert described(load_package(path, features=FEATURES)) == expected.read_text("utf-8")
    else:
        with pytest.raises(WitError) as caught:
            load_package(path, features=FEATURES)
        assert f"{caught.value}\n" == error.read_text("utf-8")


def test_every_expected_result_belongs_to_a_case() -> None:
    results = {path.stem for suffix in ("expected", "error") for path in CASES.glob(f"*.{suffix}")}
    assert results == set(NAMES)


# WASI.

PROXY_0_2 = {
    *("cli/stdin", "cli/stdout", "cli/stderr", "clocks/monotonic-clock", "clocks/wall-clock", "http/outgoing-handler"),
    *("http/types", "io/error", "io/poll", "io/streams", "random/random"),
}


@pytest.mark.parametrize("folder", sorted(path for path in WASI.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_every_package_of_wasi_is_what_its_folder_says(folder: Path) -> None:
    package = load_package(folder, [WASI])
    name, _, version = folder.name.partition("-")
    assert (package.id.namespace, package.id.name) == ("wasi", name)
    assert package.id.version is not None
    assert package.id.version == version if "-" in version else package.id.version.startswith(f"{version}.")
    assert package.interfaces
    assert package.worlds


def test_the_proxy_of_wasi_http_0_2_imports_what_its_interfaces_need() -> None:
    world = load_package(WASI / "http-0.2", [WASI]).world("proxy")
    assert {each.id for each in interfaces_of(world)} == {
        *(f"wasi:{name}@0.2.12" for name in PROXY_0_2),
        "wasi:http/incoming-handler@0.2.12",
    }
    assert [each.name for each in world.exports] == ["incoming-handler"]


def test_interfaces_come_after_those_that_they_need() -> None:
    interfaces = interfaces_of(load_package(WASI / "cli-0.2", [WASI]).world("command"))
    for number, interface in enumerate(interfaces):
        assert all(use.target.interface in interfaces[:number] for use in interface.uses)


def test_the_command_of_wasi_cli_0_2_runs() -> None:
    world = load_package(WASI / "cli-0.2", [WASI]).world("command")
    imported = {each.id.partition("/")[0] for each in world.imports if isinstance(each, Interface)}
    assert imported == {f"wasi:{name}" for name in ("cli", "clocks", "filesystem", "io", "random", "sockets")}
    (run,) = world.exports
    assert isinstance(run, Interface)
    (function,) = run.functions
    assert (function.name, function.is_async) == ("run", False)
    assert function.result == ExpectedOf(Primitive.UNIT, Primitive.UNIT)


def test_the_service_of_wasi_http_0_3_is_asynchronous() -> None:
    package = load_package(WASI / "http-0.3", [WASI])
    world = package.world("service")
    (handler,) = world.exports
    assert isinstance(handler, Interface)
    assert handler.id == "wasi:http/handler@0.3.0"
    (handle,) = handler.functions
    assert handle.is_async
    request = next(each for each in package.interface("types").resources if each.name == "request")
    assert handle.params[0].type == Own(request)
    assert isinstance(handle.result, ExpectedOf)
    assert package.interface("client") in world.imports


def test_the_drafts_of_wasi_keyvalue_differ_where_they_should() -> None:
    cursors, increments = [], []
    for draft in ("draft", "draft2"):
        package = load_package(WASI / f"keyvalue-0.2.0-{draft}")
        (bucket,) = package.interface("store").resources
        list_keys = next(each for each in bucket.functions if each.name == "list-keys")
        cursors.append(list_keys.params[0].type)
        increment = next(each for each in package.interface("atomics").functions if each.name == "increment")
        assert increment.params[0].type == Borrow(bucket)
        increments.append(increment.params[2].type)
    assert cursors == [OptionOf(Primitive.U64), OptionOf(Primitive.STRING)]
    assert increments == [Primitive.U64, Primitive.S64]


def test_what_is_unstable_is_there_with_its_feature_only() -> None:
    assert "timezone" not in load_package(WASI / "clocks-0.2", [WASI]).interfaces
    assert "timezone" in load_package(WASI / "clocks-0.2", [WASI], {"clocks-timezone"}).interfaces


# Choosing.


@pytest.fixture
def chosen(tmp_path: Path) -> ResolvedPackage:
    path = tmp_path / "x.wit"
    path.write_text(
        "package a:b; interface i {} world w {} world v {} package c:d@1.0.0 { interface j {} world only {} }", "utf-8"
    )
    return load_package(path)


def test_an_interface_or_world_is_chosen_by_name_or_path(chosen: ResolvedPackage) -> None:
    assert chosen.interface("i") is chosen.interface("a:b/i") is chosen.interfaces["i"]
    assert chosen.world("c:d/only@1.0.0").package == chosen.packages["c:d@1.0.0"].id
    assert chosen.packages["c:d@1.0.0"].world().name == "only"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "a world of a:b must be chosen; there is w, v"),
        ("i", "there is no world i in a:b; there is w, v"),
        ("wa", "there is no world wa in a:b; there is w, v"),
        ("c:d/only", "there is no package c:d; there is a:b, c:d@1.0.0"),
        ("c:d/onli@1.0.0", "there is no world onli in c:d@1.0.0; did you mean `only`?"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(chosen: ResolvedPackage, name: str, reason: str) -> None:
    with pytest.raises(LookupError) as caught:
        chosen.world(name)
    assert caught.value.args == (reason,)


# Files.


def refusal(path: Path, search: tuple[Path, ...] = ()) -> str:
    with pytest.raises(WitError) as caught:
        load_package(path, search)
    return str(caught.value)


def test_a_folder_to_search_is_read_when_something_is_missing(tmp_path: Path) -> None:
    (tmp_path / "app.wit").write_text("package a:b; world w { import c:d/e; }", "utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.wit").write_text("package c:d; interface e {}", "utf-8")
    assert "there is no package `c:d`" in refusal(tmp_path)
    world = load_package(tmp_path, [tmp_path / "more"]).world()
    assert [each.id for each in world.imports if isinstance(each, Interface)] == ["c:d/e"]
    (tmp_path / "more" / "d.wit").write_text("broken", "utf-8")
    assert f"{tmp_path}/more/d.wit:1:1: error: unexpected `broken`" in refusal(tmp_path, (tmp_path / "more",))


def test_the_packages_own_dependencies_come_before_those_that_are_searched(tmp_path: Path) -> None:
    for folder, content in (("deps", "mine"), ("more", "other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.wit").write_text(f"package c:d; interface e {{ {content}: func(); }}", "utf-8")
    (tmp_path / "more" / "f.wit").write_text("package c:f; interface g {}", "utf-8")
    (tmp_path / "app.wit").write_text("package a:b; world w { import c:d/e; import c:f/g; }", "utf-8")
    package = load_package(tmp_path, [tmp_path / "more"])
    assert [each.name for each in package.packages["c:d"].interface("e").functions] == ["mine"]
    assert package.packages.keys() == {"a:b", "c:d", "c:f"}


def test_packages_that_are_searched_and_not_used_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "used.wit").write_text("package a:used; interface i {}", "utf-8")
    (tmp_path / "more" / "unused.wit").write_text("package a:unused; interface i { use not:there/x.{y}; }", "utf-8")
    (tmp_path / "app.wit").write_text("package a:b; world w { import a:used/i; }", "utf-8")
    package = load_package(tmp_path, [tmp_path / "more"])
    assert package.packages.keys() == {"a:b", "a:used"}
    with pytest.raises(LookupError, match="there is no package a:unused; there is a:"):
        package.interface("a:unused/i")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    assert "the file can't be read: No such file or directory" in refusal(tmp_path / "missing")
    assert "there is no `*.wit` in this folder" in refusal(tmp_path)
    (tmp_path / "a.wit").mkdir()
    assert "there is no `*.wit` in this folder" in refusal(tmp_path)
    (tmp_path / "b.wit").write_bytes(b"package a:b; // \xff")
    assert "the file is not UTF-8: byte 0xff" in refusal(tmp_path / "b.wit")


def test_files_may_be_many_to_a_limit(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.wit").write_text("package a:b;", "utf-8")
    assert "these are more than 1000 files" in refusal(tmp_path)


# Limits.


def text_refusal(text: str, folder: Path) -> str:
    (folder / "x.wit").write_text(f"package a:b;\n{text}", "utf-8")
    return refusal(folder / "x.wit")


def test_types_may_be_nested_to_a_limit(tmp_path: Path) -> None:
    deep = "list<" * 64 + "u8" + ">" * 64
    assert "types are nested more than 64 deep here" in text_refusal(f"interface i {{ type t = {deep}; }}", tmp_path)
    named = "".join(f"record r{n + 1} {{ x: r{n} }} " for n in range(70))
    refused = text_refusal(f"interface i {{ type r0 = u8; {named} }}", tmp_path)
    assert "`r63` has more than 64 levels of types within types" in refused


def test_types_may_be_large_to_a_limit(tmp_path: Path) -> None:
    doubled = "".join(f"type t{n + 1} = tuple<t{n}, t{n}>; " for n in range(40))
    assert "more than 65536 parts of types within types" in text_refusal(
        f"interface i {{ type t0 = u8; {doubled} }}", tmp_path
    )


def test_chains_of_interfaces_worlds_and_aliases_may_be_long(tmp_path: Path) -> None:
    interfaces = "".join(f"interface i{n + 1} {{ use i{n}.{{r}}; type t{n} = r; }} " for n in range(3000))
    aliases = "".join(f"type t{n + 1} = t{n}; " for n in range(60))
    worlds = "".join(f"world w{n + 1} {{ include w{n}; }} " for n in range(2000))
    (tmp_path / "x.wit").write_text(
        f"package a:b; interface i0 {{ resource r; type t0 = r; {aliases} f: func(x: borrow<t60>); }} {interfaces}"
        f"world w0 {{ import i1; }} {worlds} world all {{ import i3000; }}",
        "utf-8",
    )
    package = load_package(tmp_path / "x.wit")
    resource = package.interface("i0").resources[0]
    assert package.interface("i3000").uses[0].target is resource
    assert package.interface("i0").functions[0].params[0].type == Borrow(resource)
    assert len(package.world("w2000").imports) == 2
    assert len(package.world("all").imports) == 3001


def test_worlds_may_have_many_parts_to_a_limit(tmp_path: Path) -> None:
    imports = "".join(f"import g{n}: func(); " for n in range(1000))
    worlds = "".join(f"world w{n + 1} {{ include w{n}; }} " for n in range(1000))
    began = time.process_time()
    refused = text_refusal(f"world w0 {{ {imports} }} {worlds}", tmp_path)
    assert "with this world, the worlds have more than 200,000 imports and exports" in refused
    copies = "".join(f"import c{n}: big; " for n in range(1000))
    functions = "".join(f"g{n}: func(); " for n in range(1000))
    refused = text_refusal(f"interface big {{ {functions} }} world w {{ {copies} }}", tmp_path)
    assert "with this world, the worlds have more than 200,000 imports and exports" in refused
    assert time.process_time() - began < 5


# Versions.


def test_versions_are_ordered_as_semver_org_says() -> None:
    """The example in https://semver.org, clause 11, and what is around it."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"]
    ordered += ["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.1", "1.10.0"]
    shuffled = [*ordered[4:], *ordered[:4]]
    assert sorted(shuffled, key=precedence) == ordered
    assert precedence("1.0.0+a") == precedence("1.0.0+b")


@pytest.mark.parametrize(
    "text", ["1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "v1.0.0", "1.0.0-a..b"]
)
def test_what_is_no_version_is_told(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(ValueError, match="is not a version"):
        precedence(text)


# Whatever a file holds.

TOKENS = [
    *sorted(KEYWORDS | PUNCTUATION),
    *("a", "b", "c", "x", "%a", "%type", "a-b", "A", "é", "8", '"', "%", "//", "///", "/*", "*/", "a:b/c", "@1.0.0"),
    *("@since(version = 1.0.0)", "@unstable(feature = on)", "a: func();", "use a.{b};", "interface a {", "world b {"),
]
SOUP = st.lists(st.sampled_from([*TOKENS, "\n", "\n", "{", "}"]), max_size=200).map(" ".join)
SEEDS = [path.read_text("utf-8") for path in sorted([*WASI.glob("*/*.wit"), *CASES.glob("*.wit")])]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def load_or_refuse(content: bytes, folder: Path) -> None:
    path = folder / "x.wit"
    path.write_bytes(content)
    with suppress(WitError):
        load_package(path, features=FEATURES)
        return
    with pytest.raises(WitError) as caught:
        load_package(path, features=FEATURES)
    assert 0 < len(caught.value.diagnostics) <= 100
    assert str(caught.value).replace("\n", "").replace("\t", "").isprintable()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_package_or_an_error(scratch: Path, content: bytes) -> None:
    load_or_refuse(content, scratch)


@settings(max_examples=300, deadline=None)
@given(SOUP)
def test_any_tokens_are_a_package_or_an_error(scratch: Path, text: str) -> None:
    load_or_refuse(f"package a:b@1.0.0; {text}".encode(), scratch)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_package_with_a_part_replaced_is_a_package_or_an_error(scratch: Path, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    part = data.draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=5)))
    load_or_refuse((text[:start] + part + text[end:]).encode(), scratch)


NONSENSE = {
    "commas": ",",
    "braces": "{",
    "dots": "1.",
    "strings": '"',
    "gates": "@since(version = 1.0.0)",
    "comments": "/**/",
    "bad names": "A_ ",
    "unclosed types": "list<",
    "unclosed packages": "package a:b {",
    "unclosed interfaces": "interface a {",
    "interfaces": "interface a { use a.{a}; }\n",
    "worlds": "world a { include a; }\n",
    "packages": "package a:b {}\n",
    "uses": "use a as b;\n",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_megabyte_of_nonsense_takes_less_than_a_second(nonsense: str, scratch: Path) -> None:
    path = scratch / "x.wit"
    path.write_bytes((nonsense.encode() * 1_000_000)[:1_000_000])
    began = time.process_time()
    with suppress(WitError):
        load_package(path)
    assert time.process_time() - began < 1
