"""`python -m fewshot` is the `fewshot` command."""

import os
import sys

# Python has put the working directory first, whose files must not stand in for libraries (see `import_own`).
if not sys.flags.safe_path:
    here = sys.path.pop(0)
    if here == os.path.dirname(os.path.dirname(os.path.abspath(__file__))):  # noqa: PTH100, PTH120 - pathlib is a file, too
        sys.path.append(here)  # not installed, but run where it lies

from fewshot.cli import main

main()
