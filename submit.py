"""``python submit.py SPEC…`` is ``labqueue submit SPEC…``."""

import sys

from labqueue.cli.main import main

main(["submit", *sys.argv[1:]])
