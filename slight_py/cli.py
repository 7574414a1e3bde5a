"""The command line: what the user types, turned into one resolved configuration.

What a command needs is imported when it runs, so that `--help` and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slight_py import __version__, logs, output
from slight_py.arguments import (
    Commands,
    Formatter,
    Parser,
    add_command,
    add_compilation,
    add_limits,
    add_slightfile,
    compilation,
    count,
    variable,
)
from slight_py.errors import UsageError
from slight_py.limits import HTTP

if TYPE_CHECKING:
    from slight_py.runner import RunConfig
    from slight_py.slightfile import Slightfile


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command `slight-py`. Ends the process with the code that docs/cli.md gives."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    output.flush()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Does what the command line says; returns the exit code."""
    words, guest_arguments = _split(list(arguments))
    parser = _parser(words)
    options = parser.parse_args(words)
    options.arguments = guest_arguments
    logs.configure(options.verbose)
    try:
        return int(options.command(options))
    except UsageError as error:
        if options.verbose:
            logging.getLogger("slight_py").exception("where it was found")
        output.flush()
        for line in error.lines:
            print(f"slight-py: error: {_printable(line)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; what is left of it has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _printable(line: str) -> str:
    """A line that may hold a module's names, which are any text."""
    if line.isprintable():
        return line
    from capabilities.http.access import printable

    return printable(line, len(line))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What comes after `--` is the guest's."""
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


# Options.


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="slight-py",
        description="Runs WebAssembly: modules written for Spiderlightning, and components of WASI 0.2 and 0.3.",
        epilog="example:\n  slight-py run app.wasm -c slightfile.toml",
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"slight-py {__version__}")
    parser.add_argument("--verbose", action="store_true", help="say more, with tracebacks of errors")
    # `slight` takes it before the command; both places are right.
    parser.add_argument("-c", "--config", dest="config", metavar="FILE", type=Path, help="the slightfile")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_inspect(commands)
    _add_bindgen(commands, "bindgen" in words)
    _add_image(commands, "image" in words)
    _add_secret(commands)
    _add_add(commands)
    _add_new(commands)
    _add_buildjs(commands)
    _add_doctor(commands)
    _add_completion(commands)
    return parser


def _add_run(commands: Commands) -> None:
    command = add_command(
        commands,
        "run",
        "run modules and components, and serve for as long as one has started a server",
        "slight-py run app.wasm -c slightfile.toml --workers 2 -- one two",
    )
    command.set_defaults(command=_run)
    command.add_argument(
        "apps",
        type=Path,
        nargs="+",
        metavar="APP",
        help="a module or a component, a .wasm file; its own arguments follow `--`",
    )
    add_slightfile(command)
    command.add_argument(
        "--listen", default="127.0.0.1:3000", metavar="ADDRESS",
        help="where a component that answers requests is served (127.0.0.1:3000)",
    )  # fmt: skip
    command.add_argument("--workers", type=count, default=1, metavar="N", help="processes that answer requests (1)")
    wasi = command.add_argument_group("what the guest sees (WASI)")
    wasi.add_argument(
        "--env", action="append", default=[], metavar="K=V", type=variable, help="an environment variable"
    )
    wasi.add_argument(
        "--dir", action="append", default=[], metavar="HOST::GUEST[:ro]", type=_directory,
        help="a directory of the host, in place of the current one as `.`; `:ro` for reading alone",
    )  # fmt: skip
    wasi.add_argument("--no-dir", action="store_true", help="no directory at all")
    add_limits(command)
    command.add_argument(
        "--instance-requests", type=count, default=1, metavar="N",
        help="requests that an instance may answer, of a component that exports wasi:http/handler of WASI 0.3 (1)",
    )  # fmt: skip
    add_compilation(command)
    command.add_argument("--no-cache", action="store_true", help="compile the module anew, and keep nothing")


def _add_inspect(commands: Commands) -> None:
    command = add_command(
        commands,
        "inspect",
        "show what a module or a component imports and exports, and a slightfile that would serve it",
        "slight-py inspect app.wasm",
    )
    command.set_defaults(command=_inspect)
    command.add_argument("app", type=Path, metavar="APP", help="the module or the component, a .wasm file")
    command.add_argument("--json", action="store_true", help="as JSON")
    add_compilation(command)


def _add_bindgen(commands: Commands, meant: bool) -> None:
    """The generator describes its options itself; it is imported only where they are `meant`."""
    command = add_command(
        commands,
        "bindgen",
        "write bindings for interfaces (WIT files)",
        "slight-py bindgen python --import wit/keyvalue.wit --export wit/http-handler.wit --out-dir bindings\n"
        "  slight-py bindgen python --package wit/wasi/keyvalue-0.2.0-draft2 --interface store --out-dir bindings",
    )
    command.set_defaults(command=_bindgen)
    if meant:
        from bindgen import __main__ as bindgen

        bindgen.add_arguments(command)


