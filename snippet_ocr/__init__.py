"""Reads short text in images with a trained reader. Needs neither Keras nor TensorFlow."""

from snippet_ocr.errors import ConstraintError, Error, ImageError, ReaderError
from snippet_ocr.reader import Reader, Reading

__version__ = "1.0.0"
__all__ = ["ConstraintError", "Error", "ImageError", "Reader", "ReaderError", "Reading", "__version__"]
