"""How many keystrokes does a folder of labels cost?

    python -m benchmarks.labelling DATA

hides the labels of a folder and simulates a person who labels it with `tools.label`. The person types what is
not read right, marks wrong readings in the contact sheet, and overlooks some of them. A training follows at
20, 40, 80, … labels. For comparison, another person types the labels in the order of the files. The rows are
appended to benchmarks/results/labelling.jsonl: keystrokes, and seconds of training and reading, until 95% and
99% of the remaining images are read right, and until every image has a label.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import utils
from benchmarks.study import SEED, link_images, markdown_table, name_images, record, use_defaults
from tools.labelling.session import Session
from tools.notebook import code_version
from training import parameters

SHEET = 40  # readings in a contact sheet
GOALS = (0.95, 0.99)
CASES = {"tools.label": 0.0, "tools.label, 2% overlooked": 0.02, "typed in order": None}
"""The share of wrong readings in contact sheets that each person overlooks; None to type every label."""


class Person:
    """Someone who labels the images of a session.

    Args:
        session: a `Session`.
        truth: a dictionary from files to their texts.
        overlooked: a value of `CASES`.
    """

    def __init__(self, session, truth, overlooked):
        self.session, self.truth, self.overlooked, self.keystrokes = session, truth, overlooked, 0
        self.generator = random.Random(SEED)

    def _decide(self, items, texts, mode):
        decisions = [
            {"file": one["file"], "seen": one["seen"], "decision": "label" if text else "wrong", "text": text}
            | {"shown": one["text"], "kind": one["kind"], "mode": mode, "round": one["round"]}
            | {"action": "", "window": "person"}
            for one, text in zip(items, texts, strict=True)
        ]
        problems = self.session.decide(decisions)
        assert not problems, problems

    def label(self, count):
        """Labels at most `count` images one at a time."""
        if self.overlooked is None:
            files = [file for file in self.truth if not self.session.label(file)][:count]
            items = [self.session.item(file, "ordered", "") | {"text": ""} for file in files]
        else:
            items = self.session.next("person", [], count)
        texts = [self.truth[item["file"]] for item in items]
        # Enter accepts; the first key that is typed replaces the reading.
        keys = [1 + len(text) * (item["text"] != text) for item, text in zip(items, texts, strict=True)]
        self.keystrokes += sum(keys)
        self._decide(items, texts, "one")

    def check_sheet(self, count):
        """Goes through a contact sheet of at most `count` readings; returns how many."""
        typing = self.overlooked is None
        items = [] if typing else self.session.next("person", [], min(count, SHEET), sheet=True)
        texts = [item["text"] for item in items]
        for place, item in enumerate(items):
            if texts[place] != self.truth[item["file"]] and self.generator.random() >= self.overlooked:
                self.keystrokes += 1
                texts[place] = ""
        self.keystrokes += bool(items)
        self._decide(items, texts, "sheet")
        return len(items)

    def label_until(self, count, share=0.5):
        """Labels until `count` images have labels: a share one at a time, then contact sheets if possible."""
        labels = self.session.labels
        alone = len(labels.texts) + share * (count - len(labels.texts))
        while (missing := count - len(labels.texts)) > 0 and self.session.open_files():
            if len(labels.texts) < alone or not self.check_sheet(missing):
                self.label(min(missing, 20))

    def figures(self, seconds):
        """Returns what the labels have cost so far."""
        texts = {path.name: text for path, text in self.session.labels.texts.items()}
        wrong = sum(self.truth[file] != text for file, text in texts.items())
        counts = {"labels": len(texts), "keystrokes": self.keystrokes, "wrong labels": wrong}
        return counts | {"seconds": seconds}


def simulate(session, truth, overlooked):
    """Labels the images of a session; returns the figures at each goal, None if it was not reached."""
    person, seconds, curve = Person(session, truth, overlooked), 0, []
    session.rounds.wait()  # of the reader that was given
    reached = dict.fromkeys([f"{goal:.0%}" for goal in GOALS])
    while (waiting := session.open_files()) and not all(reached.values()):
        person.label_until(session.rounds.next)
        if not (waiting := session.open_files()):
            break
        session.start_round()
        session.rounds.wait()
        assert not session.rounds.error, session.rounds.error
        seconds = round(seconds + session.rounds.last["seconds"], 1)
        readings = session.rounds.last["readings"]
        right = sum(readings.get(file, [""])[0] == truth[file] for file in waiting) / len(waiting)
        curve.append([len(truth) - len(waiting), round(right, 4)])
        print(f"{person.figures(seconds)}, {right:.1%} of the others read right", flush=True)
        for goal in GOALS:
            if right >= goal:
                reached[f"{goal:.0%}"] = reached[f"{goal:.0%}"] or person.figures(seconds)
    person.label_until(len(truth), share=0)
    typed = sum(len(text) + 1 for text in truth.values())
    return {**reached, "all": person.figures(seconds), "all typed": {"keystrokes": typed}, "curve": curve}


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.labelling", description="Measures labelling.")
    parser.add_argument("data", metavar="DATA", help="the folder of labelled images")
    parser.add_argument("--reader", type=Path, help="the reader of the first proposals")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="default: all")
    options = parser.parse_args(arguments)
    use_defaults()
    data_dir = parameters.resolve(options.data)
    name = data_dir.parent.name if data_dir.name == "train" else data_dir.name
    samples, _ = utils.find_images(data_dir)
    lines = []
    for case in options.cases:

        def measure(overlooked=CASES[case]):
            with tempfile.TemporaryDirectory() as folder:
                labels = [sample.label for sample in samples]
                names = link_images(Path(folder), [sample.path for sample in samples], labels)
                (Path(folder) / "labels.csv").unlink()
                session = Session(Path(folder), options.reader, train=False)
                return simulate(session, dict(zip(names, labels, strict=True)), overlooked)

        identity = {"case": case, "images": name_images(name, samples), "code": code_version()}
        row = record("labelling", identity | {"reader": str(options.reader or "")}, measure)
        figures = [row[name] or {} for name in (*(f"{goal:.0%}" for goal in GOALS), "all", "all typed")]
        lines.append([case, *(one.get("keystrokes") for one in figures), row["all"]["wrong labels"]])
    print(
        markdown_table(
            ["keystrokes until", *(f"{goal:.0%}" for goal in GOALS), "all", "typing", "wrong"], lines
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
