"""Which images to annotate first: those that cover what the others look like."""
