"""The names of imports and exports: which are well-formed, which are too alike, and what they say.

Source: "Component Model AST Explainer", "Import and Export Definitions" and "Name Uniqueness".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

NameKind: TypeAlias = Literal["label", "constructor", "method", "static", "interface", "dependency", "url", "hash"]

_WORD = "(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*)"
_PART = "(?:[a-z0-9]+|[A-Z0-9]+)"
_LABEL = f"{_WORD}(?:-{_PART})*"
_LOWER_LABEL = "[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_NUMBER = "(?:0|[1-9][0-9]*)"
_PRERELEASE = f"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = (
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_PACKAGE = f"{_LOWER_LABEL}:{_LOWER_LABEL}(?:/{_LABEL})?"
_HASH = r"integrity=<([^<>]*)>"

_IS_LABEL = re.compile(_LABEL)
_IS_MEMBER = re.compile(rf"(?P<resource>{_LABEL})\.(?P<member>{_LABEL})")
_IS_INTERFACE = re.compile(
    f"(?P<package>{_LOWER_LABEL}:{_LOWER_LABEL})/(?P<interface>{_LABEL})(?:@(?P<version>{_VERSION}))?"
)
_IS_NESTED = re.compile(f"{_LOWER_LABEL}(?::{_LOWER_LABEL})+(?:/{_LABEL})+(?:@{_VERSION})?")
_IS_LOCKED = re.compile(f"locked-dep=<{_PACKAGE}(?:@{_VERSION})?>(?:,{_HASH})?")
_RANGE = rf"@(?:\*|\{{(?:>={_VERSION}(?: <{_VERSION})?|<{_VERSION})\}})"
_IS_UNLOCKED = re.compile(f"unlocked-dep=<{_PACKAGE}(?:{_RANGE})?>")
_IS_URL = re.compile(f"url=<[^<>]*>(?:,{_HASH})?")
_IS_HASH = re.compile(_HASH)
_IS_ONE_HASH = re.compile(r"sha(?:256|384|512)-[A-Za-z0-9+/]+={0,2}(?:\?.*)?")


@dataclass(frozen=True, slots=True)
class Name:
    """A well-formed name of an import or export."""

    text: str
    kind: NameKind
    resource: str = ""
    """Of `[constructor]R`, `[method]R.m` and `[static]R.m`: R."""
    member: str = ""
    """Of `[method]R.m` and `[static]R.m`: m."""

    @property
    def unique(self) -> tuple[str, str]:
        """Equal for two names that may not stand side by side: those that only differ in case, in hyphens, or in
        whether a function is a method, a static one, or, where it is called like its resource, neither.
        """
        match self.kind:
            case "method" | "static":
                resource, member = canonical(self.resource), canonical(self.member)
                return ("label", resource) if resource == member else ("member", f"{resource}.{member}")
            case "constructor":
                return "constructor", canonical(self.resource)
            case "label":
                return "label", canonical(self.text)
        return self.kind, self.text


def canonical(label: str) -> str:
    """Equal for two labels that are too alike."""
    return label.replace("-", "").lower()


def is_label(text: str) -> bool:
    """Whether it is kebab-case: words of one case, with hyphens between them."""
    return _IS_LABEL.fullmatch(text) is not None


def parse(text: str) -> Name | None:
    """None for what is no name of an import or export."""
    for prefix in ("[method]", "[static]"):
        if text.startswith(prefix):
            member = _IS_MEMBER.fullmatch(text, len(prefix))
            kind: NameKind = "method" if prefix == "[method]" else "static"
            return member and Name(text, kind, member["resource"], member["member"])
    if text.startswith("[constructor]"):
        resource = text.removeprefix("[constructor]")
        return Name(text, "constructor", resource) if is_label(resource) else None
    if is_label(text):
        return Name(text, "label")
    if _IS_INTERFACE.fullmatch(text):
        return Name(text, "interface")
    return _dependency(text)


def _dependency(text: str) -> Name | None:
    """A name that says where a component is to be had, which only imports have."""
    if _IS_UNLOCKED.fullmatch(text):
        return Name(text, "dependency")
    patterns: tuple[tuple[NameKind, re.Pattern[str]], ...] = (
        ("dependency", _IS_LOCKED),
        ("url", _IS_URL),
        ("hash", _IS_HASH),
    )
    for kind, pattern in patterns:
        if found := pattern.fullmatch(text):
            return Name(text, kind) if found[1] is None or _are_hashes(found[1]) else None
    return None


def is_accessor(text: str) -> bool:
    """Whether it is a name with `[get]` or `[set]`, which are not part of WASI 0.3."""
    return "[get]" in text or "[set]" in text


def is_nested(text: str) -> bool:
    """Whether it is an interface's name with nested namespaces or packages, which are not part of WASI 0.3."""
    return _IS_NESTED.fullmatch(text) is not None and _IS_INTERFACE.fullmatch(text) is None


def _are_hashes(text: str) -> bool:
    hashes = text.split()
    return bool(hashes) and all(map(_is_hash, hashes))


def _is_hash(text: str) -> bool:
    """Whether it is a hash as Subresource Integrity has them, `sha256-` and base64, with options after a `?`."""
    return _IS_ONE_HASH.fullmatch(text) is not None


def without_version(interface: str) -> str:
    """`wasi:io/streams` of `wasi:io/streams@0.2.12`."""
    return interface.partition("@")[0]


def version(interface: str) -> str | None:
    """`0.2.12` of `wasi:io/streams@0.2.12`; None for one without a version."""
    return interface.partition("@")[2] or None
