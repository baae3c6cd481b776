"""Lines and progress that appear at once, in a notebook cell and on the terminal that started its kernel."""

import contextlib
import json
import os
import re
import sys
import time

PROGRESS_DELAY, PROGRESS_INTERVAL = 2.0, 10.0  # seconds until the first report, and between two reports


def in_kernel():
    """Returns whether this code runs in a Jupyter kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def report(line):
    """Prints a line; in a Jupyter kernel, also on the terminal, which shows a cell's output late or never."""
    print(line, flush=True)
    if in_kernel():
        # A kernel redirects sys.stderr, but not its file descriptor, which may be closed, as on a server.
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def progress(items, total, description, report=report):
    """Yields `total` items. If the loop is slow, reports "40 of 90", `description`, and the seconds left."""
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if count == 1:  # it may have waited for processes to start, which says nothing about the others
            first, next_report = now, now + PROGRESS_DELAY
        elif now >= next_report and count < total:
            remaining = (now - first) / (count - 1) * (total - count)
            report(f"{count:,} of {total:,} {description}, {remaining:.0f} s left")
            next_report = now + PROGRESS_INTERVAL


def escape(text):
    """Escapes the control characters of a text, so that it stays on one line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


def to_json(value, indent=None):
    """Returns a value as JSON that can be printed: control characters are escaped, other ones are not."""
    content = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(r"[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", content)


def printable(path):
    """Returns a file's path or name as text that can be printed, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
