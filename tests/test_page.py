"""The file that `snippet-ocr page` writes. tests/integration/test_page_in_chromium.py reads with it."""

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile

import pytest

from snippet_ocr import Error, Reader, ReaderError, cli, model_file, page
from tools import export

BASE = model_file.locate("base")


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """A package like onnxruntime-web, next to a program npm that copies it to where npm would download it."""
    path = tmp_path / "bin" / "package.tgz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name in page.RUNTIME.values():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    npm = path.with_name("npm")
    npm.write_text(
        '#!/bin/sh\n[ "$1 $3" = "pack --pack-destination" ] || exit 9\n'
        f'cp {path} "$4/$(echo $2 | tr @ -).tgz"\n'
    )
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(page, "SHA512", base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode())
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser was asked to open."""
    addresses = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


def parts(path):
    """The scripts of a page by id: JSON as text, the others unpacked."""
    found = dict(re.findall(r'<script type="[a-z/]+" id="(\w+)">(.*?)</script>', path.read_text(), re.DOTALL))
    packed = {name: gzip.decompress(base64.b64decode(found[name])) for name in ("runtime", "wasm", "model")}
    return packed | {"settings": json.loads(found["settings"])}


def test_page_contains_reader_runtime_and_settings(archive, tmp_path):
    path = page.write("base")
    assert path == tmp_path / "base.html"
    found, metadata = parts(path), Reader.load("base").metadata()
    assert found["model"] == BASE.read_bytes()
    assert [found[name].decode() for name in page.RUNTIME] == list(page.RUNTIME.values())
    assert {name: metadata[name] for name in found["settings"] if name != "max_pixels"}.items() <= found[
        "settings"
    ].items()
    archive.unlink()  # the second page needs no download
    assert page.write(BASE, tmp_path / "second.html").read_bytes() == path.read_bytes()


def test_command_writes_the_page_next_to_the_reader_and_opens_it(archive, opened, tmp_path, capsys):
    shutil.copy(BASE, tmp_path / "meters.onnx")
    assert cli.main(["page", str(tmp_path / "meters.onnx")]) == 0
    written = tmp_path / "meters.html"
    assert capsys.readouterr().out == f"{written}\n"
    assert opened == [written.as_uri()]
    assert export.main(["base", "--to", "html"]) == 0
    assert (tmp_path / "base.html").read_bytes() == written.read_bytes()


def test_existing_file_is_never_overwritten(archive, opened, tmp_path, capsys):
    (tmp_path / "base.html").write_text("mine")
    assert cli.main(["page", "base"]) == 2
    assert export.main(["base", "--to", "html"]) == 1
    assert capsys.readouterr().err.count(f"Delete {tmp_path / 'base.html'}") == 2
    assert (tmp_path / "base.html").read_text() == "mine"
    assert opened == []


def test_right_to_left_reader_is_refused(archive, tmp_path):
    path = tmp_path / "reader.onnx"
    shutil.copy(BASE, path)
    model_file.set_description(path, model_file.description(path) | {"logical_order": True})
    with pytest.raises(ReaderError, match="of a left-to-right script for a page"):
        page.write(path)


def test_download_that_is_not_the_published_one_is_refused(archive, monkeypatch):
    monkeypatch.setattr(page, "SHA512", "other")
    with pytest.raises(Error, match=r"onnxruntime-web-.*\.tgz to be the published version"):
        page.write("base")


def test_missing_and_failing_npm_are_explained(archive, monkeypatch, tmp_path):
    archive.with_name("npm").write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    with pytest.raises(Error, match="npm cannot download.*: no network"):
        page.write("base")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Error, match=r"Expected npm.*Install Node\.js"):
        page.write("base")
    assert list((tmp_path / "cache" / "snippet-ocr").iterdir()) == []
