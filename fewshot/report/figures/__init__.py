"""The figures of a report, each drawn once: inside the page in the reader's colours, and as files of their own."""
