"""Augmentation of images with their masks."""
