"""A user at a Jupyter kernel, who interrupts the training, changes something and runs the cell again."""

import contextlib
import queue
import re
import time

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from conftest import TINY, user_environment

LONG = TINY | {"OCR_RUN_NAME": "run", "OCR_EPOCHS": "500", "OCR_PATIENCE": "500"}


class User:
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
            already = any(re.search(r"(?m)^epoch", text) for text in printed)  # lines are printed again
            printed.append(message["content"].get("text", ""))
            if interrupt and not already and re.search(r"(?m)^epoch", printed[-1]):
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
def user(project, image_folder):
    user = User(project, user_environment(**LONG, OCR_DATA_DIR=str(image_folder)))
    yield user
    user.close()


def test_changed_parameter_model_or_images_start_a_new_run(user, image_folder):
    fit = user.number_of("model.fit(")
    train = user.sources[fit]
    user.run_cells(0, fit)
    assert "new run:" in user.run(train, interrupt=True)
    again = user.run(train, interrupt=True)
    assert f"resuming {user.project / 'runs' / 'run'}" in again
    assert re.search(r"(?m)^epoch +2/500", again)

    user.run("dropout = 0.3")
    changed = user.run(train, interrupt=True)
    assert re.search(r"skipping run: dropout changed from [\d.]+ to 0\.3", changed)
    assert {*re.findall(r"run-\d", changed)} == {"run-2"}
    assert re.search(r"(?m)^epoch +1/500", changed)

    build = user.number_of("def build_model(")
    user.run(user.sources[build].replace("(32, 64)", "(24, 64)"))
    changed = user.run(train, interrupt=True)
    assert "skipping run-2: model configuration changed from" in changed
    assert re.search(r"(?m)^epoch +1/500", changed)

    next(image_folder.glob("*.png")).unlink()
    user.run_cells(user.number_of("utils.find_images("), build)
    changed = user.run(train, interrupt=True)
    assert "skipping run-3: training images changed from" in changed
    assert re.search(r"(?m)^epoch +1/500", changed)

    for number, run in enumerate(["run", "run-2", "run-3", "run-4"]):
        rows = (user.project / "runs" / run / "history.csv").read_text().splitlines()[1:]
        assert len(rows) >= (2 if number == 0 else 1)
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_interrupt_before_the_end_of_the_first_epoch_raises(user):
    fit = user.number_of("model.fit(")
    user.run_cells(0, fit)
    # Without stop_on_error=False the kernel aborts requests that arrive just after the error.
    message = user.client.execute(user.sources[fit], stop_on_error=False)
    deadline = time.monotonic() + 60
    while not (user.project / "runs" / "run").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(3):  # TensorFlow may swallow one while it traces the training step
        time.sleep(0.5)
        user.manager.interrupt_kernel()
        with contextlib.suppress(queue.Empty):
            reply = user.client.get_shell_msg(timeout=0.5)
            break
    else:
        reply = user.client.get_shell_msg(timeout=60)
    assert reply["parent_header"]["msg_id"] == message
    assert reply["content"]["status"] == "error"
    # In a native call, Python may wrap it in a SystemError; the traceback has both.
    assert "KeyboardInterrupt" in "".join(reply["content"]["traceback"])
    assert "epoch   1/500" in user.run(user.sources[fit], interrupt=True)


def test_kernel_sends_heartbeats_while_a_cell_runs_and_none_after(user):
    setup = user.number_of("send_heartbeats()")
    user.run_cells(0, setup + 1)
    request = user.client.execute("import time; time.sleep(3)")
    states = []
    while not states or states[-1] != "idle":
        message = user.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "status" and message["parent_header"].get("msg_id") == request:
            states.append(message["content"]["execution_state"])
    assert states.count("busy") > 3  # the kernel itself sends one
    time.sleep(1)
    with pytest.raises(queue.Empty):
        user.client.get_iopub_msg(timeout=1)
