"""What an image asks for, and what it gets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from slight_py.errors import UsageError
from tests.unikernel.fake_guest import make_manifest
from unikernel import values
from unikernel.image import Image
from unikernel.manifest import Config, Grant
from unikernel.options import RunOptions

REDIS = """\
specversion = "0.2"
[[capability]]
resource = "keyvalue.redis"
name = "my-container"
[capability.configs]
REDIS_ADDRESS = "redis://file"
"""


def allowed(asks_for: str = "ADDRESS", *, needs_network: bool = False, **options: Any) -> dict[str, str]:
    configs = {"REDIS_ADDRESS": Config(source=asks_for), "OTHER": Config(value="known")}
    grant = Grant("keyvalue.redis", "keyvalue", "my-container", 3, configs)
    image = Image(Path("app.img"), make_manifest(grants=(grant,), needs_network=needs_network), 0)
    return values.allowed(image, RunOptions(**options))


def test_an_image_gets_no_variable_of_the_environment_that_the_user_does_not_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLOUD_SECRET", "secret")
    with pytest.raises(UsageError) as caught:
        allowed("CLOUD_SECRET")
    assert caught.value.lines == (
        "app.img: the image asks for the value CLOUD_SECRET, for REDIS_ADDRESS of keyvalue.redis 'my-container'; let "
        "it have the environment variable with --pass CLOUD_SECRET, or give the slightfile with -c",
    )
    assert allowed("CLOUD_SECRET", passed=("CLOUD_SECRET",)) == {"CLOUD_SECRET": "secret"}


def test_an_image_gets_no_more_of_a_slightfile_than_the_values_of_its_own_grants(tmp_path: Path):
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(REDIS)
    assert allowed(slightfile=slightfile) == {"ADDRESS": "redis://file"}
    slightfile.write_text(REDIS.replace("my-container", "another"))
    with pytest.raises(UsageError, match="asks for the value ADDRESS"):
        allowed(slightfile=slightfile)


def test_values_come_from_a_slightfile_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ADDRESS", "redis://environment")
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(REDIS)
    assert allowed(slightfile=slightfile, passed=("ADDRESS",)) == {"ADDRESS": "redis://file"}


def test_a_variable_that_is_passed_and_not_there_or_not_asked_for_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ADDRESS", raising=False)
    with pytest.raises(UsageError) as caught:
        allowed(passed=("ADDRESS", "OTHER"))
    assert caught.value.lines == (
        "app.img: --pass OTHER: the image asks for no such value; it asks for ADDRESS",
        "app.img: --pass ADDRESS: the environment variable is not set; set it",
    )


def test_what_an_image_asks_for_can_be_copied_into_a_shell():
    with pytest.raises(UsageError, match=re.escape("--pass '$(reboot)'")):
        allowed("$(reboot)")


def test_an_image_opens_no_network_by_itself(tmp_path: Path):
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(REDIS.replace("my-container", "another"))
    words = {"passed": ("PATH",)}
    for more in ({"network": True}, {"slightfile": slightfile}):
        assert allowed("PATH", needs_network=True, **words, **more) == {"PATH": os.environ["PATH"]}
    slightfile.write_text('specversion = "0.2"\n[[capability]]\nresource = "http"\nname = "*"\n')
    for more in ({}, {"slightfile": slightfile}, {"restore": tmp_path}):
        with pytest.raises(UsageError) as caught:
            allowed("PATH", needs_network=True, **words, **more)
        assert caught.value.lines == (
            "app.img: the image asks for the network; let it reach the host and the network with --net, or give the "
            "slightfile with -c",
        )
