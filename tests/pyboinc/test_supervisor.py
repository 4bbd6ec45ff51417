"""The supervisor between a client and children of every kind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from boincserver.testing import wait_until
from pyboinc import ending, watch
from pyboinc.limits import Limits
from pyboinc.supervisor import ChildExit
from pyboinc.testing import FakeClient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Windows side has tests of its own")

Start = Callable[..., FakeClient]
Pid = Callable[[str], int]
Ask = Callable[[int], bool]

TELL_PID = """
def tell(name="pid"):
    with open(name + ".new", "w") as file:
        file.write(f"{os.getpid()}\\n")
    os.replace(name + ".new", name)
tell()
"""
LONG_C_CALL = TELL_PID + "sum(range(10**12))"
SLOW = TELL_PID + "time.sleep(600)"
PATIENT = """
import sys
from pyboinc import control
from pyboinc.supervisor import supervise
control.Control.__init__.__kwdefaults__["grace"] = 100.0
sys.exit(supervise([sys.executable, {child!r}]))
"""


def pause(client: FakeClient, seconds: float) -> None:
    """Be a client for a while: what must not happen has that long to happen."""
    end = time.monotonic() + seconds
    client.until(lambda: time.monotonic() > end)


# Reports and ends


def test_success(start: Start) -> None:
    client = start('pyboinc.fraction_done(0.25)\nwhile not os.path.exists("go"): time.sleep(0.02)')
    client.until(lambda: client.fraction == 0.25)
    (client.slot / "go").touch()
    assert client.finish() == 0
    assert client.finish_file() == "0\n"
    assert client.fraction == 1
    assert client.cpu_time > 0
    assert not (client.slot / "boinc_lockfile").exists()


def test_a_task_of_no_work_is_over_at_once(start: Start) -> None:
    client = start("")
    assert client.finish() == 0
    assert client.reports >= 1


def test_cpu_time_goes_on_from_earlier_episodes(start: Start, client: FakeClient) -> None:
    client.write_init_data(wu_cpu_time=1000.5)
    start("""
        time.sleep(0.2)
        assert 1000.5 < pyboinc.cpu_time() < 1100, pyboinc.cpu_time()
        pyboinc.checkpoint.save(b"half")
        time.sleep(3)
    """)
    client.until(lambda: client.checkpoint_cpu_time > 1000.5)
    assert client.finish() == 0
    assert client.cpu_time >= client.checkpoint_cpu_time


def test_cpu_time_that_the_client_missed_is_kept(start: Start, client: FakeClient) -> None:
    (client.slot / "pyboinc_cpu_time").write_text("22.29")
    client.write_init_data(wu_cpu_time=20.57)
    start("time.sleep(1.5)")
    client.until(lambda: client.reports > 0)
    assert client.cpu_time >= 22.29
    client.finish()


def test_the_whole_tree_counts(start: Start) -> None:
    client = start("""
        import subprocess
        burn = "import time\\nwhile time.process_time() < 1: pass"
        subprocess.run([sys.executable, "-c", burn])
        subprocess.run([sys.executable, "-c", burn], start_new_session=True)
    """)
    client.finish()
    assert client.cpu_time > 2


def test_a_deaf_client_does_not_hold_the_end_up(start: Start) -> None:
    main = "import sys; from pyboinc.supervisor import supervise; sys.exit(supervise([sys.executable, {child!r}]))"
    client = start("", main=main)
    client.listens = False
    assert client.finish() == 0
    assert client.finish_file() == "0\n"


# The client's wishes


@pytest.mark.parametrize("child", [LONG_C_CALL, SLOW], ids=["inside a C call", "asleep"])
def test_suspend_resume_abort(start: Start, pid_file: Pid, stands: Ask, gone: Ask, child: str) -> None:
    client = start(child)
    pid = pid_file("pid")
    client.say("suspend")
    client.until(lambda: stands(pid))
    client.say("resume")
    client.until(lambda: not stands(pid))
    client.say("abort")
    assert client.finish() == 194
    assert gone(pid)
    assert client.finish_file() is None


def test_cpu_time_stands_while_suspended(start: Start, pid_file: Pid, stands: Ask) -> None:
    client = start(LONG_C_CALL)
    pid = pid_file("pid")
    client.say("suspend")
    client.until(lambda: stands(pid))
    reports = client.reports
    client.until(lambda: client.reports > reports + 1)
    cpu_time, reports = client.cpu_time, client.reports
    client.until(lambda: client.reports > reports + 1)
    assert client.cpu_time == cpu_time


def test_quit_lets_the_child_save_and_go_on_later(start: Start) -> None:
    child = """
        state = pyboinc.checkpoint.load()
        step = int(state or 0)
        while step < 3:
            step += 1
            while step == 1 and not pyboinc.checkpoint.due():
                time.sleep(0.02)
            if step == 1:
                pyboinc.checkpoint.save(b"1")
                time.sleep(600)
        with open("result", "w") as file:
            file.write(f"{state} {step}")
    """
    client = start(child, main=PATIENT)
    client.until(lambda: client.reports > 0)
    began = time.monotonic()
    client.say("quit")
    assert client.finish() == 0
    assert time.monotonic() - began < 80, "a saved state ends the grace"
    assert client.finish_file() is None
    start(child, main=PATIENT)
    assert client.finish() == 0
    assert (client.slot / "result").read_text() == "b'1' 3"


def test_who_ignores_quit_is_killed(start: Start, pid_file: Pid, gone: Ask) -> None:
    client = start(LONG_C_CALL)
    pid = pid_file("pid")
    client.say("quit")
    assert client.finish() == 0
    assert gone(pid)


def test_quit_while_suspended(start: Start, pid_file: Pid, stands: Ask, gone: Ask) -> None:
    client = start(SLOW, main=PATIENT)
    pid = pid_file("pid")
    client.say("suspend")
    client.until(lambda: stands(pid))
    client.say("quit")
    assert client.finish(80) == 0  # there is nothing to wait for
    assert gone(pid)


def test_an_exit_after_a_quit_is_no_success(start: Start) -> None:
    client = start("""
        while not pyboinc.quit_requested():
            time.sleep(0.02)
    """)
    client.until(lambda: client.reports > 0)
    client.say("quit")
    assert client.finish() == 0
    assert client.finish_file() is None


def test_a_critical_section_is_not_interrupted(start: Start, pid_file: Pid, stands: Ask) -> None:
    client = start("""
        with pyboinc.critical_section():
            with open("pid", "w") as file:
                file.write(f"{os.getpid()}\\n")
            while not os.path.exists("leave"):
                time.sleep(0.02)
        time.sleep(600)
    """)
    pid = pid_file("pid")
    reports = client.reports
    client.until(lambda: client.reports > reports + 1)  # it has heard of the section by now
    client.say("suspend")
    pause(client, 0.5)
    assert not stands(pid)
    (client.slot / "leave").touch()
    client.until(lambda: stands(pid))
    client.say("abort")
    assert client.finish() == 194


def test_new_preferences_reach_the_child(start: Start, client: FakeClient) -> None:
    start("""
        assert not pyboinc.checkpoint.due()
        pyboinc.fraction_done(0.1)
        while not pyboinc.checkpoint.due():
            time.sleep(0.02)
    """)
    client.until(lambda: client.fraction == 0.1)
    client.write_init_data(checkpoint_period=0.01)
    client.say("reread_app_info")
    assert client.finish() == 0


def test_network(start: Start) -> None:
    client = start("""
        assert pyboinc.network_allowed()
        pyboinc.want_network()
        while pyboinc.network_allowed():
            time.sleep(0.02)
        pyboinc.want_network(False)
        while not pyboinc.network_allowed():
            time.sleep(0.02)
    """)
    client.until(lambda: client.want_network)
    client.network_suspended = True
    client.until(lambda: not client.want_network)
    client.network_suspended = False
    assert client.finish() == 0


# The client's death


@pytest.mark.parametrize("suspended", [False, True])
def test_the_clients_death_is_seen_by_its_pid(
    start: Start, client: FakeClient, pid_file: Pid, gone: Ask, stands: Ask, suspended: bool
) -> None:
    victim = os.fork()
    if victim == 0:
        signal.pause()
    client.write_init_data(client_pid=victim)
    start(SLOW)
    pid = pid_file("pid")
    if suspended:
        client.say("suspend")
        client.until(lambda: stands(pid))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    assert client.process and client.process.wait(120) == 0
    assert gone(pid)


def test_the_clients_death_is_seen_by_its_silence(client: FakeClient) -> None:
    from pyboinc import client as clients

    client.write_init_data(client_pid=0)
    now = [100.0]
    found = clients.Client(str(client.slot), clock=lambda: now[0])
    now[0] += 29
    assert found.poll() == []
    client.step()
    assert found.poll() == []
    now[0] += 29
    assert found.poll() == []
    now[0] += 2
    assert found.poll() == ["dead"]
    found.close()


def test_a_client_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyboinc import client as clients

    def denied(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert clients.process_exists(1)


# The supervisor's own death


def test_nothing_outlives_a_killed_supervisor(start: Start, pid_file: Pid, gone: Ask, client: FakeClient) -> None:
    child = """
        if os.path.exists("grandchild"):
            sys.exit(0)
        import subprocess
        subprocess.Popen(["sh", "-c", "echo $$ > grandchild; exec sleep 600"], start_new_session=True)
        with open("pid", "w") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(600)
    """
    start(child)
    pid, grandchild = pid_file("pid"), pid_file("grandchild")
    client.kill()
    client.until(lambda: gone(pid))
    start(child)
    assert client.finish() == 0
    assert gone(grandchild)


# Trickles and uploads


def test_trickles_go_up_in_order_one_per_second(start: Start) -> None:
    began = time.monotonic()
    client = start("""
        for number in range(3):
            pyboinc.trickle_up("progress", f"<n>{number}</n>")
    """)
    assert client.finish() == 0
    assert client.trickles == [f"<variety>progress</variety>\n<n>{number}</n>" for number in range(3)]
    assert time.monotonic() - began > 2


def test_a_trickle_waits_until_the_last_one_is_gone(start: Start, client: FakeClient) -> None:
    (client.slot / "trickle_up.xml").write_text("unsent")
    start("pyboinc.trickle_up('v', 'mine'); time.sleep(1.5)")
    pause(client, 1.5)
    assert (client.slot / "trickle_up.xml").read_text() == "unsent"
    (client.slot / "trickle_up.xml").unlink()
    assert client.finish() == 0
    assert client.trickles == ["<variety>v</variety>\nmine"]


def test_trickles_come_down(start: Start) -> None:
    client = start("""
        heard = []
        pyboinc.on_trickle_down(heard.append)
        pyboinc.fraction_done(0.1)
        while len(heard) < 2:
            pyboinc.poll()
            time.sleep(0.02)
        assert heard == ["first\\nline", "second"], heard
    """)
    client.until(lambda: client.fraction == 0.1)
    client.trickle_down("first\nline")
    client.trickle_down("second")
    assert client.finish() == 0
    assert not list(client.slot.glob("trickle_down_*"))


def test_an_early_upload(start: Start) -> None:
    client = start("""
        pyboinc.upload("../init_data.xml")
        pyboinc.upload("out_1")
        while pyboinc.uploaded("out_1") is None:
            time.sleep(0.02)
        assert pyboinc.uploaded("out_1") == 0
    """)
    client.until(lambda: client.uploads == ["out_1"])
    client.upload_done("out_1", 0)
    assert client.finish() == 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of a system call")
def test_a_process_whose_first_thread_has_ended_is_not_left(start: Start, pid_file: Pid) -> None:
    """/proc calls it a zombie, though its other threads go on."""
    client = start("""
        import ctypes, threading
        if os.fork() == 0:
            os.setsid()
            threading.Thread(target=time.sleep, args=(600,)).start()
            with open("pid.new", "w") as file:
                file.write(f"{os.getpid()}\\n")
            os.replace("pid.new", "pid")
            ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
        while not os.path.exists("pid"):
            time.sleep(0.02)
    """)
    pid = pid_file("pid")
    assert client.finish() == 0
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout=30, what="the process to be gone")


def test_a_temporary_exit_says_what_a_person_would_give_as_the_reason(start: Start) -> None:
    client = start("""
        try:
            open("/nowhere/at/all")
        except OSError as error:
            pyboinc.temporary_exit(20, error, notice=None)
    """)
    client.finish()
    assert (client.temporary_exit_file() or "").startswith("20\n[Errno 2]")


@pytest.mark.parametrize(
    "call",
    [
        "temporary_exit(float('inf'), 'later')",
        "trickle_up('v', b'hello')",
        "trickle_up('v', {})",
        "time_limit(float('nan'))",
    ],
)
def test_what_cannot_be_said_is_an_error_and_not_a_success(start: Start, call: str) -> None:
    client = start(f"pyboinc.{call}")
    assert client.finish() == 1
    assert "is wanted, not" in client.stderr()


def test_temporary_exit(start: Start) -> None:
    client = start("pyboinc.temporary_exit(20, 'the data is late', notice=True)")
    assert client.finish() == 0
    assert client.temporary_exit_file() == "20\nthe data is late\nnotice\n"
    assert client.finish_file() is None
    start("")
    assert client.finish() == 0
    assert client.temporary_exit_file() is None


def test_resolve_and_init_data_in_the_child(start: Start, client: FakeClient) -> None:
    client.link("in", "wu_1_in").write_text("data")
    start("""
        init = pyboinc.init_data()
        assert (init.result_name, init.user_name) == ("wu_1_0", "Ada & Co"), init
        assert not pyboinc.is_standalone()
        assert not any("0123456789abcdef" in value for value in os.environ.values())
        assert open(pyboinc.resolve("in")).read() == "data"
    """)
    assert client.finish() == 0


# Several children


def test_another_child_does_the_rest(start: Start) -> None:
    main = """
        import sys
        from pyboinc import supervisor
        from pyboinc.supervisor import supervise
        supervisor.FINISH_PATIENCE = 60

        def after_exit(ended):
            if ended.returncode == -11:
                return [sys.executable, {child!r}, "the rest"]
            return ended.exit_code()

        sys.exit(supervise([sys.executable, {child!r}], after_exit=after_exit))
    """
    client = start(
        """
        import signal
        if len(sys.argv) == 1:
            while time.process_time() < 1: pass
            os.kill(os.getpid(), signal.SIGSEGV)
        assert pyboinc.cpu_time() > 1
        """,
        main=main,
    )
    assert client.finish() == 0
    assert client.finish_file() == "0\n"
    assert client.cpu_time > 1
    assert "killed by SIGSEGV" in client.stderr()


# Misbehaviour


@pytest.mark.parametrize(
    ("child", "status", "said"),
    [
        ("raise ValueError('so it ends')", 1, "ValueError: so it ends"),
        ("os._exit(7)", 7, "exited with code 7"),
        ("os.abort()", 195, "killed by SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", 195, "killed by SIGSEGV"),
        ("import faulthandler; faulthandler.enable(); import ctypes; ctypes.string_at(0)", 195, "Segmentation fault"),
        ("def f(): return f()\nf()", 1, "RecursionError"),
        ("hoard = b'x' * (1 << 62)", 1, "MemoryError"),
        ("open('/dev/full', 'wb').write(bytes(10**6))", 1, "OSError: [Errno 28] No space left on device"),
        ("import signal; os.kill(os.getpid(), signal.SIGTERM)", 195, "killed by SIGTERM"),
    ],
)
def test_failures_are_reported_as_what_they_are(start: Start, child: str, status: int, said: str) -> None:
    client = start(child)
    assert client.finish() == status
    assert said in client.stderr()
    assert client.finish_file() == f"{status}\n"


def test_a_fault_of_windows_is_no_exit_code() -> None:
    ended = ChildExit(0xC00000FD)
    assert (ended.cause, ended.exit_code()) == ("signalled", 195)
    assert str(ended) == "the child was ended by the fault 0xC00000FD"


def test_a_stack_overflow_in_c(start: Start) -> None:
    """In the C library's parser of regular expressions, which calls itself for each parenthesis."""
    client = start("import ctypes; ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b'(' * 10**6, 1)")
    assert client.finish() == 195
    assert "killed by SIGSEGV" in client.stderr()
    assert client.finish_file() == "195\n"


