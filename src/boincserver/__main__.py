"""`python -m boincserver` is `boincserver`."""

import sys

from boincserver.cli import main

sys.exit(main())
