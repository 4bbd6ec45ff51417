"""When the stock client comes again, as it is told: at once while there may be work, rarely while there is none."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from boincserver.control import Control
from boincserver.testing import StockClient, configure, serving, wait_until
from boincserver.testing.stock import faketime_library

from .conftest import add_app, make_project

pytestmark = pytest.mark.stock
LIMIT = 120.0
CONTACT = re.compile(r"(?m)^(\S+ \d\d:\d\d:\d\d) .*Sending scheduler request: (.*)$")


@pytest.fixture(autouse=True)
def programs(need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")


def contacts(client: StockClient) -> list[float]:
    """When it came because it had been told to, by its own clock."""
    found = [(when, why) for when, why in CONTACT.findall(client.log()) if "Requested by project" in why]
    return [datetime.strptime(when, "%d-%b-%Y %H:%M:%S").timestamp() for when, _ in found]


def told(client: StockClient) -> float:
    """The delay in the last reply; 0 while one is being written."""
    replies = [path.read_text("utf-8", "replace") for path in client.directory.glob("sched_reply_*.xml")]
    return float((re.findall(r"<next_rpc_delay>([^<]*)", "".join(replies)) or ["0"])[-1])


def gaps(client: StockClient, count: int) -> list[float]:
    """Seconds between so many contacts, the newest ones."""
    before = len(contacts(client))
    wait_until(lambda: len(contacts(client)) > before + count, timeout=LIMIT, what=f"{count} more contacts")
    came = contacts(client)[-count - 1 :]
    return [later - earlier for earlier, later in itertools.pairwise(came)]


def joined(directory: Path, control: Control, client: StockClient) -> None:
    add_app(control, directory.parent)
    client.attach(control.info().url, control.create_account("v@example.org"))
    wait_until(lambda: control.hosts(), timeout=LIMIT, what="the client to join")


def test_an_idle_client_comes_within_seconds_while_somebody_submits(directory: Path) -> None:
    make_project(directory)
    with serving(directory) as server, StockClient(speed=2.0) as client:
        joined(directory, server.control, client)
        server.control.create_batch("upper", "b")  # somebody is there
        between = gaps(client, 5)
        wait_until(lambda: told(client) == 5, timeout=LIMIT, what="the delay of those who are wanted")
    # On a client that looks at its clock every five seconds; a busy machine answers it late.
    assert statistics.median(between) <= 15, between


@pytest.fixture
def fast(directory: Path) -> Iterator[Control]:
    """Sixty seconds pass in each, also while it waits for what somebody sends."""
    make_project(directory)
    configure(directory, patience=3600)
    with serving(directory, LD_PRELOAD=faketime_library(), FAKETIME="+0 x60") as server:
        yield server.control


def test_an_idle_client_comes_every_five_minutes_at_most_when_nobody_does(directory: Path, fast: Control) -> None:
    with StockClient(speed=60.0) as client:
        joined(directory, fast, client)
        wait_until(lambda: told(client) >= 300, timeout=LIMIT, what="ten quiet minutes to go by")
        between = gaps(client, 3)
    assert min(between[1:]) >= 300, between
