"""Names, finds, loads and converts models."""
