"""`fewshot data`: a file for each of its commands, which hang on `apps.data_app` once they are imported."""

from fewshot.cli.data import check, generate, init, prepare, show, split, unpack

__all__ = ["check", "generate", "init", "prepare", "show", "split", "unpack"]
