import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from tools.crop import find_edges, main
from training.labels import find_labels

BOX = {"x": 10, "y": 20, "width": 30, "height": 40}  # percent of 200×100 pixels
REGION = {"original_width": 200, "original_height": 100, "image_rotation": 0}
IN_PIXELS = {"x": 20, "y": 20, "width": 60, "height": 40}
TABLE = "file,text,x,y,width,height\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with photos of 200×100 pixels of noise: a.png, and b.jpg, which is stored rotated."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a rotation by 90° clockwise
    photo = Image.fromarray(np.rot90(pixels // 64 * 64))
    photo.save(tmp_path / "b.jpg", exif=exif, quality=100)
    return tmp_path


def crop(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    code = main([str(folder / name), str(folder / "out")])
    if code == 2:
        return code, {}
    with open(folder / "out" / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["file"].endswith(".png") for row in rows)
    return code, {row["text"]: np.asarray(Image.open(folder / "out" / row["file"])) for row in rows}


def task(*regions, image="a.png", annotations=1, extra=""):
    """A task of Label Studio's OCR template, as its JSON export writes it."""
    result = []
    for number, (box, text) in enumerate(regions):
        shared = {"id": f"region-{number}", "to_name": "image", "origin": "manual", **REGION}
        value = {**box, "rotation": box.get("rotation", 0)}
        result.append({**shared, "from_name": "bbox", "type": "rectangle", "value": value})
        labels = {**value, "labels": ["Text"]}
        result.append({**shared, "from_name": "label", "type": "labels", "value": labels})
        for one in filter(None, [text, extra]):
            texts = {**value, "text": [one]}
            result.append({**shared, "from_name": "transcription", "type": "textarea", "value": texts})
    done = [{"id": 7, "was_cancelled": False, "result": result}] * annotations
    return {"id": 1, "data": {"ocr": f"/data/upload/1/1a2b3c4d-{image}"}, "annotations": done}


def minimal(text):
    """A task as Label Studio's JSON-MIN export writes it."""
    box = {**BOX, "rotation": 0, "original_width": 200, "original_height": 100}
    labels = [{**box, "labels": ["Text"]}]
    picture = "/data/upload/1/1a2b3c4d-a.png"
    return {"ocr": picture, "id": 1, "bbox": [box], "label": labels, "transcription": text, "annotator": 1}


EXAMPLES = {
    "boxes.csv": TABLE + "a.png,0412,20,20,60,40\n",
    "boxes.tsv": "Image\tLabel\tX\tY\tWidth\tHeight\trotation\na.png\t0412\t20\t20\t60\t40\t0\n",
    "percent.csv": "file;text;x_percent;y_percent;width_percent;height_percent\na.png;0412;10;20;30;40\n",
    "boxes.jsonl": json.dumps({"file_name": "a.png", "text": "0412", **IN_PIXELS}),
    "studio.json": json.dumps([task((BOX, "0412"))]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_box_of_every_format_is_cut_to_the_pixel(folder, name):
    code, crops = crop(folder, name, EXAMPLES[name])
    assert code == 0 and list(crops) == ["0412"]
    np.testing.assert_array_equal(crops["0412"], np.asarray(Image.open(folder / "a.png"))[20:60, 20:80])


def test_box_in_an_excel_file_is_cut_to_the_pixel(folder):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (
        ["file", "text", "x", "y", "width", "height"],
        ["a.png", "0412", 20.000000000001, 20, 60, 40],
    ):
        book.active.append(row)
    book.save(folder / "boxes.xlsx")
    assert main([str(folder / "boxes.xlsx"), str(folder / "out")]) == 0
    found = np.asarray(Image.open(folder / "out" / "00001.png"))
    np.testing.assert_array_equal(found, np.asarray(Image.open(folder / "a.png"))[20:60, 20:80])


def test_boxes_of_a_rotated_photo_fit_the_upright_one(folder):
    upright = np.asarray(Image.open(folder / "a.png")) // 64 * 64
    code, crops = crop(folder, "boxes.csv", TABLE + "b.jpg,1,20,20,60,40\n")
    assert code == 0 and crops["1"].shape == (40, 60)
    assert np.abs(crops["1"].astype(int) - upright[20:60, 20:80]).mean() < 8


def test_regions_of_one_photo_keep_their_own_texts(folder):
    second = {"x": 50, "y": 0, "width": 50, "height": 10}
    _, crops = crop(folder, "studio.json", json.dumps([task((BOX, "1"), (second, "2"))]))
    assert {text: pixels.shape for text, pixels in crops.items()} == {"1": (40, 60), "2": (10, 100)}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,2,20,20,60,40,5", "line 3 has the rotation 5"),
        ("a.png,2,150,20,60,40,0", r"line 3 has a box from \(150, 20\) to \(210, 60\), .* 200×100"),
        ("a.png,2,-5,20,60,40,0", "line 3 has a box from"),
        ("a.png,2,20,20,0,40,0", "line 3 has a box from .* empty"),
        ('a.png,2,"2,5",20,60,40,0', "line 3 has '2,5' in the column x"),
        ("a.png,2,0.1,0.2,0.5,0.5,0", r"line 3 has a box in fractions; use percent \(0 to 100\)"),
        ("a.png,2,1e308,20,1e308,40,0", "line 3 has '1e308' in the column x"),
        ("a.png,2,nan,20,60,40,0", "line 3 has 'nan' in the column x"),
        ("a.png,2,,20,60,40,0", "line 3 has no rectangle"),
        ("a.png,,20,20,60,40,0", r"line 3 has no text for a\.png"),
        ("c.png,2,20,20,60,40,0", r"line 3 names c\.png, which is not in the folder"),
        ("bad.png,2,20,20,60,40,0", r"line 3 names bad\.png, which is not an image"),
    ],
)
def test_row_that_cannot_be_cut_is_refused_with_a_reason(folder, capsys, row, reason):
    (folder / "bad.png").write_text("no image")
    header = TABLE.strip() + ",rotation\na.png,1,20,20,60,40,0\n"
    code, crops = crop(folder, "boxes.csv", header + row)
    assert (code, list(crops)) == (1, ["1"])
    assert re.match(rf"boxes\.csv {reason}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (task(({**BOX, "rotation": 30}, "2")), "item 2 has the rotation 30"),
        (task((BOX, "")), "item 2 has no text"),
        (task((BOX, "2"), extra="a note"), r"item 2 has no text but \['2', 'a note'\]"),
        (task((BOX, "2"), image="b.png"), "item 2 names"),
        (task((BOX, "2"), annotations=2), "item 2 has 1 images, 2 annotations, 2 boxes"),
        (task(({"points": [[1, 2], [3, 4], [5, 6]]}, "2")), "item 2 has no rectangle"),
        (minimal("2"), "item 2 has boxes in JSON-MIN, .*; export JSON"),
    ],
)
def test_region_that_cannot_be_cut_is_refused_with_a_reason(folder, capsys, item, reason):
    code, crops = crop(folder, "studio.json", json.dumps([task((BOX, "1")), item]))
    assert (code, list(crops)) == (1, ["1"])
    assert re.match(rf"studio\.json {reason}", capsys.readouterr().err)


def test_fractions_in_the_columns_for_percent_are_refused(folder, capsys):
    header = "file,text,x_percent,y_percent,width_percent,height_percent\n"
    assert crop(folder, "boxes.csv", header + "a.png,1,0.1,0.2,0.5,0.5\n") == (2, {})
    assert "line 2 has a box in fractions" in capsys.readouterr().err


def test_export_of_another_photo_size_is_refused(folder, capsys):
    Image.new("L", (100, 200)).save(folder / "a.png")
    assert crop(folder, "studio.json", EXAMPLES["studio.json"]) == (2, {})
    assert "has the original_width 200; the photo has 100×200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("labels.csv", "file,text\na.png,1\n", "Expected boxes in"),
        ("boxes.csv", "x,y,width,height\n", "Expected one column with the file"),
        ("boxes.csv", TABLE + "c.png,1,20,20,60,40\n", "boxes.csv line 2 names c.png"),
    ],
)
def test_table_without_usable_boxes_exits_with_two(folder, capsys, name, text, reason):
    assert crop(folder, name, text)[0] == 2
    assert reason in capsys.readouterr().err
    assert not (folder / "out" / "labels.csv").exists()


