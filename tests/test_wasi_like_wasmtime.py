"""WASI preview 1 beside wasmtime's own: the same calls, in two directories that are the same, and what comes of them.

A scenario is a function that makes calls and notes what comes of each. What differs on purpose is not in them: it is in
docs/wasi.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import pytest
import wasmtime

from slight_py import wasi
from slight_py.engine import WASI
from tests.wasi_subjects import BUFFER, PAGES, RESULT, RESULT2, VECTORS, Subject, granted, ours, wasmtimes

READ, WRITE = 1 << 1, 1 << 6
CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
SET, CUR, END = 0, 1, 2
NOW = (2, 8)
TIME = 1_500_000_000_123_456_789

Scenario = Callable[[Subject], Any]

SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def furnish(home: Path, outside: Path) -> None:
    """A directory with something of everything."""
    (home / "below" / "deep").mkdir(parents=True)
    (home / "empty").mkdir()
    (home / "file").write_bytes(b"0123456789")
    (home / "below" / "inner").write_bytes(b"inner")
    (home / "closed").write_bytes(b"closed")
    (home / "größe").write_bytes(b"")
    links = {
        "to-file": "file",
        "to-below": "below",
        "to-below-slash": "below/",
        "dangling": "nothing",
        "dangling-below": "below/nothing",
        "loop": "loop",
        "ping": "pong",
        "pong": "ping",
        "up": "..",
        "up-and-down": "../home/file",
        "out": "../outside/secret",
        "absolute": str(outside / "secret"),
        "dot": ".",
        "chain": "to-below/../to-file",
        "below/back": "../file",
        "below/back-too-far": "../../outside/secret",
    }
    for name, target in links.items():
        (home / name).symlink_to(target)
    for number in range(50):
        (home / f"link{number}").symlink_to(f"link{number + 1}" if number < 45 else "file")
    os.mkfifo(home / "fifo")
    for each in (home / "file", home / "below", home / "closed"):
        os.utime(each, ns=(TIME, TIME))


PATHS = (
    *("file", "file/", "file/.", "file/..", "file/../file", "./file", ".//file", "below/inner", "below//inner", "."),
    *("./", "..", "../", "../home/file", "below/..", "below/../..", "below/../file", "below/../../outside/secret", "/"),
    *("/file", "", "nothing", "nothing/", "nothing/file", "below/nothing", "to-file", "to-file/", "to-below", "below/"),
    *("to-below/", "to-below/inner", "to-below/../file", "to-below-slash", "to-below-slash/inner", "dangling", "loop"),
    *("dangling/", "dangling-below", "ping", "up", "up/", "up/home/file", "up-and-down", "out", "absolute", "dot"),
    *("dot/file", "chain", "below/back", "below/back-too-far", "größe", "x" * 255, "x" * 256, "x/" * 100 + "x"),
    *("link0", "link5", "link6", "link7", "link10", "below/deep/../../file", "./below/./deep/.", "empty/", "empty"),
)
"""Ways to say where something is."""


@scenario
def opening(subject: Subject) -> Any:
    return {(path, follow): subject.open(path, follow=follow)[0] for path in PATHS for follow in (0, 1)}


@scenario
def opening_to_write(subject: Subject) -> Any:
    return {path: subject.open(path, rights=WRITE)[0] for path in PATHS}


@scenario
def opening_to_write_without_following(subject: Subject) -> Any:
    return {path: subject.open(path, rights=WRITE, follow=0)[0] for path in PATHS}


@scenario
def opening_a_directory(subject: Subject) -> Any:
    return {(path, follow): subject.open(path, DIRECTORY, follow=follow)[0] for path in PATHS for follow in (0, 1)}


@scenario
def opening_a_directory_to_write(subject: Subject) -> Any:
    return {path: subject.open(path, DIRECTORY, rights=READ | WRITE)[0] for path in ("file", "below", ".", "nothing")}


@scenario
def creating(subject: Subject) -> Any:
    return {path: (subject.open(path, CREATE, rights=READ | WRITE)[0], subject.status(path)) for path in PATHS}


@scenario
def creating_exclusively(subject: Subject) -> Any:
    return {path: subject.open(path, CREATE | EXCLUSIVE, rights=WRITE)[0] for path in PATHS}


@scenario
def truncating(subject: Subject) -> Any:
    return {path: (subject.open(path, TRUNCATE, rights=READ)[0], subject.status(path)) for path in ("file", "below")}


@scenario
def combinations_of_flags(subject: Subject) -> Any:
    return {
        (oflags, rights, flags): subject.open("file", oflags, rights, flags)[0]
        for oflags in range(16)
        for rights in (0, READ, WRITE, READ | WRITE)
        for flags in (0, APPEND, DSYNC, NONBLOCK, RSYNC, SYNC)
    }


@scenario
def statuses(subject: Subject) -> Any:
    return {(path, follow): subject.status(path, follow) for path in PATHS for follow in (0, 1)}


@scenario
def identities(subject: Subject) -> Any:
    same = {path: subject.identity(path, 1) == subject.identity("file", 1) for path in PATHS}
    return same, subject.identity("file") == subject.identity(subject.open("file")[1])


@scenario
def reading_links(subject: Subject) -> Any:
    found = {}
    for path in PATHS:
        subject.write(RESULT, bytes(4))
        error = subject.call("path_readlink", 3, *subject.path(path), BUFFER, 100, RESULT)
        found[path] = error, subject.read(BUFFER, subject.u32())
    subject.call("path_readlink", 3, *subject.path("to-below-slash"), BUFFER, 3, RESULT)
    return found, subject.read(BUFFER, subject.u32())


def tree(subject: Subject) -> Any:
    return {path: subject.entries(subject.open(path, DIRECTORY)[1]) for path in (".", "below", "empty")}


@scenario
def creating_directories(subject: Subject) -> Any:
    return {path: subject.at("path_create_directory", path) for path in (*PATHS, "new", "new2/", "new/er")}, tree(
        subject
    )


@scenario
def removing_files(subject: Subject) -> Any:
    return {path: subject.at("path_unlink_file", path) for path in PATHS}, tree(subject)


@scenario
def removing_directories(subject: Subject) -> Any:
    # With a slash behind it, wasmtime removes no directory at all.
    paths = [path for path in PATHS if not path.endswith("/")]
    return {path: subject.at("path_remove_directory", path) for path in paths}, tree(subject)


TARGETS = ("new", "new/", "file", "empty", "below", "to-file", "../x", "/x", "", "nothing/x", "below/new", ".", "up/x")


@scenario
def renaming(subject: Subject) -> Any:
    found = {}
    for old in (
        "file",
        "file/",
        "empty",
        "empty/",
        "to-below",
        "to-below/",
        "nothing",
        "../x",
        "below/inner",
        "up/file",
    ):
        for new in TARGETS:
            error = subject.call("path_rename", 3, *subject.path(old), 3, *subject.path(new, 1))
            found[old, new] = error
            if error == 0:
                back = subject.call(
                    "path_rename", 3, *subject.path(new.rstrip("/")), 3, *subject.path(old.rstrip("/"), 1)
                )
                found[old, new, "back"] = back
                for name in ("file", "to-file"):
                    subject.open(name, CREATE, rights=WRITE)
                for name in ("empty", "below"):
                    subject.at("path_create_directory", name)
    return found, tree(subject)


@scenario
def linking(subject: Subject) -> Any:
    found = {}
    for number, old in enumerate(("file", "file/", "empty", "to-file", "to-below/", "nothing", "../x", "below/inner")):
        for new in (*TARGETS, f"linked{number}"):
            for follow in (0, 1):
                found[old, new, follow] = subject.call(
                    "path_link", 3, follow, *subject.path(old), 3, *subject.path(new, 1)
                )
    return found, tree(subject), subject.status("file")


@scenario
def making_links(subject: Subject) -> Any:
    found = {}
    for number, target in enumerate(("file", "nothing", "../x", "/x", "", "below/", ".")):
        for path in (*TARGETS, f"made{number}"):
            found[target, path] = subject.call("path_symlink", *subject.path(target), 3, *subject.path(path, 1))
    return found, tree(subject)


@scenario
def reading(subject: Subject) -> Any:
    _, file = subject.open("file")
    return [
        subject.take(file, 4), subject.take(file, 4), subject.take(file, 4), subject.take(file, 4),
        subject.take(file, 3, 2), subject.take(file, 100, 8), subject.take(file, 3, 100), subject.take(file, 0),
        subject.call("fd_tell", file, RESULT), subject.u64(), subject.take(file, 4, 1 << 63), subject.print(file, b"x"),
        subject.print(file, b"x", 3), subject.take(3, 4), subject.take(99, 4), subject.take(1, 4), subject.take(0, 4),
        subject.take(0, 4, 0), subject.take(1, 4, 0), subject.take(3, 4, 0),
    ]  # fmt: skip


def size(subject: Subject, of: int | str, follow: int = 1) -> Any:
    """What is told of a file but for its times; WASI's error where nothing is."""
    found = subject.status(of, follow)
    return found if isinstance(found, int) else found[:4]


