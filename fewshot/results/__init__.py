"""The results table of a benchmark, and what is worked out from it."""
