"""Executes one attempt of a run, inside its own child process."""
