"""WASI preview 1: what guests have of the system, answered on the event loop without holding it up."""

from __future__ import annotations

from slight_py.wasi.context import Context, Directory, WasiSettings, check
from slight_py.wasi.preview1 import FUNCTIONS, IMPORTS
from slight_py.wasi.stdio import printed

__all__ = ["FUNCTIONS", "IMPORTS", "Context", "Directory", "WasiSettings", "check", "printed"]
