"""Episodes, support draws and splits."""
