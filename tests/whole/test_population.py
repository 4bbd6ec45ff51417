"""Liars among volunteers: what `quorum="adaptive"` lets through and what it costs, measured and printed."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import Project, served
from tests.whole.test_truth import playing

from boincserver.testing import SimulatedVolunteer, StockClient
from pymw import Master

LIMIT = 240.0
PROVEN = 10  # valid results in a row after which the server sends a host most jobs unchecked
PATIENCE = 50  # jobs for which a patient liar behaves


@dataclass
class Population:
    """Computers of so many users, honest ones and others, and what came of their work."""

    project: Project
    kinds: dict[str, int]
    jobs: dict[str, int] = field(default_factory=dict)  # done, by kind
    volunteers: dict[str, list[SimulatedVolunteer]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for kind, count in self.kinds.items():
                self.jobs[kind] = 0
                for number in range(count):
                    volunteer = SimulatedVolunteer(
                        self.project.url, self.project.account(), compute=playing(self._answer(kind, number)), ncpus=1
                    )
                    self.volunteers.setdefault(kind, []).append(stack.enter_context(volunteer).start(pause=0.05))
            yield

    def _answer(self, kind: str, number: int) -> Callable[[int, tuple[Any, ...]], Any]:
        done = itertools.count(1)

        def answer(_: int, args: tuple[Any, ...]) -> Any:
            self.jobs[kind] += 1
            lies = kind in {"liar", "colluder"} or (kind == "patient liar" and next(done) > PATIENCE)
            # Those who collude tell the same lie, the others each its own.
            return 2 * args[0] if not lies else -1 if kind == "colluder" else (kind, number)

        return answer

    def trust(self, kind: str) -> list[int]:
        """The valid results in a row of each host of this kind, as far as they were compared to others'."""
        hosts = {volunteer.hostid for volunteer in self.volunteers[kind]}
        with contextlib.closing(sqlite3.connect(self.project.directory / "database.sqlite3")) as database:
            rows = database.execute(
                "SELECT host_id, MAX(consecutive_valid) FROM host_app_version GROUP BY host_id"
            ).fetchall()
        known = dict(rows)
        return [known.get(host, 0) for host in hosts]

    def round(self, master: Master, name: str, count: int) -> tuple[float, int]:
        """Copies for each of so many tasks, and how many wrong values the master was given."""
        before = sum(host.succeeded + host.failed + host.in_progress for host in self.project.control.hosts())
        results = list(master.options(quorum="adaptive").map(errands.double, range(count), chunksize=1, timeout=LIMIT))
        wrong = sum(value != 2 * n for n, value in enumerate(results))
        hosts = self.project.control.hosts()
        copies = (sum(host.succeeded + host.failed + host.in_progress for host in hosts) - before) / count
        least = min(self.trust("honest"))
        self.lines.append(f"{name:28} {count:6} {copies:12.2f} {wrong:12} {wrong / count:10.2%} {least:12}")
        return copies, wrong

    def table(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        header = f"{'':28} {'tasks':>6} {'copies/task':>12} {'wrong values':>12} {'escaped':>10} {'least trust':>12}"
        return "\n".join(["", f"hosts: {kinds}", header, *self.lines])


def build_trust(population: Population, master: Master, tasks: int, rounds: int = 40) -> int:
    """Work until every honest host is proven; how many wrong values came through on the way."""
    wrong = 0
    for number in range(rounds):
        wrong += population.round(master, f"building trust, round {number + 1}", tasks)[1]
        if min(population.trust("honest")) >= PROVEN:
            return wrong
    raise AssertionError(population.table())


def watch(kinds: dict[str, int], folder: Path, tasks: int, clients: Sequence[StockClient] = ()) -> None:
    """Who lies from the start never gets anything through, and proven hosts are hardly checked."""
    with served(folder / "project") as project:
        population = Population(project, kinds)
        for client in clients:
            client.attach(project.url, project.account())
        with population.at_work(), Master(project.backend) as master:
            wrong = build_trust(population, master, tasks)
            copies, more = population.round(master, "proven", 3 * tasks)
        print(population.table())
    assert (wrong, more) == (0, 0), population.table()
    assert copies < 1.2, population.table()
    assert max(population.trust("liar")) == 0
    assert population.jobs["liar"] > 0


def test_a_liar_gets_nothing_through_and_proven_hosts_are_hardly_checked(tmp_path: Path) -> None:
    watch({"honest": 5, "liar": 1}, tmp_path, 50)


@pytest.mark.soak
@pytest.mark.stock
def test_a_population_of_twenty_with_two_stock_clients(tmp_path: Path, need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(StockClient(speed=20.0, name=f"crowd{n}")) for n in range(2)]
        watch({"honest": 18, "liar": 2}, tmp_path, 200, clients)


@pytest.mark.soak
def test_what_patient_and_colluding_liars_get_through(tmp_path: Path) -> None:
    """Some of it; and nothing more once a patient liar was found out."""
    with served(tmp_path / "project") as project:
        population = Population(project, {"honest": 16, "colluder": 2, "patient liar": 2})
        with population.at_work(), Master(project.backend) as master:
            for number in range(40):
                population.round(master, f"round {number + 1}", 200)
                behaved = population.jobs["patient liar"] >= 2 * PATIENCE + 20
                if behaved and max(population.trust("patient liar")) < PROVEN:
                    break
            else:
                raise AssertionError(population.table())
            _, wrong = population.round(master, "found out", 400)
        print(population.table())
    assert wrong <= 4, population.table()  # what two colluders get through when both are sent the same task
