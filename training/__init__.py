"""Training: what the notebook uses besides the three modules in the root."""

from pathlib import Path

PROJECT = Path(__file__).absolute().parent.parent
"""The project's folder. Relative paths in parameters start here."""
