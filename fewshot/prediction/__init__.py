"""What a model makes of images: masks of their own size, how sure it is, and a folder of results."""
