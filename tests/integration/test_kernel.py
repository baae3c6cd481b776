"""A person at a Jupyter kernel: interrupts the training, changes something, runs the cell again."""

import re
import time

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from conftest import TINY, user_environment

LONG = TINY | {"OCR_RUN_NAME": "run", "OCR_EPOCHS": "500", "OCR_PATIENCE": "500"}


class Person:
    """Runs cells in a kernel, and interrupts the training after its next epoch."""

    def __init__(self, project, environment):
        self.project = project
        self.manager, self.client = start_new_kernel(cwd=str(project), env=environment)
        cells = nbformat.read(project / "ocr.ipynb", as_version=4).cells
        self.sources = [cell.source for cell in cells if cell.cell_type == "code"]

    def number_of(self, text):
        (number,) = [number for number, source in enumerate(self.sources) if text in source]
        return number

    def run(self, source, interrupt=False):
        """Runs a source; returns what it printed. Raises if it raised."""
        printed = []

        def hear(message):
            printed.append(message["content"].get("text", ""))
            if interrupt and re.search(r"(?m)^epoch", printed[-1]):
                self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(source, output_hook=hear, timeout=180)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def run_cells(self, first, last):
        return "".join(self.run(source) for source in self.sources[first:last])

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def person(project, image_folder):
    person = Person(project, user_environment(**LONG, OCR_DATA_DIR=str(image_folder)))
    yield person
    person.close()


def test_changed_parameter_model_or_images_begin_a_new_run_and_nothing_is_mixed(person, image_folder):
    fit = person.number_of("model.fit(")
    train = person.sources[fit]
    person.run_cells(0, fit)
    assert "new run:" in person.run(train, interrupt=True)
    again = person.run(train, interrupt=True)
    assert "goes on with the unfinished run" in again
    assert re.search(r"(?m)^epoch +2/500", again)

    person.run("dropout = 0.3")
    changed = person.run(train, interrupt=True)
    assert re.search(r"leaves run alone: parameter dropout changed from [\d.]+ to 0\.3", changed)
    assert changed.count("run-2") == 1
    assert re.search(r"(?m)^epoch +1/500", changed)

    build = person.number_of("def build_model(")
    person.run(person.sources[build].replace("(32, (2, 2))", "(24, (2, 2))"))
    changed = person.run(train, interrupt=True)
    assert "leaves run-2 alone: model configuration changed from" in changed
    assert re.search(r"(?m)^epoch +1/500", changed)

    next(image_folder.glob("*.png")).unlink()
    person.run_cells(person.number_of("utils.find_images("), build)
    changed = person.run(train, interrupt=True)
    assert "leaves run-3 alone: training images changed from" in changed
    assert re.search(r"(?m)^epoch +1/500", changed)

    for number, run in enumerate(["run", "run-2", "run-3", "run-4"]):
        rows = (person.project / "runs" / run / "history.csv").read_text().splitlines()[1:]
        assert len(rows) >= (2 if number == 0 else 1)
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_interrupt_before_the_first_epoch_has_ended_keeps_nothing_and_says_so(person):
    fit = person.number_of("model.fit(")
    person.run_cells(0, fit)
    # Without stop_on_error=False the kernel aborts what reaches it just after the error: here, the next run.
    message = person.client.execute(person.sources[fit], stop_on_error=False)
    deadline = time.monotonic() + 60
    while not (person.project / "runs" / "run").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    person.manager.interrupt_kernel()
    reply = person.client.get_shell_msg(timeout=60)
    assert reply["parent_header"]["msg_id"] == message
    assert reply["content"]["status"] == "error"
    # Where it meets a native call, Python may wrap it in a SystemError; what it was stands above that.
    assert "KeyboardInterrupt" in "".join(reply["content"]["traceback"])
    assert "epoch   1/500" in person.run(person.sources[fit], interrupt=True)
