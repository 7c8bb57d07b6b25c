"""The store of decoded images, and its preparation."""
