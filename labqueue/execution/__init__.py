"""Running what was submitted: queue, worker, child process, recovery."""
