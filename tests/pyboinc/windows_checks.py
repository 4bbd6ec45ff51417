"""What test_wine.py runs with a Windows Python: `windows_checks.py FOLDER`. Each check prints its name when it holds."""
# ruff: noqa: E402 (the interpreter that runs this has to be told where the project is)

import ctypes
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__)
sys.path.insert(0, str(HERE.parents[2] / "src"))

from pyboinc import client as clients
from pyboinc import jobobject, slot, windows
from pyboinc.testing import FakeClient

LONG_C_CALL = "pyboinc.fraction_done(0.25); open('started', 'w').close(); sum(range(10**12))"


def start(client: FakeClient, child: str, policy: str = "None") -> None:
    """A task whose child runs this source."""
    begin = f"import sys, os, time; sys.path.insert(0, {sys.path[0]!r}); import pyboinc; "
    main = f"import sys; sys.path.insert(0, {sys.path[0]!r}); from pyboinc.supervisor import supervise; "
    main += "from pyboinc.sandbox import Policy; from pyboinc import supervisor; "
    main += "supervisor.FINISH_PATIENCE = 60; "  # this client may stand still for a while
    main += f"sys.exit(supervise([sys.executable, '-c', {begin + child!r}], sandbox={policy}))"
    client.start([sys.executable, "-c", main])


def cpu_time(client: FakeClient) -> float:
    """CPU time after two more reports."""
    reports = client.reports
    client.until(lambda: client.reports > reports + 1)
    return client.cpu_time


def check_success(client: FakeClient) -> None:
    """Status, finish file, lock gone, init data in the child, checkpoint."""
    start(client, "assert pyboinc.init_data().wu_name == 'wu_1'; pyboinc.checkpoint.save(b'x'); time.sleep(1.5)")
    client.until(lambda: client.reports > 0)
    assert (client.slot / slot.LOCK_FILE).exists()
    assert client.finish() == 0, client.stderr()
    assert client.finish_file() == "0\n"
    assert client.fraction == 1
    assert not (client.slot / slot.LOCK_FILE).exists()
    assert (client.slot / "pyboinc_checkpoint").read_bytes() == b"x"


def check_lock(client: FakeClient) -> None:
    """The lock keeps a second one out."""
    lock = slot.SlotLock(str(client.slot))
    try:
        slot.SlotLock(str(client.slot), patience=0)
    except slot.SlotBusyError:
        pass
    else:
        raise AssertionError("two locks")
    lock.release()
    slot.SlotLock(str(client.slot), patience=0).release()


def check_suspend_resume_abort(client: FakeClient) -> None:
    """Inside a C call: CPU time stands, goes on, and the job object ends it."""
    start(client, LONG_C_CALL)
    client.until((client.slot / "started").exists)
    client.say("suspend")
    client.until(lambda: cpu_time(client) == cpu_time(client))
    stopped = client.cpu_time
    client.say("resume")
    client.until(lambda: cpu_time(client) > stopped)
    client.say("abort")
    assert client.finish() == 194, client.stderr()


def check_quit(client: FakeClient) -> None:
    """The child is asked, saves, and the task ends without a finish file."""
    start(client, "pyboinc.fraction_done(0.25)\nwhile not pyboinc.checkpoint.due(): time.sleep(0.05)\n"
                  "pyboinc.checkpoint.save(b'half'); time.sleep(600)")  # fmt: skip
    client.until(lambda: client.fraction == 0.25)
    client.say("quit")
    assert client.finish() == 0, client.stderr()
    assert client.finish_file() is None
    assert (client.slot / "pyboinc_checkpoint").read_bytes() == b"half"


def check_failures(client: FakeClient) -> None:
    """An exit code and a traceback."""
    start(client, "raise ValueError('so it ends')")
    assert client.finish() == 1
    assert "ValueError: so it ends" in client.stderr()


def check_flood(client: FakeClient) -> None:
    """Output beyond what fits into a pipe."""
    start(client, "sys.stderr.write('e' * 300000 + 'the end')")
    assert client.finish() == 0, client.stderr()[-300:]
    assert client.stderr().rstrip().endswith("the end")
    assert len(client.stderr()) < 63 * 1024


def check_a_fault(client: FakeClient) -> None:
    """A crash in C is reported as what it is, and no dialogue waits for somebody to close it."""
    start(client, "import ctypes; ctypes.c_int.from_address(8).value")
    assert client.finish() == 195, client.stderr()
    assert "ended by the fault 0xC0000005" in client.stderr()


