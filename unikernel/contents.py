"""What goes into the root file system of an image: interpreter, modules, libraries, and the application."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capabilities import registry
from slight_py.errors import UsageError
from slight_py.slightfile import Grant
from unikernel import bytecode, closure, elf, rootfs
from unikernel.application import REDIS, Application
from unikernel.closure import Module
from unikernel.guest import network
from unikernel.manifest import AppManifest, app_json
from unikernel.rootfs import Directory, File, Link, Tree

if TYPE_CHECKING:
    from unikernel.kernel import Kernel

PARTS = ("interpreter", "standard library", "wasmtime", "packages", "runtime", "app")

LIBRARY = f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
"""Where the modules lie. It must be below /usr: Python, asked where its library is, doesn't look in the root."""

INIT = """#!/usr/bin/python3 -IS
from unikernel.guest.init import main

main()
"""

ETC: Mapping[str, File | Link] = {
    "etc/hosts": Link(network.HOSTS),
    "etc/resolv.conf": Link(network.RESOLV),
    # glibc asks a name server first where this is missing.
    "etc/nsswitch.conf": File(b"hosts: files dns\n"),
}
"""What the C library looks names up in."""

SERVER = "the HTTP server, and http is not granted"
_HTTP_CUTS = {
    f"capabilities.http.{name}": SERVER
    for name in ("aiohttp_server", "connection", "dispatch", "host", "limit", "listen", "message", "routes", "server")
} | {"slight_py.handlers": SERVER, "capabilities.bindings.http_server_export": SERVER}

_COMPONENT_CUTS = dict.fromkeys(
    ("slight_py.component", "slight_py.wasi.preview2", "slight_py.wasi.preview3", "capabilities.wasi"),
    "components, and the application is none",
)

_STANDARD = "standard library"
_FILES = "slight_py_files."
"""What the modules of the slightfile's Python files are called here, with the number of the grant."""


