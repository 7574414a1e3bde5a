"""The front end of the compiler: WIT files, in the dialect of wit-bindgen 0.2, to resolved interfaces.

    interface = load("wit/keyvalue.wit")

The passes, in order: `source` reads, `lexer` makes tokens, `parser` a syntax tree (`ast`), `resolve` the interface
(`model`). Whatever a file holds, the only exception is WitError, which tells of all errors at once.
"""

from bindgen.wit_parser.resolve import load, load_many
from bindgen.wit_parser.source import Diagnostic, WitError

__all__ = ["Diagnostic", "WitError", "load", "load_many"]
