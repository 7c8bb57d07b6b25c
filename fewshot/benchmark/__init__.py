"""The benchmark: what is trained, what each cell asks of a method, how it is judged, and what a run leaves behind."""
