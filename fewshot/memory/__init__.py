"""Living with little memory: smaller batches, features on disk."""
