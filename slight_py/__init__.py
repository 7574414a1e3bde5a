"""Runs WebAssembly, modules of Spiderlightning and components, and gives it capabilities behind WIT interfaces."""

__version__ = "0.1.0"
