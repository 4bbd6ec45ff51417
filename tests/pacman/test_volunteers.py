"""A tournament on volunteers' computers: the whole package travels, and a liar gets nowhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.pacman.teams import agent, innocent, source
from tests.served import Project, served

from boincserver.testing import SimulatedVolunteer
from pacman_ctf.check import shipped_team
from pacman_ctf.job import play_job
from pacman_ctf.layout import named
from pacman_ctf.record import seal
from pacman_ctf.tournament import Tournament
from pymw import Master, envelope
from pymw.outcome import Ending, Outcome
from pymw.volunteer import OUTCOMES, TASKS


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with served(tmp_path / "project") as ours:
        yield ours


def tournament(folder: Path, *teams: Any) -> Tournament:
    return Tournament(folder, list(teams), [named("pond")] * 3, length=40)


def test_a_tournament_on_two_volunteers_computers(project: Project, tmp_path: Path) -> None:
    played = tournament(tmp_path / "out", innocent("ann"), shipped_team("strong"), source("1/0", name="crash"))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            volunteer = SimulatedVolunteer(project.url, project.account())
            stack.enter_context(volunteer).start(pause=0.05)
        master = stack.enter_context(Master(project.backend))
        assert played.play(master) == []
    assert project.hosts_that_worked() >= 1
    table = played.table()
    assert [row.played for row in table] == [2, 2, 2]
    assert table[2].team == "crash"
    assert len(list(tmp_path.rglob("match.gif"))) == 3
    assert "ZeroDivisionError" in (tmp_path / "out" / "private" / "crash" / "ann.log").read_text()


def test_an_interrupted_tournament_goes_on_where_its_volunteers_are(project: Project, tmp_path: Path) -> None:
    """What was finished, and what was under way when the master left, is played by nobody again."""
    asked: list[str] = []

    def count(job: Any) -> dict[str, bytes]:
        outcomes = []
        for item in envelope.unpack_job(job.inputs[TASKS]).items:
            (wanted,) = envelope.unpack_call(item.arguments, ())[0]
            asked.append(f"{wanted['a']['name']}-{wanted['b']['name']}")
            outcomes.append(envelope.pack_outcome(Outcome(Ending.RETURNED, value=play_job(wanted))))
        return {OUTCOMES: envelope.pack_outcomes(outcomes)}

    def leave(done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    def again() -> Tournament:
        return tournament(tmp_path / "out", *(innocent(name) for name in ("ann", "bob", "cat")))

    with SimulatedVolunteer(project.url, project.account(), compute=count) as volunteer:
        volunteer.start(pause=0.05)
        with pytest.raises(KeyboardInterrupt), Master(project.backend, run=again().name) as master:
            again().play(master, leave)
        assert sum(row.played for row in again().table()) == 2
        with Master(project.backend, run=again().name) as master:
            assert again().play(master) == []
    assert [row.played for row in again().table()] == [2, 2, 2]
    assert sorted(asked) == ["ann-bob", "ann-cat", "bob-cat"]


def lie(job: Any) -> dict[str, bytes]:
    """Play what was asked for, and then improve the first score, with a chain that fits."""
    outcomes = []
    for item in envelope.unpack_job(job.inputs[TASKS]).items:
        (wanted,) = envelope.unpack_call(item.arguments, ())[0]
        result = play_job(wanted)
        values = {**result["records"][0], "score": 18, "winner": "red", "code": "score", "blame": ""}
        del values["chain"]
        result["records"][0] = seal(values).as_json()
        outcomes.append(envelope.pack_outcome(Outcome(Ending.RETURNED, value=result)))
    return {OUTCOMES: envelope.pack_outcomes(outcomes)}


def test_a_liar_among_volunteers_changes_nothing(project: Project, tmp_path: Path) -> None:
    played = tournament(
        tmp_path / "out", innocent("ann"), agent("def chooseAction(self, s):\n    return 'Stop'", name="bob")
    )
    with SimulatedVolunteer(project.url, project.account(), compute=lie) as liar, Master(project.backend) as master:
        liar.start(pause=0.05)
        (wrong,) = played.play(master)
    assert "a host's result was refused: the record claims the score 18" in wrong
    assert all(row.played == 0 for row in played.table())
    assert not list(tmp_path.rglob("match.gif"))
