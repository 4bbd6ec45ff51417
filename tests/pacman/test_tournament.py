"""A round robin over pymw: incremental, and unharmed by broken teams and lying hosts."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.pacman.teams import agent, innocent, source

from pacman_ctf.check import shipped_team
from pacman_ctf.errors import PacmanError, SubmissionError
from pacman_ctf.job import choose, job_digest, play_job, winner_of
from pacman_ctf.layout import named
from pacman_ctf.record import Record, seal
from pacman_ctf.tournament import Standing, Tournament, read_teams
from pymw import Master

LAYOUTS = [named("pond"), named("pond"), named("harbour")]


def teams() -> list[Any]:
    return [innocent("ann"), shipped_team("strong"), source("1/0", name="crash")]


class Here(Executor):
    """Plays each job at once, once for all tests, and can be told to spoil what comes back."""

    known: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, spoil: Callable[[dict[str, Any]], Any] = lambda result: result) -> None:
        self.spoil, self.played = spoil, 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self.played += 1
            (job,) = args
            if (digest := job_digest(job)) not in self.known:
                self.known[digest] = fn(*args, **kwargs)
            future.set_result(self.spoil(copy.deepcopy(self.known[digest])))
        except BaseException as error:
            future.set_exception(error)
        return future


def tournament(folder: Path, **options: Any) -> Tournament:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text("5ec4e7" * 8)  # the same in all tests, so that each job is played once
    return Tournament(
        folder, options.pop("teams", None) or teams(), LAYOUTS, length=options.pop("length", 60), **options
    )


def test_a_round_robin_on_this_machines_cores(tmp_path: Path) -> None:
    played = tournament(tmp_path / "out", length=400)
    told: list[tuple[int, int]] = []
    with Master("local", max_workers=2) as master:
        assert played.play(master, lambda done, of: told.append((done, of))) == []
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)
    table = played.table()
    assert [row.team for row in table] == ["strong", "ann", "crash"]
    assert (table[0].won, table[0].points, table[0].percent) == (2, 6, 100.0)
    assert (table[2].lost, table[2].faults) == (2, 6)
    text = played.publish()
    assert "strong" in text.splitlines()[1]
    assert json.loads((tmp_path / "out" / "table.json").read_text())["standings"][0]["team"] == "strong"


def test_what_is_published_and_what_is_private(tmp_path: Path) -> None:
    played = tournament(tmp_path)
    played.play(Here())
    match = tmp_path / "matches" / "ann-crash"
    assert sorted(path.name for path in match.iterdir()) == [
        "1.html", "1.json", "2.html", "2.json", "3.html", "3.json", "match.gif",
    ]  # fmt: skip
    assert "ZeroDivisionError" in (tmp_path / "private" / "crash" / "ann.log").read_text()
    assert not (tmp_path / "private" / "ann").exists()  # it printed nothing
    assert (tmp_path / "private" / "crash").stat().st_mode & 0o77 == 0
    assert (tmp_path / "secret").stat().st_mode & 0o77 == 0
    assert "Traceback" not in "".join(path.read_text() for path in (tmp_path / "matches").rglob("*.json"))


def test_only_what_is_new_is_played(tmp_path: Path) -> None:
    first, again, changed = Here(), Here(), Here()
    tournament(tmp_path).play(first)
    tournament(tmp_path).play(again)
    other = [*teams()[:2], agent("def chooseAction(self, s):\n    return 'Stop'", name="crash")]
    new = tournament(tmp_path, teams=other)
    new.play(changed)
    assert (first.played, again.played, changed.played) == (3, 0, 2)
    assert {row.team: row.faults for row in new.table()} == {"strong": 0, "ann": 0, "crash": 0}
    renamed = [innocent("anne"), *teams()[1:]]
    assert len(tournament(tmp_path, teams=renamed).table()) == 3


def test_an_interrupted_tournament_goes_on(tmp_path: Path) -> None:
    class Cut(Here):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.played == 2:
                raise KeyboardInterrupt
            return super().submit(fn, *args, **kwargs)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        assert pool
        tournament(tmp_path).play(Cut())
    rest = Here()
    assert tournament(tmp_path).play(rest) == []
    assert rest.played <= 3
    assert not list(tmp_path.rglob("*.partial"))


def spoilt(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoil(result: dict[str, Any]) -> dict[str, Any]:
        result = copy.deepcopy(result)
        change(result)
        return result

    return spoil


def lie(result: dict[str, Any]) -> None:
    result["records"][0]["score"] = 99


@pytest.mark.parametrize(
    "spoil", [spoilt(lie), lambda result: None, lambda result: [1], lambda result: {"records": "x"}]
)
def test_a_lying_host_is_refused_and_stops_nothing(tmp_path: Path, spoil: Callable[..., Any]) -> None:
    played = tournament(tmp_path)
    wrong = played.play(Here(spoil))
    assert len(wrong) == 3
    assert all("a host's result was refused" in sentence for sentence in wrong)
    assert all(row.played == 0 for row in played.table())
    assert played.play(Here()) == []  # the next run tries again
    assert sum(row.played for row in played.table()) == 6


def test_a_host_that_fails_stops_nothing(tmp_path: Path) -> None:
    class Flaky(Here):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            if self.played == 2:
                future = Future()
                future.set_exception(OSError("the host is gone"))
            return future

    wrong = tournament(tmp_path).play(Flaky())
    assert wrong == ["ann and strong: OSError: the host is gone"] or len(wrong) == 1
    assert "OSError: the host is gone" in wrong[0]


def test_a_strangers_picture_and_log_are_not_trusted(tmp_path: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["gif"] = b"an ugly picture"
        result["logs"] = {"a": ["not a text"], "b": "x" * 10_000_000}

    played = tournament(tmp_path)
    assert played.play(Here(spoilt(change))) == []
    assert all(path.read_bytes().startswith(b"GIF89a") for path in tmp_path.rglob("match.gif"))
    assert all(path.stat().st_size <= 1 << 18 for path in (tmp_path / "private").rglob("*.log"))


def test_a_strangers_word_about_time_is_not_taken(tmp_path: Path) -> None:
    """A host claims, with a record that holds together, that ann was too slow: the job is played again here."""

    def change(result: dict[str, Any]) -> None:
        record = result["records"][0]
        side = "red" if record["red_name"] == "ann" else "blue"
        score, winner = (-1, "blue") if side == "red" else (1, "red")
        values = {
            **record,
            "moves": record["moves"][:5],
            "code": "timeout",
            "blame": side,
            "score": score,
            "winner": winner,
        }
        del values["chain"]
        result["records"][0] = seal(values).as_json()
        records = [Record.of_json(each) for each in result["records"]]
        sides = [each["red_name"] == "ann" for each in result["records"]]
        result["winner"] = winner_of(records, sides)
        result["shown"] = choose(records, sides, result["winner"])

    pair = [innocent("ann"), agent("def chooseAction(self, s):\n    return 'Stop'", name="bob")]
    trusting, careful = tournament(tmp_path / "a", teams=pair), tournament(tmp_path / "b", teams=pair, spot=0.0)
    assert trusting.play(Here(spoilt(change))) == []
    assert {row.team: row.faults for row in trusting.table()} == {"ann": 1, "bob": 0}
    assert careful.play(Here(spoilt(change))) == []
    assert {row.team: row.faults for row in careful.table()} == {"ann": 0, "bob": 0}


def test_a_result_under_other_names_is_refused(tmp_path: Path) -> None:
    """The digests tell the files; whose they are, the names, which pages and tables show."""

    def change(result: dict[str, Any]) -> None:
        for number, record in enumerate(result["records"]):
            values = {**record, "red_name": record["blue_name"], "blue_name": record["red_name"]}
            del values["chain"]
            result["records"][number] = seal(values).as_json()

    pair = [innocent("ann"), innocent("bob")]
    (wrong,) = tournament(tmp_path, teams=pair).play(Here(spoilt(change)))
    assert "not the one that was asked for" in wrong
    names = [one.digest for one in pair]
    assert names[0] == names[1]
    assert len({digest for digest, _ in tournament(tmp_path, teams=[*pair, innocent("eve")]).jobs()}) == 3


def test_an_invented_match_is_found_by_playing_it_again(tmp_path: Path) -> None:
    """Legal moves that nobody made hold together; only another host can tell."""

    def change(result: dict[str, Any]) -> None:
        for number, record in enumerate(result["records"]):
            values = {**record, "moves": "." * 60, "code": "score", "blame": "", "score": 0, "winner": "tie"}
            del values["chain"]
            result["records"][number] = seal(values).as_json()
        result["winner"], result["shown"] = "tie", 0

    pair = [innocent("ann"), innocent("bob")]
    believed = tournament(tmp_path / "a", teams=pair, spot=0.0)
    assert believed.play(Here(spoilt(change))) == []
    (wrong,) = tournament(tmp_path / "b", teams=pair, spot=1.0).play(Here(spoilt(change)))
    assert "played again here, the same job went another way" in wrong
    assert tournament(tmp_path / "c", teams=pair, spot=1.0).play(Here()) == []


def test_names_of_teams_are_no_paths(tmp_path: Path) -> None:
    names = ["../../evil", "a/b", "<script>"]
    out = tmp_path / "deep" / "out"
    tournament(out, teams=[agent(f"x = {n}", name=name) for n, name in enumerate(names)], length=4).play(Here())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    assert "<script>" not in next((out / "matches").rglob("*.html")).read_text().replace("<script>", "", 2)


def test_broken_folders_are_listed_and_the_rest_plays(tmp_path: Path) -> None:
    (tmp_path / "ann.py").write_bytes(innocent().files["myTeam.py"])
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "myTeam.py").write_bytes(innocent().files["myTeam.py"])
    (tmp_path / "broken.zip").write_bytes(b"PK nonsense")
    (tmp_path / "ann").mkdir()
    (tmp_path / ".hidden").mkdir()
    found, broken = read_teams(tmp_path)
    assert sorted(team.name for team in found) == ["ann", "bob"]
    assert sorted(broken) in (["ann.py", "broken.zip"], ["ann", "broken.zip"])
    with pytest.raises(SubmissionError, match="no folder of teams"):
        read_teams(tmp_path / "nowhere")


def test_the_table_is_ordered_by_points_then_wins_then_dots() -> None:
    rows = [Standing("d"), Standing("c", tied=3), Standing("b", won=1, dots=2), Standing("a", won=1, dots=5)]
    assert [row.team for row in sorted(rows, key=lambda row: row.order)] == ["a", "b", "c", "d"]


def test_a_job_is_a_plain_function_of_plain_values() -> None:
    assert play_job.__module__ == "pacman_ctf.job"
    assert issubclass(SubmissionError, PacmanError)
