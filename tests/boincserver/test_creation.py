"""Jobs of every shape, many in one call: each gets its own rows, documents and names, and nothing of its neighbour's."""

from __future__ import annotations

import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boincserver.control import Control, Job
from boincserver.errors import BoincServerError
from boincserver.job_check import check_job
from boincserver.protocol import documents
from boincserver.testing import SimulatedJob, SimulatedVolunteer


def test_neighbours_that_differ_keep_what_is_their_own(control: Control, upper: str, url: str) -> None:
    shared = control.put_file(b"shared")
    wanted = [
        Job("a", {"in": shared}, {"out": 10}),
        Job("b", {"in": shared}, {"out": 10}),
        Job("c", {"in": shared, "more": b"c's own"}, {"out": 10}),
        Job("d", {"in": b"d's own"}, {"out": 10}),
        Job("e", {"in": b"e's own"}, {"out": 10}, min_quorum=2, target_nresults=3, priority=5),
        Job("f", {"in": shared}, {"out": 20, "log": 5}, "--flag <&>", optional=("log",), copy_files=("log",)),
        Job("g", {}, {}),
        Job("h", {"in": shared}, {"out": 10}),
    ]
    batch = control.create_batch(upper, "b")
    assert control.create_jobs(batch.id, wanted) == 8
    rows = {
        name: (priority, xml, copies)
        for name, priority, xml, copies in read(
            control.directory,
            "SELECT name, priority, xml_doc, (SELECT count(*) FROM result WHERE workunitid = workunit.id) FROM workunit",
        )
    }
    assert {name: row[2] for name, row in rows.items()} == dict.fromkeys("abcdfgh", 1) | {"e": 3}
    assert rows["e"][0] == 5
    assert rows["d"][0] == 0
    assert rows["a"][1] == rows["b"][1] == rows["h"][1]
    assert [len(documents.input_names(rows[name][1])) for name in "acdg"] == [1, 2, 1, 0]
    assert "--flag &lt;&amp;&gt;" in rows["f"][1]
    outputs = dict(read(control.directory, "SELECT name, xml_doc_in FROM result"))
    for name in ("a_0", "e_2", "f_0"):
        expected = documents.expected_outputs(outputs[name])
        assert [o.open_name for o in expected] == (["out", "log"] if name == "f_0" else ["out"])
        assert [o.optional for o in expected] == [False, True][: len(expected)]
        assert all(o.name.startswith(f"{name}_r") and o.name.endswith(f"_{n}") for n, o in enumerate(expected))
    given: dict[str, dict[str, bytes]] = {}

    def note(job: SimulatedJob) -> dict[str, bytes]:
        given[job.workunit] = dict(job.inputs)
        return dict.fromkeys(job.output_names, b"x")

    with SimulatedVolunteer(url, control.create_account("v@example.org"), note, ncpus=8) as volunteer:
        while volunteer.step():
            pass
    assert given == {
        job.name: {
            name: b"shared" if isinstance(content, str) else content for name, content in job.inputs.items()
        }
        for job in wanted
    }  # fmt: skip


def test_a_name_twice_in_one_call_is_one_job(control: Control, upper: str) -> None:
    batch = control.create_batch(upper, "b")
    twice = [Job("j", {"in": b"first"}, {"out": 10}), Job("j", {"in": b"second"}, {"out": 10})]
    assert control.create_jobs(batch.id, twice) == 1
    assert control.create_jobs(batch.id, twice) == 0
    assert control.create_jobs(batch.id, [Job("k", {}, {}), *twice]) == 1
    assert read(control.directory, "SELECT njobs FROM batch") == [(2,)]


