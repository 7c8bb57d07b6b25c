"""From a run's folder to a page that answers which method to use, and how sure that is."""