@scenario
def writing(subject: Subject) -> Any:
    _, file = subject.open("new", CREATE, READ | WRITE)
    return [
        subject.print(file, b"hello"), subject.print(file, b", you"), subject.print(file, b"J", 0),
        subject.print(file, b"!", 20), size(subject, "new"), subject.take(file, 5), subject.seek(file, 0, SET),
        subject.take(file, 100), subject.print(file, b""), subject.print(file, b"x" * 100_000), size(subject, file),
        subject.print(3, b"x"), subject.print(99, b"x"), subject.print(0, b"x"), subject.print(1, b"x", 0),
        subject.print(0, b"x", 0), subject.print(3, b"x", 0),
    ]  # fmt: skip


@scenario
def writing_only(subject: Subject) -> Any:
    _, file = subject.open("file", 0, WRITE)
    return subject.take(file, 4), subject.print(file, b"abc"), subject.take(file, 4, 0), subject.seek(file, 0, CUR)


@scenario
def appending(subject: Subject) -> Any:
    _, file = subject.open("file", 0, READ | WRITE, APPEND)
    return [
        subject.print(file, b"abc"), subject.call("fd_tell", file, RESULT), subject.u64(), subject.print(file, b"d", 0),
        subject.seek(file, 0, SET), subject.take(file, 100), subject.call("fd_fdstat_set_flags", file, 0),
        subject.print(file, b"X", 0), subject.take(file, 100, 0), subject.call("fd_fdstat_set_flags", file, APPEND),
        subject.print(file, b"Y", 0), subject.take(file, 100, 0), stat(subject, file),
    ]  # fmt: skip


