"""The guests of the native machine's own tests, compiled ahead: `python -m tests.native_guests [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from wasmtime import wat2wasm

from slight_py import ahead
from unikernel.native import SOURCES


def compile_guests(folder: Path) -> None:
    """Writes a .cwasm file to a folder for each .wat file of unikernel/native/tests/guests."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((SOURCES / "tests" / "guests").glob("*.wat")):
        compiled = ahead.compile_ahead(bytes(wat2wasm(path.read_text())), ahead.TARGET)
        (folder / path.with_suffix(".cwasm").name).write_bytes(compiled)


if __name__ == "__main__":
    compile_guests(Path(sys.argv[1]) if sys.argv[1:] else SOURCES / "target" / "guests")
