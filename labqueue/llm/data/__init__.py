"""Reads, generates, splits and tokenizes training and evaluation data."""