@scenario
def several_buffers(subject: Subject) -> Any:
    _, file = subject.open("file")
    subject.write(VECTORS, pack("<8I", BUFFER, 0, BUFFER + 16, 3, BUFFER + 32, 4, 0, 0))
    found: list[Any] = []
    for count in (0, 1, 2, 3, 4):
        subject.write(BUFFER, bytes(64))
        found += [count, subject.call("fd_read", file, VECTORS, count, RESULT), subject.u32(), subject.read(BUFFER, 64)]
    return found


@scenario
def seeking(subject: Subject) -> Any:
    _, file = subject.open("file")
    offsets = (0, 5, 10, 100, -1, -5, -100, (1 << 63) - 1, -(1 << 63))
    found = [(offset, whence, subject.seek(file, offset, whence)) for offset in offsets for whence in range(4)]
    streams = [
        (number, subject.seek(number, 0, CUR), subject.call("fd_tell", number, RESULT)) for number in (0, 1, 2, 3, 99)
    ]
    return found, streams


def stat(subject: Subject, number: int) -> Any:
    return subject.call("fd_fdstat_get", number, BUFFER) or unpack_from("<BxH4xQQ", subject.read(BUFFER, 24))


@scenario
def descriptors(subject: Subject) -> Any:
    subject.open("file")
    subject.open("file", 0, WRITE)
    subject.open("file", 0, READ | WRITE, APPEND | NONBLOCK)
    subject.open("below", DIRECTORY)
    subject.open("below", 0, 0)
    subject.open("new", CREATE, 0)
    return [(number, stat(subject, number)) for number in range(12)]


