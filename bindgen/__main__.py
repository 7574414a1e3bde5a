"""The command of the generator: `slight-py bindgen`, or `python -m bindgen` where the folder stands alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from bindgen.backends import Backend, BackendError, Option, c, javascript, markdown, python, rust, rust_host
from bindgen.wit_parser import WitError, load_many

BACKENDS = (
    Backend("c", "guest", c.write),
    Backend("javascript", "guest", javascript.write),
    Backend("markdown", None, markdown.write),
    Backend("python", "host", python.write, (python.RUNTIME_OPTION,)),
    Backend("rust", "guest", rust.write),
    Backend("rust", "host", rust_host.write),
)
"""What there is for each language: what comes first is meant where no side is named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    languages = sorted({backend.language for backend in BACKENDS})
    parser.add_argument("language", choices=languages, help="the language of the bindings")
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
    offered = "; ".join(f"{language}: {' or '.join(_sides(language))}" for language in languages if _sides(language))
    parser.add_argument("--side", choices=("guest", "host"), help=f"what the bindings are for ({offered})")
    for option, backends in _options().items():
        theirs = ", ".join(f"{backend.language} {backend.side or ''}".strip() for backend in backends)
        parser.add_argument(f"--{option.name}", metavar=option.metavar, help=f"{option.help} ({theirs})")
    parser.add_argument("--out-dir", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")


def _sides(language: str) -> list[str]:
    """The sides that there are bindings for, the one that is meant where none is named first."""
    return [backend.side for backend in BACKENDS if backend.language == language and backend.side]


def _options() -> dict[Option, list[Backend]]:
    """The options of all backends, each with those that have it."""
    found: dict[Option, list[Backend]] = {}
    for backend in BACKENDS:
        for option in backend.options:
            found.setdefault(option, []).append(backend)
    return found


def generate(options: argparse.Namespace) -> int:
    """Writes the bindings, or with `--check` compares them; returns the exit code."""
    if not options.imports and not options.exports:
        print("bindgen: error: name at least one interface with --import or --export", file=sys.stderr)
        return 2
    try:
        backend = _chosen(options.language, options.side)
        choices = _choices(backend, vars(options))
        interfaces = load_many([*options.imports, *options.exports])
        imports, exports = interfaces[: len(options.imports)], interfaces[len(options.imports) :]
        files = backend.write(imports, exports, **choices)
        return _check(options.out_dir, files) if options.check else _write(options.out_dir, files)
    except WitError as error:
        print(error, file=sys.stderr)
    except BackendError as error:
        print(f"bindgen: error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"bindgen: error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 2


def _chosen(language: str, side: str | None) -> Backend:
    """The backend of a language. Raises BackendError where there is none for the side."""
    for backend in BACKENDS:
        if backend.language == language and side in (None, backend.side):
            return backend
    sides = " or ".join(_sides(language))
    reason = (
        f"{language} is for a {sides}" if sides else f"{language} is for readers, and has no side: leave --side out"
    )
    raise BackendError(f"there are no {language} bindings for a {side}; {reason}")


def _choices(backend: Backend, given: Mapping[str, str | None]) -> dict[str, str]:
    """The backend's options as they were chosen. Raises BackendError for one that it doesn't have."""
    for option in _options():
        if option not in backend.options and given[option.name] is not None:
            raise BackendError(f"--{option.name} is not for {backend.language} bindings of a {backend.side}")
    return {option.name: given[option.name] or option.default for option in backend.options}


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
