"""What changes with jobs while somebody watches, and every copy of a job as it stands."""

from __future__ import annotations

from boincserver.control import Control
from boincserver.news import News
from boincserver.records import Job, JobState
from boincserver.states import Outcome, ServerState, ValidateState
from boincserver.testing import SimulatedJob, SimulatedVolunteer


def on(*hosts: int, said: str = "") -> JobState:
    return JobState("j_1", "in progress" if hosts else "unsent", hosts, 100, said)


def test_each_change_is_told_once_and_in_order() -> None:
    board = News(lambda: 0.0).begin(1)
    board.put(on(7))
    board.put(JobState("j_2", "in progress", (8,)))
    assert [state.name for state in board.since(0)] == ["j_1", "j_2"]
    seen = board.seq
    assert board.since(seen) == []
    board.said("j_1", 7, "0.5")
    assert board.since(seen) == [on(7, said="0.5")]
    board.drop("j_1")
    assert [state.name for state in board.since(0)] == ["j_2"]


def test_a_job_that_its_host_lost_is_told_and_then_forgotten() -> None:
    board = News(lambda: 0.0).begin(1)
    board.put(on())
    assert board.since(0) == []  # that it waits was known
    board.put(on(7))
    board.put(on())
    assert board.since(0) == [on()]
    assert board.since(0) == []


def test_only_the_host_that_has_a_job_can_say_how_far_it_is_and_not_at_length() -> None:
    news = News(lambda: 0.0)
    board = news.begin(1)
    board.put(on(7))
    news.said("j_1_0", "1.0", 8)
    news.said("other_0", "1.0", 7)
    assert [state.said for state in board.since(0)] == [""]
    news.said("j_1_0", "x" * 10_000, 7)
    assert [len(state.said) for state in board.since(0)] == [200]


def test_who_has_not_asked_for_long_watches_no_more() -> None:
    now = [0.0]
    news = News(lambda: now[0])
    board = news.begin(1)
    assert news.board(1, board.epoch) is board
    assert news.board(1, "that of an earlier server") is None
    now[0] = 601.0
    assert news.board(2, "") is None
    assert not news.watches(1)


def test_a_watched_batch_tells_who_has_its_jobs_and_what_programs_say(control: Control, url: str, upper: str) -> None:
    def compute(job: SimulatedJob) -> dict[str, bytes]:
        volunteer.contact(seconds=0, instances=0, trickles=(progress.format(job.name, "0.25"),))
        seen.append(control.changes(batch, first.epoch, first.seq))
        return {"out": b"done"}

    progress = (
        "<msg_from_host>\n<result_name>{}</result_name>\n<time>1</time>\n<variety>boincserver.progress</variety>\n{}\n"
        "</msg_from_host>\n"
    )
    batch = control.create_batch(upper, "b").id
    control.create_jobs(batch, [Job("j", {"in": b"x"}, {"out": 10}, min_quorum=2)])
    first = control.changes(batch)
    assert first.jobs == ()
    seen: list = []
    with SimulatedVolunteer(url, control.create_account("v@example.org"), compute) as volunteer:
        volunteer.step()
        (state,) = seen[0].jobs
        assert (state.name, state.state, state.hosts, state.said) == ("j", "in progress", (volunteer.hostid,), "0.25")
        assert control.changes(batch, "of another server", 99).jobs[0].hosts == (volunteer.hostid,)
        volunteer.contact()
    one, other = control.copies(batch, "j")
    assert (one.outcome, one.host_id, one.outputs) == (Outcome.SUCCESS, volunteer.hostid, {"out": b"done"})
    assert (other.server_state, other.host_id, other.outputs) == (ServerState.UNSENT, 0, {})
    assert other.validate_state == ValidateState.INIT
    assert control.copies(batch, "none") == []
