"""The slightfile, most of it by cases.

A case is two files: in `slightfiles/good` NAME.toml and NAME.grants, with a line `LINE: RESOURCE 'NAME' KEY='VALUE'`
for each grant, and behind it whom it is for and what they may do; in `slightfiles/bad` NAME.toml and NAME.error, which
is what the user reads.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import registry
from slight_py.errors import UsageError
from slight_py.slightfile import Grant, Slightfile, embedded, load, suggest

SLIGHTFILES = Path(__file__).parent / "slightfiles"
DOCUMENT = Path(__file__).parents[1] / "docs" / "slightfile.md"
EXAMPLE = Path(__file__).parents[1] / "examples" / "custom-capability"
GOOD = sorted(path.stem for path in (SLIGHTFILES / "good").glob("*.toml"))
BAD = sorted(path.stem for path in (SLIGHTFILES / "bad").glob("*.toml"))

ENVIRONMENT = {
    "REDIS_ADDRESS": "redis://:of-0.1@127.0.0.1:6379",
    "CORS_MAX_AGE": "60",
    "SLIGHT_PY_TEST_ADDRESS": "redis://:secret@127.0.0.1:6379",
    "SLIGHT_PY_TEST_EMPTY": "",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIRECTORY", "SLIGHT_PY_TEST_UNSET", *(name for name in os.environ if name.startswith("CORS_"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slightfile.toml"


def error_of(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load(path)
    return str(caught.value)


def shown(grant: Grant) -> str:
    configs = "".join(f" {key}={value!r}" for key, value in sorted(grant.configs.items()))
    modules = f" for {', '.join(grant.modules)}" if grant.modules else ""
    rules = "".join(f" allow{list(rule.modules)}{rule.patterns}" for rule in grant.allow)
    return f"{grant.line}: {grant.resource.name} {grant.name!r}{configs}{modules}{rules}\n"


# The cases


@pytest.mark.parametrize("case", GOOD)
def test_a_good_slightfile_grants_what_it_says(case: str) -> None:
    path = SLIGHTFILES / "good" / f"{case}.toml"
    slightfile = load(path)
    assert "".join(map(shown, slightfile.grants)).strip() == path.with_suffix(".grants").read_text().strip()
    assert slightfile.path == path
    assert slightfile.specversion == tomllib.loads(path.read_text())["specversion"]


@pytest.mark.parametrize("case", BAD)
def test_the_errors_of_a_bad_slightfile_say_where_and_what_to_do(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SLIGHTFILES / "bad")
    assert error_of(Path(f"{case}.toml")) + "\n" == Path(f"{case}.error").read_text()


def test_every_case_is_two_files() -> None:
    assert sorted(path.stem for path in (SLIGHTFILES / "good").glob("*.grants")) == GOOD
    assert sorted(path.stem for path in (SLIGHTFILES / "bad").glob("*.error")) == BAD
    assert GOOD
    assert BAD


# The file


def test_a_missing_file_is_named(path: Path) -> None:
    assert error_of(path) == f"{path}: no such file; give the path of a slightfile, or run without one"


def test_a_directory_is_not_a_slightfile(tmp_path: Path) -> None:
    assert error_of(tmp_path) == f"{tmp_path}: is a directory; give the path of the slightfile in it"


def test_a_path_through_a_file_cannot_be_read(path: Path) -> None:
    path.write_text("")
    expected = f"{path / 'x'}: cannot be read: Not a directory; give the path of a slightfile"
    assert error_of(path / "x") == expected


def test_a_path_may_be_text(path: Path) -> None:
    path.write_text('specversion = "0.2"')
    assert load(str(path)) == Slightfile(path, "0.2", ())


def test_a_byte_order_mark_is_accepted(path: Path) -> None:
    path.write_bytes(b'\xef\xbb\xbfspecversion = "0.2"\n')
    assert load(path).specversion == "0.2"


def test_windows_line_ends_do_not_move_lines(path: Path) -> None:
    path.write_bytes(b'specversion = "0.2"\r\n\r\n[[capability]]\r\nresource = "http"\r\nname = 1\r\n')
    assert error_of(path) == f"{path}:5: name must be text, not an integer; write it in quotes"


def test_deep_nesting_is_an_error_of_the_file(path: Path) -> None:
    path.write_text('specversion = "0.2"\nx = ' + "[" * 100_000)
    assert error_of(path).startswith(f"{path}:1: arrays or tables are nested too deeply; ")


def test_a_number_of_thousands_of_digits_is_an_error_of_the_file(path: Path) -> None:
    path.write_text("specversion = 1" + "0" * 5000)
    assert error_of(path).startswith(f"{path}:1: a number is too long; ")


# Values and secrets


def test_an_environment_variable_that_is_not_text_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"SLIGHT_PY_TEST_ADDRESS", b"redis://\xff")
    path.write_text(redis_with("${envvars.SLIGHT_PY_TEST_ADDRESS}"))
    assert error_of(path) == (
        f"{path}:6: the environment variable 'SLIGHT_PY_TEST_ADDRESS', the value of REDIS_ADDRESS, is not UTF-8; "
        f"set it to text"
    )


@pytest.mark.parametrize("variable", [None, ""])
def test_0_1_needs_the_environment_variables_of_required_configs(
    variable: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_ADDRESS")
    if variable is not None:
        monkeypatch.setenv("REDIS_ADDRESS", variable)
    path.write_text('specversion = "0.1"\nsecret_store = "configs.envvars"\n[[capability]]\nname = "kv.redis"\n')
    if variable is None:
        expected = "the environment variable 'REDIS_ADDRESS', the value of REDIS_ADDRESS, is not set; set it"
    else:
        expected = "the environment variable 'REDIS_ADDRESS', which kv.redis needs, is empty; give it a value"
    assert error_of(path) == f"{path}:4: {expected}"


def test_a_repr_shows_no_value() -> None:
    slightfile = load(SLIGHTFILES / "good" / "references.toml")
    assert ":secret@" not in repr(slightfile)
    assert "pa$$w" not in repr(slightfile)
    assert "from-the-environment" in repr(slightfile)


@pytest.mark.parametrize(
    "mistake",
    [
        'REDIS_ADDRESS = "${hunter2}"',
        'REDIS_ADDRESS = "${hunter2.hunter2}"',
        'REDIS_ADDRESS = "redis://:hunter2@${envvars.HOST}"',
        'REDIS_ADDRESS = ["hunter2"]',
        'REDIS_ADDRESS = { password = "hunter2" }',
        'REDIS_ADDRESS = "hunter2"\nREDIS_ADDRESS = "hunter2"',
        'REDIS_ADDRESS = "hunter2" "hunter2"',
        "REDIS_ADDRESS = redis://:hunter2",
        'REDIS_ADDRESS = "hunter2',
        'REDIS_ADRESS = "hunter2"',
        'REDIS_ADDRESS = "hunter2"\nresource = "hunter2"',
        'REDIS_ADDRESS = "hunter2"\n[[capability]]',
        'REDIS_ADDRESS = "hunter2"\n[[secret_settings]]\nname = "a"\nvalue = ["hunter2"]',
        'REDIS_ADDRESS = "hunter2"\n[[secret_settings]]\nname = 1\nvalue = "hunter2"',
    ],
)
def test_no_error_shows_a_value(mistake: str, path: Path) -> None:
    path.write_text(redis_with("x").replace('REDIS_ADDRESS = "x"', mistake))
    assert "hunter2" not in error_of(path)


def redis_with(address: str) -> str:
    return (
        'specversion = "0.2"\n[[capability]]\nresource = "keyvalue.redis"\nname = "a"\n[capability.configs]\n'
        f'REDIS_ADDRESS = "{address}"\n'
    )


# What is granted


def test_grants_are_found_by_their_family() -> None:
    slightfile = load(SLIGHTFILES / "good" / "all-available-0.2.toml")
    assert [grant.name for grant in slightfile.grants_for("keyvalue")] == ["a", "b", "c", "d", "e"]
    assert [grant.name for grant in slightfile.grants_for("http")] == ["web"]
    assert slightfile.grants_for("no-such-family") == ()


def test_a_slightfile_grants_no_embedded_backend(path: Path) -> None:
    path.write_text('specversion = "0.2"')
    assert load(path).grants_for("keyvalue") == ()


def test_without_a_slightfile_every_capability_has_its_embedded_backend() -> None:
    slightfile = embedded()
    assert slightfile.path is None
    assert [shown(grant).strip() for grant in slightfile.grants] == [
        "0: keyvalue.memory '*'",
        "0: http '*'",
        "0: http-client '*'",
        "0: messaging.memory '*'",
        "0: configs.memory '*'",
        "0: distributed_locking.memory '*'",
        "0: sql.sqlite '*'",
        "0: blobstore.filesystem '*'",
    ]
    assert [grant.resource.name for grant in slightfile.grants_for("keyvalue")] == ["keyvalue.memory"]
    assert slightfile.grants_for("no-such-family") == ()


def test_the_lines_to_add_are_those_of_the_files_version() -> None:
    assert suggest("keyvalue", "0.2") == '[[capability]]\nresource = "keyvalue.memory"\nname = "*"'
    assert suggest("keyvalue", "0.1") == '[[capability]]\nname = "keyvalue.memory"'
    assert suggest("http", "0.2") == '[[capability]]\nresource = "http"\nname = "*"'


@pytest.mark.parametrize("specversion", ["0.1", "0.2"])
@pytest.mark.parametrize("family", [family.name for family in registry.families()])
def test_a_file_with_the_lines_to_add_grants_the_family(family: str, specversion: str, path: Path) -> None:
    path.write_text(f'specversion = "{specversion}"\n\n{suggest(family, specversion)}\n')
    (grant,) = load(path).grants_for(family)
    assert grant.name == "*"


def test_there_are_no_lines_to_add_for_what_there_is_not() -> None:
    assert suggest("no-such-family", "0.2") == ""
    assert suggest("no-such-family", "0.2") == ""


# Any text at all

LINES = st.sampled_from(
    [
        'specversion = "0.1"',
        'specversion = "0.2"',
        "specversion = 0.2",
        "[[capability]]",
        "[capability]",
        "[capability.configs]",
        "[[capability.configs]]",
        "[[secret_settings]]",
        "[secret_settings]",
        'secret_store = "configs.envvars"',
        'secret_store = "configs.azapp"',
        'resource = "keyvalue.memory"',
        'resource = "keyvalue.redis"',
        'resource = "http"',
        'resource = "sql.postgres"',
        'resource = "nonsense"',
        "resource = 1979-05-27 07:32:00",
        'name = "*"',
        'name = "a"',
        'name = "keyvalue.filesystem"',
        'name = ""',
        "name = '''",
        "'''",
        "name = inf",
        'value = "x"',
        'configs = { REDIS_ADDRESS = "x" }',
        "configs = [[1, 2], { a = 1 }]",
        'configs.REDIS_ADDRESS = "${envvars.SLIGHT_PY_TEST_ADDRESS}"',
        'REDIS_ADDRESS = "${envvars.SLIGHT_PY_TEST_UNSET}"',
        'REDIS_ADDRESS = "${x}"',
        'DIRECTORY = "d"',
        'capability = [ { resource = "http", name = "web" },',
        "capability = [1, [], {}]",
        "{}",
        "]",
        '"\\u0000" = 1',
        "# a comment",
        "",
    ]
)
TOMLISH = st.lists(LINES | st.text(max_size=12), max_size=14).map("\n".join)


@given(content=TOMLISH.map(lambda text: text.encode(errors="replace")) | st.binary(max_size=60))
def test_any_content_gives_a_slightfile_or_errors_with_lines_of_the_file(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    line_count = content.count(b"\n") + 1
    slightfile, errors = loaded(path)
    assert (slightfile is None) == bool(errors)
    for error in errors:
        place = re.match(re.escape(str(path)) + r":(\d+): .", error)
        assert place, error
        assert 1 <= int(place[1]) <= line_count
        assert error.isprintable()
    for grant in slightfile.grants if slightfile else ():
        assert 1 <= grant.line <= line_count
        assert grant.resource.load
        assert grant.name
        assert set(grant.resource.required) <= set(grant.configs)


def loaded(path: Path) -> tuple[Slightfile | None, tuple[str, ...]]:
    try:
        return load(path), ()
    except UsageError as error:
        return None, error.lines


NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1), unique=True)


@given(names=NAMES, data=st.data())
def test_every_grant_has_the_line_of_its_header(
    names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = 'specversion = "0.2"\n'
    expected = []
    for name in (f"store {name}" for name in names):
        text += data.draw(st.sampled_from(["", "# [[capability]]\n", "\n\n", "  \t\n"]))
        expected.append((name, text.count("\n") + 1))
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        text += f'[[capability]]\nresource = "keyvalue.filesystem"\nname = """\\\n\n  {escaped}"""\n'
        text += data.draw(
            st.sampled_from(["", "[capability.configs]\n", "configs.DIRECTORY = '''\n[[capability]]'''\n"])
        )
    path = tmp_path_factory.getbasetemp() / "lines.toml"
    path.write_text(text, encoding="utf-8")
    assert [(grant.name, grant.line) for grant in load(path).grants] == expected


# The document


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_example_of_the_document_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks("toml")
    (project,) = [tomllib.loads(text) for text in examples if "[project]" in text]
    (source,) = blocks("python")
    install_of_the_document(project["project"], source, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slight_sqlite", raising=False)
    shutil.copytree(EXAMPLE / "slight_greeter", tmp_path / "slight_greeter")
    slightfiles = [text for text in examples if "[project]" not in text]
    granted = []
    for text in slightfiles:
        path.write_text(text, encoding="utf-8")
        granted.append([(grant.resource.name, grant.name) for grant in load(path).grants])
    assert granted == [
        [("http", "web"), ("keyvalue.redis", "orders"), ("keyvalue.memory", "cache")],
        [("keyvalue.filesystem", "*")],
        [("keyvalue.redis", "orders"), ("keyvalue.memory", "orders")],
        [("http", "*"), ("keyvalue.redis", "*")],
        [("keyvalue.sqlite", "orders")],
        [("slight_greeter/polite.py:PoliteGreeter", "*")],
    ]


def install_of_the_document(project: dict[str, object], source: str, site: Path) -> None:
    metadata = site / "slight_sqlite-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in groups.items()
    )
    (metadata / "entry_points.txt").write_text(text)
    (site / "slight_sqlite.py").write_text(source)


def test_the_document_names_every_available_resource_type_and_its_config_keys() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for family in registry.families():
        for resource in registry.available(family.name):
            for name in (resource.name, *resource.required, *resource.optional):
                assert f"`{name}`" in text


def test_values_come_from_the_environment_that_is_given(path: Path) -> None:
    path.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "keyvalue.redis"\nname = "*"\n[capability.configs]\n'
        'REDIS_ADDRESS = "${envvars.SLIGHT_PY_TEST_ADDRESS}"\n'
    )
    (grant,) = load(path, {"SLIGHT_PY_TEST_ADDRESS": "redis://of.another"}).grants
    assert grant.configs == {"REDIS_ADDRESS": "redis://of.another"}
    with pytest.raises(UsageError, match="'SLIGHT_PY_TEST_ADDRESS', the value of REDIS_ADDRESS, is not set"):
        load(path, {})
    path.write_text('specversion = "0.1"\nsecret_store = "configs.envvars"\n[[capability]]\nname = "keyvalue.redis"\n')
    (grant,) = load(path, {"REDIS_ADDRESS": "redis://of.another"}).grants
    assert grant.configs == {"REDIS_ADDRESS": "redis://of.another"}
