"""Writes what happens to runs: submission, attempts, results, control."""
