"""uhyve, the hypervisor of the Hermit project: in no distribution, so it is built once, and kept in the user's cache.

`python -m tests.uhyve` prepares it where it's needed.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from slight_py import cache
from slight_py.errors import UsageError
from tests.rust_toolchain import cargo
from unikernel import uhyve


@functools.cache
def program() -> Path:
    """Where it is, once it is there. Raises AssertionError with the compiler's messages."""
    try:
        return uhyve.find()
    except UsageError:
        command, environment = cargo()
        _, *install = uhyve.INSTALL.split()
        root = cache.directory("uhyve")
        done = subprocess.run(
            [command, *install, "--quiet", "--root", root], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return uhyve.find()


if __name__ == "__main__":
    try:
        print(program())
    except AssertionError as error:
        sys.exit(str(error))