def _directory(text: str) -> tuple[Path, str, bool]:
    host, separator, guest = text.partition("::")
    writable = not guest.endswith(":ro")
    guest = guest if writable else guest.removesuffix(":ro")
    if not host or not separator or not guest:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST::GUEST or HOST::GUEST:ro")
    return Path(host), guest, writable


def _add_image(commands: Commands, meant: bool) -> None:
    """As with the generator."""
    command = add_command(
        commands,
        "image",
        "pack a module as the only process of a virtual machine, and boot it",
        "slight-py image build app.wasm -c slightfile.toml -o app.img\n  slight-py image run app.img",
    )
    if meant:
        from unikernel import cli as image

        image.add_arguments(command)


def _add_secret(commands: Commands) -> None:
    command = add_command(
        commands,
        "secret",
        "keep a secret in a slightfile, encrypted with a key of yours",
        "slight-py secret -c slightfile.toml -k REDIS_ADDRESS    (asks for the value)\n"
        "  slight-py secret list -c slightfile.toml\n"
        "  slight-py secret remove -c slightfile.toml -k REDIS_ADDRESS",
    )
    command.set_defaults(command=_secret)
    command.add_argument(
        "action", nargs="?", default="set", choices=("set", "list", "remove"), metavar="ACTION",
        help="set (which needs not be said), list or remove",
    )  # fmt: skip
    command.add_argument(
        "-c", "--config", dest="config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="the slightfile"
    )
    command.add_argument("-k", "--key", metavar="KEY", help="the secret's name, as in ${usersecrets.KEY}")
    command.add_argument(
        "-v", "--value", metavar="VALUE",
        help="the secret; without it, or as `-`, it is read from standard input, and is in no shell's history",
    )  # fmt: skip


def _add_add(commands: Commands) -> None:
    command = add_command(
        commands,
        "add",
        "write an interface's WIT files into a folder, to build a guest against",
        "slight-py add keyvalue    (into keyvalue_0.5.1)",
    )
    command.set_defaults(command=_add)
    command.add_argument("interface", metavar="INTERFACE[@vX.Y.Z]", help="an interface of Spiderlightning 0.5.1")
    command.add_argument(
        "--out-dir", type=Path, default=Path(), metavar="DIR", help="where the folder goes (the current directory)"
    )


def _add_new(commands: Commands) -> None:
    command = add_command(
        commands,
        "new",
        "make a project for a guest, or for a capability in Python, which builds and runs at once",
        "slight-py new -n visits rust\n  slight-py new -n visits --component rust",
    )
    command.set_defaults(command=_new)
    command.add_argument("-n", "--name", required=True, metavar="NAME[@vX.Y.Z]", help="the project, and its folder")
    command.add_argument(
        "language", choices=("rust", "c", "js", "python"),
        help="the language of the guest; with python, of a capability of your own, with a guest in C that uses it",
    )  # fmt: skip
    command.add_argument(
        "--component", action="store_true",
        help="a component of WASI 0.2, in any of the languages, in place of a module for Spiderlightning's interfaces",
    )  # fmt: skip


def _add_buildjs(commands: Commands) -> None:
    command = add_command(
        commands,
        "buildjs",
        "build a guest from JavaScript",
        "slight-py buildjs main.js -o app.wasm",
    )
    command.set_defaults(command=_buildjs)
    command.add_argument("source", type=Path, metavar="SRC", help="the main file; it imports the others")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the module goes")
    command.add_argument(
        "-e", "--engine", type=Path, metavar="DIR", help="sources of QuickJS-ng, in place of those from crates.io"
    )
    command.add_argument(
        "--import", dest="imports", action="append", default=[], type=Path, metavar="FILE",
        help="an interface of your own (.wit), for the program to import",
    )  # fmt: skip


def _add_doctor(commands: Commands) -> None:
    command = add_command(
        commands,
        "doctor",
        "say what this machine is ready for, and what to type for what it lacks",
        "slight-py doctor",
    )
    command.set_defaults(command=_doctor)
    command.add_argument("--json", action="store_true", help="as JSON")


def _add_completion(commands: Commands) -> None:
    command = add_command(
        commands,
        "completion",
        "print what completes commands and options in a shell",
        'eval "$(slight-py completion bash)"    (in ~/.bashrc)',
    )
    command.set_defaults(command=_completion)
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


# Commands.


def _add(options: argparse.Namespace) -> int:
    from slight_py import interfaces

    print(interfaces.add(options.interface, options.out_dir), flush=True)
    return 0