def test_memory_beyond_the_jobs_bound(start: Start, client: FakeClient) -> None:
    client.write_init_data(rsc_memory_bound=100e6)
    start("hoard = [bytearray(b'x') * 10**7 for _ in range(30)]; time.sleep(600)")
    assert client.finish() == 198
    assert "of memory; the job's bound is 100 MB" in client.stderr()


def test_disk_beyond_the_jobs_bound(start: Start, client: FakeClient) -> None:
    client.write_init_data(rsc_disk_bound=1e6)
    start("open('big', 'wb').write(bytes(2 * 10**6)); time.sleep(600)")
    assert client.finish() == 196
    assert "of disk" in client.stderr()


def test_a_time_limit_counts_running_time_only_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now))
    seen = watch.Watch(None, Limits(), live=False)  # type: ignore[arg-type]

    def verdict_after(seconds: float, *, running: bool = True) -> object:
        nonlocal now
        now += seconds
        seen.count_time(running=running)
        return seen.verdict

    for _ in range(3):
        seen.limit_time(2)
        assert verdict_after(1.5) is None
    seen.limit_time(2)
    assert verdict_after(100, running=False) is None
    assert verdict_after(2.1) == (ending.TIME, "it ran longer than 2 seconds")


def test_a_suspended_task_meets_its_time_limit_later(start: Start, pid_file: Pid, stands: Ask) -> None:
    client = start(LONG_C_CALL, "limits=Limits(time=12)")
    pid = pid_file("pid")
    client.say("suspend")
    client.until(lambda: stands(pid))
    client.say("resume")
    assert client.finish() == 197
    assert "ran longer than 12 seconds" in client.stderr()


