"""The page to try a reader, in a real browser."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT, screenshot, user_environment
from snippet_ocr.reader import Reader


@pytest.fixture
def address(saved):
    """The address of a page that is served until the test ends."""
    command = [sys.executable, "-m", "tools.page", str(saved)]
    server = subprocess.Popen(command, cwd=PROJECT, env=user_environment(), stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("the page is at http://127.0.0.1:")
        yield line.split()[4]
    finally:
        server.terminate()
        server.wait()


def rows_of(page):
    """The texts of the table's rows, each a list."""
    cells = [text.strip() for text in page.get_by_role("gridcell").all_inner_texts()]
    return [cells[start : start + 5] for start in range(0, len(cells), 5)]


def wait_for(page, condition):
    """Waits until a condition is true."""
    for _ in range(3000):  # at most 5 minutes
        if condition():
            return
        page.wait_for_timeout(100)
    screenshot(page, "page after a timeout")
    pytest.fail(f"the page shows {rows_of(page)}")


def test_page_reads_one_image_and_then_a_batch(browser, address, saved, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    readings = Reader.load(saved).read(shipped[:4], top=3)

    page.locator("input[type=file]").first.set_input_files(shipped[0])
    wait_for(page, lambda: len(rows_of(page)) == 1 and page.locator("img").count() == 1)
    ((number, name, text, confidence, remarks),) = rows_of(page)
    assert (number, name, text) == ("1", shipped[0].name, readings[0].text)
    assert float(confidence.rstrip("%")) / 100 == pytest.approx(readings[0].confidence, abs=1e-3)
    assert all(other.text in remarks for other in readings[0].alternatives)
    screenshot(page, "page with one image")

    page.get_by_role("button", name="Clear").click()
    page.locator("input[type=file]").first.set_input_files([broken, *shipped[1:4]])
    wait_for(page, lambda: len(rows_of(page)) == 4)
    assert rows_of(page)[0] == ["1", "broken.png", "", "", "cannot be read: it is not an image"]
    assert [row[2] for row in rows_of(page)[1:]] == [reading.text for reading in readings[1:]]
    wait_for(page, lambda: page.locator("img").count() == 1)
    first = page.locator("img").get_attribute("src")
    page.get_by_role("gridcell", name=shipped[3].name).click()
    wait_for(page, lambda: page.locator("img").get_attribute("src") != first)
    screenshot(page, "page with a batch")
    assert all(url.startswith((address, "data:", "blob:")) for url in requested)
    page.close()


def test_page_listens_on_loopback_only(address):
    port = f"{int(address.rsplit(':', 1)[1].strip('/')):04X}"
    listening = "0A"  # the state, as the kernel writes it
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()
    ]
    hosts = [row[1].split(":")[0] for row in rows if row[1].endswith(f":{port}") and row[3] == listening]
    assert hosts == ["0100007F"]  # 127.0.0.1


def test_page_without_a_reader_is_an_error_in_a_line(tmp_path):
    command = [sys.executable, "-m", "tools.page", str(tmp_path / "none.keras")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("none.keras. There is no such file.")
