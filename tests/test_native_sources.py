"""The native machine's tests in Rust: of all that knows nothing of the machine, as a program of this system."""

from __future__ import annotations

import re
from pathlib import Path

from tests.native_guests import compile_guests
from tests.native_programs import run_cargo


def test_the_native_machines_own_tests_pass(tmp_path: Path) -> None:
    compile_guests(tmp_path)
    done = run_cargo("test", SLIGHT_GUESTS=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(int(count) for count in re.findall(r"test result: ok. (\d+) passed", done.stdout)) > 100
