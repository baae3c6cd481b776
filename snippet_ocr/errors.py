"""The errors that reading raises. All are `ValueError`s, and their messages are for people."""


class Error(ValueError):
    """The base class of the package's errors."""


class ImageError(Error):
    """An image cannot be read: it is missing, damaged, too large or not an image."""


class ReaderError(Error):
    """A reader's file cannot be loaded: it is missing, damaged, or refused by the checks."""


class ConstraintError(Error):
    """The allowed texts are not a valid pattern, length or word list, or no text that fits is allowed."""
