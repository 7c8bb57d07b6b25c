"""The work of `fewshot data`: folders described, datasets shown, splits made."""
