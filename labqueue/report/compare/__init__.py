"""Compares runs and experiments side by side."""
