"""Answers questions about runs as frozen views. Changes nothing."""
