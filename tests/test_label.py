"""The server of the page for labelling: what it answers, and what it refuses."""

import asyncio
import io
import json
import re
import socket
import subprocess
import sys

import filelock
import httpx
import numpy as np
import pytest
from labelling import FILES, decision, draw_images
from PIL import Image

from conftest import PROJECT
from tools import label
from tools.labelling.journal import FOLDER
from tools.labelling.session import Session

HOME = "http://127.0.0.1:8000"
JSON = {"content-type": "application/json"}


@pytest.fixture
def session(tmp_path):
    return Session(draw_images(tmp_path), train=False)


def request(session, method, path, base=HOME, **options):
    """Sends a request to the server of a session, as from its own page."""

    async def send():
        transport = httpx.ASGITransport(label.build(session, 8000))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def act(session, **body):
    body = {"folder": key_of(session), "window": "a", **body}
    return request(session, "POST", "/act", json=body)


def key_of(session):
    """The folder that the page names in its requests."""
    return re.search(r'folder: "([0-9a-f]+)"', request(session, "GET", "/").text)[1]


def test_page_names_no_other_host_and_may_load_nothing_from_one(session):
    answer = request(session, "GET", "/")
    assert answer.status_code == 200 and "http" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20 and answer.text.count(f'nonce="{nonce}"') == 2
    assert request(session, "GET", "/").headers["content-security-policy"] != policy


def test_page_asks_for_images_decides_and_undoes(session):
    items = act(session, count=2, state=True).json()["items"]
    assert len(items) == 2
    file = items[0]["file"]
    answer = act(session, decide=[decision(file, "12")], state=True).json()
    assert answer["problems"] == {} and answer["state"]["labels"] == 1
    assert session.label(file) == "12"
    assert [item["file"] for item in act(session, undo=True).json()["undone"]] == [file]
    assert session.label(file) is None


def test_page_that_was_opened_for_another_folder_labels_nothing(session, tmp_path):
    other = Session(draw_images(tmp_path / "other"), train=False)
    answer = act(session, folder=key_of(other), decide=[decision("0.png", "1")])
    assert answer.status_code == 500 and "another folder" in answer.json()["error"]
    assert session.label("0.png") is None


