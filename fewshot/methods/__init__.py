"""Ways to use a network on a target: what is benchmarked, few-shot or supervised, by one contract."""
