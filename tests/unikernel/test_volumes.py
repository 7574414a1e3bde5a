"""Files and directories of the host in the machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from slight_py.errors import UsageError
from tests.unikernel import fake_guest
from unikernel import volumes
from unikernel.image import Image
from unikernel.volumes import Asked


def errors(*asked: Asked) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        volumes.check(asked)
    return caught.value.lines


def test_every_mistake_has_a_line(tmp_path: Path):
    missing, relative, device = errors(
        (tmp_path / "missing", "/data", True), (tmp_path, "data", True), (Path("/dev/null"), "/data", True)
    )
    assert "there is no" in missing
    assert "begins with /" in relative
    assert "neither a file nor a directory" in device


def test_a_path_out_of_the_machines_tree_is_refused(tmp_path: Path):
    assert "not a path" in errors((tmp_path, "/data/../etc", True))[0]


def test_volumes_at_one_place_are_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    assert "given twice" in errors((tmp_path, "/data", True), (tmp_path, "//data/", True))[0]
    assert "holds files" in errors((tmp_path, "/data", True), (file, "/data/file", True))[0]
    assert "some are :ro" in errors((file, "/data/a", True), (file, "/data/b", False))[0]


def test_more_directories_than_the_machine_has_slots_are_refused(tmp_path: Path):
    assert "at most 4" in errors(*((tmp_path, f"/data{number}", True) for number in range(5)))[0]


def test_files_of_one_directory_share_a_share(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    checked = volumes.check([(tmp_path / "a", "/data/one", True), (tmp_path / "b", "/data/two", True)])
    with volumes.shared(checked) as [(share, path)]:
        assert path == "/data"
        assert sorted(each.name for each in share.folder.iterdir()) == ["one", "two"]
        assert (share.folder / "one").samefile(tmp_path / "a")
        (share.folder / "two").write_text("changed")
    assert not share.folder.exists()
    assert (tmp_path / "b").read_text() == "changed"


def test_a_symbolic_link_is_followed_once_before_the_machine_starts(tmp_path: Path):
    (tmp_path / "target").write_text("content")
    (tmp_path / "link").symlink_to("target")
    [volume] = volumes.check([(tmp_path / "link", "/data/file", True)])
    assert volume.host == tmp_path / "target"


def test_a_file_on_another_file_system_is_copied_and_brought_back(tmp_path: Path):
    # Hard links don't reach from one file system to another; /dev/shm is one of its own.
    other = Path("/dev/shm") / f"slight-py-{os.getpid()}"
    other.write_text("before")
    (tmp_path / "first").touch()
    try:
        checked = volumes.check([(tmp_path / "first", "/data/first", True), (other, "/data/second", True)])
        with volumes.shared(checked) as [(share, _)]:
            assert share.folder.parent == tmp_path
            assert (share.folder / "second").read_text() == "before"
            (share.folder / "second").write_text("after!")
        assert other.read_text() == "after!"
    finally:
        other.unlink()


def test_a_link_that_the_machine_puts_in_place_of_a_file_is_not_followed(tmp_path: Path):
    secret, file = tmp_path / "secret", tmp_path / "file"
    secret.write_text("secret")
    file.write_text("public")
    with volumes.shared(volumes.check([(file, "/data/file", True)])) as [(share, _)]:
        (share.folder / "file").unlink()
        (share.folder / "file").symlink_to(secret)
    assert file.read_text() == "public"


def test_what_becomes_of_a_file_for_reading_changes_nothing(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("public")
    with volumes.shared(volumes.check([(file, "/data/file", False)])) as [(share, _)]:
        (share.folder / "file").unlink()
        (share.folder / "file").write_text("changed")
    assert file.read_text() == "public"


def test_a_machine_reads_and_writes_a_directory(fake: Image, tmp_path: Path):
    (tmp_path / "in").write_text("content")
    done = fake_guest.run(fake, "--volume", f"{tmp_path}:/mnt", "--", "volume")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "content"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o644


def test_a_machine_can_not_write_to_a_directory_for_reading(fake: Image, tmp_path: Path):
    (tmp_path / "in").write_text("content")
    done = fake_guest.run(fake, "--volume", f"{tmp_path}:/mnt:ro", "--", "volume")
    assert done.returncode == 30, done.stderr  # EROFS
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_a_file_that_the_machine_replaces_is_replaced_on_the_host(fake: Image, tmp_path: Path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    target.touch()
    mounted = ("--volume", f"{source}:/mnt/in", "--volume", f"{target}:/mnt/out")
    done = fake_guest.run(fake, *mounted, "--", "volume", "replace")
    assert done.returncode == 0, done.stderr
    assert target.read_text() == "content"
    assert source.read_text() == "replaced"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]
