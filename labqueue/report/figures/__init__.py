"""Draws figures of experiments and verdicts."""
