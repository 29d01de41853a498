"""`python -m darts`: the command."""

import sys

from darts.cli import main

sys.exit(main(sys.argv[1:]))
