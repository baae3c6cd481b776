import pytest

from conftest import full_disk
from snippet_ocr import files


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_not_finished_leaves_the_old_file_or_none(tmp_path, there, error):
    path = tmp_path / "table.csv"
    if there:
        path.write_text("old")
    with pytest.raises(error), files.atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise error
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == (
        {"table.csv": "old"} if there else {}
    )


def test_what_is_finished_replaces_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with files.atomic_write(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.suffix == ".csv"
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"table.csv": "new"}


def test_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "table.csv"
    with (
        full_disk(10),
        pytest.raises(OSError, match=rf"File too large: '{path}'"),
        files.atomic_write(path) as unfinished,
    ):
        unfinished.write_bytes(bytes(100))
    assert list(tmp_path.iterdir()) == []
