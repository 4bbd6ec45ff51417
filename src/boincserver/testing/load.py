"""A load generator: many simulated hosts in closed loop, each reporting K results and asking for K, without thinking.

Runs in an event loop of its own process; requests are written by hand onto new TCP connections, so that the generator
costs a fraction of what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from boincserver.protocol.text import section

from .wire import Finished, RequestParts, format_request, format_upload

__all__ = ["LoadReport", "main", "run_load"]

_OUTPUT: Final = re.compile(
    r"<name>([^<]*_r[0-9a-f]+_\d+)</name>\n(?:<[^>]*>\n)*<max_nbytes>[^<]*</max_nbytes>\n<url>([^<]*)</url>"
)
_HOSTID: Final = re.compile(r"\n<hostid>(\d+)</hostid>")
_RESULT: Final = re.compile(r"<result>\n<name>([^<]*)</name>")


@dataclass
class LoadReport:
    """What the generator saw; latencies in seconds."""

    seconds: float = 0.0
    jobs: int = 0
    errors: int = 0
    empty: int = 0
    twice: int = 0
    """Jobs that were sent although a host had been sent them already."""
    seen: set[str] = field(default_factory=set, repr=False)
    scheduler: list[float] = field(default_factory=list, repr=False)
    uploads: list[float] = field(default_factory=list, repr=False)

    def summary(self) -> dict[str, float]:
        """Numbers to print."""
        return {
            "seconds": self.seconds,
            "jobs": self.jobs,
            "jobs_per_second": self.jobs / max(self.seconds, 1e-9),
            "requests": len(self.scheduler),
            "empty": self.empty,
            "errors": self.errors,
            "twice": self.twice,
            "scheduler_p50_ms": 1000 * _quantile(self.scheduler, 0.5),
            "scheduler_p99_ms": 1000 * _quantile(self.scheduler, 0.99),
            "upload_p50_ms": 1000 * _quantile(self.uploads, 0.5),
            "upload_p99_ms": 1000 * _quantile(self.uploads, 0.99),
        }


def _quantile(values: Sequence[float], fraction: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0


@dataclass
class _Host:
    """One simulated host."""

    authenticator: str
    per_request: int
    payload: bytes
    report: LoadReport
    hostid: int = 0
    rpc_seqno: int = 0
    key: str = ""
    """The project's, as a client keeps it from the first reply."""
    cpid: str = field(default_factory=lambda: secrets.token_hex(16))

    async def live(self, scheduler: str, until: float) -> None:
        done: list[Finished] = []
        while time.monotonic() < until:
            body = format_request(
                RequestParts(
                    self.authenticator,
                    self.hostid,
                    self.rpc_seqno,
                    self.cpid,
                    "x86_64-pc-linux-gnu",
                    self.per_request,
                    float(self.per_request),
                    float(self.per_request),
                    self.key,
                    done,
                    [],
                )
            )
            self.rpc_seqno += 1
            started = time.monotonic()
            try:
                reply = (await _post(scheduler, body)).decode()
            except (OSError, EOFError, ValueError):
                self.report.errors += 1
                await asyncio.sleep(0.05)
                continue
            self.report.scheduler.append(time.monotonic() - started)
            self.report.jobs += len(done)
            if found := _HOSTID.search(reply):
                self.hostid, self.rpc_seqno = int(found.group(1)), 0
                self.key = (section(reply, "code_sign_key") or "").strip()
            names, outputs = _RESULT.findall(reply), _OUTPUT.findall(reply)
            self.report.twice += sum(name in self.report.seen for name in names)
            self.report.seen.update(names)
            done = [await self._job(name, *output) for name, output in zip(names, outputs, strict=True)]
            if not done:
                self.report.empty += 1
                await asyncio.sleep(0.02)

    async def _job(self, result: str, name: str, url: str) -> Finished:
        started = time.monotonic()
        reply = await _post(url, format_upload(name, self.payload))
        self.report.uploads.append(time.monotonic() - started)
        if b"<status>0<" not in reply:
            self.report.errors += 1
        return Finished(result, 5, 0, "", 1.0, 1.0, ((name, len(self.payload), hashlib.md5(self.payload).hexdigest()),))


async def _post(url: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read(-1)
    finally:
        writer.close()
    status, _, rest = answer.partition(b"\r\n\r\n")
    if not status.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"{url}: {status[:80]!r}")
    return rest


async def run_load(
    url: str, authenticators: Sequence[str], *, hosts: int, per_request: int, seconds: float, output_bytes: int = 1000
) -> LoadReport:
    """Load the project at this URL for so many seconds."""
    report = LoadReport()
    started = time.monotonic()
    payload = b"x" * output_bytes
    lives = [
        _Host(authenticators[n % len(authenticators)], per_request, payload, report).live(
            f"{url}scheduler", started + seconds
        )
        for n in range(hosts)
    ]
    await asyncio.gather(*lives)
    report.seconds = time.monotonic() - started
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m boincserver.testing.load URL --key KEY`: print a summary as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url")
    parser.add_argument("--key", action="append", required=True)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--per-request", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args(arguments)
    report = asyncio.run(
        run_load(
            options.url, options.key, hosts=options.hosts, per_request=options.per_request, seconds=options.seconds
        )
    )
    print(json.dumps(report.summary()))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
