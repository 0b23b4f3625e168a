"""The spec: its fields, its sweep or search, its predictions, and the names that an experiment may have."""
