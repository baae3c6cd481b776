"""The page for labelling in different windows of a browser, and next to a hostile page."""

import functools
import http.server
import json
import re
import threading
import urllib.request

import pytest
from labelling import decision, draw_images
from test_label_in_chromium import TEXTS, open_page, readings, served
from test_labelling import write_round

from conftest import screenshot
from tools.labelling.journal import FOLDER
from tools.labelling.session import Session


@pytest.fixture
def folder(tmp_path):
    return draw_images(tmp_path / "meters", TEXTS)


@pytest.mark.parametrize(
    "name, size, scheme",
    [("light", (1366, 768), "light"), ("dark", (1366, 768), "dark"), ("phone", (390, 844), "dark")],
)
def test_page_fits_its_window(browser, folder, name, size, scheme):
    write_round(folder, readings(), labels=160)
    view = {"viewport": {"width": size[0], "height": size[1]}, "color_scheme": scheme}
    context = browser.new_context(**view, is_mobile=name == "phone", has_touch=name == "phone")
    with served(folder) as address:
        page = open_page(context.new_page(), address)
        requested = []
        page.on("request", lambda request: requested.append(request.url))
        for _ in range(12):
            page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('#estimate').textContent.startsWith('6 of 6 random')"
        )
        assert page.locator("#curve svg circle").count() == 1
        assert "6 of 6 right with 160 labels" in page.locator("#curve svg").get_attribute("aria-label")
        assert page.inner_text("#verdict") == "Label more to reach 95%."  # six images say little
        screenshot(page, f"label {name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for button in ("accept", "skip", "unreadable", "back", "undo"):
            box = page.locator(f"#{button}").bounding_box()
            assert box["y"] + box["height"] <= size[1] and box["height"] >= 40
        page.locator("#sheet-mode").click()
        page.wait_for_selector("#sheet:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert requested and all(url.startswith(address) for url in requested)
    context.close()


HOSTILE = """<!doctype html><body><script>
const target = "ADDRESS", tried = {}, picture = new Image(), hosts = target.replace("http", "ws");
const attempt = (name, promise) => promise.then(() => tried[name] = "done", () => tried[name] = "refused");
const body = JSON.stringify({folder: "KEY", window: "a", train: true, count: 3});
const loaded = (one, event) => new Promise((yes, no) => { one[event] = yes; one.onerror = no; });
picture.src = target + "/image/DIGEST";
Promise.all([
  attempt("read", fetch(target + "/").then((answer) => answer.text())),
  attempt("opaque", fetch(target + "/", {mode: "no-cors"}).then((answer) => answer.text()).then(
    (text) => text || Promise.reject())),
  attempt("json", fetch(target + "/act", {method: "POST", headers: {"Content-Type": "application/json"},
    body})),
  attempt("image", loaded(picture, "onload")),
  attempt("socket", loaded(new WebSocket(hosts + "/act"), "onopen")),
  fetch(target + "/act", {method: "POST", mode: "no-cors", body: DECISION}).catch(() => 0),
]).then(() => document.title = JSON.stringify(tried));
</script><iframe src="ADDRESS"></iframe></body>"""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "evil.example"])
def test_page_of_another_origin_can_neither_read_nor_write(browser, folder, tmp_path, host):
    digest = Session(folder, train=False).digests["00.png"]
    site = tmp_path / "site"
    site.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    page = browser.new_page()
    with served(folder) as address, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with urllib.request.urlopen(address) as content:
            key = re.search('folder: "([0-9a-f]+)"', content.read().decode())[1]
        attack = {"folder": key, "window": "a", "decide": [decision("00.png", "stolen")]}
        html = HOSTILE.replace("ADDRESS", address).replace("DIGEST", digest).replace("KEY", key)
        html = html.replace("DECISION", json.dumps(json.dumps(attack)))
        (site / "index.html").write_text(html)
        page.goto(f"http://{host}:{other.server_address[1]}/")
        page.wait_for_function("() => document.title.startsWith('{')")
        tried = json.loads(page.title())
        assert tried == dict.fromkeys(["read", "opaque", "json", "image", "socket"], "refused")
        assert all(frame.query_selector("#app") is None for frame in page.frames)
        other.shutdown()
        # A name that points to this machine, at the page's own port.
        port = address.rpartition(":")[2]
        assert page.goto(f"http://evil.example:{port}/").status == 421
        assert page.goto(address).status == 200
    page.close()
    assert not (folder / "labels.csv").exists()
    assert not (folder / FOLDER / "decisions.jsonl").exists()
