"""The few-shot methods, and the application around them: train, fine-tune, benchmark, command line."""

__version__ = "0.1.0"
