"""Turns YAML specs into recorded runs."""
