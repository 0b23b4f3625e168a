"""What a spec says: its fields, its sweep or search, its predictions, and what an experiment may be called."""
