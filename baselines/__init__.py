"""Supervised networks and how each is trained. Imports the data types of `episodes`, never `fewshot`."""
