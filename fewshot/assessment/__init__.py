"""Judging checkpoints on one dataset: every score with its interval, every figure, and the masks themselves."""