@scenario
def flags(subject: Subject) -> Any:
    _, file = subject.open("file")
    found: list[Any] = [
        (flags, subject.call("fd_fdstat_set_flags", file, flags), stat(subject, file)) for flags in range(34)
    ]
    found += [subject.call("fd_fdstat_set_flags", number, 0) for number in (0, 1, 3, 99)]
    return found, [subject.call("fd_fdstat_set_rights", number, READ, READ) for number in (0, 1, 3, file, 99)]


@scenario
def granted_directories(subject: Subject) -> Any:
    found = []
    for number in (2, 3, 4, 5, 6):
        found.append((subject.call("fd_prestat_get", number, RESULT), subject.read(RESULT, 8)))
        for size in (0, 1, 5, 100):
            subject.write(BUFFER, bytes(16))
            found.append((subject.call("fd_prestat_dir_name", number, BUFFER, size), subject.read(BUFFER, 16)))
    opened = subject.open("below", DIRECTORY)
    return found, opened, subject.call("fd_prestat_get", opened[1], RESULT), subject.open("given", directory=4)


@scenario
def numbers(subject: Subject) -> Any:
    found: list[Any] = [subject.open("file")[1] for _ in range(5)]
    for number in (6, 8, 5, 99, 6):
        found.append(subject.call("fd_close", number))
    found += [subject.open("file")[1] for _ in range(5)]
    found += [
        subject.call("fd_renumber", *pair) for pair in ((5, 6), (5, 6), (6, 6), (99, 6), (6, 99), (99, 99), (7, 1))
    ]
    found += [subject.open("file")[1] for _ in range(3)]
    found += [subject.call("fd_close", number) for number in (3, 4, 0, 1, 2)]
    return found, subject.open("file"), [stat(subject, number) for number in range(12)]


@scenario
def a_renumbered_file(subject: Subject) -> Any:
    _, first = subject.open("file")
    _, second = subject.open("below/inner")
    subject.take(first, 2)
    return subject.call("fd_renumber", first, second), subject.take(second, 3), subject.take(first, 3)


@scenario
def reading_directories(subject: Subject) -> Any:
    for number in range(200):
        subject.open(f"empty/entry-{number:03}", CREATE, WRITE)
    _, directory = subject.open("empty", DIRECTORY)
    subject.write(RESULT, bytes(4))
    return [
        *(subject.entries(directory, size) for size in (BUFFER, 4096, 1000, 100, 36)),
        subject.entries(3), subject.entries(subject.open("file")[1]), subject.entries(99), subject.entries(0),
        subject.call("fd_readdir", directory, BUFFER, 10, 0, RESULT), subject.u32(),
        subject.call("fd_readdir", directory, BUFFER, 0, 0, RESULT), subject.u32(),
    ]  # fmt: skip


@scenario
def a_directory_that_is_gone(subject: Subject) -> Any:
    _, directory = subject.open("empty", DIRECTORY)
    return [
        subject.at("path_remove_directory", "empty"), subject.open("x", CREATE, WRITE, directory=directory)[0],
        subject.status("x", directory=directory), subject.status("empty"),
    ]  # fmt: skip


@scenario
def a_file_that_is_gone(subject: Subject) -> Any:
    _, file = subject.open("file", 0, READ | WRITE)
    return (
        subject.at("path_unlink_file", "file"),
        subject.take(file, 4),
        subject.print(file, b"x"),
        subject.status(file),
    )


@scenario
def sizes(subject: Subject) -> Any:
    _, file = subject.open("file", 0, READ | WRITE)
    _, read_only = subject.open("file")
    found: list[Any] = []
    for new in (3, 0, 1000, 1 << 63, (1 << 64) - 1):
        found += [new, subject.call("fd_filestat_set_size", file, new), size(subject, file)]
    found += [subject.call("fd_filestat_set_size", number, 5) for number in (read_only, 1, 3, 99)]
    return found, [subject.call("fd_allocate", number, 0, 10) for number in (file, read_only, 3, 1, 99)]


