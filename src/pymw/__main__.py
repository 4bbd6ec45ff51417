"""`python -m pymw` is `pymw`."""

import sys

from pymw.cli import main

if __name__ == "__main__":
    sys.exit(main())
