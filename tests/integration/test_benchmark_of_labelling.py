"""The simulated person counts keystrokes as the page needs them."""

import json

import pytest
from labelling import draw_images

from benchmarks import labelling
from tools.labelling.session import Session
from tools.labelling.training import Rounds

TRUTH = {f"{number:03}.png": f"{1000 + number}" for number in range(100)}


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session whose trainings read all but every tenth image right, with a confidence of 95%."""

    def start(rounds, labels, files, train=True):
        readings = {file: [TRUTH[file] if int(file[:3]) % 10 else "wrong", 0.95] for file in files}
        row = {"round": rounds.last["round"] + 1, "labels": labels, "reader": "", "seconds": 7}
        rounds.last, rounds.next = row | {"readings": readings}, 2 * labels

    monkeypatch.setattr(Rounds, "start", start)
    return Session(draw_images(tmp_path, TRUTH), train=False)


def test_person_who_overlooks_nothing_gives_right_labels_only(session):
    figures = labelling.simulate(session, TRUTH, 0.0)
    assert {path.name: text for path, text in session.labels.texts.items()} == TRUTH
    assert figures["all"]["wrong labels"] == 0 and figures["all"]["labels"] == 100
    assert figures["all typed"] == {"keystrokes": 500}
    assert [labels for labels, _ in figures["curve"]] == [20, 40, 80]
    # 20 labels are typed, 5 keys each. Later ones take a key each, and a sheet takes a key and one per wrong
    # reading; a wrong reading is typed at last, at most once.
    typed = sum(int(file[:3]) % 10 == 0 for file in TRUTH)
    assert 100 < figures["all"]["keystrokes"] <= 100 + 80 + 6 * typed


def test_person_who_overlooks_everything_accepts_wrong_labels(session):
    figures = labelling.simulate(session, TRUTH, 1.0)
    wrong = sum(TRUTH[path.name] != text for path, text in session.labels.texts.items())
    assert figures["all"]["wrong labels"] == wrong > 0


def test_person_in_order_types_everything(session):
    figures = labelling.simulate(session, TRUTH, None)
    assert figures["all"] == {"labels": 100, "keystrokes": 500, "wrong labels": 0, "seconds": 21}
    assert list(figures["curve"][0]) == [20, pytest.approx(0.9)]
    assert json.dumps(figures)
