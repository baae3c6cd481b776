"""The service of examples/, started as its Dockerfile starts it and called over HTTP."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from benchmarks import service
from conftest import PROJECT
from snippet_ocr import Reader

TOO_LARGE = bytes(1_000_001)


@pytest.fixture(scope="module")
def address():
    process, address = service.start("base")
    yield address
    process.terminate()
    process.wait(10)


def post(address, content):
    return httpx.post(f"{address}/read", content=content, timeout=60)


def test_image_is_read_as_by_the_library(address, shipped):
    expected = Reader.load("base").read(shipped[0])
    answer = post(address, shipped[0].read_bytes())
    assert answer.status_code == 200
    found = answer.json()
    assert found["text"] == expected.text
    assert found["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
    assert found["needs_review"] is False  # the base reader has no threshold


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"nothing", 422, "the image is not an image"),
        (b"", 422, "the image is empty"),
        (TOO_LARGE, 413, "at most 1,000,000 bytes"),
    ],
)
def test_other_content_is_refused_with_the_reason(address, content, status, reason):
    answer = post(address, content)
    assert (answer.status_code, reason in answer.json()["detail"]) == (status, True)


def test_body_without_a_declared_length_is_limited_too(address):
    answer = post(address, (bytes(100_000) for _ in range(20)))
    assert answer.status_code == 413


def test_fifty_images_at_once_are_all_read(address, shipped):
    contents = [path.read_bytes() for path in shipped[:49]] + [b"nothing"]
    expected = [reading.text for reading in Reader.load("base").read(contents[:-1])]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda content: post(address, content), contents))
    assert [answer.json()["text"] for answer in answers[:-1]] == expected
    assert answers[-1].status_code == 422
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}


def test_dockerfile_pins_its_image_and_runs_without_root():
    lines = (PROJECT / "examples" / "Dockerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and line[0].isupper()]
    last = dict(steps)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", last["FROM"])
    assert last["USER"].isdigit() and int(last["USER"]) > 0
    assert "--constraint constraints.txt" in last["RUN"]
    assert json.loads(last["CMD"])[:2] == ["uvicorn", "service:app"]  # the exec form gets signals
    copied = [source for name, rest in steps if name == "COPY" for source in rest.split()[:-1]]
    assert all((PROJECT / source).exists() for source in copied if "$" not in source)
    assert (PROJECT / re.search(r"READER=(\S+)", last["ARG"])[1]).exists()
    kept = (PROJECT / "examples" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied if "$" not in source} <= set(kept)
