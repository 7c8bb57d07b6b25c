"""The benchmark: its plan, the tasks of its cells, their evaluation, the gallery and the run."""
