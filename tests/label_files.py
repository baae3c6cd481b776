"""Folders with label files, for tests."""

from training.labels import find_labels


def find(folder):
    return find_labels(folder, sorted(path for path in folder.rglob("*") if not path.is_dir()))


def labels_in(folder):
    found = find(folder)
    assert found.problems == []
    return {path.relative_to(folder).as_posix(): text for path, text in found.texts.items()}


def write(folder, name, text, encoding="utf-8"):
    (folder / name).write_text(text, encoding=encoding, newline="")
