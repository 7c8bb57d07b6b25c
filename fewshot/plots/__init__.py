"""Figures in one style: curves, images with outlines, and bars of datasets."""
