"""Where the kernel of native images comes from: shipped in a package, or built and kept; and what it's built with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from slight_py.errors import UsageError
from unikernel import elf, native
from unikernel.native import toolchain

REPOSITORY = Path(__file__).parents[2]
LARGEST = 1_000_000
"""Bytes that the kernel may have, less one."""


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Has the package in a folder, as an installed one: without sources. Returns where its kernel belongs."""
    monkeypatch.setattr(native, "SOURCES", folder)
    monkeypatch.setattr(native, "SHIPPED", folder / "kernel.elf")
    return folder / "kernel.elf"


def test_the_kernel_is_built_once_and_has_less_than_a_megabyte() -> None:
    built = native.kernel()
    assert elf.has_pvh_note(built.read_bytes(), built.name)
    assert built.stat().st_size < LARGEST
    began = built.stat().st_mtime_ns
    assert native.kernel() == built
    assert built.stat().st_mtime_ns == began


def test_the_kernel_names_the_files_of_crates_and_not_the_folders_they_were_in() -> None:
    content = native.kernel().read_bytes()
    assert re.search(rb"smoltcp-[\d.]+/src/", content)
    assert not re.search(rb"/registry/|/rustlib/|/home/|/root/", content)


def test_an_installed_package_takes_the_kernel_that_it_was_shipped_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = installed(monkeypatch, tmp_path)
    shipped.touch()
    assert native.kernel() == shipped


def test_an_installed_package_without_its_kernel_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = installed(monkeypatch, tmp_path)
    with pytest.raises(UsageError) as caught:
        native.kernel()
    assert caught.value.lines == (f"{shipped}: the kernel of native images is missing; install slight-py again",)


def test_a_package_has_the_kernel_and_none_of_its_sources(tmp_path: Path) -> None:
    """Of all that git has, and a file in the kernel's place."""
    tree = tmp_path / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in listed.stdout.split("\0")[:-1]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tree / name)
    (tree / "unikernel" / "native" / "kernel.elf").write_bytes(b"a kernel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        kept = [name for name in archive.namelist() if name.startswith("unikernel/native/")]
        assert archive.read("unikernel/native/kernel.elf") == b"a kernel"
    assert not [name for name in kept if not name.endswith((".py", ".elf", ".md"))]


def test_without_any_rust_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # neither a compiler nor apt-get
    with pytest.raises(UsageError) as caught:
        toolchain.obtain(lambda line: None)
    assert caught.value.lines == (
        "the kernel of native images takes Rust 1.95 or newer with the target x86_64-unknown-none: Debian's packages "
        "can't be had here; type: rustup toolchain install stable && rustup target add x86_64-unknown-none",
    )


def test_a_rust_on_path_that_is_new_enough_and_has_the_target_is_taken_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compiler(folder: Path, version: str, library: bool) -> Path:
        (folder / "lib").mkdir(parents=True)
        if library:
            (folder / "lib" / "libcore-1.rlib").touch()
        script = f'#!/bin/sh\ncase "$1" in --version) echo "rustc {version}";; *) echo {folder}/lib;; esac\n'
        for program in ("rustc", "cargo"):
            (folder / program).write_text(script)
            (folder / program).chmod(0o755)
        return folder

    old = compiler(tmp_path / "old", "1.94.9", library=True)
    bare = compiler(tmp_path / "bare", "1.95.0", library=False)
    good = compiler(tmp_path / "good", "1.95.0", library=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{old}:{bare}:{good}:/bin")
    cargo, environment = toolchain.obtain(lambda line: None)
    assert cargo == good / "cargo"
    assert environment["RUSTC"] == str(good / "rustc")
    assert toolchain.find() == (bare / "cargo", toolchain._environment(bare))
