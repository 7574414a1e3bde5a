"""Names that only look different: what is generated for guests and for readers keeps them apart, and compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindgen.backends import c, markdown, rust
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from tests.bindgen.echo_c import compile_c
from tests.bindgen.echo_rust import compile_rust

COLLIDING = """
enum letters { ß, ss, self, none }
flags marks { ß, ss, empty, contains }
record fields { int: u8, flat: u8, %bool: u8, lower: u8 }
variant shapes { ß(u8), ss(u8), tag(u16), self(string) }
variant bare { a, b }
record cased { ǅ: u8, ǆ: string }
variant either-case { ǅ(u8), ǆ(string), tag(cased) }
type ß = u8
type ss = string
resource r {
    static open: func(flat: u8) -> r
    get: func(flat: r, area: string, result: u8) -> r
    this: func(self: r, this: u8)
}
slots: func(slots: bare, flat: u32, ß: string, ss: string) -> bare
flat: func(flat: u8) -> r
takes: func(flat: r, slots: shapes, lower-slots: shapes, function: letters) -> marks
passes: func(params: string, loan: list<string>, arguments: fields, value: ß, text: ss, import: bare) -> shapes
more: func(a: shapes, b: shapes, lower: shapes, blocks: list<shapes>, self: r, ok: u8, err: u8) -> expected<r, shapes>
cases: func(a: cased, b: list<either-case>) -> either-case
hides: func(lift-names-shapes: shapes, lower-names-shapes: shapes, import-names-hides: u8, names-hides: bare) -> shapes
"""


def interfaces(directory: Path) -> list[Interface]:
    """Two files in each of which names collide, and files whose own names do."""
    for folder, text in {
        "p": "record point { x: u8 }",
        "q": "record point { y: string }",
        "r": "record other { z: u64 }",
    }.items():
        (directory / folder).mkdir()
        (directory / folder / "types.wit").write_text(text)
    (directory / "r" / "Types.wit").write_text("record another { z: u64 }")
    (directory / "names.wit").write_text(COLLIDING)
    (directory / "a-b.wit").write_text("f: func() -> u8")
    (directory / "a_b.wit").write_text("f: func() -> u16")
    names = ["names.wit", "a-b.wit", "a_b.wit", "p/types.wit", "q/types.wit", "r/types.wit", "r/Types.wit"]
    return load_many([directory / name for name in names])


def write(files: dict[str, str], directory: Path) -> list[Path]:
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    return [directory / name for name in files]


@pytest.mark.parametrize("side", ["import", "export"])
def test_colliding_names_compile_in_c(side: str, tmp_path: Path) -> None:
    found = interfaces(tmp_path)
    paths = write(c.write(found, []) if side == "import" else c.write([], found), tmp_path / "out")
    sources = [path for path in paths if path.suffix == ".c"]
    assert len(sources) == len(found) + 1
    compile_c(sources, tmp_path / "guest.wasm")


@pytest.mark.parametrize("side", ["import", "export"])
def test_colliding_names_compile_in_rust(side: str, tmp_path: Path) -> None:
    found = interfaces(tmp_path)
    paths = write(rust.write(found, []) if side == "import" else rust.write([], found), tmp_path / "out")
    assert len(paths) == len(found) + 1
    root = tmp_path / "out" / "lib.rs"
    root.write_text("".join(f"pub mod {path.stem};\n" for path in paths))
    allowed = ("-Anon-snake-case", "-Anon-camel-case-types", "-Auncommon-codepoints")
    compile_rust(root, tmp_path / "guest.wasm", "-Dwarnings", *allowed)


def test_every_interface_has_a_page_of_its_own(tmp_path: Path) -> None:
    found = interfaces(tmp_path)
    files = markdown.write(found, [])
    assert len(files) == len(found)
    assert len({name.casefold() for name in files}) == len(found)
    pages = "".join(files.values())
    for interface in found:
        assert all(f"`{definition.name}`" in pages for definition in interface.types)