def test_a_program_limits_each_of_its_pieces(start: Start) -> None:
    client = start("""
        pyboinc.time_limit(60)
        time.sleep(1)
        pyboinc.time_limit(0.5)
        time.sleep(600)
    """)
    assert client.finish() == 197
    assert "ran longer than 0.5 seconds" in client.stderr()


def test_floods_of_output(start: Start) -> None:
    client = start("""
        print("the beginning", file=sys.stderr, flush=True)
        for _ in range(3000):
            os.write(1, b"o" * 10000)
            os.write(2, b"e" * 10000)
        print("the end", file=sys.stderr, flush=True)
    """)
    assert client.finish() == 0
    stderr = client.stderr()
    assert len(stderr) < 63 * 1024
    assert stderr.startswith("the beginning")
    assert "bytes left out" in stderr
    assert stderr.rstrip().endswith("the end")


def test_hostile_messages(start: Start) -> None:
    client = start("""
        from pyboinc.api import _session
        out = _session.link._out
        for data in (b"\\xff\\xfe\\n", b"fraction nan\\n", b"fraction 1e999\\n", b"launch x\\n",
                     b"x" * 3_000_000 + b"\\n", b"fraction 7\\n", b"fraction -7\\n", b"temporary x\\n", b"trickle x00 x3c2f3e\\n",
                     b"upload x2e2e2f2e2e2f78\\n"):
            while data:
                data = data[os.write(out, data):]
        pyboinc.fraction_done(0.5)
        while not os.path.exists("go"):
            time.sleep(0.02)
    """)
    client.until(lambda: client.fraction == 0.5)
    (client.slot / "go").touch()
    assert client.finish() == 0


