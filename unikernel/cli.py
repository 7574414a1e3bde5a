"""The command `slight-py image`: packs an application, boots it, shows what is inside.

What a command needs is imported when it runs, so that `--help` and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slight_py import limits, open_files
from slight_py.arguments import (
    Commands,
    add_command,
    add_compilation,
    add_limits,
    add_slightfile,
    compilation,
    count,
    seconds,
    size,
    variable,
)
from slight_py.errors import UsageError

if TYPE_CHECKING:
    from unikernel.options import RunOptions
    from unikernel.uhyve import Tap

FORMATS = ("img", "kernel+initrd", "qcow2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(commands)
    _add_run(commands)
    _add_inspect(commands)


def _add_build(commands: Commands) -> None:
    command = add_command(
        commands,
        "build",
        "pack a module, its slightfile, the runtime and a kernel into one file",
        "slight-py image build app.wasm -c slightfile.toml -o app.img",
    )
    command.set_defaults(command=_build)
    command.add_argument(
        "app", type=Path, metavar="APP", nargs="?",
        help="the module, a .wasm file; without one, the image is a function service, which gets its module later",
    )  # fmt: skip
    add_slightfile(command)
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where the image goes (APP with the ending .img)"
    )
    command.add_argument(
        "--format", default="img", metavar="LIST", type=_formats,
        help="what is written, separated by commas: img (one file for all), kernel+initrd, qcow2",
    )  # fmt: skip
    command.add_argument(
        "--cpu", choices=("portable", "native"), default="portable",
        help="what the module is compiled for: any x86-64, or processors like this one (portable)",
    )  # fmt: skip
    command.add_argument(
        "--kernel",
        type=_kernel,
        metavar="FILE",
        help="a kernel in place of ours: a PVH vmlinux, a bzImage, or `cloud` for Debian's",
    )
    command.add_argument("--smp", action="store_true", help="a kernel that uses more than one processor")
    command.add_argument(
        "--native", action="store_true",
        help="our own kernel in place of Linux and Python: small and quick, for modules that use http and keyvalue",
    )  # fmt: skip
    add_compilation(command)


def _add_run(commands: Commands) -> None:
    command = add_command(
        commands,
        "run",
        "boot an image under QEMU, and end with the exit code of its application",
        "slight-py image run app.img -p 8080:3000 --env GREETING=hello -- one two",
    )
    command.set_defaults(command=_run)
    command.add_argument("image", type=Path, metavar="IMAGE", help="the image; the module's arguments follow `--`")
    command.add_argument(
        "-c", "--config", dest="config", metavar="FILE", type=Path, default=argparse.SUPPRESS,
        help="the slightfile: the image gets the values that it leaves out of it, and the network if it grants one",
    )  # fmt: skip
    command.add_argument(
        "--pass", action="append", default=[], dest="passed", metavar="NAME",
        help="let the image have this environment variable, as a value that it leaves out",
    )  # fmt: skip
    command.add_argument("--net", action="store_true", help="let the image reach the host and the network")
    command.add_argument(
        "-p", "--port", action="append", default=[], metavar="HOST:GUEST", type=_port,
        help="forward a port of the host, as in 8080:3000 or 0.0.0.0:8080:3000, in place of the same one",
    )  # fmt: skip
    command.add_argument(
        "--volume", action="append", default=[], metavar="HOST:GUEST[:ro]", type=_volume,
        help="a file or a directory of the host that the module sees as GUEST; `:ro` for reading alone",
    )  # fmt: skip
    command.add_argument(
        "--map", action="append", default=[], dest="mapped", metavar="FILE[:GUEST]", type=_mapped,
        help="a file that the module may read at GUEST, an absolute path (/files/FILE)",
    )  # fmt: skip
    command.add_argument(
        "--env", action="append", default=[], metavar="K=V", type=variable, help="an environment variable"
    )
    command.add_argument(
        "--channel", type=Path, metavar="DIR",
        help="the function service's sockets: DIR/command.sock and DIR/data.sock",
    )  # fmt: skip
    machine = command.add_argument_group("the machine")
    machine.add_argument("--memory", type=size, metavar="SIZE", help="of the machine (256M; 64M of a native image)")
    machine.add_argument(
        "--cpus", type=count, default=1, metavar="N", help="more than one takes an image with --smp (1)"
    )
    machine.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto",
        help="KVM, software emulation, or KVM where a machine boots with it (auto)",
    )  # fmt: skip
    machine.add_argument(
        "--boot-timeout", type=seconds, default=60.0, metavar="SECONDS", help="time until the runtime is up (60)"
    )
    machine.add_argument(
        "--vmm", choices=("qemu", "uhyve"), default="qemu",
        help="what the machine runs in; uhyve takes native images (qemu)",
    )  # fmt: skip
    machine.add_argument(
        "--tap", type=_tap, metavar="NAME[:ADDRESS/BITS:GATEWAY]",
        help="under uhyve, the host's network device that the machine is connected to, and the machine's address",
    )  # fmt: skip
    demand = command.add_argument_group("a machine for who connects")
    demand.add_argument(
        "--on-demand", action="store_true", help="listen at the ports of -p, and boot when somebody connects"
    )
    demand.add_argument(
        "--idle", type=seconds, default=30.0, metavar="SECONDS", help="how long it stays without a connection (30)"
    )
    snapshots = command.add_argument_group("snapshots").add_mutually_exclusive_group()
    snapshots.add_argument(
        "--snapshot", type=Path, metavar="FILE", help="boot, save the machine once it serves, and end"
    )
    snapshots.add_argument("--restore", type=Path, metavar="FILE", help="go on from there")
    add_limits(command)
    add_compilation(command)
    # The machine has values of its own for these, by what memory it has.
    by_room = (limits.MAX_MEMORY, limits.MAX_MODULE, limits.COMPILE_MEMORY)
    command.set_defaults(**{option.name: None for option in by_room})


def _add_inspect(commands: Commands) -> None:
    command = add_command(
        commands,
        "inspect",
        "show what is in an image, with sizes, versions and hashes",
        "slight-py image inspect app.img",
    )
    command.set_defaults(command=_inspect)
    command.add_argument("image", type=Path, metavar="IMAGE", help="the image")
    command.add_argument("--json", action="store_true", help="as JSON")


# Values.


def _formats(text: str) -> tuple[str, ...]:
    # `raw` is what other tools call a disk image with nothing around it, which an .img is.
    found = tuple(dict.fromkeys("img" if each == "raw" else each for each in text.split(",")))
    for each in found:
        if each not in FORMATS:
            raise argparse.ArgumentTypeError(f"{each!r} is not a format; there are raw (or img), kernel+initrd, qcow2")
    return found


def _kernel(text: str) -> Path | Literal["cloud"]:
    return "cloud" if text == "cloud" else Path(text)


def _port(text: str) -> tuple[str, int, int]:
    *address, host, guest = text.split(":") if ":" in text else (text, text)
    ports = [int(each) if each.isascii() and each.isdigit() else -1 for each in (host, guest)] if host else [-1]
    if len(address) > 1 or not all(0 < each < 1 << 16 for each in ports):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not PORT, HOST:GUEST or ADDRESS:HOST:GUEST, with ports from 1 to 65535"
        )
    return (address[0] if address else "127.0.0.1"), ports[0], ports[1]


def _volume(text: str) -> tuple[Path, str, bool]:
    rest = text.removesuffix(":ro")
    host, separator, guest = rest.rpartition(":")
    if not host or not separator or not guest:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:GUEST or HOST:GUEST:ro")
    return Path(host), guest, rest == text


def _mapped(text: str) -> tuple[Path, str, bool]:
    host, separator, guest = text.rpartition(":")
    if not separator:
        host, guest = text, f"/files/{Path(text).name}"
    if not host or not guest:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE or FILE:GUEST")
    return Path(host), guest, False


def _tap(text: str) -> Tap:
    from unikernel.uhyve import Tap

    name, *rest = text.split(":")
    try:
        if not name or len(rest) not in (0, 2):
            raise ValueError
        if not rest:
            return Tap(name)
        return Tap(name, ipaddress.IPv4Interface(rest[0]), ipaddress.IPv4Address(rest[1]))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME or NAME:ADDRESS/BITS:GATEWAY, as in tap0:172.16.0.2/24:172.16.0.1"
        ) from None


# Commands.


def _build(options: argparse.Namespace) -> int:
    from unikernel import build, flavours

    if options.app is None and (options.config or options.link_all_capabilities):
        raise UsageError(
            "a function service has no slightfile, as its module comes later; name a module, or leave it out"
        )
    output = options.output or Path(f"{options.app.stem if options.app else 'service'}.img")
    written = build.build(
        options.app,
        options.config,
        output,
        flavour=flavours.named("native" if options.native else "linux"),
        formats=options.format,
        cpu=options.cpu,
        kernel=options.kernel,
        smp=options.smp,
        link_all=options.link_all_capabilities,
        compilation=compilation(options),
        progress=_say,
    )
    for path in written:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return 0


def _say(line: str) -> None:
    print(f"slight-py: {line}", file=sys.stderr, flush=True)


def _run(options: argparse.Namespace) -> int:
    from unikernel import image, launch

    found = image.read(options.image)
    run_options = _run_options(options, found.flavour.memory)
    if options.tap and options.vmm != "uhyve":
        raise UsageError("--tap is for --vmm uhyve; QEMU's machines have a network of their own, see -p and --net")
    if options.vmm == "uhyve":
        from unikernel import uhyve

        if options.on_demand:
            raise UsageError("--on-demand takes QEMU, which forwards ports; leave --vmm uhyve out")
        return asyncio.run(uhyve.run(found, run_options, options.tap))
    open_files.allow()  # a connection is one of QEMU's, and two more of ours on demand
    if options.on_demand:
        from unikernel import demand_machine

        return asyncio.run(demand_machine.run(found, run_options, options.idle))
    return asyncio.run(launch.run(found, run_options))


def _run_options(options: argparse.Namespace, memory: int) -> RunOptions:
    """`memory` is what the machine has where none is asked for, in bytes."""
    from unikernel.options import RunOptions

    return RunOptions(
        memory=options.memory or memory,
        cpus=options.cpus,
        ports=tuple(options.port),
        env=dict(options.env),
        args=tuple(options.arguments),
        volumes=(*options.volume, *options.mapped),
        accel=options.accel,
        slightfile=options.config,
        passed=tuple(options.passed),
        network=options.net,
        channel=options.channel,
        snapshot=options.snapshot,
        restore=options.restore,
        boot_timeout=options.boot_timeout,
        verbose=options.verbose,
        limits={
            option.name: value
            for option in limits.ALL
            if option is not limits.VERBOSE and (value := getattr(options, option.name)) is not None
        },
    )


def _inspect(options: argparse.Namespace) -> int:
    from unikernel import image, inspection

    report = inspection.inspect(image.read(options.image))
    print(inspection.as_json(report) if options.json else inspection.as_text(report), flush=True)
    return 0
