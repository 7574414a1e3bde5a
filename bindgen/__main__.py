"""The command of the generator: `slight-py bindgen`, or `python -m bindgen` where the folder stands alone."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bindgen.backends import Backend, BackendError, Option, c, javascript, markdown, python, rust, rust_host
from bindgen.wit_packages import load_package
from bindgen.wit_parser import WitError, load_many
from bindgen.wit_parser.model import Interface, World

BACKENDS = (
    Backend("c", "guest", c.write, for_components="`wit-bindgen c`, from the crate wit-bindgen-cli"),
    Backend("javascript", "guest", javascript.write, for_components="the npm package @bytecodealliance/jco"),
    Backend("markdown", None, markdown.write),
    Backend("python", "host", python.write, (python.RUNTIME_OPTION,)),
    Backend("rust", "guest", rust.write, for_components="`wit_bindgen::generate!`, from the crate wit-bindgen"),
    Backend("rust", "host", rust_host.write, for_components="`wasmtime::component::bindgen!`, from the crate wasmtime"),
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
    _add_package_arguments(parser)
    offered = "; ".join(f"{language}: {' or '.join(_sides(language))}" for language in languages if _sides(language))
    parser.add_argument("--side", choices=("guest", "host"), help=f"what the bindings are for ({offered})")
    for option, backends in _options().items():
        theirs = ", ".join(f"{backend.language} {backend.side or ''}".strip() for backend in backends)
        parser.add_argument(f"--{option.name}", metavar=option.metavar, help=f"{option.help} ({theirs})")
    parser.add_argument("--out-dir", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")


def _add_package_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written for components, of today's WIT."""
    group = parser.add_argument_group("components")
    group.add_argument(
        "--package", type=Path, metavar="PATH", help="a package of today's WIT: a folder of .wit files, or one file"
    )
    group.add_argument(
        "--world", metavar="NAME", help="the world of the package whose imports and exports are meant (its only one)"
    )
    group.add_argument(
        "--interface",
        dest="interfaces",
        action="append",
        default=[],
        metavar="NAME",
        help="an interface of the package that a component imports, in place of a world",
    )
    group.add_argument(
        "--deps",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder of packages, where those are looked for that are not in the folder deps of the package",
    )
    group.add_argument(
        "--features", default="", metavar="NAMES", help="@unstable features that are on, with commas between them"
    )


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


def generate(options: argparse.Namespace, packages: Sequence[Path] = ()) -> int:
    """Writes the bindings, or with `--check` compares them; returns the exit code.

    `packages` are folders of packages that a package may use, besides those which the user names.
    """
    try:
        _check_input(options)
        backend = _chosen(options.language, options.side)
        choices = _choices(backend, vars(options))
        imports, exports = _components(options, backend, packages) if options.package else _modules(options)
        files = backend.write(imports, exports, **choices)
        return _check(options.out_dir, files) if options.check else _write(options.out_dir, files)
    except WitError as error:
        print(error, file=sys.stderr)
    except BackendError as error:
        print(f"bindgen: error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"bindgen: error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 2


def _check_input(options: argparse.Namespace) -> None:
    """Raises BackendError where it isn't clear what bindings are for."""
    if not options.imports and not options.exports and not options.package:
        raise BackendError("name at least one interface with --import or --export, or a package with --package")
    if options.package and (options.imports or options.exports):
        raise BackendError(
            "--import and --export take the WIT of 2022, and --package today's: one command is for one of them"
        )
    if options.world and options.interfaces:
        raise BackendError("--interface is for bindings without a --world")
    given = {"--world": options.world, "--interface": options.interfaces, "--deps": options.deps}
    for name, value in {**given, "--features": options.features}.items():
        if value and not options.package:
            raise BackendError(f"{name} is about a package: name that with --package")


def _modules(options: argparse.Namespace) -> tuple[Sequence[Interface], Sequence[Interface]]:
    """The interfaces of 2022 that modules import and export. Raises WitError, and BackendError for today's WIT."""
    files = [*options.imports, *options.exports]
    try:
        interfaces = load_many(files)
    except WitError:
        today = next(filter(_is_package, files), None)
        if today is None:
            raise
        raise BackendError(f"{today} is a package of today's WIT, for components: name it with --package") from None
    return interfaces[: len(options.imports)], interfaces[len(options.imports) :]


def _is_package(file: Path) -> bool:
    """Whether a file says which package it is of, as those of today's WIT do."""
    try:
        return re.search(rb"^\s*package\s+[\w%-]+:", file.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def _components(
    options: argparse.Namespace, backend: Backend, packages: Sequence[Path]
) -> tuple[Sequence[Interface], Sequence[Interface]]:
    """The interfaces of today that components import and export. Raises BackendError."""
    if backend.for_components:
        side = f" of a {backend.side}" if len(_sides(backend.language)) > 1 else ""
        raise BackendError(
            f"{backend.language} bindings{side} are for modules here, and not for components;"
            f" for those, use {backend.for_components}"
        )
    features = [name.strip() for name in options.features.split(",") if name.strip()]
    package = load_package(options.package, [*options.deps, *packages], features)
    try:
        if options.interfaces:
            return [package.interface(name) for name in options.interfaces], []
        return _sides_of(package.world(options.world or ""))
    except LookupError as error:
        raise BackendError(f"{options.package}: {error.args[0]}") from None


def _sides_of(world: World) -> tuple[Sequence[Interface], Sequence[Interface]]:
    """The interfaces that a world imports, and those that it exports. Raises BackendError for what is in none."""
    for thing in (*world.imports, *world.exports, *world.types, *world.resources):
        if not isinstance(thing, Interface) or thing.package is None:
            raise BackendError(
                f"`{thing.name}` is defined in the world `{world.name}` itself;"
                " bindings are for interfaces of a package: move it into one"
            )
    imports = [each for each in world.imports if isinstance(each, Interface)]
    return imports, [each for each in world.exports if isinstance(each, Interface)]


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
        path = directory / name
        path.parent.mkdir(exist_ok=True)  # the folder of a package
        path.write_text(text, encoding="utf-8")
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
