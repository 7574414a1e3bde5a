"""The command of the generator: `slight-py bindgen`, or `python -m bindgen` where the folder stands alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bindgen.backends import BackendError, c, markdown, python, rust
from bindgen.wit_parser import WitError, load_many
from bindgen.wit_parser.model import Interface

BACKENDS: Mapping[str, Callable[[Sequence[Interface], Sequence[Interface]], dict[str, str]]] = {
    "c": c.write,
    "markdown": markdown.write,
    "python": python.write,
    "rust": rust.write,
}
"""What writes the bindings of a language: the imported and the exported interfaces in, files by name out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("language", choices=sorted(BACKENDS), help="the language of the bindings")
    for side, about in (("import", "the guest imports and the host offers"), ("export", "the guest exports")):
        parser.add_argument(
            f"--{side}",
            dest=f"{side}s",
            action="append",
            type=Path,
            default=[],
            metavar="FILE",
            help=f"an interface (.wit or .wit.md) that {about}",
        )
    parser.add_argument("--out-dir", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")


def generate(options: argparse.Namespace) -> int:
    """Writes the bindings, or with `--check` compares them; returns the exit code."""
    if not options.imports and not options.exports:
        print("bindgen: error: name at least one interface with --import or --export", file=sys.stderr)
        return 2
    try:
        interfaces = load_many([*options.imports, *options.exports])
    except WitError as error:
        print(error, file=sys.stderr)
        return 2
    imports, exports = interfaces[: len(options.imports)], interfaces[len(options.imports) :]
    try:
        files = BACKENDS[options.language](imports, exports)
        return _check(options.out_dir, files) if options.check else _write(options.out_dir, files)
    except BackendError as error:
        print(f"bindgen: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bindgen: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def _write(directory: Path, files: Mapping[str, str]) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


def _check(directory: Path, files: Mapping[str, str]) -> int:
    stale = [
        path
        for name, text in files.items()
        if not (path := directory / name).is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(f"bindgen: error: {path} is not what the interfaces give; generate it again", file=sys.stderr)
    return 1 if stale else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bindgen", description="Writes bindings for WIT interfaces.")
    add_arguments(parser)
    return generate(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
