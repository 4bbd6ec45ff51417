"""`python -m pacman_ctf` is `pacman-ctf`."""

import sys

from pacman_ctf.cli import main

sys.exit(main())