def test_images_are_served_as_they_are_by_their_digest(session, tmp_path):
    answer = request(session, "GET", f"/image/{session.digests['0.png']}")
    assert answer.content == (tmp_path / "0.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    (tmp_path / "1.png").unlink()
    for name in (session.digests["1.png"], "0.png", "..%2f0.png", "%2e%2e/labels.csv"):
        assert request(session, "GET", f"/image/{name}").status_code == 404


def test_tiff_is_shown_as_png(tmp_path):
    pixels = np.arange(200, dtype="uint8").reshape(10, 20)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    content, kind = label.picture(tmp_path / "a.tif")
    assert kind == "image/png" and (np.asarray(Image.open(io.BytesIO(content))) == pixels).all()


@pytest.mark.parametrize("method, path", [("GET", "/"), ("GET", "/image/x"), ("POST", "/act")])
@pytest.mark.parametrize(
    "base, headers, status",
    [
        ("http://evil.example:8000", {}, 421),  # DNS rebinding
        ("http://127.0.0.1:8001", {}, 421),
        ("http://127.0.0.1", {}, 421),
        (HOME, {"origin": "http://evil.example"}, 403),
        (HOME, {"origin": "null"}, 403),
        (HOME, {"origin": "http://localhost:8000"}, 403),
        (HOME, {"sec-fetch-site": "cross-site"}, 403),
        (HOME, {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(session, method, path, base, headers, status):
    body = {"content": b'{"window": "a", "count": 1}'} if method == "POST" else {}
    answer = request(session, method, path, base, headers={**JSON, **headers}, **body)
    assert answer.status_code == status
    assert not {"access-control-allow-origin", "items"} & {*answer.headers, *answer.text.split('"')}


def test_links_to_the_page_work(session):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert request(session, "GET", "/", headers=headers).status_code == 200
    assert request(session, "POST", "/act", json={}, headers=headers).status_code == 403
    assert request(session, "GET", "/", "http://localhost:8000").status_code == 200


def test_bodies_are_bounded_and_json(session):
    async def endless():
        while True:
            yield b" " * 65536

    size = {"content-length": str(label.MAX_BODY + 1)}
    assert request(session, "POST", "/act", content=b"{}", headers={**JSON, **size}).status_code == 413
    assert request(session, "POST", "/act", content=endless(), headers=JSON).status_code == 413
    assert (
        request(session, "POST", "/act", content=b"{}", headers={"content-type": "text/plain"}).status_code
        == 415
    )
    facts = {"folder": key_of(session), "window": "a"}
    wrong = [json.dumps(facts | one).encode() for one in ({"decide": [1]}, {"count": "1"}, {"other": 1})]
    for body in (b"", b"[]", b"{", b'{"other": 1}', *wrong):
        answer = request(session, "POST", "/act", content=body, headers=JSON)
        assert answer.status_code == 400 and answer.json()["error"]


def test_failed_writes_are_errors_that_name_the_file(session, tmp_path):
    (tmp_path / "labels.csv").mkdir()
    answer = act(session, decide=[decision(FILES[0], "1")])
    assert answer.status_code in (400, 500) and "labels.csv" in answer.json()["error"]


def test_table_that_another_program_breaks_stays_and_decisions_are_kept_for_later(session, tmp_path):
    (tmp_path / "labels.csv").write_text("a,b\n")
    body = {"decide": [decision(FILES[0], "1")]}
    answer = act(session, **body)
    assert answer.status_code == 500 and "one column with the file" in answer.json()["error"]
    assert (tmp_path / "labels.csv").read_text() == "a,b\n"
    (tmp_path / "labels.csv").write_text("file,text\n")
    assert act(session, **body).json()["problems"] == {}
    assert (tmp_path / "labels.csv").read_text() == f"file,text\n{FILES[0]},1\n"


def run(*arguments):
    command = [sys.executable, "-m", "tools.label", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)


def test_second_server_of_a_folder_is_refused(session, tmp_path):
    with filelock.FileLock(tmp_path / FOLDER / "lock"):
        done = run(tmp_path)
    assert done.returncode == 2 and f"Another tools.label serves {tmp_path}" in done.stderr


@pytest.mark.parametrize(
    "arguments, found",
    [
        (["FOLDER/none"], "Expected a folder of images at"),
        (["FOLDER", "--reader", "none.keras"], "Expected a file at none.keras. There is none."),
        (["FOLDER", "--port", "99999"], "port"),
        (["FOLDER/empty"], "Expected images"),
    ],
)
def test_wrong_arguments_are_errors_in_a_line(tmp_path, arguments, found):
    (draw_images(tmp_path) / "empty").mkdir()
    done = run(*(text.replace("FOLDER", str(tmp_path)) for text in arguments))
    assert done.returncode == 2 and found in done.stderr and "Traceback" not in done.stderr


def test_server_loads_neither_keras_nor_tensorflow(tmp_path):
    draw_images(tmp_path)
    script = (
        "import sys, pathlib; from tools import label; from tools.labelling.session import Session; "
        "session = Session(pathlib.Path(sys.argv[1])); label.build(session, 1); session.state('a'); "
        "sys.exit(str({'keras', 'tensorflow', 'onnxruntime'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.stderr.strip() == "set()"


def test_port_in_use_is_an_error(tmp_path):
    draw_images(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run(tmp_path, "--port", other.getsockname()[1])
    assert done.returncode == 2 and "in use" in done.stderr
    assert not (tmp_path / FOLDER / "training.log").exists()  # nothing was started that nobody would end
