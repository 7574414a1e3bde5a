"""The front end for today's WIT: packages of components, to resolved interfaces and worlds.

    package = load_package("wit/wasi/http-0.2", search=["wit/wasi"])
    world = package.world("proxy")

The passes, in order: `lexer` makes tokens, `parser` a syntax tree (`ast`), `packages` says which packages there are and
what paths mean, `definitions` resolves types and functions, `worlds` what worlds import and export, `resolve` all of
it. What is made is that of `bindgen.wit_parser.model`. Whatever the files hold, the only exception is WitError.
"""

from bindgen.wit_packages.resolve import ResolvedPackage, interfaces_of, load_package
from bindgen.wit_parser.source import Diagnostic, WitError

__all__ = ["Diagnostic", "ResolvedPackage", "WitError", "interfaces_of", "load_package"]
