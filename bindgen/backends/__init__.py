"""The backends, a module each: every one turns resolved interfaces into files of its language."""


class BackendError(Exception):
    """The interfaces ask for what a backend can't write; str() says what and what to do."""
