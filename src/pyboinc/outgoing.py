"""Trickles and intermediate uploads on their way to the client, one at a time."""

from __future__ import annotations

import os
import time

from pyboinc.messages import HAVE_TRICKLE_UP, HAVE_UPLOAD_REQUEST, element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.client import Client, NoClient

    AnyClient = Client | NoClient

TRICKLE_FILE = "trickle_up.xml"
UPLOAD_REQUEST_PREFIX = "boinc_ufr_"
UPLOAD_STATUS_PREFIX = "boinc_ufs_"
TRICKLE_DOWN_PREFIX = "trickle_down_"

TRICKLE_INTERVAL = 1.1
"""Seconds between two trickles: the client names their files by the second."""
MOST_WAITING = 64


class Outgoing:
    """A queue that the user's code fills at its own pace and the client empties at its."""

    def __init__(self, client: AnyClient, slot: str = "") -> None:
        self._client = client
        self._slot = slot
        self._trickles: list[tuple[str, str]] = []
        self._uploads: list[str] = []
        self._not_before = 0.0
        self.dropped = 0
        """Trickles that were given up because newer ones came in faster than the client took them."""

    def trickle(self, variety: str, text: str) -> None:
        """Queue a message to the server; of too many the oldest goes."""
        self._trickles.append((" ".join(variety.split()).replace("<", "").replace(">", ""), text))
        if len(self._trickles) > MOST_WAITING:
            del self._trickles[0]
            self.dropped += 1

    def upload(self, name: str) -> None:
        """Queue the upload of an output file before the task's end."""
        if is_plain_name(name) and name not in self._uploads and len(self._uploads) < MOST_WAITING:
            self._uploads.append(name)

    def push(self) -> bool:
        """Hand over what the client is ready to take; True when nothing is left."""
        if self._client.standalone:
            self._trickles.clear()
            self._uploads.clear()
        elif self._client.took_announcement():
            self._push_one()
        return not self._trickles and not self._uploads and self._client.took_announcement()

    def _push_one(self) -> None:
        if self._uploads:
            with open(os.path.join(self._slot, UPLOAD_REQUEST_PREFIX + self._uploads[0]), "wb"):
                pass
            self._client.announce(HAVE_UPLOAD_REQUEST)
            del self._uploads[0]
        elif self._trickles and time.monotonic() >= self._not_before:
            path = os.path.join(self._slot, TRICKLE_FILE)
            if os.path.exists(path):
                return  # the client has not yet moved the last one away
            variety, text = self._trickles[0]
            with open(path + ".new", "wb") as file:
                file.write(f"<variety>{variety}</variety>\n{text}".encode("utf-8", "replace"))
            os.replace(path + ".new", path)
            self._client.announce(HAVE_TRICKLE_UP)
            self._not_before = time.monotonic() + TRICKLE_INTERVAL
            del self._trickles[0]


def is_plain_name(name: str) -> bool:
    """Whether a logical name is that of a file in the slot itself; control files are named by it."""
    return bool(name) and not set(name) & set("/\\:\0\n") and name not in (".", "..")


def incoming(slot: str = "") -> list[str]:
    """The texts of the trickles that came down, oldest first; they are removed."""
    texts = []
    for path in _named(slot, TRICKLE_DOWN_PREFIX):
        try:
            texts.append(_read(path))
            os.unlink(path)
        except OSError:
            pass  # user code may have been quicker; it has the file then
    return texts


def uploaded(slot: str = "") -> dict[str, int]:
    """Logical names of finished intermediate uploads and how they ended; 0 is success."""
    statuses = {}
    for path in _named(slot, UPLOAD_STATUS_PREFIX):
        try:
            statuses[os.path.basename(path)[len(UPLOAD_STATUS_PREFIX) :]] = int(element(_read(path), "status") or "")
        except (OSError, ValueError):
            pass  # not yet whole; the client says it again
    return statuses


def _named(slot: str, prefix: str) -> list[str]:
    return sorted(os.path.join(slot, name) for name in os.listdir(slot or ".") if name.startswith(prefix))


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")
