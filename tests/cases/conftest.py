"""Files as users have them, and the command line that meets them."""

from tests.cli.conftest import Ended, Fewshot, cache, fewshot

__all__ = ["Ended", "Fewshot", "cache", "fewshot"]
