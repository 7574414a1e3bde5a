"""What backends raise: for a configuration that they can't work with, and for what they are asked and can't do."""

from __future__ import annotations


class ConfigError(Exception):
    """A configuration that a backend can't work with: what is wrong, and what to do about it.

    Backends raise it when they are made. The message holds no value of the configuration, which may be a secret.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        """The key of the configuration that it is about, where there is one."""


class CapabilityError(Exception):
    """What a backend can't do for a guest. Each family has subclasses, one for each thing that can go wrong.

    `str()` is for the guest, which is hostile by assumption: no address, no path, no secret. `notice` is for whoever
    runs slight-py, who is told once (`capabilities.notices`): what is wrong, where, and what to do about it, without
    secrets; None where there is nothing that they could do, as for a key that isn't there.
    """

    def __init__(self, message: str, notice: str | None = None) -> None:
        super().__init__(message, notice)
        self.notice = notice

    def __str__(self) -> str:
        return str(self.args[0])
