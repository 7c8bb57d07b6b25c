"""Damaged and made-up files: whatever reads one gives what is in it, or says in a line what is wrong with it."""
