"""The ledger: the only SQLAlchemy. Knows nothing of processes, models or pages."""
