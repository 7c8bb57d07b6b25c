"""Checks of datasets, and the policies by which they are curated."""
