"""The results store: the only SQLAlchemy. Knows nothing of processes, models or pages."""
