"""Scores, curves and statistics."""
