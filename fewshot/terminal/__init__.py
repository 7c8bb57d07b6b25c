"""What the user sees while something runs."""
