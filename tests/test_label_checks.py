import re
from pathlib import Path

import pytest

from training.labels import (
    FILE_NAMES,
    Labels,
    check_labels,
    label_from_name,
)


def check(names, texts=None, source=FILE_NAMES):
    labels = Labels(source, "", {}, [], {})
    texts = [label_from_name(name) for name in names] if texts is None else texts
    paths = [Path("/data", f"{name}") for name in names]
    check_labels(Path("/data"), labels, dict(zip(paths, texts, strict=True)))


CAMERA = ["IMG_%04d.png", "DSC%05d.JPG", "DSCN%d.jpg", "PXL_20240517_1022%d.jpg", "Screenshot 2024-05-%d.png"]


CAMERA += ["Screenshot_%d.png", "2024-05-17 10.22.%d.jpg", "20240517_1022%d.jpg", "IMG-20240517-WA00%d.jpg"]


CAMERA += ["_DSC%04d.jpg", "IMG_E%04d.JPG", "17000126410%d.jpg"]


CAMERA += ["%032x.png", "123e4567-e89b-12d3-a456-4266141740%d.png", "image (%d).png", "frame_%05d.png"]


@pytest.mark.parametrize("pattern", CAMERA)
def test_names_of_a_camera_are_refused_with_examples(pattern):
    names = [pattern % number for number in range(11, 18)]
    with pytest.raises(ValueError, match="a camera or a program gave.*learned: .* → .*training.labels /data"):
        check([*names, "04187.png", "04190.png"])
    with pytest.raises(ValueError, match=f"a camera or a program gave.*learned: {re.escape(names[0])} → "):
        check([*(f"{number * 37:04}.png" for number in range(50)), *names])  # some photos are not renamed
    check([*names, "04187.png"], [*map(str, range(8))], "metadata.csv (file_name, text)")


def test_names_that_count_are_refused_and_readings_are_not():
    with pytest.raises(ValueError, match="a camera or a program gave"):
        check([f"{number:03}.png" for number in range(1, 21)])
    with pytest.raises(ValueError, match="a camera or a program gave"):
        check([f"plate{number}-a.png" for number in range(1, 31) if number % 4])
    with pytest.raises(ValueError, match="a camera or a program gave"):
        check([f"page-1_line {number * 37}.png" for number in range(1, 21)])
    with pytest.raises(ValueError, match="a camera or a program gave"):
        check([f"{folder}/{number:03}.png" for number in range(1, 21) for folder in "ab"])
    check([f"{number * 37 % 10_000:04}.png" for number in range(1, 21)])
    check([f"SN{number * 37 % 10_000:04}.png" for number in range(1, 21)])
    check(["20240517.png", "2024-05-18.png", *(f"{number * 37:04}.png" for number in range(10))])
    check(["AB-12.png", "IMG.png", "DSC.png", "20241399.png", "2b827.png"])


def test_shipped_images_are_not_mistaken_for_a_camera(shipped):
    check([path.name for path in shipped])


def test_equal_labels_are_refused_from_every_source():
    for source in (FILE_NAMES, "labels.csv (file, text)"):
        with pytest.raises(ValueError, match=r"Found 1 in the 3 labels.*1\.png → 'x'.*other texts"):
            check(["1.png", "2.png", "3.png"], ["x"] * 3, source)


def test_few_different_labels_need_a_labels_file():
    names = [f"{number * 37}.png" for number in range(150)]
    texts = [str(number % 2) for number in range(150)]
    with pytest.raises(ValueError, match=r"at least 2% different texts\. Found 2 in the 150 .*python -m"):
        check(names, texts)
    with pytest.raises(ValueError, match="save them as labels.csv"):
        check(names, texts, "metadata.csv (file_name, text)")
    check(names, texts, "labels.csv (file, text)")
    check(names, [str(number % 3) for number in range(150)])
