"""Measures a model: losses, answers, weight updates."""
