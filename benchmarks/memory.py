"""The memory of a process, as Linux reports it. Imports only the standard library."""

import re
from pathlib import Path

PEAK, CURRENT = "VmHWM", "VmRSS"
"""Fields of /proc/PID/status."""


def process_memory(field=PEAK, process="self"):
    """Returns the memory of a process in bytes; 0 if the process has ended.

    `getrusage` is not used for the process itself: a new process inherits its parent's peak.

    Args:
        field: `PEAK` or `CURRENT`.
        process: a process number.
    """
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 if found else 0
