"""Measures how often verdicts are wrong, on simulated experiments whose truth is known."""
