"""What process 1 runs: the application of the image, or the function service, with what the launcher handed over."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slight_py import limits, logs, output
from slight_py.errors import UsageError
from unikernel import manifest as manifests
from unikernel.guest import mounts
from unikernel.guest.launcher import Launcher
from unikernel.manifest import AppManifest, Grant

if TYPE_CHECKING:
    from slight_py.wasi import Directory

APP = Path("/app")
"""Where an image has what is its own: `app.json`, `module.cwasm` and `custom/N/`, see manifest.py."""

OPEN_FILES = 1 << 16
"""Connections and files at once."""

_WITHOUT_FILES = (
    *("http", "keyvalue.memory", "keyvalue.redis", "kv.redis", "messaging.memory", "messaging.mosquitto"),
    *("messaging.nats", "messaging.confluent_apache_kafka", "messaging.azsbus", "mq.azsbus"),
)
"""Resource types that write no files."""


def main(launcher: Launcher, boot: Mapping[str, Any]) -> int:
    """Runs what the image has to its end; returns the exit code. Raises UsageError, MemoryError and LauncherGone.

    `boot` is the boot message.
    """
    try:
        return _main(launcher, boot)
    finally:
        output.flush()


def _main(launcher: Launcher, boot: Mapping[str, Any]) -> int:
    logs.configure(limits.VERBOSE.of(boot["options"]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    manifest = read_manifest(APP)
    directories = _mount(boot["volumes"], manifest.grants)
    if manifest.app is None:
        from unikernel.guest import functions

        return functions.serve(launcher, boot["channel"], boot["options"])
    from unikernel.guest import application

    return application.run(launcher, APP, manifest, manifest.app, boot, directories)


def read_manifest(folder: Path) -> AppManifest:
    """Raises UsageError."""
    try:
        return manifests.app_from_json((folder / "app.json").read_bytes())
    except ValueError as error:
        raise UsageError(f"the image's app.json can't be read: {error}; build the image again") from None


def _mount(volumes: list[dict[str, Any]], grants: Iterable[Grant]) -> list[Directory]:
    """Mounts the directories of the host; returns them as the module sees them."""
    if volumes or any(grant.resource not in _WITHOUT_FILES for grant in grants):
        mounts.make_root_writable()
    if not volumes:
        return []
    from slight_py.wasi import Directory

    return [
        Directory(
            Path(mounts.mount_volume(volume["tag"], volume["path"], volume["writable"])),
            volume["path"],
            volume["writable"],
        )
        # What lies in another one is mounted after it.
        for volume in sorted(volumes, key=lambda volume: os.path.normpath(volume["path"]))
    ]
