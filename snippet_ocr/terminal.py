"""Lines that are seen at once, in a notebook's cell and on the terminal behind it."""

import contextlib
import os
import sys
import time

PROGRESS_DELAY, PROGRESS_INTERVAL = 2.0, 10.0
"""Seconds after which progress is first reported, and between two reports."""


def in_kernel():
    """Whether this code runs in a Jupyter kernel, and not in a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def report(line):
    """Prints a line in the cell and, at the same moment, on the terminal.

    What a cell prints reaches the terminal behind a kernel only when the cell
    has ended, with some runners never; so the terminal gets its own copy.

    Args:
        line: a string.
    """
    print(line, flush=True)
    if in_kernel():
        # In a kernel, this number is the terminal's that the kernel was started from.
        # There may be none, as behind a server; the cell has the line anyway.
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def progress(items, total, what):
    """Passes an iterable on, and reports how far it is and how long it will take, if it takes long.

    Args:
        items: the iterable.
        total: the number of its items.
        what: what they are, a string.

    Yields:
        The items.
    """
    started = time.monotonic()
    due = started + PROGRESS_DELAY
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now >= due and count < total:
            left = (now - started) / count * (total - count)
            report(f"{count:,} of {total:,} {what}, {left:.0f} s left")
            due = now + PROGRESS_INTERVAL


def printable(path):
    """A file's path or name as text that can be printed, even where its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