@scenario
def times(subject: Subject) -> Any:
    _, file = subject.open("file", 0, READ | WRITE)
    _, below = subject.open("below", DIRECTORY)
    found: list[Any] = []
    for flags in range(17):
        if not flags & 10:  # now is another time each time
            found += [
                flags,
                subject.call("fd_filestat_set_times", file, TIME + flags, TIME - flags, flags),
                subject.status(file),
            ]
            found += [
                subject.call("path_filestat_set_times", 3, 1, *subject.path("to-file"), TIME, flags, flags),
                subject.status(file), size(subject, "to-file", 0),
                subject.call("fd_filestat_set_times", below, TIME - flags, TIME + flags, flags),
                subject.status("below"),
            ]  # fmt: skip
        else:
            found += [flags, subject.call("fd_filestat_set_times", file, 1, 2, flags)]
            found += [subject.call("path_filestat_set_times", 3, 0, *subject.path("to-file"), 1, 2, flags)]
    found += [subject.call("fd_filestat_set_times", number, 1, 1, 5) for number in (0, 1, 99, 3)]
    found += [(each, subject.call("path_filestat_set_times", 3, 1, *subject.path(each), 7, 8, 5)) for each in PATHS]
    return found, subject.status("file"), subject.status("below")


@scenario
def advice(subject: Subject) -> Any:
    _, file = subject.open("file")
    found: list[Any] = [subject.call("fd_advise", file, 0, 10, each) for each in range(8)]
    found += [subject.call("fd_advise", number, 0, 10, 0) for number in (1, 3, 99)]
    return found, [subject.call(name, number) for name in ("fd_sync", "fd_datasync") for number in (file, 1, 3, 99)]


@scenario
def names_that_are_none(subject: Subject) -> Any:
    found = {}
    for name in (b"\xff", b"a\xffb", b"a\0b", b"\0", b"file\0", b"x" * 5000, b"./" * 2100, b"\xed\xa0\x80"):
        found[name] = [
            subject.open(name)[0], subject.open(name, CREATE, WRITE)[0], subject.at("path_create_directory", name),
            subject.at("path_unlink_file", name), subject.at("path_remove_directory", name),
            subject.call("path_filestat_get", 3, 1, *subject.path(name), BUFFER),
            subject.call("path_readlink", 3, *subject.path(name), BUFFER, 10, RESULT),
            subject.call("path_rename", 3, *subject.path(name), 3, *subject.path("file", 1)),
            subject.call("path_rename", 3, *subject.path("file"), 3, *subject.path(name, 1)),
            subject.call("path_link", 3, 0, *subject.path("file"), 3, *subject.path(name, 1)),
            subject.call("path_symlink", *subject.path("file"), 3, *subject.path(name, 1)),
            subject.call("path_symlink", *subject.path(name), 3, *subject.path("made", 1)),
        ]  # fmt: skip
    return found


@scenario
def paths_of_what_is_no_directory(subject: Subject) -> Any:
    _, file = subject.open("file")
    return [
        [
            subject.open("file", directory=number)[0],
            subject.at("path_create_directory", "x", number),
            subject.at("path_unlink_file", "x", number),
            subject.at("path_remove_directory", "x", number),
            subject.status("file", directory=number),
            subject.call("path_readlink", number, *subject.path("x"), BUFFER, 10, RESULT),
            subject.call("path_rename", number, *subject.path("x"), 3, *subject.path("y", 1)),
            subject.call("path_rename", 3, *subject.path("file"), number, *subject.path("y", 1)),
            subject.call("path_link", 3, 0, *subject.path("file"), number, *subject.path("y", 1)),
            subject.call("path_symlink", *subject.path("x"), number, *subject.path("y", 1)),
            subject.call("path_filestat_set_times", number, 1, *subject.path("x"), 1, 1, 5),
        ]
        for number in (0, 1, file, 99)
    ]  # fmt: skip


@scenario
def below_an_opened_directory(subject: Subject) -> Any:
    _, below = subject.open("below", DIRECTORY)
    paths = ("inner", "..", "../file", "back", "deep/../inner", "deep/../..", "back-too-far", ".")
    return {path: subject.open(path, directory=below)[0] for path in paths}


