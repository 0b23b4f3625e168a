"""Trains: recipe, trainer, adapters, checkpoints, merging."""
