"""`python -m fewshot` is the `fewshot` command."""

from fewshot.cli import main

main()
