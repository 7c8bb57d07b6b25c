"""Training of networks: the division of the sources, batches, the loop, and the files of a run."""
