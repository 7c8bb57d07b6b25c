"""`fewshot predict`."""
