"""Training a network: which images, which batches, the loop, what is kept."""
