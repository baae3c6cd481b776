"""Damaged, unusual and hostile files in a folder of images."""

import io
import os
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import utils
from conftest import PROJECT
from damage import damaged, encoded, small_files
from snippet_ocr import images
from snippet_ocr.alphabet import Alphabet
from training import summary
from training.labels import label_from_name

FILES = small_files()


def load_or_refuse(content):
    """Returns the grey pixels of an image, or None if it is refused with a reason."""
    try:
        grey = images.load_image(content)
    except ValueError as reason:
        assert str(reason)
        return None
    assert grey.dtype == np.uint8 and grey.ndim == 2 and grey.size > 0
    return grey


@pytest.mark.parametrize("name", FILES)
def test_every_format_and_mode_is_read(name):
    assert load_or_refuse(FILES[name]).shape == (16, 40)


@pytest.mark.parametrize("name", ["L.png", "RGB.jpg"])
def test_file_cut_off_at_any_byte_is_read_or_refused(name):
    complete = load_or_refuse(FILES[name])
    cut = [load_or_refuse(FILES[name][:length]) for length in range(len(FILES[name]))]
    assert cut[0] is None
    assert sum(image is None for image in cut) > 0.9 * len(cut)
    assert all(image is None or image.shape == complete.shape for image in cut)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(FILES)), rng=st.randoms(use_true_random=False))
def test_damaged_file_is_read_or_refused(name, rng):
    load_or_refuse(damaged(FILES[name], rng))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(content=st.binary(max_size=200), name=st.sampled_from(sorted(FILES)))
def test_random_bytes_after_a_valid_start_are_read_or_refused(content, name):
    load_or_refuse(FILES[name][: len(FILES[name]) // 3] + content)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, pixels):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in chunks)


def test_decompression_bomb_is_refused():
    with pytest.raises(ValueError, match="is too large"):
        images.load_image(png(60_000, 60_000, b"\0" * 10_000_000))
    with pytest.raises(ValueError, match="is too large"):
        images.load_image(png(20_000, 1_001, b"\0" * 1000))


def test_more_pixels_than_declared_are_not_decompressed():
    assert load_or_refuse(png(10, 10, b"\0" * 50_000_000)) is not None


def test_huge_compressed_comment_is_ignored_or_refused():
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000))
    content = FILES["L.png"]
    load_or_refuse(content[:33] + bomb + content[33:])  # after the signature and the header


def test_jpeg_with_thousands_of_scans_is_refused():
    stored = io.BytesIO()
    Image.new("L", (200, 50), 200).save(stored, "JPEG", progressive=True)
    content = stored.getvalue()
    last = content.rindex(b"\xff\xda")
    images.load_image(content)
    with pytest.raises(ValueError, match="has more than 100 scans"):
        images.load_image(content[:last] + content[last:-2] * 10_000 + content[-2:])


def test_too_large_image_gives_one_error_and_no_warning(tmp_path):
    (tmp_path / "large.png").write_bytes(png(20_000, 5_000, b"\0" * 1000))
    code = "import sys; from snippet_ocr import images; images.load_image(sys.argv[1])"
    command = [sys.executable, "-c", code, tmp_path / "large.png"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(
        "snippet_ocr.errors.ImageError: is too large: 20000×5000 pixels"
    )
    assert "Warning" not in done.stderr


def test_format_is_taken_from_the_content_not_the_extension(tmp_path):
    (tmp_path / "2b8.png").write_bytes(FILES["RGB.jpg"])
    (tmp_path / "x.jpg").write_text("hello")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["2b8"]
    assert rejected == [(tmp_path / "x.jpg", "is not an image")]


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40
) | st.sampled_from(
    ["'\"`$(ls)", "a\nb", "🙂🙃", "שלום", "a b", "-rf", ".", "..", "…", "%s", "{}", "\\", "#", "a.b"]
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=NAMES)
def test_any_file_name_gives_its_label_or_a_reason(name):
    with tempfile.TemporaryDirectory() as folder:
        file = f"{name}.png"
        if len(os.fsencode(file)) > 255:
            return
        Path(folder, "good.png").write_bytes(FILES["L.png"])
        Path(folder, file).write_bytes(FILES["RGB.png"])
        samples, rejected = utils.find_images(folder)
        found = {sample.path.name: sample.label for sample in samples}
        reasons = {path.name: reason for path, reason in rejected}
        summary.describe(samples, rejected).encode()
        assert (found.keys() | reasons.keys()) == {"good.png", file}
        if file in found:
            assert found[file] == label_from_name(file) == unicodedata.normalize("NFC", found[file])


def test_long_labels_and_thousands_of_characters_are_accepted(tmp_path):
    characters = [chr(number) for number in range(0x4E00, 0x4E00 + 5000)]
    for start in range(0, 5000, 60):  # 180 bytes of UTF-8 in a name
        (tmp_path / f"{''.join(characters[start : start + 60])}.png").write_bytes(
            encoded("PNG", "L") + struct.pack(">I", start)
        )
    (tmp_path / f"{'a' * 200}.png").write_bytes(FILES["RGB.png"])
    samples, rejected = utils.find_images(tmp_path)
    assert rejected == []
    alphabet = Alphabet.from_labels(sample.label for sample in samples)
    assert len(alphabet) == 5001
    for sample in samples:
        assert alphabet.decode(alphabet.encode_batch([sample.label], 200)[0]) == sample.label
    assert len(summary.describe(samples, rejected)) < 100_000
    _, (too_long,) = utils.find_images(tmp_path, time_steps=160)
    assert "needs 399 time steps" in too_long.reason


def test_file_that_vanishes_does_not_affect_the_others(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(FILES["L.png"] + name.encode())
    listed = list(utils._files_below(tmp_path))
    (tmp_path / "b.png").unlink()
    monkeypatch.setattr(utils, "_files_below", lambda folder: listed)
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["a", "c"]
    assert rejected == [(tmp_path / "b.png", "cannot be read: No such file or directory")]


def test_file_without_permission_does_not_affect_the_others():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            Path(folder, f"{name}.png").write_bytes(FILES["L.png"] + name.encode())
        Path(folder, "b.png").chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may read everything
        try:
            samples, rejected = utils.find_images(folder)
        finally:
            os.seteuid(user)
    assert [sample.label for sample in samples] == ["a"]
    assert [reason for _, reason in rejected] == ["cannot be read: Permission denied"]


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/null", "/proc/self/mem"])
def test_device_is_refused_and_not_read_without_end(special):
    with pytest.raises(ValueError, match="regular file|empty|cannot be read"):
        images.load_image(special)


def test_huge_file_is_refused_without_being_read(tmp_path):
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(10**12)  # a sparse file, which uses no disk space
    with pytest.raises(ValueError, match="is too large: 1,000,000,000,000 bytes"):
        images.load_image(huge)