def _new(options: argparse.Namespace) -> int:
    from slight_py import new

    print(new.new(options.name, options.language, Path(), options.component), flush=True)
    return 0


def _buildjs(options: argparse.Namespace) -> int:
    from slight_py.javascript import build
    from slight_py.progress import progress

    with progress("building the module"):
        build.build(
            options.source, options.output, options.engine, options.imports, logging.getLogger("slight_py").info
        )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from slight_py import doctor
    from slight_py.progress import progress
    from unikernel import doctor as machines

    with progress("looking at this machine"):
        findings = [*doctor.examine(), *machines.examine()]
    print(doctor.as_json(findings) if options.json else doctor.as_text(findings), flush=True)
    return 0 if doctor.is_fit(findings) else 1


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        raise UsageError("completion needs the Python package shtab: pip install 'slight-py[completion]'") from None
    parser = _parser(("bindgen", "image"))  # with all of their options
    print(shtab.complete(parser, shell=options.shell), flush=True)
    return 0


def _secret(options: argparse.Namespace) -> int:
    from slight_py import secret

    if options.config is None:
        raise UsageError("secret needs a slightfile; give it with -c")
    if options.action == "list":
        old = secret.old_secrets(options.config)
        for name in secret.secret_names(options.config):
            print(f"{name}  (written by slight, to be set again)" if name in old else name, flush=True)
        return 0
    if options.key is None:
        raise UsageError(f"secret {options.action} needs the secret's name; give it with -k")
    if options.action == "remove":
        secret.remove_secret(options.config, options.key)
    else:
        secret.set_secret(options.config, options.key, secret.value_from(options.value))
        for name in secret.old_secrets(options.config):
            logging.getLogger("slight_py").warning(
                "%s: the secret %r was written by slight and can't be read here; set it again: "
                "slight-py secret -c %s -k %s", options.config, name, options.config, name,
            )  # fmt: skip
    return 0


def _run(options: argparse.Namespace) -> int:
    from slight_py import loop, runner
    from slight_py.progress import progress

    modules = []
    for config in _run_configs(options):
        with progress(f"compiling {config.app}"):
            modules.append((config, runner.load(config, options.link_all_capabilities)))
    return loop.run(runner.run_all(modules))


def _run_configs(options: argparse.Namespace) -> list[RunConfig]:
    """What is to be known of each module. Raises UsageError."""
    for app in options.apps[1:]:
        if not app.exists():
            raise UsageError(f"{app}: there is no such file; what is an argument of the module's own follows `--`")
    names = [app.name for app in options.apps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two modules are called {twice}, and names tell them apart; copy one to another name")
    slightfile = _slightfile(options.config)
    if len(names) > 1:
        for place, name in slightfile.modules():
            if name not in names:
                raise UsageError(f"{place}{name} is none of the modules that are run: {', '.join(names)}; correct it")
    return [_run_config(options, app, slightfile.for_module(app.name)) for app in options.apps]


def _run_config(options: argparse.Namespace, app: Path, slightfile: Slightfile) -> RunConfig:
    from capabilities.http.settings import HttpSettings
    from slight_py.engine import Limits
    from slight_py.runner import RunConfig, cors
    from slight_py.wasi import Directory, WasiSettings, check

    if options.dir and options.no_dir:
        raise UsageError("--dir and --no-dir exclude each other; leave one out")
    if options.no_dir:
        directories = []
    elif options.dir:
        directories = [Directory(*each) for each in options.dir]
    else:
        directories = [Directory(Path(), ".")]
    wasi = WasiSettings((app.name, *options.arguments), dict(options.env), tuple(directories))
    check(wasi)
    return RunConfig(
        app=app,
        slightfile=slightfile,
        wasi=wasi,
        limits=Limits(memory=options.max_memory, instances=options.max_concurrent + 16),
        http=HttpSettings(**{option.name: getattr(options, option.name) for option in HTTP}, cors=cors(slightfile)),
        workers=options.workers,
        cache=not options.no_cache,
        compilation=compilation(options),
        access_log=options.access_log,
        verbose=options.verbose,
        module=app.name if len(options.apps) > 1 else "",
        reads_input=app == options.apps[0],
        listen=options.listen,
        instance_requests=options.instance_requests,
    )


def _slightfile(path: Path | None) -> Slightfile:
    from slight_py import slightfile

    return slightfile.load(path) if path else slightfile.embedded()


def _inspect(options: argparse.Namespace) -> int:
    from slight_py import inspection

    report = inspection.inspect(options.app, compilation(options))
    print(inspection.as_json(report) if options.json else inspection.as_text(report), flush=True)
    return 0


def _bindgen(options: argparse.Namespace) -> int:
    from bindgen import __main__ as bindgen
    from slight_py.interfaces import WASI

    return bindgen.generate(options, [WASI])