def test_a_flood_of_messages_does_not_deafen(start: Start, pid_file: Pid) -> None:
    client = start(
        TELL_PID
        + """
from pyboinc.api import _session
while True:
    _session.link.say("trickle", "v", "x" * 1000)
    _session.link.say("checkpoint")
"""
    )
    pid_file("pid")
    client.until(lambda: client.reports > 1)
    client.say("abort")
    assert client.finish() == 194


def test_who_forks_and_hides_is_found(start: Start, pid_file: Pid, gone: Ask) -> None:
    child = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 50)
                with open("hidden.new", "w") as file:
                    file.write(f"{os.getpid()}\\n")
                os.replace("hidden.new", "hidden")
                while True:
                    time.sleep(600)
            os._exit(0)
        while not os.path.exists("hidden"):
            time.sleep(0.02)
        END
    """
    client = start(child.replace("END", ""))
    assert client.finish() == 0
    assert gone(pid_file("hidden"))
    (client.slot / "hidden").unlink()
    start(child.replace("END", "time.sleep(600)"))
    hidden = pid_file("hidden")
    client.say("abort")
    assert client.finish() == 194
    assert gone(hidden)


def test_closed_pipes(start: Start) -> None:
    client = start("os.closerange(2, 50); time.sleep(1.2); os._exit(0)")
    assert client.finish() == 0


def test_a_slot_that_is_emptied(start: Start) -> None:
    client = start("""
        import shutil
        pyboinc.checkpoint.save(b"")
        for name in os.listdir("."):
            os.unlink(name)
        pyboinc.trickle_up("v", "t")
        time.sleep(1.5)
    """)
    assert client.finish() == 0


def test_the_end_is_survived_where_nothing_can_be_written(start: Start, client: FakeClient) -> None:
    (client.slot / "boinc_finish_called").mkdir()
    (client.slot / "pyboinc_cpu_time.new").mkdir()
    (client.slot / "trickle_up.xml.new").mkdir()
    main = """
        import sys
        from pyboinc import supervisor
        supervisor.FLUSH_PATIENCE = 1
        sys.exit(supervisor.supervise([sys.executable, {child!r}]))
    """
    start("pyboinc.checkpoint.save(b''); pyboinc.trickle_up('v', 't'); time.sleep(1.2)", main=main)
    assert client.finish() == 0
    said = client.stderr()
    for what in (
        "cannot store the CPU time",
        "cannot hand a message to the client",
        "cannot tell the client of the end",
    ):
        assert said.count(what) == 1, said


def test_ctrl_c_without_a_client(tmp_path: Path, gone: Ask) -> None:
    import subprocess

    code = "import sys; from pyboinc.supervisor import supervise; sys.exit(supervise([sys.executable, '-c', CHILD]))"
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-c", f"CHILD = {child!r}; {code}"]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    wait_until(lambda: gone(pid), timeout=60, what="the child to end")


def test_a_program_that_does_not_exist(client: FakeClient, start: Start) -> None:
    main = "import sys; from pyboinc.supervisor import supervise; sys.exit(supervise(['/nonexistent/program']))"
    start("", main=main)
    assert client.finish() == 127
    assert "cannot start /nonexistent/program" in client.stderr()


def test_a_busy_slot_is_tried_again_later(client: FakeClient, start: Start) -> None:
    from pyboinc import slot

    lock = slot.SlotLock(str(client.slot))
    main = """
        import sys
        from pyboinc import slot, supervisor
        slot.SlotLock.__init__.__kwdefaults__["patience"] = 0.1
        sys.exit(supervisor.supervise([sys.executable, {child!r}]))
    """
    start("", main=main)
    assert client.finish() == 0
    assert (client.temporary_exit_file() or "").startswith("600\nanother process holds")
    lock.release()


def test_no_shared_memory(client: FakeClient, start: Start) -> None:
    from pyboinc import channels

    (client.slot / channels.MMAP_FILE).unlink()
    start("")
    assert client.finish() == 206
    assert "no shared memory" in client.stderr()


# Without a client


def test_standalone(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "work.py").write_text(
        "import sys, pyboinc\n"
        "assert pyboinc.is_standalone()\n"
        "pyboinc.fraction_done(0.5); pyboinc.trickle_up('v', 't'); pyboinc.upload('out')\n"
        "assert pyboinc.checkpoint.load() is None\n"
        "pyboinc.checkpoint.save(b's')\n"
        "assert pyboinc.checkpoint.load() == b's'\n"
        "assert pyboinc.resolve('in') .endswith('in') and pyboinc.network_allowed() and pyboinc.cpu_time() > 0\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    supervised = (
        "import sys; from pyboinc.supervisor import supervise; sys.exit(supervise([sys.executable, *sys.argv[1:]]))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    for command in ([sys.executable, "work.py", "3"], [sys.executable, "-c", supervised, "work.py", "3"]):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60)
        assert done.returncode == 3, done.stderr
        (tmp_path / "pyboinc_checkpoint").unlink()
    assert not (tmp_path / "boinc_finish_called").exists()
