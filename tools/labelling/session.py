"""A person labels a folder: which image is next, what was decided, what it taught the reader."""

import datetime
import random
import time

from snippet_ocr import images
from snippet_ocr.terminal import printable
from tools.labelling import choosing, review
from tools.labelling.journal import FOLDER, Journal
from tools.labelling.labels_file import LabelsFile, check_text
from tools.labelling.training import Rounds
from training.pixels import inspect_images
from training.transfer import BASE_READER

CONFIDENT = 0.9  # the minimum confidence of a reading in the contact sheet
LEASE = 180  # seconds for which the images that a window has asked for are not given to other windows
WRITTEN = ("label", "unreadable")  # decisions that change labels.csv
DECISIONS = (*WRITTEN, "skip", "wrong")
FIELDS = {"file": str, "seen": int, "decision": str, "text": str, "shown": str, "kind": str, "mode": str}
FIELDS |= {"round": int, "action": str, "window": str}  # of a decision, as the page sends it


class Session:
    """The state of labelling one folder, shared by all windows.

    Args:
        folder, reader: the `Path`s of the folder of images, and of a reader for the first proposals or None.
        to_review: the `Path` of a file for `review.wrong_readings`, or None to label.
        train: whether trainings start by themselves.

    Raises:
        ValueError: if there are no images, or if files of the folder are not understood.
    """

    def __init__(self, folder, reader=None, to_review=None, train=True):
        (folder / FOLDER).mkdir(exist_ok=True)
        self.folder, self.train, self.leases = folder, train and not to_review, {}
        self.labels, self.journal = LabelsFile(folder), Journal(folder)
        self.generator = random.Random(len(self.journal.active))
        paths = images.find_files([folder])
        found = dict(zip(paths, inspect_images(paths), strict=True))
        found |= {path: "has a name that is not UTF-8" for path in paths if printable(path) != str(path)}
        unfit = [path for path in paths if type(found[path]) is not str and not self.labels.finds(path)]
        found |= dict.fromkeys(unfit, "has a name that labels.csv cannot hold")
        self.unusable = {path: reason for path, reason in found.items() if isinstance(reason, str)}
        usable = {path.relative_to(folder).as_posix(): path for path in paths if path not in self.unusable}
        if not usable:
            reasons = "; ".join(f"{path.name} {reason}" for path, reason in list(self.unusable.items())[:3])
            raise ValueError(f"Expected images in {folder}. Found none that can be used. {reasons}".strip())
        self.files, self.digests = usable, {file: found[path][1] for file, path in usable.items()}
        self.paths = {self.digests[file]: path for file, path in usable.items()}  # digest → a file
        thumbnails = {file: found[path][2] for file, path in usable.items()}
        labels = {file: self.label(file) for file in usable if self.label(file)}
        order = choosing.farthest_first(thumbnails, {*labels})
        self.varied, self.review = {file: place for place, file in enumerate(order)}, None
        if to_review:
            if not self.labels.path.exists():
                raise ValueError(
                    f"Expected a labels.csv in {folder}, which the review changes. Found none. If the file "
                    f"names are the texts, run: python -m training.labels {folder}"
                )
            items = review.wrong_readings(to_review) | review.contested(thumbnails, labels)
            self.review = {file: item for file, item in items.items() if file in usable}
        self.rounds = Rounds(folder, str(reader or ""))
        if self.rounds.last["round"] < 0 and not to_review:
            self.rounds.start(0, self.open_files(), train=False)

    def label(self, file):
        """Returns the label of a file, or None."""
        return self.labels.texts.get(self.files[file])

    def _decision(self, file):
        return self.journal.last.get(file, {}).get("decision")

    def open_files(self):
        """Returns the files that wait for a decision: skipped ones only if no others are left."""
        if self.review is None:
            files = self._unlabelled()
        else:
            done = self.journal.reviewed()
            files = [f for f in self.review if done.isdisjoint([(f, self.label(f)), (f, None)])]
        return [file for file in files if self._decision(file) != "skip"] or files

    def _unlabelled(self):
        return [f for f in self.files if not self.label(f) and self._decision(f) != "unreadable"]

    def next(self, window, held, count, sheet=False):
        """Returns at most `count` items to decide about, besides the files that a window has `held`."""
        self.labels.refresh()
        now = time.monotonic()
        others = [files for other, (until, files) in self.leases.items() if other != window and until > now]
        taken = set(held).union(*others)
        files = [file for file in self.open_files() if file not in taken]
        wrong = [file for file in files if self._decision(file) == "wrong"]
        rest = [file for file in files if self._decision(file) != "wrong"]
        readings = self.rounds.last["readings"]
        if self.review is not None:
            chosen = [(file, "review", self.review[file][2]) for file in files[:count]]
        elif sheet:
            sure = [file for file in rest if readings.get(file, ("", 0))[1] >= CONFIDENT]
            sure.sort(key=lambda file: -readings[file][1])
            chosen = [(file, "confident", "") for file in sure[:count]]
        else:
            chosen = [(file, "wrong", "wrong in the contact sheet") for file in wrong[:count]]
            count = min(count - len(chosen), (len(rest) + 1) // 2)  # the others are for other windows
            # The base reader has not seen such images: its confidence says little about them.
            known = {} if self.rounds.last["reader"] == str(BASE_READER) else readings
            labels = self.labels.texts.values()
            chosen += choosing.choose(rest, count, known, labels, self.varied, self.generator)
        self.leases[window] = now + LEASE, {*held, *(file for file, _, _ in chosen)}
        return [self.item(*one) for one in chosen]

    def item(self, file, kind, reason, decided=None):
        """Returns what the page needs about a file, a dictionary; `decided` is a decision that was undone."""
        text, confidence = self.rounds.last["readings"].get(file, ("", 0.0))
        number = self.rounds.last["round"]
        if decided and not text:  # a training that has ended since has read only images without a label
            text, number = decided["shown"], decided["round"]
        other = self.review[file][1] if file in (self.review or ()) else ""
        names = {"file": file, "image": self.digests[file], "kind": kind, "reason": reason, "other": other}
        state = {"seen": self.journal.seen.get(file, 0), "label": self.label(file) or ""}
        return names | state | {"text": text, "confidence": confidence, "round": number}

    def decide(self, decisions):
        """Saves decisions, a list of dictionaries with `FIELDS`: first `labels.csv`, then the journal.

        `seen` is the number of decisions about the file that the window knows of. A decision that another
        window has made in the meantime is kept. Returns a dictionary from files to the reasons why their
        decisions were not saved.

        Raises:
            ValueError: if a decision is malformed.
            OSError: if a file cannot be written. The same decisions can be sent again.
        """
        for one in decisions:
            valid = isinstance(one, dict) and {name: type(value) for name, value in one.items()} == FIELDS
            if not valid or one["decision"] not in DECISIONS:
                raise ValueError(f"Expected a decision with {', '.join(FIELDS)}. Received: {str(one)[:200]}")
        self.labels.refresh()
        problems, entries, seen = {}, [], dict(self.journal.seen)
        for one in decisions:
            file = one["file"]
            try:
                if entry := self._apply(one, seen.get(file, 0)):
                    entries.append(entry)
                    seen[file] = seen.get(file, 0) + 1
            except ValueError as error:
                problems[file] = str(error)
        self._save(entries)
        return problems

    def _apply(self, one, seen):
        """Changes the labels in memory; returns the line for the journal, or None if it has it."""
        if one["file"] not in self.files:
            raise ValueError("is not among the images any more")
        path, decision, last = self.files[one["file"]], one["decision"], self.journal.last.get(one["file"])
        text = one["text"] if decision == "label" else None
        if text is not None and text != self.label(one["file"]):  # a label that is kept stays as it is
            text = check_text(text)
        if one["seen"] != seen:
            if last and (last["decision"], last["text"]) == (decision, text):
                return None  # it was sent again because the answer was lost
            raise ValueError("was decided in another window in the meantime; that decision is kept")
        facts = {"row": self.labels.row(path), "before": self.labels.texts.get(path)}
        if text != facts["before"] and decision in WRITTEN:
            self.labels.change(path, text)
        facts["written"] = self.labels.row(path)
        facts |= {"text": text, "time": datetime.datetime.now().isoformat(timespec="seconds")}
        return {key: value for key, value in one.items() if key != "seen"} | facts

    def _save(self, entries):
        try:
            if any(one["decision"] in (*WRITTEN, "undo") for one in entries):
                self.labels.save()
            self.journal.add(entries)
        except OSError:
            self.labels.refresh(anyway=True)
            raise

    def undo(self, window):
        """Takes back the last action of a window; returns the items of its files."""
        self.labels.refresh()
        own = [one for one in self.journal.active if one["window"] == window]
        undone = [one for one in own if one["action"] == own[-1]["action"]]
        undone = [one for one in undone if self.journal.last[one["file"]] is one]  # no other window was later
        undone = [one for one in undone if one["file"] in self.files]
        for one in undone:
            path = self.files[one["file"]]
            if one["decision"] not in WRITTEN or self.label(one["file"]) != one["text"]:
                continue  # another program has changed the label since
            if self.labels.row(path) == one.get("written"):
                self.labels.restore(path, one["row"], one["before"])
            else:  # it has changed the format or another cell
                self.labels.change(path, one["before"] or "")
        self._save([{"file": one["file"], "decision": "undo", "action": one["action"]} for one in undone])
        return [self.item(one["file"], one["kind"], "decided before", one) for one in undone]

    def start_round(self):
        """Starts a round with all labels so far, unless one is running."""
        if not self.rounds.poll():
            self.rounds.start(len(self.labels.texts), self._unlabelled())

    def state(self, window, held=()):
        """Returns the numbers on the page, a dictionary; starts a round if it is due."""
        self.leases[window] = time.monotonic() + LEASE, {*held}.union(self.leases.get(window, (0, ()))[1])
        rounds, labels, waiting = self.rounds, len(self.labels.texts), len(self.open_files())
        if self.train and waiting and labels >= rounds.next:
            self.start_round()
        running, curve = rounds.poll(), choosing.learning_curve(self.journal.active)
        decisions = [self._decision(file) for file in self.files if not self.label(file)]
        return {
            **{"folder": self.folder.name, "images": len(self.files), "labels": labels, "open": waiting},
            **{what: decisions.count(what) for what in ("skip", "unreadable")},
            **{"unusable": len(self.unusable), "items": None if self.review is None else len(self.review)},
            **{"round": rounds.last["round"], "reader": rounds.last["reader"], "next": rounds.next},
            **{"running": running, "progress": rounds.progress() if running else "", "error": rounds.error},
            "curve": [[rounds.labels.get(number, 0), *counts] for number, counts in curve.items()],
            "estimate": choosing.estimate(curve),
        }
