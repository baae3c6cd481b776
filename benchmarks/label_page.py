"""How smooth is the labelling page while Enter is held down?

    python -m benchmarks.label_page [--images 10000] [--seconds 20]

draws a folder of images, serves it with `tools.label`, holds Enter in Chromium, and prints how many images
were labelled and the times between frames, first without trainings and then with those that the labels start.
Run it on a quiet machine. The rows are appended to benchmarks/results/label_page.jsonl.
"""

import argparse
import functools
import shutil
import socket
import string
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

from benchmarks.study import append_row, rows_table
from tools import label
from tools.draw_text import Drawing, draw
from tools.drawing.fonts import MATPLOTLIB, find_fonts
from tools.drawing.texts import random_text
from tools.labelling.session import Session
from training import PROJECT
from training.labels import LABELS_FILE

KEYS_PER_SECOND = 30  # of a key that is held down
COUNT_FRAMES = """() => {
    window.frames = []; window.shown = 0; let last = performance.now();
    const frame = now => { window.frames.push(now - last); last = now; requestAnimationFrame(frame) };
    requestAnimationFrame(frame);
    const images = new MutationObserver(() => { window.shown++ });
    images.observe(document.getElementById("stage"), {childList: true}) }"""
COLUMNS = {
    "trainings": "{trainings}",
    "images labelled": "{labelled} in {seconds} s",
    "frames per second": "{frames_per_second:.1f}",
    "ms between frames: median, 95%, 99%": "{milliseconds[0]}, {milliseconds[1]}, {milliseconds[2]}",
}


def hold_enter(address, seconds):
    """Holds Enter on the page at an address; returns the images shown and the milliseconds of each frame."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(address)
        page.wait_for_selector("#stage img")
        page.wait_for_timeout(2000)  # until images are loaded in advance
        page.evaluate(COUNT_FRAMES)
        started = time.monotonic()
        for number in range(KEYS_PER_SECOND * seconds):
            page.keyboard.down("Enter")
            time.sleep(max(0.0, started + (number + 1) / KEYS_PER_SECOND - time.monotonic()))
        page.keyboard.up("Enter")
        found = page.evaluate("() => [window.shown, window.frames]")
        page.wait_for_function("() => !outbox.length")  # until the server has saved all labels
        browser.close()
        return found


def measure(folder, seconds, train):
    """Serves a folder, holds Enter, and returns the recorded row."""
    session = Session(folder, PROJECT / "snippet_ocr" / "base.onnx", train=train)
    session.rounds.wait()  # until the base reader has read all images
    for reading in session.rounds.last["readings"].values():
        reading[0] = reading[0] or "0"  # Enter accepts no empty text
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = {"log_level": "warning", "lifespan": "off", "ws": "none"}
        server = uvicorn.Server(uvicorn.Config(label.build(session, port), **config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            shown, frames = hold_enter(f"http://127.0.0.1:{port}", seconds)
        finally:
            server.should_exit = True
            thread.join()
            session.rounds.stop()
    figures = {"images": len(session.files), "trainings": "in the background" if train else "none"}
    figures |= {"shown": shown, "labelled": len(session.labels.texts), "seconds": seconds}
    figures["frames_per_second"] = len(frames) / sum(frames) * 1000
    figures["milliseconds"] = np.percentile(frames, (50, 95, 99)).round(1).tolist()
    return append_row("label_page", figures)


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.label_page", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--images", metavar="N", type=int, default=10_000, help="default: 10,000")
    parser.add_argument("--seconds", metavar="N", type=int, default=20, help="default: 20")
    options = parser.parse_args(arguments)
    rows = []
    for train in (False, True):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, "images")
            source = functools.partial(random_text, string.digits, (5, 5))
            draw(folder, options.images, Drawing(find_fonts(MATPLOTLIB), source, ("print",), (50, 50)))
            (folder / LABELS_FILE).unlink()  # the labels are those of the simulated person
            rows.append(measure(folder, options.seconds, train))
    print(rows_table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
