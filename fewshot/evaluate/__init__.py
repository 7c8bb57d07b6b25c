"""`fewshot evaluate`."""
