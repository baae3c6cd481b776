"""The page for labelling, in a real browser."""

import contextlib
import csv
import json
import subprocess
import sys
import threading

import pytest
from labelling import draw_images
from test_labelling import write_round

from conftest import PROJECT, TINY, screenshot, user_environment
from tools.labelling.journal import FOLDER
from training import parameters, transfer

TEXTS = {f"{number:02}.png": f"{10000 + 777 * number}" for number in range(50)}


@contextlib.contextmanager
def served(folder, *arguments, **variables):
    """The address of a page that is served until the block ends, and how its server ended."""
    command = [sys.executable, "-m", "tools.label", str(folder), *map(str, arguments)]
    environment = user_environment(**variables)
    server = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("the page is at http://127.0.0.1:")
        yield line.split()[4]
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


@pytest.fixture
def folder(tmp_path):
    return draw_images(tmp_path / "meters", TEXTS)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def open_page(page, address):
    page.goto(address)
    page.wait_for_selector("#stage img")
    return page


def shown(page):
    return page.inner_text("#name")


def labels_in(folder):
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["text"] for row in csv.DictReader(file)}


def saved(page, folder, expected):
    """Waits until labels.csv has these labels."""
    for _ in range(300):
        if (folder / "labels.csv").exists() and labels_in(folder) == expected:
            return
        page.wait_for_timeout(20)
    assert labels_in(folder) == expected


def readings(wrong=()):
    return {file: ["99999" if file in wrong else text, 0.5 + int(text) / 1e5] for file, text in TEXTS.items()}


def test_keyboard_accepts_replaces_edits_skips_goes_back_and_undoes(page, folder):
    write_round(folder, readings(), labels=1000)
    with served(folder) as address:
        open_page(page, address)
        expected = {}
        for text in (None, "typed", "edited"):
            file = shown(page)
            assert page.input_value("#text") == TEXTS[file]
            if text == "typed":
                page.keyboard.type("ab c")
            elif text == "edited":
                page.keyboard.press("Tab")  # to the end of the text
                page.keyboard.type("X")
            page.keyboard.press("Enter")
            expected[file] = {"typed": "ab c", "edited": f"{TEXTS[file]}X"}.get(text, TEXTS[file])
        saved(page, folder, expected)
        last = file
        page.keyboard.press("PageUp")
        assert shown(page) == last and page.input_value("#text") == expected[last]
        page.keyboard.type("corrected")
        page.keyboard.press("Enter")
        saved(page, folder, expected | {last: "corrected"})
        page.keyboard.press("Control+z")
        saved(page, folder, expected)
        page.wait_for_function("file => document.querySelector('#name').textContent === file", arg=last)
        page.keyboard.press("Enter")
        skipped, unreadable = shown(page), page.keyboard.press("Escape") or shown(page)
        page.keyboard.press("Shift+Enter")
        other = shown(page)
        page.keyboard.press("Enter")
        saved(page, folder, expected | {other: TEXTS[other]})
        assert len({last, skipped, unreadable, other}) == 4
        page.reload()
        page.wait_for_selector("#stage img")
        assert shown(page) not in {*expected, skipped, unreadable, other}
        page.wait_for_function(
            "() => document.querySelector('#counts').textContent.includes('1 skipped, 1 unread')"
        )


def test_contact_sheet_labels_all_but_the_marked_readings(page, folder):
    wrong = {"49.png", "48.png", "45.png"}
    write_round(
        folder, {file: [text, 0.95 + sure / 100] for file, (text, sure) in readings(wrong).items()}, 1, 99
    )
    with served(folder) as address:
        open_page(page, address)
        page.keyboard.press("F2")
        page.wait_for_selector(".tile >> nth=39")
        texts = page.locator(".tile span").all_inner_texts()
        places = [place for place, text in enumerate(texts) if text == "99999"]
        page.locator(".tile").nth(places[0]).click()
        place = places[0]
        for goal in places[1:]:
            for _ in range(goal - place):
                page.keyboard.press("ArrowRight")
            page.keyboard.press("Space")
            place = goal
        assert page.locator(".tile[aria-pressed=true]").count() == len(places) == 3
        page.wait_for_selector("#accept-sheet:not([disabled])")
        screenshot(page, "label contact sheet")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('.tile').length < 12")
        accepted = labels_in(folder)
        assert len(accepted) == 37 and all(TEXTS[file] == text for file, text in accepted.items())
        page.keyboard.press("F2")
        page.wait_for_selector("#stage img")
        page.keyboard.press("Enter")  # the image that was there before
        page.wait_for_function(
            "() => document.querySelector('#reason').textContent.includes('contact sheet')"
        )
        assert shown(page) in wrong


