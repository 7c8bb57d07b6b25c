"""Every test here is offline."""

from tests.fewshot.tracking.offline_wandb import offline

__all__ = ["offline"]
