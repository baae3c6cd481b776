"""The reading half, installed alone, as a production system installs it."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image, ImageDraw, ImageFont

from conftest import PROJECT
from snippet_ocr.reader import Reader
from training import export


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder `bin` of a virtual environment with nothing but the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv")
    if uv:
        build = [uv, "build", "--quiet", "--wheel", "--out-dir", folder, PROJECT]
        make = [uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"]
        install = [uv, "pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python"]
    else:
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, PROJECT]
        make = [sys.executable, "-m", "venv", folder / "venv"]
        install = [folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run(build, check=True)
    subprocess.run(make, check=True)
    (wheel,) = folder.glob("snippet_ocr-1.0.0-py3-none-any.whl")
    subprocess.run([*install, "--constraint", PROJECT / "constraints.txt", wheel], check=True)
    return folder / "venv" / "bin"


def test_installed_wheel_reads_three_images_without_tensorflow(installed, saved, shipped, tmp_path):
    reader = Reader.load(saved)
    exported = tmp_path / "reader.onnx"
    export.export(reader, exported, reader.prepare(shipped[:3]))
    images = tmp_path / "new images"
    images.mkdir()
    for path in shipped[:3]:
        shutil.copy(path, images)
    command = [installed / "snippet-ocr", "read", exported, images, "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = list(map(json.loads, done.stdout.splitlines()))
    assert [row["text"] for row in rows] == [reading.text for reading in reader.read(shipped[:3])]
    script = (
        "import importlib.util, json, sys; from snippet_ocr import Reader; "
        "print(json.dumps([bool(importlib.util.find_spec(name)) for name in sys.argv[1:]]))"
    )
    absent = ["tensorflow", "keras", "scipy", "matplotlib", "training", "utils"]
    done = subprocess.run(
        [installed / "python", "-c", script, *absent],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [False] * len(absent)


def test_installed_wheel_reads_with_the_base_reader(installed, tmp_path):
    image = Image.new("L", (110, 44), "white")
    ImageDraw.Draw(image).text((10, 5), "48213", "black", font=ImageFont.load_default(28))
    image.save(tmp_path / "meter.png")
    command = [installed / "snippet-ocr", "read", "base", tmp_path / "meter.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\t")[1] == "48213"
    (package,) = installed.parent.glob("lib/python*/site-packages/snippet_ocr")
    assert (package / "py.typed").exists() and (package / "page.html").exists()
