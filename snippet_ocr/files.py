"""Files that are whole, or not there."""

import contextlib
import os


@contextlib.contextmanager
def whole(path):
    """Writes a file beside its place and moves it there once it is whole.

    A kill, a full disk or an interrupt leave the old file or none. (A failure
    of the power may leave less: nothing is forced onto the disk.)

    Args:
        path: the `Path` of the file.

    Yields:
        The `Path` to write to, of the same ending.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:  # a full disk says neither which file nor where
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)
