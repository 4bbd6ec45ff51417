"""The life of jobs on real tables, among computers that do what they like: no job is ever stuck."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from boincserver.control import Job
from boincserver.control_app import _Control
from boincserver.homogeneous import COARSE
from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState
from boincserver.testing import configure, serving

from .conftest import add_app, make_project
from .world import LINUX, WINDOWS, Computer, World, key

HOUR, DAY = 3600, 86400
TEMPLATE: list[Path] = []
NUMBERS = count()


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with applications of every kind and eight accounts, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    directory = folder / "project"
    make_project(directory)
    configure(directory, statistics_hours=0, daily_quota=8, max_in_progress=3, max_per_request=2)
    with serving(directory) as server:
        control = server.control
        for name, options in (
            ("upper", {}),
            ("alike", {"homogeneous_redundancy": COARSE}),
            ("versions", {"homogeneous_app_version": True}),
            ("adaptive", {"target_nresults": 2}),
        ):
            add_app(control, folder, name)
            control.ensure_app(name, **options)  # type: ignore[arg-type]
        add_app(control, folder, "trivial", validator="trivial")
        for n in range(8):
            (directory / f"key{n}").write_text(control.create_account(f"v{n}@example.org"))
    TEMPLATE[:] = [directory]
    yield directory
    TEMPLATE.clear()


def new_world() -> World:
    folder = Path(tempfile.mkdtemp(prefix="boinc-world-"))
    folder.rmdir()
    return World(TEMPLATE[0], folder)


@pytest.fixture
def world() -> Iterator[World]:
    made = new_world()
    yield made
    made.close()


# --- single rules -----------------------------------------------------------------------------------------------------


def test_a_trivial_validator_takes_what_comes(world: World) -> None:
    world.create(Job("j", {}, {"out": 100}, min_quorum=2), app="trivial")
    for n, value in enumerate((b"one", b"other")):
        computer = Computer(key(world, n))
        world.contact(computer)
        world.finish(computer, *computer.held, value)
        world.contact(computer, want=0)
    assert world.rows("SELECT validate_state FROM result") == [(ValidateState.VALID,)] * 2


def test_a_batch_with_a_lease_lives_while_its_submitter_asks_for_it(world: World) -> None:
    submitter = world.service.submitter
    batch = world.change(lambda tx: submitter.create_batch(tx, "upper", "leased", 3600, world.now))
    world.change(lambda tx: submitter.create_jobs(tx, batch, [Job("j", {}, {})], world.now))
    calls = _Control(world.service)
    for _ in range(4):
        world.ahead += 1800
        world.run(calls.call_job_states, memoryview(b""), batch)
        world.run(world.service._end_leases, world.now)
    assert world.rows("SELECT error_mask FROM workunit") == [(ErrorMask.NONE,)]
    world.ahead += 3601
    world.run(world.service._end_leases, world.now)
    assert world.rows("SELECT error_mask FROM workunit") == [(ErrorMask.CANCELLED,)]


def test_what_a_host_may_hold_and_be_sent_at_once_is_by_its_processors(world: World) -> None:
    world.create(*(Job(f"j{n}", {}, {}) for n in range(20)))
    computer = Computer(key(world, 0), ncpus=2)
    sent = [len(world.contact(computer, want=20).jobs) for _ in range(3)]
    assert sent == [4, 2, 0], "two at a time for each of two processors, three in all"
    world.finish(computer, next(iter(computer.held)))
    assert len(world.contact(computer, want=20).jobs) == 1


def test_a_host_that_fails_has_a_smaller_quota_of_this_version_until_tomorrow(world: World) -> None:
    world.create(*(Job(f"j{n}", {}, {}, max_error_results=9, max_total_results=20) for n in range(30)))
    world.create(*(Job(f"t{n}", {}, {}) for n in range(3)), app="trivial")
    world.ahead += DAY - world.now % DAY  # a day begins
    bad = Computer(key(world, 0))
    failures = 0
    while world.contact(bad, want=1).jobs:
        names = [name for name in bad.held if name.startswith("j")]
        failures += len(names)
        for name in list(bad.held):
            world.finish(bad, name, None if name in names else b"right")
        world.ahead += 60
        assert failures <= 8
    assert 1 < failures < 8, "each failure took one off the quota of eight"
    assert world.rows("SELECT count(*) FROM workunit WHERE name LIKE 't%' AND canonical_resultid > 0") == [(3,)], (
        "another application is another matter"
    )
    world.ahead += DAY
    assert world.contact(bad, want=1).jobs, "the next day it may try again"


def test_a_failed_copy_goes_elsewhere_first(world: World) -> None:
    world.create(Job("j", {}, {}))
    first, second = Computer(key(world, 0)), Computer(key(world, 1))
    world.contact(first)
    world.finish(first, "j_0", None)
    assert not world.contact(first).jobs
    assert [job.result_name for job in world.contact(second).jobs] == ["j_1"]


def test_a_job_that_nobody_can_do_ends_in_an_error(world: World) -> None:
    batch = world.create(Job("j", {}, {"out": 10}, max_error_results=2, max_total_results=8))
    for n in range(8):
        computer = Computer(key(world, n))
        world.contact(computer)
        for name in list(computer.held):
            world.finish(computer, name, None)
        world.contact(computer, want=0)
    assert world.rows("SELECT count(*) FROM result") == [(3,)]
    assert world.rows("SELECT error_mask, canonical_resultid FROM workunit") == [(2, 0)]
    world.fetch(batch)
    assert world.findings() == []


def test_an_output_that_comes_when_all_is_deleted_is_refused(world: World) -> None:
    batch = world.create(Job("j", {}, {"out": 10}, delay_bound=DAY, rsc_fpops_est=1e9))
    slow, quick = Computer(key(world, 0)), Computer(key(world, 1))
    world.contact(slow)
    world.pass_time(DAY + 1)
    world.contact(quick)
    world.finish(quick, *quick.held)
    world.contact(quick, want=0)
    world.fetch(batch)
    world.pass_time(HOUR)
    world.finish(slow, *slow.held)
    world.contact(slow, want=0)
    assert [path for path in (world.directory / "upload").rglob("*") if path.is_file()] == []
    assert world.findings() == []


# --- the model --------------------------------------------------------------------------------------------------------


class ProjectMachine(RuleBasedStateMachine):
    """Computers of three users and two kinds, a submitter, the clock and the operator, in any order."""

    @initialize()
    def open(self) -> None:
        self.world = new_world()
        self.computers = [
            Computer(key(self.world, user), os_name, ncpus=2)
            for user, os_name in ((0, LINUX), (0, WINDOWS), (1, LINUX), (2, WINDOWS))
        ]
        self.batches: set[int] = set()
        self.created = 0
        for app in ("upper", "alike", "versions", "adaptive"):
            self.create(app, 2, 0, 3, 6, 0)

    @rule(
        app=st.sampled_from(["upper", "alike", "alike", "versions", "adaptive"]),
        quorum=st.integers(1, 3),
        extra=st.integers(0, 1),
        errors=st.integers(0, 2),
        total=st.integers(0, 3),
        priority=st.integers(0, 1),
    )
    def another_job(self, app: str, quorum: int, extra: int, errors: int, total: int, priority: int) -> None:
        self.create(app, quorum, extra, errors, total, priority)

    def create(self, app: str, quorum: int, extra: int, errors: int, total: int, priority: int) -> None:
        job = Job(
            f"j{self.created}", {}, {"out": 100}, min_quorum=quorum, target_nresults=quorum + extra,
            max_error_results=errors, max_total_results=quorum + extra + total, max_success_results=quorum + extra + 1,
            delay_bound=DAY, rsc_fpops_est=1e9, priority=priority,
        )  # fmt: skip
        self.created += 1
        self.batches.add(self.world.create(job, app=app))

    @rule(who=st.integers(0, 3))
    def contact(self, who: int) -> None:
        self.world.contact(self.computers[who])

    @rule(who=st.integers(0, 3), value=st.sampled_from([b"right", b"right", b"right", b"wrong", None]))
    def work(self, who: int, value: bytes | None) -> None:
        computer = self.computers[who]
        self.world.contact(computer)
        for name in list(computer.held):
            self.world.finish(computer, name, value)
        self.world.contact(computer, want=0)

    @rule(who=st.integers(0, 3))
    def lose_everything(self, who: int) -> None:
        """Its disk was lost: it attaches anew and knows of nothing."""
        self.computers[who].hostid = 0
        self.world.contact(self.computers[who], forget=True)

    @rule(hours=st.sampled_from([1, 25, 9 * 24]))
    def time_passes(self, hours: int) -> None:
        self.world.pass_time(hours * HOUR)

    @rule(number=st.integers(1, 40))
    def cancel(self, number: int) -> None:
        self.world.cancel(number)

    @rule()
    def fetch(self) -> None:
        for batch in self.batches:
            self.world.fetch(batch)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def the_tables_are_in_order(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.world.findings() == []
        twice = "SELECT workunitid, userid FROM result WHERE server_state = {} GROUP BY workunitid, userid HAVING count(*) > 1"
        assert self.world.rows(twice.format(int(ServerState.IN_PROGRESS))) == [], "one copy for each user"

    def teardown(self) -> None:
        """Everybody has left, others come, who do their work; so each job ends, validated or in error."""
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            others = [Computer(key(world, user), WINDOWS, ncpus=4) for user in range(3, 8)]
            for _ in range(40):
                for computer in others:
                    world.contact(computer)
                    for name in list(computer.held):
                        world.finish(computer, name)
                    world.contact(computer, want=0)
                self.fetch()
                if world.rows("SELECT count(*) FROM workunit WHERE canonical_resultid = 0 AND error_mask = 0") == [
                    (0,)
                ]:
                    break
                world.pass_time(DAY)
            else:
                raise AssertionError(f"these never end: {world.rows('SELECT * FROM workunit')}")
            valid = f"SELECT count(*) FROM workunit w JOIN result r ON r.id = w.canonical_resultid WHERE r.outcome != {int(Outcome.SUCCESS)}"
            assert world.rows(valid) == [(0,)]
            world.pass_time(2 * DAY)
            world.pass_time(40 * DAY)
            world.pass_time(HOUR)
            assert world.rows("SELECT name FROM workunit") == [], "what is over leaves the tables in the end"
            assert [path for path in (world.directory / "upload").rglob("*") if path.is_file()] == []
            assert world.findings() == []
        finally:
            world.close()


ProjectMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestProjectMachine = ProjectMachine.TestCase


@pytest.mark.soak
class TestProjectMachineAtLength(ProjectMachine.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
