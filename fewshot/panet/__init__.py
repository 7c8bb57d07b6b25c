"""PANet and its options: prototypes, matching, and what improves them."""
