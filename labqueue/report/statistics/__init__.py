"""Judges predictions: pairing, intervals, tests, verdicts."""
