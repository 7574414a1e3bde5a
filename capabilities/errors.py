"""What a capability raises when it can't be set up."""

from __future__ import annotations


class ConfigError(Exception):
    """A configuration that a backend can't work with: what is wrong, and what to do about it.

    Backends raise it when they are made. The message holds no value of the configuration, which may be a secret.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        """The key of the configuration that it is about, where there is one."""
