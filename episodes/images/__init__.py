"""Images and masks as files, decoded."""
