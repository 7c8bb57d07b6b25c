"""Phantoms: images made of tissue models."""
