"""What is wrong with a dataset, and what is done about it."""
