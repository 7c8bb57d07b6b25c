"""Where metrics go: always to local files, and to Weights & Biases as well where that is asked for.

The library `wandb` is imported by the functions that write to it, never by these modules.
"""

from fewshot.tracking.local import Tracker

__all__ = ["Tracker"]