def check_memory(client: FakeClient) -> None:
    """All of the job counts, not one process."""
    client.write_init_data(rsc_memory_bound=200e6)
    hoard = "import time; hoard = b'x' * 150_000_000; time.sleep(600)"
    start(client, f"import subprocess; [subprocess.Popen([sys.executable, '-c', {hoard!r}]) for _ in range(2)]\n"
                  "time.sleep(600)")  # fmt: skip
    assert client.finish() == 198, client.stderr()
    assert "of memory; the job's bound is 200 MB" in client.stderr()


def check_bounds_of_the_job(client: FakeClient) -> None:
    """Wine takes these bounds and does not hold them, so this looks at what the system is asked for."""
    asked = []
    real = jobobject._kernel32

    class Recording:
        def __getattr__(self, name):
            return getattr(real, name)

        def SetInformationJobObject(self, job, kind, limits, size):
            asked.append(limits._obj)
            return real.SetInformationJobObject(job, kind, limits, size)

    jobobject._kernel32 = Recording()
    try:
        for child in (
            windows.Child([sys.executable, "-c", ""], os.environ, memory=800e6, processes=50),
            windows.Child([sys.executable, "-c", ""], os.environ),
        ):
            assert child.wait(120) == 0
            child.close()
    finally:
        jobobject._kernel32 = real
    bounds = [(each.basic.flags, each.job_memory, each.basic.active_processes) for each in asked]
    # Kill on close, die on a fault, so many processes; and so much memory, a quarter above the bound.
    assert bounds == [(0x2000 | 0x400 | 0x8 | 0x200, 1_000_000_000, 50), (0x2000 | 0x400 | 0x8, 0, 1024)], bounds


def check_what_a_sandbox_is_here(client: FakeClient) -> None:
    """A folder of its own, and the job object."""
    start(client, "open('here', 'w').close()", "Policy(require=['limits'])")
    assert client.finish() == 0, client.stderr()
    assert (client.slot / "work" / "here").exists()
    assert "sandbox: limits" in client.stderr()


def check_who_hides_is_found(client: FakeClient) -> None:
    """Detached from its parent, without a console or a pipe: it ends with the job all the same."""
    hidden = "import os, time; open('hidden.new', 'w').write(str(os.getpid())); os.replace('hidden.new', 'hidden')"
    start(client, "import subprocess\n"
                  f"subprocess.Popen([sys.executable, '-c', {hidden + '; time.sleep(600)'!r}], creationflags=0x8 | 0x200)\n"
                  "while not os.path.exists('hidden'): time.sleep(0.05)")  # fmt: skip
    assert client.finish() == 0, client.stderr()
    until_gone(int((client.slot / "hidden").read_text()))


def check_nobody_breaks_out(client: FakeClient) -> None:
    """The job object lets nobody start a process outside of itself."""
    start(client, "import subprocess\n"
                  "try: subprocess.Popen([sys.executable, '-c', ''], creationflags=0x01000000)\n"
                  "except PermissionError: sys.exit(0)\n"
                  "sys.exit('out')")  # fmt: skip
    assert client.finish() == 0, client.stderr()


def check_what_a_job_requires(client: FakeClient) -> None:
    """A job object is no wall around files."""
    start(client, "sys.exit('it ran')", "Policy(require=['files'])")
    assert client.finish() == 206, client.stderr()
    assert "requires a sandbox that this host lacks: files" in client.stderr()


def until_gone(pid: int) -> None:
    """Wait for a process to end."""
    end = time.monotonic() + 120
    while clients.process_exists(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def check_nothing_outlives_a_killed_supervisor(client: FakeClient) -> None:
    """The job object closes with its last handle."""
    start(client, "open('pid.new', 'w').write(str(os.getpid())); os.replace('pid.new', 'pid'); time.sleep(600)")
    client.until((client.slot / "pid").exists)
    child = int((client.slot / "pid").read_text())
    assert clients.process_exists(child)
    client.kill()
    until_gone(child)


def main(folder: str) -> None:
    """Every check, each in a place of its own."""
    ctypes.windll.kernel32.SetErrorMode(3)
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            with FakeClient(Path(folder, name)) as client:
                check(client)
            print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
