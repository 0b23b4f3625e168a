"""Looks inside models: where they attend, and what follows when a part is silenced. Knows nothing of runs."""
