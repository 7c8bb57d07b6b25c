"""The pictures of results, as PNG files. Matplotlib is imported in here alone, without pyplot, and needs no display."""