def test_ten_thousand_jobs_from_one_call(control: Control, upper: str) -> None:
    batch = control.create_batch(upper, "b")
    name = control.put_file(b"shared")
    wanted = [Job(f"j{n}", {"in": name}, {"out": 10}, min_quorum=1 + n % 2) for n in range(10_000)]
    assert control.create_jobs(batch.id, wanted) == 10_000
    assert control.create_jobs(batch.id, wanted) == 0
    # Each of them: its own number, its own copies under their own names.
    assert read(control.directory, "SELECT count(DISTINCT id), count(DISTINCT name) FROM workunit") == [
        (10_000, 10_000)
    ]
    wrong = "SELECT count(*) FROM result r JOIN workunit w ON w.id = r.workunitid WHERE r.name NOT LIKE w.name || '\\__' ESCAPE '\\'"
    assert read(control.directory, wrong) == [(0,)]
    assert read(control.directory, "SELECT count(*), count(DISTINCT xml_doc_in) FROM result") == [(15_000, 15_000)]


def test_a_job_that_cannot_run_refuses_its_call(control: Control, upper: str) -> None:
    batch = control.create_batch(upper, "b")
    good = Job("good", {}, {})
    for bad, reason in (
        (Job("bad", {"../in": b""}, {}), "cannot name a file"),
        (Job("bad", {"in": "absent"}, {}), "put it first"),
        (Job("bad", {}, {}, min_quorum=3, max_success_results=2), "never succeed"),
    ):
        with pytest.raises(BoincServerError, match=reason):
            control.create_jobs(batch.id, [good, bad])
    assert read(control.directory, "SELECT count(*) FROM workunit") == [(0,)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Job("bad", {}, {}, rsc_fpops_est="a"), "rsc_fpops_est is a number above 0, not 'a'"),  # type: ignore[arg-type]
        (Job("bad", {}, {}, rsc_memory_bound=math.nan), "rsc_memory_bound is a number above 0, not nan"),
        (Job("bad", {}, {}, rsc_disk_bound=-1e30), "rsc_disk_bound is a number above 0"),
        (Job("bad", {}, {}, priority="5"), "priority is a whole number"),  # type: ignore[arg-type]
        (Job("bad", {}, {}, priority=2**31 - 1), "priority is a whole number"),
        (Job("bad", {}, {}, max_error_results=1.5), "max_error_results is a whole number"),  # type: ignore[arg-type]
        (Job("bad", {}, {}, target_nresults=0), "1 <= min_quorum <= target_nresults"),
        (Job("bad", {}, {}, target_nresults=200, max_total_results=200), "no more than 100 copies"),
        (Job("bad", {}, {}, max_total_results=10**7), "max_total_results is a whole number from 1 to 1000"),
        (Job("bad", {}, {"out": "x"}), "output out: its largest size is a number of bytes"),  # type: ignore[dict-item]
        (Job("bad", {}, {"a": 1, "a/b": 1}), "'a' cannot be a file and a folder"),
        (Job("bad", {}, {"out": 1}, optional=["nosuch"]), "optional: there is no file 'nosuch'"),
        (Job("bad", {}, {}, copy_files=["nosuch"]), "copy_files: there is no file 'nosuch'"),
        (Job("bad", {}, {}, command_line="a\0b"), "command_line is a text"),
        (Job("bad", {}, {}, command_line="\ud800"), "command_line is a text"),
        (Job("bad", {}, {}, command_line="x" * 200_000), "command_line is a text of at most 100000 letters"),
        (Job("bad", {}, {}, rsc_fpops_est=10**400), "rsc_fpops_est is a number above 0"),
        (Job("bad", {}, {}, rsc_disk_bound=1e300), "rsc_disk_bound is a number above 0"),
        (Job("bad", {"a": 5}, {}), "input a: it is bytes"),  # type: ignore[dict-item]
        (Job("bad", {}, {}, app=5), "app is the name of an application"),  # type: ignore[arg-type]
        (Job("bad", {}, {"a": 1}, copy_files="a"), "copy_files is true, false or a list"),
        (Job("bad", {}, ["out"]), "of the wrong kind"),  # type: ignore[arg-type]
        (Job("bad", {}, {}, rsc_fpops_est=[1]), "of the wrong kind"),  # type: ignore[arg-type]
    ],
)
def test_a_field_that_makes_no_sense_is_named(bad: Job, reason: str) -> None:
    """One such job in the tables, and nobody got work any more."""
    with pytest.raises(BoincServerError, match=f"^job bad: .*{re.escape(reason)}"):
        check_job(bad)


def read(directory: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database:
        return database.execute(query).fetchall()