@scenario
def arguments_and_variables(subject: Subject) -> Any:
    found: list[Any] = []
    for name in ("args", "environ"):
        found += [subject.call(f"{name}_sizes_get", RESULT, RESULT2), subject.u32(), subject.u32(RESULT2)]
        found += [subject.call(f"{name}_get", VECTORS, BUFFER), subject.read(VECTORS, 16), subject.read(BUFFER, 40)]
    return found


@scenario
def clocks(subject: Subject) -> Any:
    return [
        (number, subject.call("clock_res_get", number, RESULT), subject.call("clock_time_get", number, 0, RESULT))
        for number in range(6)
    ]


@scenario
def resolutions(subject: Subject) -> Any:
    return [(subject.call("clock_res_get", number, RESULT), subject.u64()) for number in (0, 1)]


@scenario
def signals_sockets_and_the_rest(subject: Subject) -> Any:
    _, file = subject.open("file")
    found: list[Any] = [subject.call("proc_raise", number) for number in (0, 9, 15, 30, 31)]
    for number in (0, 1, 3, file, 99):
        found += [
            subject.call("sock_accept", number, 0, RESULT), subject.call("sock_recv", number, 0, 0, 0, RESULT, RESULT2),
            subject.call("sock_send", number, 0, 0, 0, RESULT), subject.call("sock_shutdown", number, 1),
        ]  # fmt: skip
    return found, subject.call("sched_yield"), subject.call("random_get", BUFFER, 100)


@scenario
def exits(subject: Subject) -> Any:
    return subject.call("proc_exit", 7)


@scenario
def exits_that_are_a_shells(subject: Subject) -> Any:
    return [subject.call("proc_exit", code) for code in (126, 255, 1 << 31)][:1]


@scenario
def a_fifo(subject: Subject) -> Any:
    return subject.status("fifo"), ("fifo", 0) in subject.entries(3), subject.at("path_unlink_file", "fifo")


@scenario
def values_that_are_none(subject: Subject) -> Any:
    _, file = subject.open("file")
    path = subject.path("file")
    return [
        subject.call("path_open", 3, 2, *path, 0, READ, 0, 0, RESULT),
        subject.call("path_open", 3, 1, *path, 16, READ, 0, 0, RESULT),
        subject.call("path_open", 3, 1, *path, 0, 1 << 30, 0, 0, RESULT),
        subject.call("path_open", 3, 1, *path, 0, READ, 1 << 63, 0, RESULT),
        subject.call("path_open", 3, 1, *path, 0, READ, 0, 32, RESULT),
        subject.call("path_filestat_get", 3, 2, *path, BUFFER),
        subject.call("path_filestat_set_times", 3, 2, *path, 1, 1, 5),
        subject.call("path_filestat_set_times", 3, 1, *path, 1, 1, 16),
        subject.call("path_link", 3, 2, *path, 3, *path),
        subject.call("fd_fdstat_set_rights", file, 1 << 30, 0), subject.call("fd_advise", file, 0, 0, 6),
        subject.call("proc_raise", 31), subject.call("clock_res_get", 4, RESULT),
        subject.call("clock_time_get", 1 << 31, 0, RESULT), subject.call("fd_seek", file, 0, 256, RESULT),
    ]  # fmt: skip


BAD = PAGES * 65536 - 2
"""An address with less than four bytes behind it."""

POINTERS: dict[str, tuple[int, ...]] = {
    "args_get": (BAD, BUFFER), "args_sizes_get": (BAD, RESULT), "environ_get": (VECTORS, BAD),
    "environ_sizes_get": (RESULT, BAD), "clock_res_get": (0, BAD), "clock_time_get": (0, 0, BAD),
    "fd_fdstat_get": (3, BAD), "fd_filestat_get": (3, BAD), "fd_prestat_get": (3, BAD),
    "fd_prestat_dir_name": (4, BAD, 5), "fd_read": (0, BAD, 1, RESULT), "fd_write": (1, BAD, 1, RESULT),
    "fd_pread": (5, BAD, 1, 0, RESULT), "fd_pwrite": (5, BAD, 1, 0, RESULT), "fd_seek": (5, 0, 0, BAD),
    "fd_tell": (5, BAD), "fd_readdir": (3, BAD, 100, 0, RESULT), "path_create_directory": (3, BAD, 10),
    "path_filestat_get": (3, 0, BAD, 10, BUFFER), "path_filestat_set_times": (3, 0, BAD, 10, 0, 0, 5),
    "path_link": (3, 0, BAD, 10, 3, BUFFER, 1), "path_open": (3, 0, BAD, 10, 0, 2, 0, 0, RESULT),
    "path_readlink": (3, BAD, 10, BUFFER, 10, RESULT), "path_remove_directory": (3, BAD, 10),
    "path_rename": (3, BAD, 10, 3, BUFFER, 1), "path_symlink": (BAD, 10, 3, BUFFER, 1),
    "path_unlink_file": (3, BAD, 10), "random_get": (BAD, 10),
}  # fmt: skip
"""Calls with an address past the memory."""

