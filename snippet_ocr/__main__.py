"""`python -m snippet_ocr`: the command `snippet-ocr` from a clone, without installing."""

import sys

from snippet_ocr.cli import main

sys.exit(main())
