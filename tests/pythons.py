"""Runs the tests on every further version of Python that this machine has.

`make test-pythons` runs them all, and `make test` those of PART. Each version has a virtual environment of its own,
`.venv-3.12` for instance. Whatever versions the machine has, the types are checked as each version has them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
"""Those that slight-py is to work with."""

PART = (
    *(f"tests/test_{name}.py" for name in ("capi", "engine", "registry", "run", "slightfile", "slots", "wasi")),
    *(f"tests/capabilities/test_{name}.py" for name in ("http_server", "keyvalue_filesystem", "keyvalue_memory")),
    *(f"tests/bindgen/test_{name}.py" for name in ("python_backend", "runtime")),
)
"""What boots no machine and builds nothing in Rust, and may depend on the version of Python."""

SOURCES = ("pyproject.toml", "slight_py/_store.c", "slight_py/_slots.c", "bindgen/runtime/_support.c")
"""What an environment is made anew for when it changes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__.partition("\n")[0])
    parser.add_argument("--part", action="store_true", help="of the tests those that take little time")
    parser.add_argument("--extras", required=True, help="the extras that the tests need, separated by commas")
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="in place of all")
    options = parser.parse_args()
    failed = [each for each in options.versions if not check_types(each)]
    missing = []
    for version in options.versions:
        if version == this():
            continue  # the tests run on that one anyway
        python = find(version)
        if python is None:
            missing.append(version)
        elif not run_tests(environment(version, python, options.extras), PART if options.part else ()):
            failed.append(version)
    if missing:
        say(f"not on this machine, so not tested with: Python {', '.join(missing)}")
    if failed:
        say(f"failed with: Python {', '.join(failed)}")
    return 1 if failed else 0


def this() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find(version: str) -> str | None:
    """A Python of that version: on PATH, or one that pyenv has. None where there is none."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    on_path = shutil.which(f"python{version}")
    for python in [*([on_path] if on_path else []), *map(str, sorted(kept.glob(f"{version}.*/bin/python")))]:
        command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:  # not so of pyenv's stand-ins for those that are not chosen
            return python
    return None


def environment(version: str, python: str, extras: str) -> Path:
    """The Python of a virtual environment with all that the tests need, which is made where it is not there.

    Raises CalledProcessError where it can't be made: pip, or Debian's python3-venv, says why.
    """
    folder = ROOT / f".venv-{version}"
    made_of = "\n".join([python, extras, *(hashlib.sha256((ROOT / each).read_bytes()).hexdigest() for each in SOURCES)])
    stamp = folder / "made"
    if not stamp.exists() or stamp.read_text() != made_of:
        say(f"setting up .venv-{version}")
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f".[{extras}]"]
        subprocess.run([folder / "bin/python", *install], cwd=ROOT, check=True)
        stamp.write_text(made_of)
    return folder / "bin/python"


def check_types(version: str) -> bool:
    """Whether the types are right as that version has them, and nothing is used that it calls deprecated."""
    command = ["-m", "mypy", "--python-version", version, "--enable-error-code", "deprecated"]
    say(f"mypy {' '.join(command[2:])}")
    return not subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode


def run_tests(python: Path, part: tuple[str, ...]) -> bool:
    command = [python, "-m", "pytest", "-q", *part]
    say(" ".join(map(str, command)))
    return not subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
