import signal
import subprocess
import sys

import gradio_client
import pytest
from PIL import Image

from conftest import PROJECT, user_environment
from examples import ALPHABET
from snippet_ocr.reader import Reader
from tools import page


def test_rows_show_text_alternatives_and_review_remarks(model, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    palette = tmp_path / "image.gif"  # its pixels are colour numbers, not grey values
    with Image.open(shipped[1]) as image:
        image.convert("P").save(palette)
    sources = [str(broken), str(shipped[0]), str(palette)]
    readings = Reader(model, ALPHABET, [80]).read(sources[1:], top=page.TOP)
    threshold = max(reading.confidence for reading in readings)
    rows, first = page.read(Reader(model, ALPHABET, [80], threshold=threshold), sources)
    assert first == sources[1]
    assert rows[0] == [1, "broken.png", "", "", "cannot be read: it is not an image"]
    assert [row[:3] for row in rows[1:]] == [
        [2, shipped[0].name, readings[0].text],
        [3, "image.gif", readings[1].text],
    ]
    for row, one in zip(rows[1:], readings, strict=True):
        assert row[4].startswith("needs review, ") == (one.confidence < threshold)
        assert all(f"or {another.text} " in row[4] for another in one.alternatives)


def test_page_without_images_is_empty(model):
    assert page.read(Reader(model, ALPHABET, [80]), []) == ([], None)


def start(*arguments):
    command = [sys.executable, "-m", "tools.page", *map(str, arguments)]
    pipe, environment = subprocess.PIPE, user_environment(True)
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_command_serves_a_page_that_reads_images(saved, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    server = start(saved)
    try:
        line = server.stdout.readline()
        assert line.startswith("the page is at http://127.0.0.1:"), server.stderr.read()
        client = gradio_client.Client(line.split()[4], verbose=False)
        files = [gradio_client.handle_file(path) for path in (broken, shipped[0])]
        table, places = client.predict(files, api_name="/lambda")
        alone, nothing = client.predict(files[:1], api_name="/lambda")
        client.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(300)
        server.stdout.close(), server.stderr.close()
    (expected,) = Reader.load(saved).read(shipped[:1], top=page.TOP)
    assert [row[:3] for row in table["data"]] == [[1, "broken.png", ""], [2, shipped[0].name, expected.text]]
    assert places["plot"].startswith("data:image/png;base64,")
    assert nothing is None and len(alone["data"]) == 1


@pytest.mark.parametrize("found", [None, b"no reader"])
def test_command_without_a_reader_is_an_error(tmp_path, found):
    path = tmp_path / "reader.keras"
    if found is not None:
        path.write_bytes(found)
    server = start(path)
    _, errors = server.communicate(timeout=300)
    assert server.returncode == 2
    assert str(path) in errors and "Traceback" not in errors