def test_first_proposals_and_first_training_come_from_the_base_reader(page, folder):
    with served(folder, **TINY, OCR_EPOCHS="1") as address:
        open_page(page, address)
        reads = (
            "() => document.querySelector('#progress').textContent.includes('those of training/base.keras')"
        )
        page.wait_for_function(reads, timeout=300_000)
        page.wait_for_timeout(500)  # the images that wait are asked for again
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.querySelector('#text').value !== ''")
        first = json.loads((folder / FOLDER / "round-0000.json").read_text())
        assert sum(first["readings"].get(file, [""])[0] == text for file, text in TEXTS.items()) > 25
        assert page.input_value("#text") == first["readings"][shown(page)][0]
        for _ in range(20):
            file = shown(page)
            page.keyboard.type(TEXTS[file])
            page.keyboard.press("Enter")
            page.wait_for_function("file => document.querySelector('#name').textContent !== file", arg=file)
        page.wait_for_function("() => document.querySelector('#progress').textContent.startsWith('Running')")
        page.keyboard.type("typed while training")
        ended = "() => !document.querySelector('#progress').textContent.startsWith('Running')"
        page.wait_for_function(ended, timeout=300_000)
        assert "starts at 40" in page.inner_text("#progress")
        assert page.input_value("#text") == "typed while training"
    rows = [json.loads(row.read_text()) for row in sorted((folder / FOLDER).glob("round-*.json"))]
    assert [row["labels"] for row in rows] == [0, 20]
    name = json.loads((folder / FOLDER / "task.json").read_text())["settings"]["run_name"]
    config = json.loads((PROJECT / "runs" / name / "config.json").read_text())
    assert config["identity"]["parameter base_reader"] == str(transfer.BASE_READER)


def test_reader_fills_the_page_before_the_first_training(page, image_folder, saved):
    with served(image_folder, "--reader", saved) as address:
        open_page(page, address)
        reads = "() => document.querySelector('#progress').textContent.includes('The readings are those')"
        page.wait_for_function(reads, timeout=300_000)
        page.wait_for_timeout(500)  # the images that wait are asked for again
        assert page.input_value("#text") == ""  # nothing changes below someone's fingers
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.querySelector('#text').value !== ''")
        assert page.inner_text("#reason")


def test_two_windows_do_not_decide_about_the_same_image(browser, page, folder):
    other = browser.new_page()
    with served(folder) as address:
        open_page(page, address)
        open_page(other, address)
        files = {}
        for number in range(5):
            for name, one in (("1", page), ("2", other)):
                file = shown(one)
                assert file not in files
                files[file] = f"{name}{number}"
                one.keyboard.type(files[file])
                one.keyboard.press("Enter")
        saved(page, folder, files)
    other.close()


def test_duplicated_tab_is_a_window_of_its_own(page, folder):
    with served(folder) as address:
        open_page(page, address)
        with page.expect_popup() as popup:
            page.evaluate("window.open(location.href) && 0")  # copies what the tab has stored
        other = popup.value
        other.wait_for_selector("#stage img")
        assert shown(other) != shown(page)
        file = shown(page)
        page.keyboard.type("1")
        page.keyboard.press("Enter")
        saved(page, folder, {file: "1"})
        other.keyboard.press("Control+z")
        other.wait_for_function("() => document.querySelector('#message').textContent.includes('nothing to')")
        other.close()
        page.reload()
        page.wait_for_selector("#stage img")
        page.keyboard.press("Control+z")  # the same window as before
        saved(page, folder, {})


def test_typed_text_stays_when_someone_looks_elsewhere(page, folder):
    with served(folder) as address:
        open_page(page, address)
        first = shown(page)
        page.keyboard.press("Escape")
        file = shown(page)
        page.keyboard.type("half a te")
        page.keyboard.press("PageUp")
        assert (shown(page), page.input_value("#text")) == (first, "")
        for section in ("sheet", "one"):  # the images that wait are asked for again
            page.keyboard.press("F2")
            page.wait_for_selector(f"#{section}:not([hidden])")
        while shown(page) != file:
            page.keyboard.press("Escape")
            page.wait_for_timeout(100)
        assert page.input_value("#text") == "half a te"
        page.keyboard.press("Tab")
        page.keyboard.type("xt")
        page.keyboard.press("Enter")
        saved(page, folder, {file: "half a text"})
        page.keyboard.press("PageUp")
        assert page.input_value("#text") == "half a text"


def test_fast_change_of_the_mode_holds_no_image_back(page, folder):
    write_round(folder, {file: [text, 0.95] for file, text in TEXTS.items()}, labels=99)
    with served(folder) as address:
        open_page(page, address)
        page.keyboard.press("F2")
        page.keyboard.press("F2")
        page.wait_for_timeout(500)
        for _ in range(len(TEXTS)):
            page.wait_for_selector("#stage img")
            page.keyboard.press("Enter")
        saved(page, folder, TEXTS)


