"""Images for the launcher's tests, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unikernel import fake_guest
from unikernel.image import Image


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def fake(images: Path) -> Image:
    """An image whose guest does what its first argument says."""
    return fake_guest.build(images, "fake")


@pytest.fixture(scope="session")
def mute(images: Path) -> Image:
    """An image whose guest says nothing to the launcher."""
    return fake_guest.build(images, "mute", mute=True)


@pytest.fixture(scope="session")
def service(images: Path) -> Image:
    """An image without an application."""
    return fake_guest.build(images, "service", service=True)