UNALIGNED: dict[str, tuple[int, ...]] = {
    "args_get": (VECTORS + 1, BUFFER), "clock_res_get": (0, RESULT + 4), "fd_fdstat_get": (3, RESULT + 4),
    "fd_filestat_get": (3, RESULT + 4), "fd_read": (0, VECTORS + 2, 1, RESULT), "fd_tell": (5, RESULT + 4),
    "args_sizes_get": (RESULT + 2, RESULT), "fd_prestat_get": (3, RESULT + 1),
}  # fmt: skip


def compared(
    call: Scenario, tmp_path: Path, writable: bool = True, subjects: tuple[Any, Any] = (ours, wasmtimes)
) -> list[Any]:
    """What comes of it with us and with wasmtime."""
    found = []
    for which, subject_of in zip(("ours", "them"), subjects, strict=True):
        home, outside, second = (tmp_path / which / each for each in ("home", "outside", "given"))
        for each in (home, outside, second):
            each.mkdir(parents=True)
        (outside / "secret").write_bytes(b"of the house")
        furnish(home, outside)
        (second / "given").write_bytes(b"given")
        with subject_of(granted(home, second, writable=writable)) as subject:
            found.append(call(subject))
        assert (outside / "secret").read_bytes() == b"of the house"
        assert os.listdir(outside) == ["secret"]
        assert sorted(os.listdir(tmp_path / which)) == ["given", "home", "outside"]
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_comes_of_calls_is_what_comes_of_them_in_wasmtime(name: str, tmp_path: Path) -> None:
    mine, theirs = compared(SCENARIOS[name], tmp_path)
    assert mine == theirs


@pytest.mark.parametrize("name", SCENARIOS)
def test_and_in_directories_for_reading_alone(name: str, tmp_path: Path) -> None:
    mine, theirs = compared(SCENARIOS[name], tmp_path, writable=False)
    assert mine == theirs


@pytest.mark.parametrize("name", POINTERS)
def test_a_pointer_past_the_memory_ends_the_guest_in_both(name: str, tmp_path: Path) -> None:
    def call(subject: Subject) -> Any:
        subject.open("file", 0, READ | WRITE)
        return subject.call(name, *POINTERS[name])

    assert compared(call, tmp_path) == ["ended", "ended"]


@pytest.mark.parametrize("name", UNALIGNED)
def test_a_pointer_that_is_not_aligned_ends_the_guest_in_both(name: str, tmp_path: Path) -> None:
    def call(subject: Subject) -> Any:
        subject.open("file", 0, READ | WRITE)
        return subject.call(name, *UNALIGNED[name])

    assert compared(call, tmp_path) == ["ended", "ended"]


def test_every_function_has_the_signature_that_it_has_in_wasmtime() -> None:
    linker = wasmtime.Linker(wasmtime.Engine())
    linker.define_wasi()
    store = wasmtime.Store(linker.engine)
    assert len(wasi.IMPORTS) == len(wasi.FUNCTIONS) == 46
    for each in wasi.IMPORTS:
        found = linker.get(store, WASI, each.name)
        assert isinstance(found, wasmtime.Func), each.name
        type_ = found.type(store)
        letters = {"i32": "i", "i64": "I"}
        assert "".join(letters[str(param)] for param in type_.params) == each.params, each.name
        assert "".join(letters[str(result)] for result in type_.results) == each.result, each.name
