"""Claims runs one at a time, starts their child processes, and recovers what was interrupted."""
