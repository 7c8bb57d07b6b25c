"""wandb, a second listener to whatever is kept locally."""