def test_rows_of_text_are_typed_and_kept(page, folder, tmp_path):
    write_round(folder, {file: [f"{text[:2]}\n{text[2:]}", 0.5] for file, text in TEXTS.items()})
    with served(folder) as address:
        open_page(page, address)
        first = shown(page)
        assert page.input_value("#text") == f"{TEXTS[first][:2]}\n{TEXTS[first][2:]}"
        page.keyboard.press("Enter")
        second = shown(page)
        page.keyboard.type("ab")
        page.keyboard.press("Control+Enter")
        page.keyboard.type("cd")
        screenshot(page, "label two rows")
        page.keyboard.press("Enter")
        expected = {first: f"{TEXTS[first][:2]}\n{TEXTS[first][2:]}", second: "ab\ncd"}
        saved(page, folder, expected)
    table = tmp_path / "suspect_labels.csv"
    table.write_text(f"file,label,text,confidence,right\n{second},x,y,0.9,0\n")
    with served(folder, "--review", table) as address:
        open_page(page, address)
        page.keyboard.press("Enter")  # keeps the label
        page.wait_for_selector("#done:not([hidden])")
        for _ in range(300):
            if '"mode": "review"' in (folder / FOLDER / "decisions.jsonl").read_text(encoding="utf-8"):
                break
            page.wait_for_timeout(20)
        else:
            pytest.fail("the decision is not saved")
        assert labels_in(folder) == expected


def test_contact_sheet_is_accepted_only_once_its_images_can_be_seen(page, folder):
    write_round(folder, {file: [text, 0.95] for file, text in TEXTS.items()}, labels=99)
    with served(folder) as address:
        open_page(page, address)
        held, free = [], threading.Event()
        page.route("**/image/*", lambda one: one.continue_() if free.is_set() else held.append(one))
        page.keyboard.press("F2")
        page.wait_for_selector(".tile >> nth=39")
        assert page.locator("#accept-sheet").is_disabled()
        page.keyboard.press("Enter")
        free.set()
        for route in held:
            route.continue_()
        page.wait_for_selector("#accept-sheet:not([disabled])")
        assert not (folder / "labels.csv").exists()
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('.tile').length < 12")
        assert len(labels_in(folder)) == 40


def test_decisions_wait_while_the_server_is_away(page, folder):
    write_round(folder, readings(), labels=1000)
    with served(folder) as address:
        open_page(page, address)
        port = address.rpartition(":")[2]
    files = []
    for _ in range(3):
        files.append(shown(page))
        page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#message').textContent.includes('3 decisions')")
    with served(folder, "--port", port):
        saved(page, folder, {file: TEXTS[file] for file in files})


def test_review_keeps_corrects_and_is_not_asked_again(page, folder, tmp_path):
    rows = [f"{file},{text}" for file, text in TEXTS.items()]
    (folder / "labels.csv").write_text("\n".join(["file,text", *rows]) + "\n")
    suspects = [f"0{number}.png,{TEXTS[f'0{number}.png']},{number},0.9,0,{9 - number}" for number in range(3)]
    table = tmp_path / "suspect_labels.csv"
    table.write_text("\n".join(["file,label,text,confidence,right,log_odds", *suspects]) + "\n")
    with served(folder, "--review", table) as address:
        open_page(page, address)
        assert (shown(page), page.input_value("#text")) == ("00.png", TEXTS["00.png"])
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")  # the reading
        assert (shown(page), page.input_value("#text")) == ("01.png", "1")
        screenshot(page, "label review")
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+Enter")
        page.wait_for_selector("#done:not([hidden])")
        expected = TEXTS | {"01.png": "1"}
        expected.pop("02.png")
        saved(page, folder, expected)
    with served(folder, "--review", table) as address:
        page.goto(address)
        page.wait_for_selector("#done:not([hidden])")


def test_screen_readers_get_names_states_and_news(page, folder):
    write_round(folder, readings(), labels=160)
    with served(folder) as address:
        open_page(page, address)
        assert page.get_by_role("textbox", name="Text of the image").input_value()
        assert page.get_by_role("img", name=f"Image {shown(page)}").is_visible()
        page.get_by_role("button", name="Accept").click()
        text = page.input_value("#text")
        page.get_by_role("status").get_by_text(text).wait_for(state="attached")
        assert page.evaluate("document.activeElement.id") == "text"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")  # the second one leaves the field
        assert page.evaluate("document.activeElement.id") == "accept"
        page.get_by_role("button", name="Contact sheet").click()
        page.wait_for_selector("#one", state="hidden")


def test_parameters_of_a_round_reach_the_notebook():
    assert {"OCR_EPOCHS", *TINY} <= {f"OCR_{name.upper()}" for name in parameters.defaults()}
