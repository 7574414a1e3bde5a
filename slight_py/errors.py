"""What went wrong when the user can put it right."""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in the command, the module or the slightfile.

    Each of `lines` is a sentence of one line: where, what, and what to do about it. Most often there is one; a
    file is checked to its end and may have several. The command line prints them to stderr after
    `slight-py: error: ` and exits with 2.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(self.lines)
