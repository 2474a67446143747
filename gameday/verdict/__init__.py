"""Judges a run: the checks and their selftest, diagnosis, trends, and whether the machine was busy."""
