"""The child process, by the means of the system this runs on."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from pyboinc.windows import Child, kill_leftovers
else:
    from pyboinc.leftovers import kill_leftovers
    from pyboinc.posix import Child

__all__ = ["Child", "kill_leftovers"]
