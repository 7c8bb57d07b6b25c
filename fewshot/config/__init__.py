"""Configurations of datasets, trainings and benchmarks, strictly parsed."""
