"""Reads rows from the files that people have: formats, records, conversations."""
