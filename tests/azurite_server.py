"""Azure Blob Storage for tests: `with AzuriteServer() as azurite: ... azurite.configs() ...`.

Azurite is Microsoft's own emulator, and checks what a client signs. It's a package of npm's, which
`python -m tests.azurite_server` puts into the user's cache where it's missing; after that, nothing is downloaded.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slight_py import cache
from tests.servers import HOST, Server

VERSION = "3.35.0"

ACCOUNT = "slighttests"

KEY = base64.b64encode(bytes(range(64))).decode()


class AzuriteServer(Server):
    """Azurite's blob service on a free port of 127.0.0.1, with its files in a temporary directory."""

    START_SECONDS = 30.0

    def command(self) -> list[str]:
        program = package() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        if not program.exists():
            raise RuntimeError("Azurite is missing; type: make setup-test")
        return [
            "node",
            str(program),
            *("--blobHost", HOST, "--blobPort", str(self.port), "--location", str(self.directory / "blobs")),
            # Clients ask for versions of the protocol that are newer than Azurite, which knows what they use of them.
            *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}

    @property
    def endpoint(self) -> str:
        """Where the account is, which AZURE_STORAGE_BLOB_ENDPOINT is for this server."""
        return f"http://{HOST}:{self.port}/{ACCOUNT}"

    def configs(self) -> dict[str, str]:
        """The configuration of a backend that is to use this server."""
        return {
            "AZURE_STORAGE_ACCOUNT": ACCOUNT,
            "AZURE_STORAGE_KEY": KEY,
            "AZURE_STORAGE_BLOB_ENDPOINT": self.endpoint,
        }

    def create_container(self, name: str) -> None:
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient(self.endpoint, KEY) as client:
            client.create_container(name)


def package() -> Path:
    """Where npm installs Azurite."""
    return cache.directory(f"azurite-{VERSION}")


def prepare() -> None:
    """Installs Azurite where it's missing. Raises subprocess.CalledProcessError where that fails."""
    if package().exists():
        return
    package().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package().parent) as scratch:
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(["npm", "install", "--prefix", scratch, *options, f"azurite@{VERSION}"], check=True)
        try:
            os.rename(scratch, package())
        except OSError:  # somebody else was faster
            if not package().exists():
                raise
        else:
            Path(scratch).mkdir()  # which the end of the block removes


if __name__ == "__main__":
    if not shutil.which("npm"):
        sys.exit("npm is missing; type: sudo apt install npm")
    try:
        prepare()
    except subprocess.CalledProcessError:
        sys.exit(f"npm can't install azurite@{VERSION}: see what it says above")
