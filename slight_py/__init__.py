"""Runs WebAssembly applications written for Spiderlightning, and gives them capabilities behind WIT interfaces."""

__version__ = "0.1.0"
