"""What to label next, and the state that all windows share."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from labelling import FILES, TEXTS, decision, draw_images

from tools.labelling import choosing, review
from tools.labelling.journal import FOLDER
from tools.labelling.session import CONFIDENT, Session
from tools.labelling.training import Rounds, onnx_of, settings_of
from training import PROJECT, parameters
from training.metrics import wilson_interval
from training.pixels import THUMBNAIL_SIZE
from training.transfer import BASE_READER


def write_round(folder, readings, number=1, labels=20):
    """Writes what a finished training leaves."""
    (folder / FOLDER).mkdir(exist_ok=True)
    row = {"round": number, "labels": labels, "reader": "", "seconds": 1, "readings": readings}
    (folder / FOLDER / f"round-{number:04}.json").write_text(json.dumps(row))


@pytest.fixture
def session(tmp_path):
    return Session(draw_images(tmp_path), train=False)


def files_of(items):
    return [item["file"] for item in items]


def all_items(session):
    """Everything that a window can get, although others get a part."""
    items = []
    while new := session.next("a", files_of(items), 9):
        items += new
    return items


def test_varied_sample_takes_one_image_of_each_kind_first():
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 256, (5, *THUMBNAIL_SIZE[::-1]))
    noisy = np.clip(np.repeat(kinds, 20, axis=0) + generator.integers(-9, 9, (100, 16, 32)), 0, 255)
    thumbnails = {f"{kind}": noisy[kind].astype("uint8").tobytes() for kind in generator.permutation(100)}
    order = choosing.farthest_first(thumbnails, set(), 50)
    assert {int(file) // 20 for file in order[:5]} == set(range(5)) and sorted(order) == sorted(thumbnails)
    others = choosing.farthest_first(thumbnails, {"0", "20", "40"})
    assert {int(file) // 20 for file in others[:2]} == {3, 4}


def test_varied_sample_does_not_mind_equal_images():
    thumbnails = {file: bytes(512) for file in "abc"}
    assert sorted(choosing.farthest_first(thumbnails, set())) == ["a", "b", "c"]


def test_rank_prefers_unsure_and_rarely_seen_texts_and_says_why():
    labels = ["1111"] * 10 + ["2222"] * 10
    readings = {
        "sure": ("1221", 0.99),
        "unsure": ("1221", 0.4),
        "rare": ("122Q", 0.6),
        "long": ("12121", 0.65),
    }
    ranked = choosing.rank([*readings, "unread"], readings, labels)
    assert ranked == [
        ("unread", "among the least sure readings: 0%"),
        ("rare", "'Q' is rare: 0 in the labels"),
        ("long", "5 characters are rare: 0 labels"),
        ("unsure", "among the least sure readings: 40%"),
        ("sure", "among the least sure readings: 99%"),
    ]


def test_half_of_the_choice_is_drawn_from_all_files_alike():
    files, counts = [f"{number:02}" for number in range(20)], Counter()
    readings = {file: ("1", int(file) / 20) for file in files}
    for seed in range(2000):
        chosen = choosing.choose(files, 4, readings, ["1"] * 50, None, random.Random(seed))
        assert len({file for file, *_ in chosen}) == 4
        counts.update(file for file, kind, _ in chosen if kind == "random")
    expected = 2000 * 2 / 20
    assert sum((counts[file] - expected) ** 2 / expected for file in files) < 43.8  # chi-squared, 19, 0.1%


def test_estimate_counts_random_readings_of_the_last_rounds_and_corrections():
    def shown(number, kind, text, round_number):
        return decision(f"{number}", text, shown="a", kind=kind, round=round_number)

    decisions = [shown(number, "random", "b", 1) for number in range(50)]  # all wrong
    decisions += [shown(number, "random", "a", 2) for number in range(50, 110)]
    decisions += [shown(number, "ranked", "b", 2) for number in range(110, 130)]
    decisions += [shown(50, "random", "b", 2)]  # accepted, then corrected
    curve = choosing.learning_curve(decisions)
    assert curve == {1: [0, 50], 2: [59, 60]}
    assert choosing.estimate(curve) == pytest.approx((59, 60, *wilson_interval(59, 60)))
    assert choosing.estimate({1: [5, 30], 2: [10, 10]})[:2] == (15, 40)
    assert choosing.estimate({}) is None


def test_windows_get_different_images_and_each_decision_once(session):
    first, second = session.next("a", [], 3), session.next("b", [], 3)
    assert len({*files_of(first), *files_of(second)}) == len(first) + len(second) == 5
    session.leases.clear()  # as after a minute
    assert len(session.next("b", [], 6)) == 3
    file = first[0]["file"]
    assert session.decide([decision(file, "1", window="a")]) == {}
    problems = session.decide([decision(file, "2", window="b")])
    assert "another window" in problems[file] and session.label(file) == "1"
    assert session.decide([decision(file, "1", window="a")]) == {}  # sent again: its answer was lost
    assert session.journal.seen[file] == 1
    assert session.decide([decision(file, "2", seen=1, window="b")]) == {}
    assert session.label(file) == "2"


def test_undo_takes_back_the_last_action_of_a_window_also_after_a_restart(tmp_path):
    draw_images(tmp_path)
    table = "file,text,note\n0.png,old,kept\n"
    (tmp_path / "labels.csv").write_text(table)
    session = Session(tmp_path, train=False)
    session.decide([decision("0.png", "new", seen=0)])
    session.decide([decision(file, "1", action="sheet") for file in FILES[1:3]])
    session.decide([decision("3.png", "3", window="b")])
    assert sorted(files_of(session.undo("a"))) == FILES[1:3]
    session = Session(tmp_path, train=False)
    assert files_of(session.undo("a")) == ["0.png"] and session.undo("a") == []
    assert (tmp_path / "labels.csv").read_text() == table + "3.png,3,\n"
    assert session.decide([decision("0.png", "again", seen=2)]) == {}


def test_undo_does_not_touch_what_another_window_decided_later(session):
    session.decide([decision("0.png", "1")])
    session.decide([decision("0.png", "2", seen=1, window="b")])
    assert session.undo("a") == [] and session.label("0.png") == "2"


def test_unreadable_images_are_not_asked_again_and_skipped_ones_last(tmp_path, session):
    session.decide([decision("0.png", decision="unreadable"), decision("1.png", decision="skip")])
    session = Session(tmp_path, train=False)
    assert sorted(files_of(all_items(session))) == FILES[2:]
    session.decide([decision(file, TEXTS[file]) for file in FILES[2:]])
    assert files_of(session.next("a", [], 9)) == ["1.png"]
    state = session.state("a")
    assert [state[name] for name in ("labels", "open", "skip", "unreadable")] == [4, 1, 1, 1]


def test_contact_sheet_has_the_confident_readings_and_wrong_ones_are_asked_one_by_one(tmp_path):
    draw_images(tmp_path)
    write_round(tmp_path, {file: ["7", CONFIDENT + number / 100 - 0.02] for number, file in enumerate(FILES)})
    session = Session(tmp_path, train=False)
    assert files_of(session.next("a", [], 40, sheet=True)) == FILES[:1:-1]
    session.decide([decision("5.png", decision="wrong"), decision("4.png", "7")])
    assert files_of(session.next("a", [], 40, sheet=True)) == ["3.png", "2.png"]
    first, *_ = session.next("a", [], 9)
    assert (first["file"], first["kind"], first["text"]) == ("5.png", "wrong", "7")


@pytest.mark.parametrize(
    "change",
    [{"decision": "other"}, {"seen": "0"}, {"seen": True}, {"extra": 1}, {"text": None}],
)
def test_malformed_decisions_are_refused(session, change):
    with pytest.raises(ValueError, match="Expected a decision"):
        session.decide([decision("1.png", "1"), decision("0.png", "1") | change])
    assert session.journal.active == [] and session.label("1.png") is None


def test_invalid_text_is_a_problem_of_its_image_only(session):
    problems = session.decide([decision("0.png", "1E+05"), decision("1.png", "1")])
    assert list(problems) == ["0.png"] and session.label("1.png") == "1"


def test_decision_about_an_image_that_is_gone_does_not_stop_the_others(session):
    problems = session.decide([decision("../x", "1"), decision("0.png", "1")])
    assert problems == {"../x": "is not among the images any more"} and session.label("0.png") == "1"


def test_undone_image_keeps_the_reading_that_was_shown_before_a_training(session):
    session.decide([decision("0.png", "12", shown="12", round=0)])
    session.rounds.last |= {"round": 1, "readings": {file: ["3", 0.9] for file in FILES[1:]}}
    (item,) = session.undo("a")
    assert (item["text"], item["round"]) == ("12", 0)


def test_trainings_also_read_skipped_images(session, monkeypatch):
    started = []
    monkeypatch.setattr(Rounds, "start", lambda self, labels, files: started.append(sorted(files)))
    session.decide([decision("0.png", decision="skip"), decision("1.png", decision="unreadable")])
    session.start_round()
    assert started == [["0.png", *FILES[2:]]]


def test_windows_keep_their_images_after_a_restart(tmp_path, session):
    held = files_of(session.next("a", [], 2))
    session = Session(tmp_path, train=False)
    session.state("a", held)
    assert not {*held} & {*files_of(session.next("b", [], 9))}


def is_running(pid):
    """Whether a process has not ended; one that nobody waited for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_background_process_ends_with_a_server_that_is_killed(tmp_path):
    draw_images(tmp_path)
    script = (
        "import os, sys, pathlib, signal; from tools.labelling.session import Session; "
        "session = Session(pathlib.Path(sys.argv[1]), pathlib.Path('snippet_ocr/base.onnx')); "
        "print(session.rounds._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=PROJECT, capture_output=True)
    deadline = time.monotonic() + 60
    while is_running(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list((tmp_path / FOLDER).glob("round-*"))


def test_images_that_cannot_be_opened_are_reported_and_left_out(tmp_path):
    (draw_images(tmp_path) / "broken.png").write_bytes(b"nothing")
    session = Session(tmp_path, train=False)
    assert {path.name: reason for path, reason in session.unusable.items()} == {
        "broken.png": "is not an image"
    }
    assert session.state("a")["images"] == 6


def test_review_asks_once_for_wrong_readings_and_contested_copies(tmp_path):
    draw_images(tmp_path)
    (tmp_path / "copy.png").write_bytes((tmp_path / "5.png").read_bytes())
    table = "".join(f"{file},{text}\n" for file, text in {**TEXTS, "copy.png": "other"}.items())
    (tmp_path / "labels.csv").write_text(f"file,text\n{table}")
    suspects = tmp_path.parent / "suspect_labels.csv"
    rows = [f"{file},{TEXTS[file]},x,0.9,{right},{odds}" for file, right, odds in
            [("0.png", 0, 8), ("1.png", 0, 9), ("2.png", 1, 0), ("3.png", 0, 7)]]  # fmt: skip
    suspects.write_text("\n".join(["file,label,text,confidence,right,log_odds", *rows]) + "\n")
    session = Session(tmp_path, to_review=suspects)
    items = session.next("a", [], 9)
    assert files_of(items) == ["1.png", "0.png", "3.png", "5.png", "copy.png"]
    assert (items[0]["label"], items[0]["other"]) == (TEXTS["1.png"], "x")
    assert "copy.png is nearly the same image" in items[3]["reason"]
    session.decide([
        decision("1.png", TEXTS["1.png"], mode="review"),
        decision("0.png", "x", mode="review"),
        decision("3.png", decision="unreadable", mode="review"),
        decision("copy.png", TEXTS["5.png"], mode="review"),
    ])  # fmt: skip
    session = Session(tmp_path, to_review=suspects)
    assert session.next("a", [], 9) == []  # the copies have the same label now
    assert (session.label("0.png"), session.label("3.png")) == ("x", None)
    done = {("1.png", TEXTS["1.png"]), ("0.png", "x"), ("3.png", None), ("copy.png", TEXTS["5.png"])}
    assert session.journal.reviewed() == done


def test_review_needs_a_labels_file_and_a_file_it_understands(tmp_path, session):
    (tmp_path.parent / "none.csv").write_text("a,b\n1,2\n")
    (tmp_path.parent / "ok.csv").write_text("file,label,text,confidence,right\n")
    assert review.wrong_readings(tmp_path.parent / "ok.csv") == {}
    with pytest.raises(ValueError, match="python -m training.labels"):
        Session(tmp_path, to_review=tmp_path.parent / "ok.csv")
    with pytest.raises(ValueError, match="test_readings.csv"):
        review.wrong_readings(tmp_path.parent / "none.csv")


def test_rounds_start_at_20_labels_and_double(tmp_path, monkeypatch):
    draw_images(tmp_path, {f"{number}.png": f"{number:03}" for number in range(60)})
    started = []
    monkeypatch.setattr(Rounds, "start", lambda self, labels, files: started.append((labels, len(files))))
    session = Session(tmp_path)
    session.decide([decision(f"{number}.png", "1") for number in range(19)])
    session.state("a")
    assert started == []
    session.decide([decision("19.png", "1")])
    session.state("a")
    assert started == [(20, 40)]
    write_round(tmp_path, {"30.png": ["1", 0.5]}, labels=20)
    session = Session(tmp_path)
    assert session.rounds.next == 40
    assert session.state("a")["round"] == 1


@pytest.mark.parametrize("labels", [3, 20, 99, 100, 5000])
def test_settings_of_a_round_are_valid_and_follow_the_environment(tmp_path, monkeypatch, labels):
    settings = settings_of(tmp_path, labels, "")
    assert parameters.validate(parameters.defaults() | settings)["data_dir"] == str(tmp_path)
    monkeypatch.setenv("OCR_EPOCHS", "3")
    monkeypatch.setenv("OCR_DATA_DIR", "elsewhere")
    again = settings_of(tmp_path, labels, "")
    assert (again["epochs"], again["data_dir"]) == (3, str(tmp_path))


def test_round_continues_from_keras_files_only(tmp_path):
    onnx, keras = tmp_path / "reader.onnx", tmp_path / "reader.keras"
    assert settings_of(tmp_path, 40, str(onnx))["base_reader"] == ""
    keras.touch()
    assert settings_of(tmp_path, 40, str(onnx))["base_reader"] == str(keras)


def test_base_reader_reads_with_onnx_and_is_trained_with_keras(tmp_path):
    assert onnx_of(BASE_READER) == PROJECT / "snippet_ocr" / "base.onnx"
    assert settings_of(tmp_path, 20, str(BASE_READER))["base_reader"] == str(BASE_READER)
    assert onnx_of(tmp_path / "reader.keras") == tmp_path / "reader.keras"
    (tmp_path / "reader.onnx").touch()
    assert onnx_of(tmp_path / "reader.keras") == tmp_path / "reader.onnx"


def test_round_after_one_that_read_nothing_right_starts_from_the_first_reader(tmp_path, monkeypatch):
    write_round(tmp_path, {})
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **options: None)
    Rounds(tmp_path, str(BASE_READER)).start(40, ["0.png"])
    task = json.loads((tmp_path / FOLDER / "task.json").read_text())
    assert task["settings"]["base_reader"] == task["reader"] == str(BASE_READER)


def test_base_reader_fills_the_varied_sample_and_does_not_order_it(tmp_path):
    draw_images(tmp_path)
    session = Session(tmp_path, train=False)
    before = files_of(all_items(session))
    readings = {file: [text, 0.5] for file, text in TEXTS.items()}
    session.rounds.last |= {"reader": str(BASE_READER), "readings": readings}
    items = all_items(session)
    assert files_of(items) == before and {item["kind"] for item in items} == {"varied"}
    assert {item["file"]: item["text"] for item in items} == TEXTS
    session.rounds.last |= {"reader": "another"}
    assert {item["kind"] for item in all_items(session)} == {"random", "ranked"}


def test_first_proposals_are_read_again_until_there_is_a_training(tmp_path):
    write_round(tmp_path, {"0.png": ["1", 0.5]}, number=0, labels=0)
    assert Rounds(tmp_path, "other.onnx").last["round"] == -1
    write_round(tmp_path, {"0.png": ["2", 0.5]}, number=1)
    assert Rounds(tmp_path, "other.onnx").last["readings"] == {"0.png": ["2", 0.5]}


def test_round_that_fails_is_reported_and_the_next_one_starts_from_scratch(tmp_path):
    draw_images(tmp_path)
    (tmp_path / FOLDER).mkdir()
    rounds = Rounds(tmp_path, str(tmp_path / "none.onnx"))
    rounds.start(0, ["0.png"], train=False)
    rounds._process.wait(120)
    assert not rounds.poll()
    assert "none.onnx" in rounds.error and rounds.last["readings"] == {}
