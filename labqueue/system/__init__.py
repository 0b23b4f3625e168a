"""Clock, files, disk, processes, devices, provenance and wake-ups: what the machine gives. Knows no runs."""
