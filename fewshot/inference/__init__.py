"""From an image to a mask."""
