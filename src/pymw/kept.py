"""Where the tasks of a machine keep their checkpoints: a folder, with a file for each task that has saved one.

A later attempt goes on from there if it sees the same folder.
"""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

__all__ = ["Checkpoints"]

DUE_EVERY = 10.0  # seconds


class Checkpoints:
    """Those of the tasks that run one after the other, as a chunk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: set[Path] = set()
        self._saved = time.monotonic()

    def load(self, task: str, default: Any) -> Any:
        """What the task saved last, in whichever process."""
        file = self._folder / task
        try:
            value = pickle.loads(file.read_bytes())  # noqa: S301 - the user's own, in a folder of the user's own
        except FileNotFoundError:
            return default
        self._files.add(file)
        return value

    def save(self, task: str, value: Any) -> None:
        """Into a new file that takes the old one's place."""
        data, file = _pickled(value), self._folder / task
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_bytes(data)
        draft.replace(file)
        self._files.add(file)
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Every ten seconds."""
        return time.monotonic() - self._saved >= DUE_EVERY

    def forget(self) -> None:
        """All these tasks have ended, and this process has survived them."""
        for file in self._files:
            file.unlink(missing_ok=True)
        self._files.clear()


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - a class of the script, or what really cannot be pickled: this one knows
        from pymw.pickling import dumps

        return dumps(value)
