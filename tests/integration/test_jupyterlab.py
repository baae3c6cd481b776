"""The notebook in JupyterLab, in a real browser: cell by cell, all at once, interrupted and resumed."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from playwright.sync_api import TimeoutError

from conftest import PROJECT, TINY, screenshot, user_environment
from snippet_ocr.reader import Reader

TOKEN = "a-token-for-this-test-only"
MINUTES = 60_000  # milliseconds
NO_CELL_RUNS = "![...document.querySelectorAll('.jp-InputPrompt')].some(one => one.innerText.includes('*'))"


@pytest.fixture
def project(project, image_folder):
    """The copy of the project, with 30 of the shipped images."""
    shutil.copytree(image_folder, project / "captcha_images")
    return project


@contextlib.contextmanager
def jupyterlab(project, **variables):
    """Runs JupyterLab on a free port of loopback and gives the notebook's address."""
    settings = project.parent / "settings"
    panel = settings / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    panel.parent.mkdir(parents=True)
    panel.write_text('{"windowingMode": "none"}')  # all cells are in the page, visible or not
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--LabApp.user_settings_dir={settings}"),
        f"--LabApp.workspaces_dir={project.parent / 'workspaces'}",
    ]
    environment = user_environment(**TINY, OCR_RUN_NAME="run", **variables)
    log = (project.parent / "jupyter.log").open("w")
    server = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/tree/ocr.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        server.wait()
        log.close()


def open_notebook(browser, address):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=2 * MINUTES)
    # The notebook's own indicator says "idle" from the start; the status bar waits for the kernel.
    page.locator("#jp-main-statusbar").get_by_text(re.compile(r"\| Idle")).wait_for(timeout=2 * MINUTES)
    return page


def menu(page, *names):
    page.get_by_role("menuitem", name=names[0], exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{re.escape(names[1])}")).first.click()


def prompts(page):
    return page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()


def wait_for_line(page, pattern, minutes):
    """Waits until the cell that trains has printed a line."""
    deadline = time.monotonic() + 60 * minutes
    while not re.search(pattern, fit_cell(page).inner_text()):
        stopped = errors(page) + page.locator(".jp-Dialog").all_inner_texts()
        if stopped or time.monotonic() > deadline:
            screenshot(page, "stopped")
            pytest.fail(f"no {pattern!r}; cells {prompts(page)}; errors and dialogs {stopped}")
        page.wait_for_timeout(200)


def wait_for_the_end(page, minutes):
    """Waits until every code cell has been run and none is running."""
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        found = prompts(page)
        if all(re.fullmatch(r"\[\d+\]:", prompt.strip()) for prompt in found):
            return
        assert not errors(page), errors(page)
        page.wait_for_timeout(500)
    pytest.fail(f"cells are still running: {prompts(page)}")


def interrupt(page):
    """Clicks the button until the server has been told, as a person would."""
    button = page.locator("[data-command='notebook:interrupt-kernel'], [title^='Interrupt the kernel']").first
    for attempt in range(3):
        try:
            with page.expect_response(re.compile("/interrupt"), timeout=20_000) as answer:
                button.click()
            assert answer.value.ok
            return
        except TimeoutError:
            screenshot(page, f"no interrupt {attempt}")
    pytest.fail("the button does not interrupt the kernel")


def errors(page):
    return page.locator(
        ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
    ).all_inner_texts()


def fit_cell(page):
    """The cell that trains. The page holds only the lines of code in sight, so it is found by its number."""
    (number,) = [i for i, cell in enumerate(code_cells(PROJECT)) if "model.fit(" in cell.source]
    return page.locator(".jp-CodeCell").nth(number)


def figures(page):
    """The pictures in the page that are drawn, not only referred to."""
    script = "images => images.filter(image => image.complete && image.naturalWidth > 100).length"
    return page.locator(".jp-OutputArea-output img").evaluate_all(script)


def code_cells(project):
    cells = nbformat.read(project / "ocr.ipynb", as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_notebook_runs_cell_by_cell_and_all_at_once(browser, project):
    number = len(code_cells(project))
    # The figure of the training is shown by a callback.
    count = 1 + sum(cell.source.count("plots.show(") for cell in code_cells(project))
    wanted = count - 1, count  # a few misread characters are a list, not a figure
    with jupyterlab(project, OCR_EPOCHS="1") as address:
        page = open_notebook(browser, address)
        menu(page, "Kernel", "Restart Kernel and Clear Outputs of All Cells")
        page.get_by_role("button", name="Confirm").click()
        page.wait_for_function("document.querySelectorAll('.jp-OutputArea-output').length === 0")
        page.locator(".jp-MarkdownCell").first.click()
        cells = page.locator(".jp-Notebook .jp-Cell").count()
        for cell in range(1, cells + 1):
            # Shift+Enter selects the next cell; after the last it would add one.
            page.keyboard.press("Shift+Enter" if cell < cells else "Control+Enter")
            page.wait_for_function(NO_CELL_RUNS, timeout=5 * MINUTES)
        assert [prompt.strip() for prompt in prompts(page)][:number] == [
            f"[{n}]:" for n in range(1, number + 1)
        ]
        assert not errors(page)
        assert figures(page) in wanted
        fit_cell(page).scroll_into_view_if_needed()
        screenshot(page, "cell by cell")
        menu(page, "Run", "Run All Cells")
        page.wait_for_timeout(1000)
        wait_for_the_end(page, 5)
        assert not errors(page)
        assert figures(page) in wanted
        page.locator(".jp-OutputArea-output img").nth(4).scroll_into_view_if_needed()
        screenshot(page, "all at once")
        page.close()
    assert (project / "runs" / "run" / "metrics.json").exists()
    assert (project / "runs" / "run-2" / "metrics.json").exists()


def test_interrupted_fit_leaves_a_reader_and_resumes_when_run_again(browser, project):
    run_dir = project / "runs" / "run"
    with jupyterlab(project, OCR_EPOCHS="500", OCR_PATIENCE="500") as address:
        page = open_notebook(browser, address)
        menu(page, "Run", "Run All Cells")
        wait_for_line(page, r"epoch +3/500", 5)
        interrupt(page)
        wait_for_the_end(page, 3)
        assert not errors(page)
        text = fit_cell(page).inner_text()
        epochs = int(re.search(r"interrupted after (\d+) epochs; the best epoch so far is kept", text)[1])
        assert epochs >= 3
        assert not (run_dir / "metrics.json").exists()
        assert (
            len(Reader.load(run_dir / "reader.keras").read(sorted(project.glob("captcha_images/*"))[:2])) == 2
        )
        fit_cell(page).scroll_into_view_if_needed()
        screenshot(page, "interrupted")
        fit_cell(page).locator(".jp-InputArea-editor").click()
        page.keyboard.press("Control+Enter")
        wait_for_line(page, rf"epoch +{epochs + 2}/500", 3)
        assert "resuming" in fit_cell(page).inner_text()
        assert not re.search(rf"epoch +{epochs}/500", fit_cell(page).inner_text())
        interrupt(page)
        wait_for_line(page, r"interrupted after \d+ epochs", 2)
        screenshot(page, "resumed")
        page.close()
    assert sorted(path.name for path in (project / "runs").iterdir()) == ["run"]