def test_folder_with_files_is_not_written_to(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").touch()
    assert crop(folder, "boxes.csv", EXAMPLES["boxes.csv"])[0] == 2
    assert "Expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in (folder / "out").iterdir()] == ["mine.txt"]


def test_interrupted_crops_do_not_train_with_their_numbers(folder, monkeypatch):
    def interrupt(cells, *size):
        if cells["text"] == "2":
            raise KeyboardInterrupt
        return find_edges(cells, *size)

    monkeypatch.setattr("tools.crop.find_edges", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crop(folder, "boxes.csv", TABLE + "a.png,1,20,20,60,40\na.png,2,20,20,60,40\n")
    found = find_labels(folder / "out", sorted((folder / "out").iterdir()))
    assert (found.source, found.texts) == ("labels.csv (file, text)", {})


@pytest.mark.parametrize("name", EXAMPLES)
def test_crops_train_and_folders_with_boxes_are_refused(folder, name):
    crop(folder, name, EXAMPLES[name])
    found = find_labels(folder / "out", sorted((folder / "out").iterdir()))
    assert (found.source, found.problems) == ("labels.csv (file, text)", [])
    assert found.texts == {folder / "out" / "00001.png": "0412"}
    with pytest.raises(ValueError, match=rf"Found boxes in .*Run: python -m tools\.crop .*{name} NEW_FOLDER"):
        find_labels(folder, sorted(path for path in folder.iterdir() if path.is_file()))


def test_export_to_csv_with_boxes_asks_for_json(folder):
    box = json.dumps([{**BOX, "rotation": 0}]).replace('"', '""')
    (folder / "project.csv").write_text(f'bbox,image,transcription\n"{box}",a.png,0412\n')
    with pytest.raises(ValueError, match="Found boxes in .*from Label Studio, export JSON"):
        find_labels(folder, [folder / "a.png", folder / "project.csv"])
