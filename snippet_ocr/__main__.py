"""`python -m snippet_ocr`: the command line."""

import sys

from snippet_ocr.command_line import main

sys.exit(main())
