"""The documentation of interfaces as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bindgen.backends import markdown
from bindgen.wit_packages import load_package
from bindgen.wit_parser import load, load_many

WIT = Path(__file__).parents[2] / "wit"
CASES = Path(__file__).parent / "cases"


def page(directory: Path, text: str) -> str:
    path = directory / "x.wit"
    path.write_text(text)
    return markdown.write([load(path)], [])["x.md"]


def section(text: str, anchor: str) -> str:
    """What stands under the heading with an anchor."""
    return re.split(r"^#+ ", text.partition(f'<a id="{anchor}"></a>')[2], flags=re.MULTILINE)[0]


def test_a_page_has_the_documentation_of_everything(tmp_path: Path) -> None:
    text = """\
/// About the interface.

/// About the record.
record r {
    /// About the field.
    a: u8,
}
/// About the variant.
variant v {
    /// About the case,
    /// in two lines.
    b,
}
/// About the flags.
flags f {
    /// About | the flag.
    c,
}
/// About the union.
union u {
    /// About the first.
    u8,
}
/// About the alias.
type t = string
/// About the resource.
resource s {
    /// About the method.
    m: func()
}
/// About the function.
g: func()
"""
    found = page(tmp_path, text)
    assert found.startswith("# x\n\nAbout the interface.\n\nA guest imports this interface.\n\n")
    assert "About the record.\n\n| field | type |  |\n" in section(found, "r")
    assert "\n| `a` | `u8` | About the field. |\n" in section(found, "r")
    assert "\n| `b` | About the case, in two lines. |\n" in section(found, "v")
    assert "\n| `c` | About \\| the flag. |\n" in section(found, "f")
    assert "\n| `u8` | About the first. |\n" in section(found, "u")
    assert "Another name for `string`.\n\nAbout the alias.\n" in section(found, "t")
    assert "\n\nAbout the resource.\n" in section(found, "s")
    assert "\n\nAbout the method.\n" in section(found, "s.m")
    assert "\n\nAbout the function.\n" in section(found, ".g")


def test_a_function_shows_its_signature_and_links_its_types(tmp_path: Path) -> None:
    text = """\
record %record { a: u8 }
resource r { static %static: func(a: list<%record>, b: option<u8>) -> expected<r, string> }
"""
    found = section(page(tmp_path, text), "r.static")
    assert "```wit\nstatic %static: func(a: list<%record>, b: option<u8>) -> expected<r, string>\n```\n" in found
    assert "\n- `a`: list\\<[`record`](#record)\\>\n" in found
    assert "\n- `b`: option\\<`u8`\\>\n" in found
    assert "\n- returns expected\\<[`r`](#r), `string`\\>\n" in found


def test_a_type_has_the_name_that_its_user_gives_it(tmp_path: Path) -> None:
    (tmp_path / "y.wit").write_text("record theirs { a: u8 }")
    found = page(tmp_path, "use { theirs as ours } from y\nf: func(a: ours)")
    assert "f: func(a: ours)" in found
    assert "- `a`: [`ours`](y.md#theirs)\n" in found


def test_the_page_says_who_has_the_interface() -> None:
    imported, exported = load_many([WIT / "keyvalue.wit", WIT / "http-handler.wit"])
    files = markdown.write([imported], [exported])
    assert files.keys() == {"keyvalue.md", "http-handler.md", "http-types.md"}
    assert "\n\nA guest imports this interface.\n\n" in files["keyvalue.md"]
    assert "\n\nA guest exports this interface.\n\n" in files["http-handler.md"]
    assert "\n\nOther interfaces use these types.\n\n" in files["http-types.md"]
    both = markdown.write([imported], [imported])["keyvalue.md"]
    assert "\n\nA guest imports or exports this interface.\n\n" in both


@pytest.mark.parametrize("directory", [WIT, WIT / "compat", CASES], ids=lambda path: path.name)
def test_every_link_leads_somewhere(directory: Path) -> None:
    good = [
        path
        for path in directory.glob("*.wit*")
        if path.name.endswith((".wit", ".wit.md"))
        and (directory is not CASES or path.with_name(f"{path.name}.expected").exists())
    ]
    files = markdown.write(load_many(sorted(good)), [])
    links = 0
    for name, text in files.items():
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
            assert f'<a id="{anchor}"></a>' in files[target or name], f"{name} links to {target}#{anchor}"
            links += 1
        anchors = re.findall(r'<a id="([^"]+)"', text)
        assert len(set(anchors)) == len(anchors)
    assert links > len(files)


# Packages.

PACKAGE = """\
package my:app@1.0.0;

interface files {
  use my:lib/errors@2.0.0.{error as problem};

  type id = u32;
  resource file {
    constructor(name: string);
    again: static async func(of: borrow<file>) -> result<file, problem>;
    close: func();
  }
  all: func(%list: list<u8, 4>, some: stream<f32>) -> tuple<option<file>, result, result<_, id>, future>;
}
world w { import files; }
package my:lib@2.0.0 { interface errors { enum error { a } } }
package my:lib@3.0.0 { interface errors { enum error { a } } world w { import errors; } }
"""


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "x.wit").write_text(PACKAGE)
    package = load_package(tmp_path / "x.wit")
    return markdown.write([package.interface("files"), package.interface("my:lib/errors@3.0.0")], [])


def test_a_page_of_a_package_is_named_after_it_and_with_its_version_if_there_are_several(pages: dict[str, str]) -> None:
    assert len(pages) == 3
    assert pages["my-app-files.md"].startswith("# my:app/files@1.0.0\n")
    names = {name: text.partition("\n")[0] for name, text in pages.items() if name != "my-app-files.md"}
    assert sorted(names.values()) == ["# my:lib/errors@2.0.0", "# my:lib/errors@3.0.0"]
    assert names.keys() in ({"my-lib-errors.md", f"my-lib-errors-{version}.0.0.md"} for version in (2, 3))


@pytest.mark.parametrize(
    ("anchor", "heading", "signature"),
    [
        ("file.constructor", "file.constructor", "constructor(name: string);"),
        ("file.again", "file.again", "again: static async func(of: borrow<file>) -> result<file, problem>;"),
        ("file.close", "file.close", "close: func();"),
        (
            ".all",
            "all",
            "all: func(%list: list<u8, 4>, some: stream<f32>) -> tuple<option<file>, result, result<_, id>, future>;",
        ),
    ],
)
def test_a_function_of_a_package_is_spelled_as_todays_wit_is(
    pages: dict[str, str], anchor: str, heading: str, signature: str
) -> None:
    found = section(pages["my-app-files.md"], anchor)
    assert f"`{heading}`\n" in found
    assert f"```wit\n{signature}\n```\n" in found


def test_types_of_a_package_are_links(pages: dict[str, str]) -> None:
    text = pages["my-app-files.md"]
    (page,) = (name for name, other in pages.items() if other.startswith("# my:lib/errors@2.0.0\n"))
    assert f"\n- returns result\\<[`file`](#file), [`problem`]({page}#error)\\>\n" in section(text, "file.again")
    assert "\n- `of`: borrow\\<[`file`](#file)\\>\n" in section(text, "file.again")
    assert "\n- `list`: list\\<`u8`, 4\\>\n" in section(text, ".all")
