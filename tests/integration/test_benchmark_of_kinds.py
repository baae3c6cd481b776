"""Systems are compared on the same images and texts; each row is measured once."""

import json
import shutil

import pytest

import utils
from benchmarks import kinds, rivals, study
from training import metrics


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    return tmp_path


def kind(labels, given=()):
    """Returns a `Kind` with held-out images of some labels, and others to train on."""
    return kinds.Kind(
        "a set", *([utils.Sample(None, one, (), "") for one in part] for part in (given, labels))
    )


@pytest.mark.parametrize(
    ("text", "characters", "expected"),
    [
        ("皖A·12-34", "皖A1234", "皖A1234"),  # separators that no label has
        ("１２．５０ RM", "0125.RM", "12.50RM"),  # full width, and a space that no label has
        (" Total  RM ", "TOALRM ", "Total RM"),  # the other case, and one space between words
        ("a\nb", "ab", "ab"),
    ],
)
def test_text_is_compared_without_what_no_label_has(text, characters, expected):
    assert kinds.normalise(text, characters) == expected


def test_score_counts_case_and_unseen_texts_separately():
    found = kinds.score(kind(["AB", "CD", "EF", "GH"]), ["AB", "cd", "E-F", "G"], kind(["AB", "CD"]).held_out)
    assert found["test"]["right"] == 2 and found["regardless of case"] == 0.75
    assert found["test"]["unseen"] == {"images": 2, "right": 1}
    assert found["test"]["character_error_rate"] == 3 / 8


def test_right_to_left_text_may_be_in_either_order():
    found = kinds.score(kind(["١٢بج", "٣٤بج"]), ["جب١٢", "٣٤بج"], [])
    assert found["test"]["right"] == 2


def test_folder_of_sets_is_found_and_a_folder_of_images_is_split(tmp_path, image_folder):
    paths = sorted(image_folder.iterdir())
    for name in ("meters", "plates"):
        for part, chosen in (("train", paths[:20]), ("test", paths[20:])):
            (tmp_path / "sets" / name / part).mkdir(parents=True)
            for path in chosen:
                shutil.copy(path, tmp_path / "sets" / name / part)
    found = kinds.find_kinds([str(tmp_path / "sets"), str(image_folder)])
    sizes = {one.name: (len(one.given), len(one.held_out)) for one in found}
    assert sizes == {"meters": (20, 10), "plates": (20, 10), image_folder.name: (24, 6)}
    with pytest.raises(ValueError, match="Found two named meters"):
        kinds.find_kinds([str(tmp_path / "sets"), str(tmp_path / "sets" / "meters")])


def test_some_systems_are_measured_on_some_sets_unless_asked_for():
    names = {"meters": "12", "captcha_1": "abcde", "lines": "a long line"}
    sets = [kinds.Kind(name, kind([label]).held_out, []) for name, label in names.items()]

    def measured(system, asked=None):
        return [one.name for one in sets if kinds.is_measured(system, one, sets, asked)]

    assert measured("kraken") == ["captcha_1", "lines"] and measured("ddddocr") == ["captcha_1"]
    assert measured("base") == measured("kraken", ["kraken"]) == list(names)
    assert measured("base", ["kraken"]) == []


def row(system, seed, right, labels=100, **others):
    """Returns a recorded row of ten held-out images."""
    figures = {"regardless of case": 1.0, "megabytes": 3.0, "milliseconds": 1.25, "seconds": 10 * right}
    test = metrics.score(["a"] * 10, ["a"] * right + ["b"] * (10 - right), set())
    training = {"system": system, "set": "meters", "labels": labels, "seed": seed}
    return {**training, "test": test, **figures, **others}


def test_table_has_the_median_of_all_seeds_and_the_last_row_of_each():
    rows = [
        row("rapidocr", None, 5, labels=0, version="3.10.0"),
        *(row("scratch", seed, right) for seed, right in ((1, 0), (3, 10), (1, 9), (2, 7))),
        row("scratch", 1, 4, labels=20),
    ]
    lines = kinds.table(rows, [("all", "kraken", "not installed: no disk space")]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0][1:6] == [
        "this notebook, from scratch",
        "100",
        "9 / 7 / 10 of 10",
        "90.0% (59.6%–98.2%)",
        "100.0%",
    ]
    assert cells[0][6:] == ["10.00%", "90.0% of 10", "90", "3.0", "1.2"]
    assert cells[1][2:4] == ["20", "4 of 10"]
    assert cells[2][1:4] == ["PP-OCRv6 small (rapidocr 3.10.0), untrained", "–", "5 of 10"]
    assert cells[3][:4] == ["all", "kraken", "–", "not installed: no disk space"]
    assert len({len(line) for line in cells}) == 1


def test_row_is_measured_once_and_a_failure_stops_no_other_system(results, image_folder, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("first line\nno model")

    reasons = {"ddddocr": "no disk space"}
    monkeypatch.setattr(rivals, "version", lambda system: "1")
    monkeypatch.setattr(rivals, "reason_not_installed", lambda system: reasons.get(system, ""))
    monkeypatch.setattr(rivals, "prepare_untrained", fail)
    command = [str(image_folder), "--systems", "rapidocr", "base", "ddddocr"]
    assert kinds.main(command) == 1
    table = (results / "kinds.md").read_text(encoding="utf-8")
    assert f"| {image_folder.name} | base | – | failed: no model |" in table
    assert f"| {image_folder.name} | rapidocr | – | failed: no model |" in table
    assert "| all | ddddocr | – | not installed: no disk space |" in table

    monkeypatch.undo()
    monkeypatch.setattr(study, "RESULTS", results)
    command[2:] = ["base"]
    assert kinds.main(command) == kinds.main(command) == 0
    (recorded,) = (results / "kinds.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(recorded)["test"]["images"] == 6
    assert "| base reader, untrained | – | " in (results / "kinds.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("curve", "limit", "epochs"),
    [
        ([[12.0, 0], [14.0, 0]], 30.0, 10),  # 12 s, and then 9 epochs of 2 s
        ([[12.0, 0]], 10.0, 1),
        ([[12.0, 0], [12.1, 0]], 100.0, 150),
    ],
)
def test_epochs_of_a_schedule_fit_into_the_time(curve, limit, epochs):
    assert rivals.affordable_epochs(curve, limit) == epochs


def test_system_that_could_not_be_installed_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "PROJECT", tmp_path)
    assert rivals.reason_not_installed("kraken") == ""  # no requirements: no environment of its own
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "requirements-kraken.txt").write_text("# why\nkraken==7.1.1\nlightning==2\n")
    assert rivals.reason_not_installed("kraken") == "make .venv-kraken/installed"
    (tmp_path / ".venv-kraken").mkdir()
    (tmp_path / ".venv-kraken" / "install.log").write_text("first\n  no disk space\n")
    assert rivals.reason_not_installed("kraken") == "no disk space"
    (tmp_path / ".venv-kraken" / "installed").touch()
    assert rivals.reason_not_installed("kraken") == ""
    assert rivals.version("kraken") == "7.1.1"


def test_tesseract_reads_the_script_of_the_labels():
    languages = [
        rivals.prepare_untrained("tesseract", labels)[1][-1] for labels in (["A1"], ["京A1"], ["١ب"])
    ]
    assert languages == ["eng", "chi_sim", "ara"]
