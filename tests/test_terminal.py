import os

from snippet_ocr import terminal


def test_progress_yields_all_items_and_reports_slow_loops_only(monkeypatch, capsys):
    clock = iter(range(1000))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock) / 2)  # half a second per item
    assert list(terminal.progress(range(50), 50, "images checked")) == list(range(50))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 of 50 images checked, 22 s left"
    assert len(lines) == 3
    assert list(terminal.progress(range(3), 3, "images checked")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_slow_first_item_does_not_spoil_the_estimate(monkeypatch, capsys):
    clock = iter([60, 61, 62, 63])  # seconds, after each item
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    assert list(terminal.progress(range(4), 101, "images drawn")) == [0, 1, 2, 3]
    assert capsys.readouterr().out == "3 of 101 images drawn, 98 s left\n"


def test_line_in_a_kernel_is_printed_in_the_cell_and_on_the_terminal(monkeypatch, capfd):
    monkeypatch.setattr(terminal, "in_kernel", lambda: True)
    terminal.report("epoch 1")
    assert capfd.readouterr() == ("epoch 1\n", "epoch 1\n")


def test_line_outside_a_kernel_is_printed_once(capfd):
    assert not terminal.in_kernel()
    terminal.report("epoch 1")
    assert capfd.readouterr() == ("epoch 1\n", "")


def test_name_that_is_not_utf_8_is_printable():
    assert terminal.printable(os.fsdecode(b"a\xff.png")) == "a\\xff.png"
