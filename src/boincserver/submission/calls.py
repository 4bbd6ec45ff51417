"""All calls of `submit_rpc_handler.php`, by name; a method for each gives the children of the reply's root."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable

from boincserver.errors import SubmissionRefused
from boincserver.submission.asking import Asking
from boincserver.submission.creating import Creating
from boincserver.submission.ending import Ending
from boincserver.submission.watching import Watching

__all__ = ["SubmissionCalls"]


class SubmissionCalls(Creating, Asking, Ending, Watching):
    """What a submitter's account may ask."""

    def find(self, name: str) -> Callable[[ET.Element], Awaitable[str]]:
        """The call of this name; SubmissionRefused if there is none."""
        found: Callable[[ET.Element], Awaitable[str]] | None = getattr(self, f"call_{name}", None)
        if found is None:
            raise SubmissionRefused("no such action")
        return found
