"""Keeps a workspace tidy and carries it to other machines."""
