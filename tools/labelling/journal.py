"""The decisions of a person about the images of a folder, in `.labelling/decisions.jsonl`, one per line.

`labels.csv` holds the labels; the journal, what else must not be forgotten: which images are unreadable or
skipped, what was shown before a label was given, and which labels were reviewed. Lines are only ever added.
"""

import json
import os

FOLDER = ".labelling"  # in the folder of images; its name hides it from trainings


class Journal:
    """The decisions about the images of a folder. Raises a `ValueError` if a line is not understood.

    Attributes:
        active: a list of the decisions that were not undone, dictionaries, in their order.
        last, seen: dictionaries from files to their last decision in `active`, and the number of their lines.
    """

    def __init__(self, folder):
        self.path = folder / FOLDER / "decisions.jsonl"
        self.active, self.last, self.seen = [], {}, {}
        content = self.path.read_bytes() if self.path.exists() else b""
        # A kill while a line was written leaves a part of it, which no answer ever confirmed.
        self._size = content.rfind(b"\n") + 1
        for number, line in enumerate(content[: self._size].splitlines(), 1):
            try:
                self._remember(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                found = f"line {number} of {self.path}. Found {line[:60]!r}"
                raise ValueError(f"Expected a decision in {found}. Delete the line.") from error

    def _remember(self, entry):
        file = entry["file"]
        self.seen[file] = self.seen.get(file, 0) + 1
        if entry["decision"] != "undo":
            self.active.append(entry)
            self.last[file] = entry
            return
        self.active.remove(self.last.pop(file))
        self.last |= {one["file"]: one for one in self.active if one["file"] == file}

    def add(self, entries):
        """Adds decisions. What a failed write leaves in the file is removed by the next one."""
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()
        with self.path.open("ab") as file:
            os.ftruncate(file.fileno(), self._size)
            file.write(lines)
        self._size += len(lines)
        for entry in entries:
            self._remember(entry)

    def reviewed(self):
        """Returns the pairs (file, label) that a review has confirmed; the label is None if unreadable."""
        decided = (one for one in self.active if one["mode"] == "review" and one["decision"] != "skip")
        return {(one["file"], one["text"]) for one in decided}
