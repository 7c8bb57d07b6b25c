"""From configured datasets to stores, and what the commands of `fewshot data` say and draw."""
