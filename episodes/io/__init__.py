"""Files, formats and archives."""
