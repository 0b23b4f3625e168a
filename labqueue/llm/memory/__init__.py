"""Estimates and limits device memory."""
