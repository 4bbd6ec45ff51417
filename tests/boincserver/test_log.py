"""The log: what strangers say forges nothing, files are limited, and the command finds what is asked for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boincserver import cli, lifecycle
from boincserver.control import Job
from boincserver.events import Events
from boincserver.job_events import changes
from boincserver.lifecycle import Report, Result, Workunit
from boincserver.logfile import LogFile, lines, path_of
from boincserver.logline import Line, LineFormatter, read
from boincserver.states import ClientState, ErrorMask, Outcome, ServerState
from boincserver.testing import SimulatedVolunteer, configure, serving, wait_until

from .conftest import add_app, make_project

LIMIT = 60.0
FORGED = "2026-11-26T03:40:00.123Z ERROR   forged host=1"
HOSTILE = ["a\nb", f"x\n{FORGED}", f"x\r\n{FORGED}", "\x1b[2J\x1b]0;owned\x07", 'a" forged=1', "a\\", "a=b c=d", "\u202etxt",
           "\u2028", "\x9b31m", "\ud800", "", "7", "-1.5e3", "127.0.0.1", "007", "[1]", "{}", "true", "null", " ", "é λ 🙂", "\0", "x\n    forged traceback"]  # fmt: skip


def record(event: str, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("boincserver.test", level, "file.py", 1, event, None, extra.pop("exc_info", None))
    vars(made).update(extra)
    return made


def written(form: str, *records: logging.LogRecord) -> str:
    return "".join(f"{LineFormatter(form).format(each)}\n" for each in records)


def events_of(text: str) -> list[Line]:
    return [line for line in read(text.splitlines(keepends=True)) if line is not None]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", HOSTILE)
def test_what_a_stranger_says_stays_one_value_on_one_line(form: str, value: str) -> None:
    text = written(form, record("e", fields={"name": value, "host": 3}))
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    (line,) = events_of(text)
    assert (line.event, dict(line.fields)) == ("e", {"name": value, "host": 3})


@pytest.mark.parametrize("form", ["text", "json"])
@given(
    values=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda n: n not in ("time", "level", "event", "traceback")),
        st.text(max_size=50) | st.integers() | st.booleans() | st.none(),
        max_size=4,
    )
)
def test_fields_come_back_as_they_were(form: str, values: dict[str, Any]) -> None:
    (line,) = events_of(written(form, record("something-happened", logging.WARNING, fields=values)))
    assert (line.level, line.event, dict(line.fields)) == ("warning", "something-happened", values)


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks_and_messages_of_libraries(form: str) -> None:
    try:
        raise ValueError(f"bad\n{FORGED}\x1b[2J")
    except ValueError:
        caught = sys.exc_info()
    plain = logging.LogRecord("lib", logging.CRITICAL, "f", 1, "it said %s", (f"\n{FORGED}",), None)
    text = written(form, record("broken", logging.ERROR, exc_info=caught, fields={"error": caught[1]}), plain)
    assert "\x1b" not in text
    first, second = events_of(text)
    assert first.event == "broken"
    assert first.traceback.startswith("Traceback (most recent call last):\n")
    assert "\nValueError: bad\n" in first.traceback
    assert first.fields["error"].startswith("ValueError: bad\n")
    assert (second.level, second.event, second.fields["by"]) == ("error", "message", "lib")
    assert second.fields["text"] == f"it said \n{FORGED}"


def test_a_value_without_end_is_cut() -> None:
    text = written("text", record("e", fields={"name": "x" * 1_000_000}))
    assert len(text) < 3000
    assert "(1000000 characters)" in text


def test_what_is_no_line_is_left_out() -> None:
    text = "garbage\n{\n[1]\n{}\n    loose\n" + '{"time": "yesterday", "level": "info", "event": "e"}\n'
    assert events_of(text) == []
    assert [line.event for line in events_of(text + Line(0, "info", "good").text() + "\n")] == ["good"]


def test_moments_are_utc_to_the_millisecond() -> None:
    at = datetime(2026, 11, 26, 3, 40, 0, 123000, tzinfo=UTC).timestamp()
    assert Line(at, "info", "e").text() == "2026-11-26T03:40:00.123Z INFO    e"
    assert events_of("2026-11-26T03:40:00.123Z INFO    e\n")[0].time == at


# --- files ------------------------------------------------------------------------------------------------------------


def handler(path: Path, most: int, keep: int) -> LogFile:
    made = LogFile(path, most, keep)
    made.setFormatter(LineFormatter("text"))
    return made


def numbers(path: Path) -> list[int]:
    return [line.fields["n"] for line in read(lines(path)) if line is not None]


def test_a_full_file_is_followed_by_another_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log" / "server.log"
    writer = handler(path, 1000, 3)
    for n in range(200):
        writer.handle(record("e", fields={"n": n}))
    writer.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["server.log"] + [
        f"server.log.{n}" for n in (1, 2, 3)
    ]
    assert all(each.stat().st_size <= 1000 for each in path.parent.iterdir())
    kept = numbers(path)
    assert kept == list(range(kept[0], 200))
    assert len(kept) > 50
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_many_processes_lose_no_line_between_them(tmp_path: Path) -> None:
    path = tmp_path / "log" / "server.log"
    code = (
        "import sys, logging; from pathlib import Path; from boincserver.logfile import LogFile\n"
        "from boincserver.logline import LineFormatter; from boincserver.events import Events\n"
        "handler = LogFile(Path(sys.argv[1]), 20_000, 100); handler.setFormatter(LineFormatter('json'))\n"
        "logging.getLogger().addHandler(handler)\n"
        "for n in range(1000): Events('x').warning('e', n=n, who=sys.argv[2])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)]) for who in range(3)]
    assert [each.wait(120) for each in running] == [0, 0, 0]
    found = [(line.fields["who"], line.fields["n"]) for line in read(lines(path)) if line is not None]
    assert sorted(found) == sorted((str(who), n) for who in range(3) for n in range(1000))
    assert len(list(path.parent.iterdir())) > 3


def test_a_tool_of_the_systems_moves_it_away(tmp_path: Path) -> None:
    path = tmp_path / "log" / "server.log"
    writer = handler(path, 0, 0)
    writer.handle(record("e", fields={"n": 1}))
    path.rename(path.with_name("kept.log"))
    writer.handle(record("e", fields={"n": 2}))
    writer.close()
    assert numbers(path) == [2]
    assert "n=1" in (path.parent / "kept.log").read_text()


def test_whoever_follows_sees_every_line_once_across_files(tmp_path: Path) -> None:
    path = tmp_path / "log" / "server.log"
    writer = handler(path, 2000, 50)
    for n in range(100):
        writer.handle(record("e", fields={"n": n}))
    seen: list[int] = []

    def watch() -> None:
        for line in read(lines(path, endless=True)):
            if line is not None:
                seen.append(line.fields["n"])
                if line.fields["n"] == 299:
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    wait_until(lambda: len(seen) == 100, timeout=LIMIT, what="what was there")
    for n in range(100, 300):
        writer.handle(record("e", fields={"n": n}))
        if n % 20 == 0:  # a reader that is slower than a whole file misses it, as `tail -F` does
            wait_until(lambda n=n: seen[-1:] == [n], timeout=LIMIT, what="the follower")
    watcher.join(LIMIT)
    writer.close()
    assert seen == list(range(300))


# --- what is told -----------------------------------------------------------------------------------------------------


def test_what_became_of_a_copy_is_told_at_its_level() -> None:
    before = lifecycle.Job(Workunit(1, "j", batch=2), (Result(1, "j_0"),))
    sent = lifecycle.send(before, "j_0", 100, hostid=7, userid=1, version=(1, 100))
    assert list(changes(before, sent, logging.DEBUG)) == [
        (logging.DEBUG, "copy-sent", {"host": 7, "job": "j", "copy": "j_0"})
    ]
    assert list(changes(before, sent, logging.INFO)) == []
    failed = lifecycle.report(sent, "j_0", Report(client_state=ClientState.COMPUTE_ERROR, exit_status=3), 200)
    ((level, event, fields),) = changes(sent, failed, logging.INFO)
    assert (level, event) == (logging.INFO, "copy-failed")
    assert fields == {"host": 7, "job": "j", "copy": "j_0", "outcome": Outcome.CLIENT_ERROR.name, "exit": 3}
    over = failed._replace(workunit=failed.workunit._replace(error_mask=ErrorMask.TOO_MANY_ERROR_RESULTS))
    assert list(changes(failed, over, logging.WARNING)) == [
        (logging.WARNING, "job-failed", {"job": "j", "batch": 2, "why": "TOO_MANY_ERROR_RESULTS"})
    ]
    assert sent.results[0].server_state == ServerState.IN_PROGRESS


def ask(capsys: pytest.CaptureFixture[str], directory: Path, *options: str) -> list[dict[str, Any]]:
    assert cli.main(["log", str(directory), "--json", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_operator_finds_what_a_host_and_a_job_did(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    made = make_project(directory)
    configure(directory, log_format=form)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(
            batch.id, [Job(name, {"in": b"x"}, {"out": 100}, max_error_results=0) for name in ("good", "bad")]
        )

        def work(job: Any) -> dict[str, bytes]:
            if job.name.startswith("bad"):
                raise RuntimeError("no")
            return {"out": b"X"}

        key = control.create_account("v@example.org")
        with SimulatedVolunteer(made.config.url, key, work, ncpus=2) as volunteer:
            volunteer.step()
            volunteer.contact()
            host = volunteer.hostid
        with SimulatedVolunteer(made.config.url, f"{FORGED}\n{FORGED}", work) as stranger:
            stranger.contact()
        assert ask(capsys, directory, "--event", "key-refused")[0]["address"] == "127.0.0.1"
    assert [line["name"] for line in ask(capsys, directory, "--event", "batch-opened")] == ["b"]
    (joined,) = ask(capsys, directory, "--event", "host-joined")
    assert joined["host"] == host
    events = [(line["level"], line["event"]) for line in ask(capsys, directory, "--job", "bad")]
    assert events == [("info", "copy-failed"), ("warning", "job-failed")]
    assert {line["event"] for line in ask(capsys, directory, "--host", str(host))} == {"host-joined", "copy-failed"}
    assert [line["event"] for line in ask(capsys, directory, "--level", "warning")] == ["job-failed"]
    everything = ask(capsys, directory, "--lines", "0")
    assert ask(capsys, directory, "--lines", "2") == everything[-2:]
    assert ask(capsys, directory, "--since", "1h", "--lines", "0") == everything
    assert ask(capsys, directory, "--since", "2100-01-01") == []
    assert "forged" not in {line["event"] for line in everything}
    first = path_of(directory).read_text().splitlines()[0]
    assert first.startswith("{") is (form == "json")
    assert cli.main(["log", str(directory)]) == 0
    assert " INFO    stopping" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["log", str(directory), "--since", "yesterday"])
    assert "write 10min, 2h" in capsys.readouterr().err


def test_follow_ends_with_ctrl_c(directory: Path) -> None:
    make_project(directory)
    command = [sys.executable, "-m", "boincserver", "log", str(directory), "--follow", "--event", "account-made"]
    with serving(directory) as server:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            server.control.create_account("one@example.org")
            assert "account-made account=1 by=operator" in following.stdout.readline()
            server.control.create_account("two@example.org")
            assert "account-made account=2 by=operator" in following.stdout.readline()
            following.send_signal(2)
            assert following.wait(LIMIT) == 130


def test_a_project_that_was_never_served_has_an_empty_log(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(directory)
    assert ask(capsys, directory) == []
    configure(directory, log_format="xml")
    assert cli.main(["log", str(directory)]) == 1
    assert "log_format must be text or json, not 'xml'" in capsys.readouterr().err


def test_events_of_a_level_that_nobody_reads_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = Events("boincserver.of-a-test")
    with caplog.at_level(logging.INFO, "boincserver.of-a-test"):
        log.debug("hidden", n=1)
        log.info("shown", n=2)
        assert log.level == logging.INFO
    assert [record.getMessage() for record in caplog.records] == ["shown"]
