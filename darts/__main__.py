"""`python -m darts`: the command."""

import sys

from darts.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