class Contents:
    """The tree of an image, and which part each file belongs to."""

    def __init__(self, application: Application, kernel: Kernel) -> None:
        self.tree = Tree()
        self.packages: dict[str, str] = {}
        self.parts: dict[str, str] = {}
        self._libraries: dict[str, Path] = {}
        self._application = application
        self._add_system()
        self._add_interpreter()
        self._add_modules()
        self._add_libraries()
        for path, content in _kernel_modules(kernel):
            self._add(path, File(content), "runtime")

    def only(self, part: str) -> Tree:
        """What belongs to one part."""
        tree = Tree()
        for path, entry in self.tree:
            if self.parts.get(path) == part:
                tree.add(path, entry)
        return tree

    def add_app(self, manifest: AppManifest) -> None:
        self._add("app/app.json", File(app_json(manifest).encode()), "app")
        if self._application.facts:
            self._add("app/module.cwasm", File(self._application.compiled), "app")

    def _add(self, path: str, entry: rootfs.Entry, part: str) -> None:
        self.tree.add(path, entry)
        self.parts[path] = part

    def _add_system(self) -> None:
        for name in ("app", "dev", "etc", "proc", "run", "sys", "tmp"):
            self.tree.add(name, Directory())
        self._add("sbin/init", File(INIT.encode(), executable=True), "runtime")
        self._add("init", Link("sbin/init"), "runtime")
        for path, entry in ETC.items():
            self._add(path, entry, "runtime")

    def _add_interpreter(self) -> None:
        path = interpreter()
        loader = elf.needed(path).interpreter
        if loader is None:
            raise UsageError(f"{path}: this Python is linked statically, and so can't load wasmtime; use another one")
        self._loader = loader
        self._add_binary("usr/bin/python3", path, "interpreter")
        self._add(loader.lstrip("/"), File(_stripped(Path(loader)), executable=True), "interpreter")
        # What Python knows its library by.
        self.tree.add(f"{LIBRARY}/lib-dynload", Directory())

    def _add_binary(self, path: str, file: Path, part: str) -> None:
        self._add(path, File(_stripped(file), executable=True), part)
        for name, found in _needed_libraries(self._loader, file):
            known = self._libraries.setdefault(name, found)
            if known != found and known.read_bytes() != found.read_bytes():
                raise UsageError(f"{found} and {known} are of the same name, and an image has room for one of them")

    def _add_libraries(self) -> None:
        for name, path in self._libraries.items():
            self._add(f"lib/{name}", File(_stripped(path), executable=True), "interpreter")

    # Modules.

    def _add_modules(self) -> None:
        found = modules_of(self._application)
        for name, module in found.modules.items():
            if name.startswith(_FILES):
                self._add_file(module)
            elif module.path is not None:
                self._add_module(module, _part(name))
            if name in closure.LIBRARIES:
                self._add_library(*closure.LIBRARIES[name])
        for package in {name.partition(".")[0] for name in found.modules}:
            if (owner := closure.owner_of(package)) and owner != "wasmtime":
                self.packages |= {name: each for name, each in closure.distributions([owner]).items() if name == owner}
        self._add_entry_points()
        if "_ssl" in found.modules:
            self._add_certificates()

    def _add_module(self, module: Module, part: str) -> None:
        assert module.path is not None
        place = f"{LIBRARY}/{module.name.replace('.', '/')}"
        if module.is_extension:
            folder = f"{LIBRARY}/lib-dynload" if part == _STANDARD else os.path.dirname(place)
            self._add_binary(f"{folder}/{module.path.name}", module.path, part)
        elif module.path.suffix == ".py":
            inside = f"{module.name.replace('.', '/')}{'/__init__' if module.is_package else ''}"
            code = bytecode.compile_module(module.path.read_bytes(), f"{inside}.py")
            self._add(f"{LIBRARY}/{inside}.pyc", File(code), part)

    def _add_library(self, package: str, name: str) -> None:
        owner = closure.find(package)
        assert owner is not None, package
        self._add_binary(f"{LIBRARY}/{package}/{name}", Path(owner.search[0], name), _part(package))

    def _add_file(self, module: Module) -> None:
        """A Python file of the user's. It stays one, as he may look into it, with its compiled form beside it."""
        if module.path is None or module.path.suffix != ".py":
            return
        _, number, *names = module.name.split(".")
        if module.is_package:
            names.append("__init__")
        folder = "/".join(["app", "custom", number, *names[:-1]])
        source = module.path.read_bytes()
        code = bytecode.compile_module(source, f"/{folder}/{names[-1]}.py")
        self._add(f"{folder}/{names[-1]}.py", File(source), "app")
        compiled = f"{folder}/__pycache__/{names[-1]}.{sys.implementation.cache_tag}.pyc"
        self._add(compiled, File(code), "app")

    def _add_entry_points(self) -> None:
        """What the registry finds the capabilities of installed packages by."""
        for distribution in _distributions_of(self._application.foreign):
            folder = f"{LIBRARY}/{distribution.name}-{distribution.version}.dist-info"
            about = f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: {distribution.version}\n"
            self._add(f"{folder}/METADATA", File(about.encode()), "packages")
            text = distribution.read_text("entry_points.txt") or ""
            self._add(f"{folder}/entry_points.txt", File(text.encode()), "packages")

    def _add_certificates(self) -> None:
        """The authorities that this machine trusts, where OpenSSL looks for them."""
        paths = ssl.get_default_verify_paths()
        source = next((path for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt") if path), "")
        if os.path.isfile(source):
            self._add(paths.openssl_cafile.lstrip("/"), File(Path(source).read_bytes()), _STANDARD)


def modules_of(application: Application) -> closure.Closure:
    """The modules that an application needs, of the runtime and of its own."""
    own = application.foreign
    packages = ["aiohttp", "wasmtime", *(["redis"] if application.has(*REDIS) else [])]
    packages += [distribution.name for distribution in _distributions_of(own)]
    cuts = _cuts(application)
    files = _files(application)
    while True:
        names = closure.distributions(packages)
        found = closure.closure(_roots(application), closure.packages_of(names), cuts, files)
        # What a package of somebody's imports outright may have further ones that it imports where it can.
        owners = {owner for name in found.modules if (owner := closure.owner_of(name.partition(".")[0]))}
        if owners <= names.keys():
            return found
        packages += sorted(owners)


def _roots(application: Application) -> Iterator[str]:
    guest = "application" if application.facts else "functions"
    yield from ("unikernel.guest.init", "unikernel.guest.work", f"unikernel.guest.{guest}")
    if application.interfaces is not None:
        yield from ("slight_py.component.running", *application.interfaces)
    for grant in application.slightfile.grants:
        if "/" in grant.resource.load:
            continue
        yield _module_of(grant.resource.load)
        if grant.family.host != registry.RUNTIME:
            yield from filter(None, [_module_of(grant.family.host), *grant.family.interfaces.values()])
        else:
            yield from filter(None, grant.family.interfaces.values())


def _module_of(target: str) -> str:
    return target.partition(":")[0]


def _cuts(application: Application) -> dict[str, str]:
    cuts = dict(closure.CUTS)
    granted = {_module_of(grant.resource.load) for grant in application.slightfile.grants}
    for family in registry.families():
        for resource in registry.available(family.name):
            if (module := _module_of(resource.load)) not in granted and family.host != registry.RUNTIME:
                cuts[module] = f"{resource.name}, which is not granted"
    if application.interfaces is None:
        cuts |= _COMPONENT_CUTS
    if application.facts is None or not application.facts.serves:
        cuts |= _HTTP_CUTS
    if application.facts:
        cuts["unikernel.guest.functions"] = "the function service, which an application is not"
    else:
        cuts["unikernel.guest.application"] = "an application, which the function service is not"
    if application.foreign:
        # What the code of others needs, it needs.
        for name in ("_hashlib", "_ssl", "email", "http.client", "importlib.metadata", "importlib.resources", "ssl"):
            cuts.pop(name)
    return cuts


def _files(application: Application) -> dict[str, Module]:
    """The Python files that the slightfile names, as modules of packages whose folders are theirs."""
    found = {}
    for number, grant in enumerate(application.slightfile.grants):
        path = Path(_module_of(grant.resource.load))
        if "/" in grant.resource.load:
            package = f"{_FILES}{number}"
            found[_FILES.rstrip(".")] = Module(_FILES.rstrip("."), None, True)
            found[package] = Module(package, None, True, (str(path.parent),))
            found[f"{package}.{path.stem}"] = Module(f"{package}.{path.stem}", path)
    return found


def _distributions_of(grants: Iterable[Grant]) -> list[Any]:
    """The installed packages that define the resource types and families of grants."""
    names = {name for grant in grants for name in (grant.resource.name, grant.family.name)}
    points = entry_points(group=registry.ENTRY_POINT_GROUP) if names else ()
    found = {point.dist.name: point.dist for point in points if point.name in names and point.dist}
    return [found[name] for name in sorted(found)]


def _part(module: str) -> str:
    """The part of the image that a module belongs to."""
    package = module.partition(".")[0]
    if package in closure.OWN:
        return "runtime"
    if package == "wasmtime":
        return "wasmtime"
    return "packages" if closure.owner_of(package) else _STANDARD


def _kernel_modules(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """The modules of a kernel that has some, and their order."""
    modules = tuple(kernel.modules)
    for path in modules:
        yield f"lib/modules/slight/{path.name}", path.read_bytes()
    if modules:
        yield "lib/modules/slight/order", "".join(f"{path.name}\n" for path in modules).encode()


# Binaries.


def interpreter() -> Path:
    """The program of this Python, whatever links to it."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def _stripped(path: Path) -> bytes:
    return elf.strip(path.read_bytes(), str(path))


def _needed_libraries(loader: str, path: Path) -> Iterator[tuple[str, Path]]:
    """The shared libraries that a binary needs, by name, as the system's loader finds them. Nothing is run of it."""
    done = subprocess.run([loader, "--list", path], capture_output=True, text=True, timeout=30, check=False)
    for line in done.stdout.splitlines():
        name, arrow, found = line.strip().partition(" => ")
        if arrow and not found.startswith("/"):
            raise UsageError(f"{path}: it needs the shared library {name}, which is not installed")
        if arrow:
            yield name, Path(found.rpartition(" (")[0])
