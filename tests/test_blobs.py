"""Modules that use `blob-store`, run by the command, in every place that objects can be."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from capabilities.blob.aws_s3 import S3Backend
from capabilities.blob.azblob import AzureBackend
from capabilities.blob.filesystem import Connection
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker
from slight_py.slightfile import load
from tests.azurite_server import AzuriteServer
from tests.command import ROOT, at_once, build_guest, guest, serving, slight_py, wait_until
from tests.guests import EXAMPLES, example
from tests.moto_server import MotoServer

DEMO = "blob-demo-c"

OUTPUT = """\
before it is closed, it is not there
2 objects
greeting.txt: 17 bytes
numbers/large: 3145728 bytes
3145728 bytes read, as they were written
there is no object 'greeting.txt'
0 objects
"""

GRANT = """
specversion = "0.2"

[[capability]]
resource = "http"
name = "web"

[[capability]]
resource = "blobstore.filesystem"
name = "files"
"""


def slightfile(name: str = "") -> Path:
    return EXAMPLES / DEMO / f"slightfile{name}.toml"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for temporary files, which is empty again at the end."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
        assert os.listdir(directory) == []


@pytest.mark.parametrize("grants", [[], ["-c", slightfile()]], ids=["without a slightfile", "with one"])
def test_a_module_keeps_its_objects_in_files_for_as_long_as_it_runs(grants: list[str], temporary: Path) -> None:
    done = slight_py("run", "--no-dir", example(DEMO), *grants, env={"TMPDIR": str(temporary)})
    assert done == (0, OUTPUT, "")


def test_a_module_keeps_its_objects_in_s3() -> None:
    with MotoServer() as server:
        server.create_bucket("my-container")
        env = server.configs(server.create_user("s3:*"))
        assert slight_py("run", example(DEMO), "-c", slightfile("-s3"), env=env) == (0, OUTPUT, "")
        wrong = {**env, "AWS_SECRET_ACCESS_KEY": "very-secret"}
        server.stop()
        away, *_ = at_once(lambda env: slight_py("run", example(DEMO), "-c", slightfile("-s3"), env=env), [wrong])
    assert (away.code, away.out) == (1, "")
    told, guests = away.errors
    assert re.fullmatch(
        r"slight-py: warning: blobstore\.aws_s3: S3 at 127\.0\.0\.1:\d+ can't be reached: connection refused; start "
        r"it, or correct AWS_ENDPOINT_URL and AWS_REGION",
        told,
    )
    assert guests == "clear: S3 can't be reached: connection refused"


def test_a_module_keeps_its_objects_in_azure(shared_azurite: AzuriteServer) -> None:
    shared_azurite.create_container("my-container")
    env = shared_azurite.configs()
    assert slight_py("run", example(DEMO), "-c", slightfile("-azure"), env=env) == (0, OUTPUT, "")
    done = slight_py("run", example(DEMO), "-c", slightfile("-azure"), env={**env, "AZURE_STORAGE_KEY": "c2VjcmV0"})
    assert (done.code, done.out) == (1, "")
    told, guests = done.errors
    assert re.fullmatch(
        r"slight-py: warning: blobstore\.azblob: Azure Blob Storage at 127\.0\.0\.1:\d+ refuses access to the "
        r"container 'my-container' \(\w+\); correct AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
        told,
    )
    assert guests == "clear: Azure refuses the credentials, or does not allow them this"


def test_a_backend_whose_configuration_is_no_good_is_refused_at_the_start(shared_azurite: AzuriteServer) -> None:
    env = {**shared_azurite.configs(), "AZURE_STORAGE_KEY": "my secret"}
    done = slight_py("run", example(DEMO), "-c", slightfile("-azure"), env=env)
    assert done.code == 2
    (line,) = done.errors
    assert "blobstore.azblob: AZURE_STORAGE_KEY is empty, or holds" in line
    assert "secret" not in line


def test_the_slightfiles_of_the_document_are_right(tmp_path: Path) -> None:
    text = (ROOT / "docs/blob.md").read_text()
    found = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    backends = linker.Backends(MemoryStores)
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AZURE_STORAGE_KEY": "AAAA"}
    made = []
    for number, each in enumerate(found):
        path = tmp_path / f"{number}.toml"
        path.write_text(each)
        loaded = load(path, env)
        made += [type(backends.of(grant, loaded)) for grant in loaded.grants]
    assert made == [Connection, S3Backend, AzureBackend]


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_an_image_that_could_not_use_its_objects_is_refused(kind: str, tmp_path: Path) -> None:
    done = slight_py("image", "build", example(DEMO), "-c", slightfile(f"-{kind}"), "-o", tmp_path / "app.img")
    assert done.code == 2
    (line,) = done.errors
    assert "needs Python packages that this version does not put into images" in line
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_guest("blobs")


@pytest.mark.parametrize("kind", ["temporary", "kept"])
def test_all_workers_have_the_same_objects(tmp_path: Path, temporary: Path, kind: str) -> None:
    grants = tmp_path / "slightfile.toml"
    more = f'[capability.configs]\nDIRECTORY = "{tmp_path}/kept"\n' if kind == "kept" else ""
    grants.write_text(GRANT + more)
    with serving(guest("blobs"), "-c", grants, "--workers", "2", env={"TMPDIR": str(temporary)}) as server:
        for number in range(10):  # whichever worker it is that a connection reaches
            name, body = f"/files/{number}", str(number).encode() * 1000
            assert server.request("PUT", name, body).status == 200
            assert [server.get(name)[:2] for _ in range(4)] == [(200, body)] * 4
        assert server.get("/files/none")[:2] == (400, b"there is no object 'none'")
        assert server.stop() == 0
    assert (tmp_path / "kept").exists() == (kind == "kept")


def test_an_object_whose_writer_traps_is_aborted(tmp_path: Path) -> None:
    grants = tmp_path / "slightfile.toml"
    grants.write_text(f'{GRANT}[capability.configs]\nDIRECTORY = "{tmp_path}"\n')
    with serving(guest("blobs"), "-c", grants) as server:
        assert server.request("PUT", "/files/a", b"old").status == 200
        assert server.request("DELETE", "/files/a", b"new").status == 500
        assert server.get("/files/a").body == b"old"
        wait_until(lambda: os.listdir(tmp_path / "files") == ["a"], "the end of the other writer")


def test_an_upload_whose_writer_traps_is_aborted(tmp_path: Path, shared_moto: MotoServer) -> None:
    shared_moto.create_bucket("files")
    configs = "".join(f'{key} = "{value}"\n' for key, value in shared_moto.configs().items())
    grants = tmp_path / "slightfile.toml"
    grants.write_text(f"{GRANT}[capability.configs]\n{configs}".replace("blobstore.filesystem", "blobstore.aws_s3"))
    client = shared_moto.client("s3")
    with serving(guest("blobs"), "-c", grants) as server:
        assert server.request("DELETE", "/files/a", bytes(9_000_000)).status == 500
        assert (
            "initiate_multipart" in (shared_moto.directory / "log").read_text()
            or "uploads" in (shared_moto.directory / "log").read_text()
        )
        wait_until(lambda: "Uploads" not in client.list_multipart_uploads(Bucket="files"), "the end of the upload")
    assert "Contents" not in client.list_objects_v2(Bucket="files")
