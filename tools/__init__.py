"""Commands for the steps before and after a training: `python -m tools.NAME --help` describes each.

At their top, these modules import only what loads fast, so that `--help` answers at once.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs an "error" if it finds no GPU
