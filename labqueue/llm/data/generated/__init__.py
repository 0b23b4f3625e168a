"""Draws questions with exact scorers from reasoning-gym."""
