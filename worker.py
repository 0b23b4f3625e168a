"""``python worker.py …`` is ``labqueue worker …``."""

import sys

from labqueue.cli.main import main

main(["worker", *sys.argv[1:]])
