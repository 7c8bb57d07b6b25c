"""The few-shot methods, and the application around them: train, fine-tune, benchmark, command line.

In Python, `fewshot.api` has all that is needed to use a checkpoint: `from fewshot.api import load`.
"""

__version__ = "0.1.0"
