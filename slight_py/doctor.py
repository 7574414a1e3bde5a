"""`slight-py doctor`: what this machine is ready for, and the command that mends each lack."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from slight_py.toolchains import find_rust, said

CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    """What it is for: `run`, `capabilities`, `build`, `image`."""
    what: str
    ready: bool
    detail: str
    """Which version there is, or what goes without it."""
    mend: str = ""
    """The command to type where it isn't ready, or what else to do."""
    needed: bool = False
    """Whether `run` can't do without it."""


def examine() -> list[Finding]:
    """Looks at all that this package uses. Programs are asked for their versions. What images need, the package
    `unikernel` knows (unikernel/doctor.py)."""
    return [*_runtime(), *_capabilities(), *_compilers()]


def as_json(findings: list[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def as_text(findings: list[Finding]) -> str:
    """A line a finding, by areas, and a line for what mends it."""
    lines: list[str] = []
    for area in dict.fromkeys(finding.area for finding in findings):
        lines += ["", area] if lines else [area]
        for finding in findings:
            if finding.area == area:
                lines.append(f"  {'ready  ' if finding.ready else 'missing'}  {finding.what}: {finding.detail}")
                if finding.mend:
                    lines.append(f"{' ' * 11}{finding.mend}")
    return "\n".join(lines)


def is_fit(findings: list[Finding]) -> bool:
    """Whether modules can be run here at all."""
    return all(finding.ready for finding in findings if finding.needed)


# What runs modules.


def _runtime() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("run", "Python", sys.version_info >= (3, 11), version, "", needed=True)
    for package in ("wasmtime", "aiohttp"):
        yield _package(
            "run", package, "nothing runs without it", "pip install --force-reinstall slight-py", needed=True
        )
    built = all(
        importlib.util.find_spec(name) for name in ("slight_py._store", "slight_py._slots", "bindgen.runtime._support")
    )
    yield Finding(
        "run",
        "parts in C",
        built,
        "built" if built else "not built, so calls are slower",
        "" if built else f"{apt('gcc', 'python3-dev')}; pip install --force-reinstall --no-deps slight-py",
    )
    yield _package("run", "uvloop", "a faster event loop", "pip install 'slight-py[fast]'")
    yield _cache()


def _cache() -> Finding:
    """Compiled modules are kept between runs where the cache can be written."""
    from slight_py import cache

    try:
        folder = cache.directory("modules")
    except OSError as error:
        return Finding("run", "cache", False, f"compiled modules are not kept: {error}", "set XDG_CACHE_HOME")
    there = next(each for each in (folder, *folder.parents) if each.exists())
    ready = os.access(there, os.W_OK | os.X_OK)
    mend = "" if ready else f"make {there} yours, or set XDG_CACHE_HOME to a folder of yours"
    return Finding("run", "cache", ready, str(folder) if ready else f"{there} can't be written", mend)


def _package(area: str, name: str, purpose: str, mend: str, needed: bool = False) -> Finding:
    try:
        return Finding(area, name, True, importlib.metadata.version(name), "", needed)
    except importlib.metadata.PackageNotFoundError:
        return Finding(area, name, False, purpose, mend, needed)


# What stands behind capabilities.


def _capabilities() -> Iterator[Finding]:
    """The extras of this package, each with the resource types that need it; and the Redis that is named."""
    from capabilities import registry

    needing: dict[str, list[str]] = {}
    for family in registry.families():
        for resource in registry.available(family.name):
            if resource.extra:
                needing.setdefault(resource.extra, []).append(resource.name)
    for extra, resources in sorted(needing.items()):
        lacking = _lacking(extra)
        yield Finding(
            "capabilities",
            ", ".join(resources),
            not lacking,
            f"{', '.join(lacking)} not installed" if lacking else "installed",
            f"pip install 'slight-py[{extra}]'" if lacking else "",
        )
    yield program("capabilities", "redis-server", "--version", "a Redis of one's own", "redis-server")
    if address := os.environ.get("REDIS_ADDRESS"):
        yield _redis(address)


def _lacking(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    names = []
    for requirement in importlib.metadata.requires("slight-py") or ():
        if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", requirement):
            name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            if not _package("", name, "", "").ready:
                names.append(name)
    return names


def _redis(address: str) -> Finding:
    """Whether the Redis of REDIS_ADDRESS answers. The address may hold a password, and is not shown."""
    from capabilities.errors import ConfigError

    what = "Redis at REDIS_ADDRESS"

    async def ask() -> None:
        from capabilities.keyvalue.redis import RedisBackend

        backend = RedisBackend({"REDIS_ADDRESS": address})
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await backend.run("PING", repeatable=False)
        finally:
            await backend.close()

    try:
        asyncio.run(ask())
    except ConfigError as error:
        return Finding("capabilities", what, False, str(error), "correct the environment variable REDIS_ADDRESS")
    except Exception as error:
        value = getattr(error, "value", error)
        reason = getattr(value, "value", None) or str(value) or "it did not answer in time"
        return Finding("capabilities", what, False, str(reason), "start it, or correct REDIS_ADDRESS")
    return Finding("capabilities", what, True, "it answers")


# What builds guests.


def _compilers() -> Iterator[Finding]:
    yield _package("build", "ziglang", "guests in C need it", "pip install ziglang")
    rust = find_rust()
    if rust is None:
        yield Finding("build", "Rust", False, "guests in Rust need rustc and cargo", apt("rustc", "cargo"))
        return
    yield Finding("build", "Rust", True, f"{said(rust.rustc, '--version')} ({rust.rustc})")
    mend = "rustup target add wasm32-wasip1" if shutil.which("rustup") else apt("libstd-rust-dev-wasm32", "lld")
    target = rust.target
    yield Finding("build", "Rust for WASI", bool(target), target or "no standard library", "" if target else mend)


# Programs.


def program(area: str, name: str, option: str, lack: str, package: str) -> Finding:
    """Whether a program is there, and what it says to `option`. `lack` is what goes without it."""
    found = shutil.which(name)
    if found is None:
        return Finding(area, name, False, lack, apt(package))
    return Finding(area, name, True, said(found, option).partition("\n")[0] or found)


def apt(*packages: str) -> str:
    """The command that installs Debian's packages."""
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt install {' '.join(packages)}"
