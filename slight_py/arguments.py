"""What the commands share on the command line: how mistakes are said, the limits, and values as users write them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from slight_py import limits
from slight_py.limits import Option

if TYPE_CHECKING:
    from slight_py.compilation import CompileLimits

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for every other mistake."""

    def error(self, message: str) -> NoReturn:
        print(f"slight-py: error: {message}; see `{self.prog} --help`", file=sys.stderr)
        sys.exit(2)


class Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""What commands are added to; the library has no public name for it."""


def add_command(commands: Commands, name: str, about: str, example: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example:\n  {example}",
        formatter_class=Formatter,
    )  # fmt: skip
    command.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help="say more")
    return command


def add_slightfile(command: argparse.ArgumentParser) -> None:
    """What a module is granted."""
    command.add_argument(
        "-c", "--config", dest="config", metavar="FILE", type=Path, default=argparse.SUPPRESS,
        help="the slightfile; without one, every capability has its embedded backend",
    )  # fmt: skip
    command.add_argument(
        "-l", "--link-all-capabilities", action="store_true",
        help="give what the slightfile does not grant its embedded backend",
    )  # fmt: skip


def add_limits(command: argparse.ArgumentParser) -> None:
    """What bounds a module, wherever it runs."""
    _add_options(command.add_argument_group("limits"), limits.RUNNING)
    command.add_argument(limits.ACCESS_LOG.flag, choices=limits.LOG_FORMS, help=limits.ACCESS_LOG.about)


def add_compilation(command: argparse.ArgumentParser) -> None:
    """What bounds the compilation of a module."""
    _add_options(command.add_argument_group("limits of a module's compilation"), limits.COMPILATION)


def _add_options(group: argparse._ArgumentGroup, options: Iterable[Option]) -> None:
    for option in options:
        parse, metavar, default = _KINDS[option.kind]
        group.add_argument(
            option.flag,
            type=parse,
            default=option.default,
            metavar=metavar,
            help=f"{option.about} ({default(option.default)})",
        )


def compilation(options: argparse.Namespace) -> CompileLimits:
    """The same, as it was said."""
    from slight_py.compilation import CompileLimits

    return CompileLimits(options.max_module, options.compile_timeout, options.compile_memory)


# Values: each of these takes an option's text, and raises argparse's error for what it can't be.


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, up to a day")
    return number


def size(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if (
        unit not in _SIZES
        or not number.isascii()
        or not number.isdigit()
        or not 0 < int(number) * _SIZES[unit] <= 1 << 32
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in bytes, such as 512K, 64M or 1G, up to 4G")
    return int(number) * _SIZES[unit]


def variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


_KINDS: Mapping[str, tuple[Callable[[str], float], str, Callable[[float], str]]] = {
    limits.SIZE: (size, "SIZE", lambda default: limits.size_text(int(default))),
    limits.SECONDS: (seconds, "SECONDS", "{:g}".format),
    limits.COUNT: (count, "N", str),
}
"""How the value of an option is read, what it is called, and how the default is said, by the option's kind."""
