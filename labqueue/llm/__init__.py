"""Models, data and training: the only torch. Knows nothing of runs, queues or files of the lab."""
