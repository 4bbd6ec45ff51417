"""What a master can tell about itself at a moment."""

from __future__ import annotations

import html
from dataclasses import dataclass

from pymw.backends.protocol import BackendStatus

__all__ = ["MasterStatus"]


@dataclass(frozen=True, slots=True)
class MasterStatus:
    """Reads as a line; in a notebook as a small table."""

    backend: str
    calls: int  # submits and maps that are not over
    carried: BackendStatus

    def __str__(self) -> str:
        workers = "?" if self.carried.workers is None else self.carried.workers
        told = f"{self.backend}: {self.carried.running} tasks running, {self.carried.queued} waiting, {workers} workers"
        return "\n".join([told, *self.carried.lines])

    def _repr_html_(self) -> str:
        rows = {
            "backend": self.backend,
            "workers": self.carried.workers,
            "running": self.carried.running,
            "waiting": self.carried.queued,
            "calls": self.calls,
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>" + "".join(f"<p>{html.escape(line)}</p>" for line in self.carried.lines)
