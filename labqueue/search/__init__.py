"""Proposes, prunes and ends the trials of a search."""
