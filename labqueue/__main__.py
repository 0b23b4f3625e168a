"""``python -m labqueue``."""

from labqueue.cli.main import main

main()
