"""WIT files to resolved interfaces, and what is said about files that are wrong.

A case is two files in `cases`: `NAME.wit` (or `.wit.md`), and beside it either `NAME.wit.expected`, what `described`
says of the interface, or `NAME.wit.error`, what a person is shown.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.plan import ABI
from bindgen.wit_parser import WitError, load, load_many
from bindgen.wit_parser.lexer import KEYWORDS, PUNCTUATION
from bindgen.wit_parser.model import (
    Alias,
    Case,
    Enum,
    ExpectedOf,
    Field,
    Flags,
    Function,
    FunctionKind,
    Interface,
    Label,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
)
from bindgen.wit_parser.parser import PRIMITIVES

CASES = Path(__file__).parent / "cases"
WIT = Path(__file__).parents[2] / "wit"
OURS = [*WIT.glob("*.wit"), *WIT.glob("compat/*.wit")]
"""Without `wasi/`, which is the WIT of today."""

FILES = sorted(path.name for path in CASES.iterdir() if path.name.endswith((".wit", ".wit.md")))


# An interface as text.


def described(interface: Interface) -> str:
    return "\n".join(_lines(interface)) + "\n"


def _lines(interface: Interface) -> Iterator[str]:
    yield f"interface {interface.name}"
    yield from _docs(interface.docs)
    for use in interface.uses:
        yield f"use {use.name} = {use.target.interface.name}/{use.target.name}"
    for type_def in interface.types:
        yield from _type_lines(type_def)
    for resource in interface.resources:
        assert resource.interface is interface
        yield f"resource {resource.name}"
        yield from _docs(resource.docs)
        for function in resource.functions:
            assert function.resource is resource
            assert function.kind is not FunctionKind.FREE
            yield from (f"  {line}" for line in _function_lines(function, interface))
    for function in interface.functions:
        assert function.resource is None
        yield from _function_lines(function, interface)


def _docs(docs: str) -> Iterator[str]:
    yield from (f"| {line}".rstrip() for line in docs.splitlines())


def _type_lines(type_def: TypeDef) -> Iterator[str]:
    members: tuple[Field | Label | Case, ...]
    match type_def.kind:
        case Alias(type_):
            yield f"type {type_def.name} = {_named(type_, type_def.interface)}"
            members = ()
        case Record(members) | Flags(members) | Variant(members) | Union(members) | Enum(members):
            yield f"{type(type_def.kind).__name__.lower()} {type_def.name}"
    yield from _docs(type_def.docs)
    for member in members:
        match member:
            case Field(name, _, type_):
                yield f"  {name}: {_named(type_, type_def.interface)}"
            case Case(name, _, payload) if payload is not None:
                yield f"  {name}({_named(payload, type_def.interface)})"
            case _:
                yield f"  {member.name}"
        yield from (f"  {line}" for line in _docs(member.docs))


def _function_lines(function: Function, interface: Interface) -> Iterator[str]:
    params = ", ".join(f"{param.name}: {_named(param.type, interface)}" for param in function.params)
    keyword = {"free": "func"}.get(function.kind.value, function.kind.value)
    yield f"{keyword} {ABI.name(function)}({params}) -> {_named(function.result, interface)}"
    yield from _docs(function.docs)


def _named(type_: Type, seen_from: Interface) -> str:
    match type_:
        case Primitive():
            return type_.value
        case ListOf(element):
            return f"list<{_named(element, seen_from)}>"
        case OptionOf(value):
            return f"option<{_named(value, seen_from)}>"
        case ExpectedOf(ok, err):
            return f"expected<{_named(ok, seen_from)}, {_named(err, seen_from)}>"
        case TupleOf(items):
            return f"tuple<{', '.join(_named(item, seen_from) for item in items)}>"
    name = type_.name if type_.interface is seen_from else f"{type_.interface.name}/{type_.name}"
    return f"handle {name}" if isinstance(type_, Resource) else name


# Cases.


@pytest.mark.parametrize("name", FILES)
def test_a_case_is_resolved_or_refused_as_the_file_beside_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    expected, error = Path(f"{name}.expected"), Path(f"{name}.error")
    assert expected.exists() != error.exists(), "a case has one result"
    if expected.exists():
        assert described(load(name)) == expected.read_text("utf-8")
    else:
        with pytest.raises(WitError) as caught:
            load(name)
        assert f"{caught.value}\n" == error.read_text("utf-8")


def test_every_expected_result_belongs_to_a_case() -> None:
    results = {
        path.name.removesuffix(suffix) for suffix in (".expected", ".error") for path in CASES.glob(f"*{suffix}")
    }
    assert results == set(FILES)


# Files.


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wit")


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.wit").write_text(text, "utf-8")


def refusal(path: Path | str, search: tuple[Path, ...] = ()) -> WitError:
    with pytest.raises(WitError) as caught:
        load(path, search)
    return caught.value


def refusal_of(content: bytes | str, folder: Path) -> str:
    path = folder / "x.wit"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(refusal(path)).replace(f"{folder}/", "")


@pytest.mark.parametrize("path", sorted(OURS), ids=lambda path: path.name)
def test_the_interfaces_of_this_project_load_and_are_documented(path: Path) -> None:
    interface = load(path)
    assert interface.name == path.name.removesuffix(".wit")
    assert interface.docs


def test_a_file_that_is_used_twice_is_one_interface(tmp_path: Path) -> None:
    write(tmp_path, a="type t = u8", b="use { t } from a", c="use { t as s } from a\nuse * from b")
    (tmp_path / "again").symlink_to(tmp_path)
    b, c, a, also_a = load_many([tmp_path / f"{path}.wit" for path in ("b", "c", "a", "again/a")])
    assert a is also_a
    assert b.uses[0].target is a.types[0]
    assert [(use.name, use.target) for use in c.uses] == [("s", a.types[0]), ("t", a.types[0])]


def test_a_used_file_is_looked_for_beside_the_user_then_in_the_search_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write(tmp_path, user="use * from beside\nuse * from found\nuse * from both", beside="type beside = u8")
    write(first, beside="type not-this = u8", found="use * from deep\ntype found = u8", deep="type deep = u8")
    write(second, found="type not-this = u8", deep="type not-this = u8")
    (tmp_path / "both.wit.md").write_text("```wit\ntype not-this = u8\n```")
    write(tmp_path, both="type both = u8")
    interface = load(tmp_path / "user.wit", [first, second])
    assert [use.name for use in interface.uses] == ["beside", "deep", "found", "both"]


def test_a_missing_file_is_reported_with_every_path_that_was_tried(tmp_path: Path) -> None:
    write(tmp_path, user="use * from gone")
    error = refusal(tmp_path / "user.wit", (tmp_path / "a", tmp_path / "b")).diagnostics[0]
    assert (error.line, error.column, error.message) == (1, 12, "there is no file `gone.wit`")
    folders = (tmp_path, tmp_path / "a", tmp_path / "b")
    assert [note.path for note in error.notes] == [
        folder / name for folder in folders for name in ("gone.wit", "gone.wit.md")
    ]


def test_a_used_file_that_cannot_be_read_is_reported_with_its_user(tmp_path: Path) -> None:
    write(tmp_path, user="use { a } from folder\nuse { b } from dangling")
    (tmp_path / "folder.wit").mkdir()
    (tmp_path / "dangling.wit").symlink_to(tmp_path / "nowhere")
    text = str(refusal(tmp_path / "user.wit")).replace(f"{tmp_path}/", "")
    assert text == (
        "folder.wit: error: the file can't be read: it is a directory\n"
        "user.wit:1:16: note: it is used here\n"
        "  1 | use { a } from folder\n"
        "    |                ^^^^^^\n"
        "\n"
        "dangling.wit: error: the file can't be read: No such file or directory\n"
        "user.wit:2:16: note: it is used here\n"
        "  2 | use { b } from dangling\n"
        "    |                ^^^^^^^^\n"
        "\n"
        "2 errors"
    )


def test_all_errors_of_all_files_come_in_one_exception(tmp_path: Path) -> None:
    write(tmp_path, a="type x = y", b="use { x } from c", c="type z = w")
    with pytest.raises(WitError) as caught:
        load_many([tmp_path / "gone.wit", tmp_path / "a.wit", tmp_path, tmp_path / "b.wit"])
    assert [(error.path.name, error.message) for error in caught.value.diagnostics if error.path] == [
        ("gone.wit", "the file can't be read: No such file or directory"),
        (tmp_path.name, "the file can't be read: it is a directory"),
        ("a.wit", "there is no type `y`"),
        ("c.wit", "there is no type `w`"),
        ("b.wit", "there is no type or resource `x` in `c.wit`"),
    ]


@pytest.mark.parametrize("name", ["a\0b.wit", "a\udc80.wit", "a" * 300 + ".wit", "x" * 9000, "a.wit/b.wit", ""])
def test_a_path_that_no_file_can_have_is_an_error_like_another(name: str, tmp_path: Path) -> None:
    write(tmp_path, a="")
    error = refusal(os.path.join(tmp_path, name))
    assert error.diagnostics[0].message.startswith("the file can't be read: ")
    str(error).encode()


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wit")
    for path in (tmp_path / "pipe.wit", "/dev/zero"):
        assert refusal(path).diagnostics[0].message == "the file can't be read: it is not a regular file"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.wit"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(path).diagnostics[0].message == "the file can't be read: it has more than 4194304 bytes"


@pytest.mark.parametrize("name", ["2fa.wit", ".wit", "a b.wit", "a'b.wit", "a\nb.wit"])
def test_the_name_of_a_file_must_do_as_the_name_of_an_interface(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("type a = u8")
    assert refusal(tmp_path / name).diagnostics[0].message == "the name of this file can't be the name of an interface"


def test_the_name_of_an_interface_ends_at_the_first_dot_and_may_have_an_underscore(tmp_path: Path) -> None:
    (tmp_path / "state_store.v1.wit").write_text("f: func()")
    assert load(tmp_path / "state_store.v1.wit").name == "state_store"


# Characters.


def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(scratch: Path) -> None:
    (scratch / "x.wit").write_bytes(b"\xef\xbb\xbf/// One.\r\n/// Two.\r\n\r\n/** A.\r\n * B. */\r\ntype a = u8\r\n")
    interface = load(scratch / "x.wit")
    assert (interface.docs, interface.types[0].docs) == ("One.\nTwo.", "A.\nB.")
    assert refusal_of(b"\xef\xbb\xbftype a = b\r\n", scratch) == (
        "x.wit:1:10: error: there is no type `b`\n  1 | type a = b\n    |          ^\n\n1 error"
    )


def test_a_file_that_is_not_utf8_is_refused_at_its_first_wrong_byte(scratch: Path) -> None:
    assert refusal_of(b"type a = u8\n// caf\xe9\nnonsense", scratch) == (
        "x.wit:2:7: error: the file is not UTF-8: byte 0xe9\n  2 | // caf\ufffd\n    |       ^\n\n1 error"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_recognised(encoding: str, scratch: Path) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    assert "hint: it looks like UTF-16; save it as UTF-8" in refusal_of(f"{mark}type a = u8".encode(encoding), scratch)


@pytest.mark.parametrize("char", [*"\0\1\x08\x0b\x0c\x0e\x1b\x1f\x7f\x80\x85\x9f"])
def test_control_codes_are_refused_even_in_comments(char: str, scratch: Path) -> None:
    text = refusal_of(f"// {char}", scratch)
    assert text.startswith(f"x.wit:1:4: error: U+{ord(char):04X} is a control code, and not allowed\n")
    assert char not in text


def test_a_control_code_in_a_name_is_one_error(scratch: Path) -> None:
    text = refusal_of("type a\1b = u8", scratch)
    assert text.startswith("x.wit:1:7: error: U+0001 is a control code, and not allowed\n")
    assert text.endswith("\n1 error")


@pytest.mark.parametrize("char", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"])
def test_what_changes_the_direction_of_writing_is_refused_and_not_printed(char: str, scratch: Path) -> None:
    text = refusal_of(f"/* {char} */", scratch)
    assert "is a character that changes the direction of writing, and not allowed" in text
    assert f"  1 | /* <U+{ord(char):04X}> */\n    |    ^^^^^^^^\n" in text
    assert char not in text


@pytest.mark.parametrize("char", [*"\u0149\u0673\u0f77\u0f79\u17a3\u17a4\u17b4\u17b5"])
def test_what_unicode_discourages_is_refused(char: str, scratch: Path) -> None:
    assert "is a character that Unicode discourages, and not allowed" in refusal_of(f"/// {char}", scratch)


@pytest.mark.parametrize("space", [*"\xa0\u2003\u3000\ufeff\u200b"])
def test_invisible_characters_are_named(space: str, scratch: Path) -> None:
    text = refusal_of(f"type{space}a = u8", scratch)
    assert text.startswith(f"x.wit:1:5: error: U+{ord(space):04X} (")
    assert f"<U+{ord(space):04X}>" in text
    assert text.endswith("\n1 error")


@pytest.mark.parametrize("name", ["e\u0301", "a-\u0301b", "\u212b", "ab\u200cc", "a\u05f3"])
def test_a_name_that_is_not_normal_or_no_identifier_is_refused(name: str, scratch: Path) -> None:
    assert refusal_of(f"type {name} = u8", scratch).endswith("\n1 error")


def test_of_a_long_line_only_the_part_in_question_is_shown(scratch: Path) -> None:
    text = refusal_of(f"/*{'x' * 5000}*/ type a = b /*{'y' * 5000}*/", scratch)
    shown = f"…{'x' * 38}*/ type a = b /*{'y' * 46}…"
    assert text == (
        f"x.wit:1:5015: error: there is no type `b`\n  1 | {shown}\n    | {' ' * shown.index('b /')}^\n\n1 error"
    )


# Limits.


def test_after_a_hundred_errors_no_more_are_looked_for(scratch: Path) -> None:
    write(scratch, x="\n".join(f"type a{index} = b" for index in range(100_000 // 4)))
    error = refusal(scratch / "x.wit")
    assert [diagnostic.line for diagnostic in error.diagnostics] == list(range(1, 101))
    assert str(error).endswith("\n\n100 errors; there may be more")


def test_a_file_may_be_long_to_a_limit(scratch: Path) -> None:
    text = " ".join(f"f{index}: func()" for index in range(20_000))
    assert len(load_text(text, scratch).functions) == 20_000
    assert "the file is too long: this is after 100,000 tokens" in refusal_of(f"{text} f", scratch)
    assert load_text("//\n" * 100_000, scratch).functions == ()
    assert "the file is too long: this is after 100,000 comments" in refusal_of("//\n" * 100_001, scratch)


def load_text(text: str, folder: Path) -> Interface:
    write(folder, x=text)
    return load(folder / "x.wit")


def test_types_may_be_nested_to_a_limit(scratch: Path) -> None:
    nested = "list<" * 62 + "u8" + ">" * 62
    load_text(f"type a = {nested} f: func(a: a) -> a", scratch)
    assert "`b` has more than 64 levels of types within types" in refusal_of(
        f"type a = {nested} type b = a type c = b", scratch
    )
    assert "`f` has more than 64 levels of types within types" in refusal_of(
        f"type a = {nested} f: func(x: list<a>)", scratch
    )
    assert "x.wit:1:330: error: types are nested more than 64 deep here" in refusal_of(
        f"type a = {'list<' * 5000}", scratch
    )


def test_a_chain_of_types_may_be_long_to_a_limit(scratch: Path) -> None:
    chain = ["type a0 = u8", *(f"type a{index} = tuple<a{index - 1}>" for index in range(1, 1000))]
    assert len(load_text("\n".join(chain[:32]), scratch).types) == 32
    text = refusal_of("\n".join(chain), scratch)
    assert "x.wit:33:6: error: `a32` has more than 64 levels of types within types" in text
    assert text.endswith("\n1 error")


def test_a_type_may_be_large_to_a_limit(scratch: Path) -> None:
    doubled = ["type a0 = u8", *(f"record a{index} {{ x: a{index - 1}, y: a{index - 1} }}" for index in range(1, 40))]
    assert "x.wit:16:8: error: `a15` has more than 65536 parts of types within types" in refusal_of(
        "\n".join(doubled), scratch
    )
    assert "`f` has more than 65536 parts of types within types" in refusal_of(
        "\n".join([*doubled[:15], "f: func(x: a14, y: a14)"]), scratch
    )


# Whatever a file holds.

TOKENS = [
    *sorted(KEYWORDS | PUNCTUATION),
    *("a", "b", "c", "x", "function", "%a", "%type", "a-b", "A", "é", "8", '"', "@", "-", "%", "//", "///", "/*", "*/"),
]
SOUP = st.lists(st.sampled_from([*TOKENS, "\n", "\n", "{", "}"]), max_size=200).map(" ".join)
SEEDS = [path.read_text("utf-8") for path in sorted([*OURS, *CASES.glob("*.wit")])]


def load_or_refuse(content: bytes, folder: Path, name: str = "x.wit") -> None:
    path = folder / name
    path.write_bytes(content)
    with suppress(WitError):
        load(path)
        return
    error = refusal(path)
    assert 0 < len(error.diagnostics) <= 100
    assert all(diagnostic.path == path or diagnostic.line for diagnostic in error.diagnostics)
    assert str(error).replace("\n", "").replace("\t", "").isprintable()


@given(st.binary(max_size=300), st.sampled_from(["x.wit", "x.wit.md"]))
def test_any_bytes_are_a_file_or_an_error(scratch: Path, content: bytes, name: str) -> None:
    load_or_refuse(content, scratch, name)


@given(st.text(max_size=100))
def test_any_text_is_a_file_or_an_error(scratch: Path, text: str) -> None:
    load_or_refuse(f"type {text}".encode(), scratch)


@settings(max_examples=300)
@given(SOUP)
def test_any_tokens_are_a_file_or_an_error(scratch: Path, text: str) -> None:
    load_or_refuse(text.encode(), scratch)


@settings(max_examples=200)
@given(st.sampled_from(SEEDS), st.data())
def test_a_file_with_a_part_replaced_is_a_file_or_an_error(scratch: Path, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    part = data.draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=5)))
    load_or_refuse((text[:start] + part + text[end:]).encode(), scratch)


NONSENSE = {
    "commas": ",",
    "braces": "{",
    "comments": "/**/",
    "open comments": "/*",
    "documentation": "///\n",
    "bad characters": "@ ",
    "bad names": "A ",
    "names": "é ",
    "unclosed types": "list<",
    "unclosed functions": "f: func(\n",
    "unclosed blocks": "interface a {",
    "types": "type a = a\n",
    "uses": "use { a } from x\n",
    "one name": "a",
    "control codes": "\1",
    "fences": "```\n```wit\n",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_megabyte_of_nonsense_takes_less_than_a_second(nonsense: str, scratch: Path) -> None:
    content = (nonsense.encode() * 1_000_000)[:1_000_000]
    path = scratch / ("x.wit.md" if "`" in nonsense else "x.wit")
    path.write_bytes(content)
    began = time.process_time()
    with suppress(WitError):
        load(path)
    assert time.process_time() - began < 1


def test_a_file_as_long_as_may_be_takes_less_than_a_second(scratch: Path) -> None:
    records = [f"record r{index} {{ x: list<r{index % 9}>, y: string }}" for index in range(9, 6000)]
    text = "\n".join([*(f"type r{index} = u8" for index in range(9)), *records])
    began = time.process_time()
    assert len(load_text(text, scratch).types) == 6000
    assert time.process_time() - began < 1


# Whatever a type is.

SPACE = st.sampled_from(["", " ", "\n\t", "/* , */", "// >\n", "/// >\n"])


def made_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.sampled_from(["list", "option"]), st.tuples(inner)),
        st.tuples(st.just("expected"), st.tuples(inner, inner)),
        st.tuples(st.just("tuple"), st.lists(inner, max_size=3)),
    )


TYPES = st.recursive(st.sampled_from([*PRIMITIVES, "a", "r"]), made_of)


def spelled(type_: Any, separator: str = ", ") -> str:
    if isinstance(type_, str):
        return type_
    constructor, arguments = type_
    return f"{constructor}<{separator.join(spelled(argument, separator) for argument in arguments)}>"


@given(TYPES, st.lists(SPACE, min_size=1, max_size=5))
def test_a_type_means_what_it_spells_however_it_is_spaced(scratch: Path, type_: Any, spaces: list[str]) -> None:
    tokens = re.findall(r"[\w]+|.", spelled(type_, ","))
    spaced = "".join(f"{token}{spaces[index % len(spaces)]}" for index, token in enumerate(tokens))
    interface = load_text(f"type a = u8 resource r type t ={spaced}\nf: func() ->{spaced}", scratch)
    expected = re.sub(r"\br\b", "handle r", spelled(type_))
    kind = interface.types[1].kind
    assert isinstance(kind, Alias)
    assert _named(kind.type, interface) == expected
    assert kind.type == interface.functions[0].result
