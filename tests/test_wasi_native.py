"""WASI preview 1 of the native machine beside wasmtime's own and that of `slight-py run`: files can be read there, and
not be written. See test_wasi_like_wasmtime.py, whose calls these are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import GuestFault
from slight_py.engine import Exit, Trap
from tests.native_wasi import native
from tests.test_wasi_like_wasmtime import POINTERS, READ, SCENARIOS, UNALIGNED, compared
from tests.wasi_subjects import ENDED, Ours, Subject, granted, ours, wasmtimes


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_comes_of_calls_is_what_comes_of_them_in_wasmtime(name: str, tmp_path: Path) -> None:
    mine, theirs = compared(SCENARIOS[name], tmp_path, writable=False, subjects=(native, wasmtimes))
    assert mine == theirs


@pytest.mark.parametrize("calls", [POINTERS, UNALIGNED], ids=["past the memory", "not aligned"])
def test_a_bad_pointer_ends_the_guest(calls: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    def call(subject: Subject) -> Any:
        subject.open("file", 0, READ)
        return {name: subject.call(name, *arguments) for name, arguments in calls.items()}

    mine, theirs = compared(call, tmp_path, writable=False, subjects=(native, wasmtimes))
    assert mine == theirs == dict.fromkeys(calls, ENDED)


class Telling(Subject):
    """slight-py's, where the reasons are kept for which calls end the guest."""

    def __init__(self, ours: Ours) -> None:
        self._ours = ours
        self.reasons: list[str] = []
        self.read, self.write = ours.read, ours.write  # type: ignore[method-assign]  # they are the same

    def call(self, name: str, *args: int) -> Any:
        try:
            return self._ours.called(name, *args)
        except (GuestFault, Trap) as error:
            self.reasons.append(str(error))
            return ENDED
        except Exit as ended:
            return f"exit {ended.code}"


def test_guests_are_ended_for_the_same_reasons_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    settings = granted(tmp_path, tmp_path, writable=False)

    def calls(subject: Subject) -> None:
        subject.open("file", 0, READ)
        for name, arguments in (*POINTERS.items(), *UNALIGNED.items()):
            subject.call(name, *arguments)
        SCENARIOS["values_that_are_none"](subject)
        SCENARIOS["exits_that_are_a_shells"](subject)

    with ours(settings) as subject:
        mine = Telling(subject)
        calls(mine)
    with native(settings) as machine:
        calls(machine)
    assert len(mine.reasons) > len(POINTERS)
    assert machine.reasons == mine.reasons
