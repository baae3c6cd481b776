"""Training: what the notebook uses besides the three modules in the root."""

from pathlib import Path

PROJECT = Path(__file__).absolute().parent.parent  # relative paths in settings start here
