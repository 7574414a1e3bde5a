"""What the modules of the machine import: in one direction, and process 1 nothing that takes long."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

from tests.command import ROOT

GUEST = ROOT / "unikernel/guest"


def imported(source: str) -> set[str]:
    """The modules of the machine that a source imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "unikernel.guest":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unikernel.guest."):
            names.add((node.module or "").removeprefix("unikernel.guest."))
    return names


def test_imports_go_one_way() -> None:
    imports = {path.stem: imported(path.read_text()) for path in GUEST.glob("*.py")}
    assert {"launcher", "memory", "mounts", "network", "ports", "power", "renewal", "work"} <= imports["init"]
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert order.index("ports") < order.index("launcher") < order.index("orders") < order.index("work")


def test_process_1_imports_nothing_that_takes_long() -> None:
    slow = {"asyncio", "dataclasses", "typing", "inspect", "socket", "ipaddress", "ctypes", "slight_py.errors"}
    code = f"import sys; sys.path.append({str(ROOT)!r}); import unikernel.guest.init; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "set()\n"
