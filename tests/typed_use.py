"""The public API as a typed program uses it. mypy checks this file; nothing runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
from PIL import Image

from snippet_ocr import ImageError, Reader, Reading


def use_reader(path: Path) -> None:
    reader = Reader.load(path)
    for source in ("1.png", path, b"", np.zeros((2, 2), "uint8"), Image.new("L", (2, 2))):
        assert_type(reader.read(source, pattern="AA-999", top=3), Reading)
    assert_type(reader.read("1.png").alternatives[0].character_confidences, tuple[float, ...])
    assert_type(reader.read(["1.png", "2.png"], length=(3, 5), words={"abc"}), list[Reading])
    assert_type(reader.read([b"", path], progress=True, characters=True), list[Reading])
    assert_type(reader.threshold, float | None)
    results: Iterator[tuple[object, Reading | ImageError]] = reader.read_each(path.glob("*.png"), length=5)
    assert_type(next(results)[1], Reading | ImageError)
    reader.read("1.png", patern="AA")  # type: ignore[call-overload]
    reader.read(5)  # type: ignore[call-overload]
