"""What a slightfile grants a module, in an image of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from capabilities.permissions import Rule
from slight_py import slightfile
from tests.unikernel.test_image import MANIFEST
from unikernel import application
from unikernel.guest.grants import granted
from unikernel.manifest import Manifest, app_from_json, app_json, from_json, to_json

SLIGHTFILE = """\
specversion = "0.2"

[[capability]]
resource = "messaging.memory"
name = "shop"
    [[capability.allow]]
    modules = ["app.wasm"]
    publish = ["orders.*"]
    [[capability.allow]]
    subscribe = ["news"]

[[capability]]
resource = "messaging.memory"
name = "secret"
modules = ["other.wasm"]

[[capability]]
resource = "messaging.filesystem"
name = "refused"
    [[capability.allow]]
    modules = ["other.wasm"]
    publish = ["*"]

[[capability]]
resource = "messaging.memory"
name = "open"
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    path = tmp_path / "slightfile.toml"
    path.write_text(SLIGHTFILE)
    return replace(MANIFEST, grants=application._grants(slightfile.load(path).for_module("app.wasm")))


def test_an_image_allows_its_module_what_the_slightfile_allows_it_and_no_more(manifest: Manifest) -> None:
    assert from_json(to_json(manifest)) == manifest
    found = granted(Path("/app"), app_from_json(app_json(manifest)), {})
    assert found.module == "app.wasm"
    assert {grant.name: grant.allow for grant in found.grants} == {
        "shop": (Rule((), {"publish": ("orders.*",), "subscribe": ("news",)}),),
        "refused": (Rule((), {"publish": (), "subscribe": ()}),),
        "open": (),
    }


@pytest.mark.parametrize("allow", ['["*"]', '{"publish": "*"}', '{"publish": [1]}'])
def test_an_image_that_allows_what_can_not_be_read_is_refused(allow: str, manifest: Manifest) -> None:
    plain = json.loads(to_json(manifest))
    plain["grants"][0]["allow"] = json.loads(allow)
    with pytest.raises(ValueError, match=r"allow|publish"):
        from_json(json.dumps(plain))
