"""`python -m snippet_ocr` runs the command `snippet-ocr` from a clone, without installation."""

import sys

from snippet_ocr.cli import main

sys.exit(main())
