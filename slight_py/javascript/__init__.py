"""`slight-py buildjs`: modules of JavaScript, linked with an engine to one of WebAssembly.

The engine is QuickJS-ng, a program in C, which comes from crates.io as a part of `rquickjs-sys` and is compiled by zig
once. What a program is made of (its files, the interfaces that it imports, the functions that it exports) is found out
by running its top level in a sandbox, where nothing can be asked.
"""
