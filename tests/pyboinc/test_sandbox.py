"""Each denial of the sandbox, in a process of its own, beside what must still work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyboinc import sandbox
from pyboinc.sandbox import FILES, LIMITS, NETWORK, SIGNALS, SYSCALLS, Level, Policy, seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these layers")

SOURCE = Path(sandbox.__file__).parents[2]
START = """
import os, sys
sys.path.insert(0, {source!r})
from pyboinc import sandbox
level = sandbox.apply(sandbox.Policy({policy}))
"""

Try = Callable[..., str]


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    """attempt(code, policy="...", layer=...): "done" or the name of the error, from inside a sandbox."""

    def attempt(code: str, policy: str = "write=['work']", *, layer: str = "") -> str:
        if layer and layer not in sandbox.available():
            pytest.skip(f"this kernel has no sandbox for {layer}")
        (tmp_path / "work").mkdir(exist_ok=True)
        body = textwrap.indent(textwrap.dedent(code), "    ")
        source = START.format(source=str(SOURCE), policy=policy)
        source += (
            f"try:\n{body}\n    print('done')\nexcept BaseException as error:\n    print(type(error).__name__, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip() or f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"

    return attempt


# Files


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd')",
        "open('secret')",
        "open('new', 'w')",
        "os.listdir('/')",
        "os.unlink('secret')",
        "os.rename('secret', 'work/mine')",
        "os.truncate('secret', 0)",
        "os.mkdir('folder')",
        "os.execv('./tool', ['tool'])",
        "os.symlink('/etc/passwd', 'work/link'); open('work/link')",
        "open('/dev/mem' if os.path.exists('/dev/mem') else '/dev/tty')",
        "open('/proc/1/environ')",
        "open('/proc/%d/environ' % os.getppid())",
    ],
)
def test_files_outside_are_out_of_reach(attempt: Try, tmp_path: Path, code: str) -> None:
    (tmp_path / "secret").write_text("authenticator")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    assert attempt(code, layer=FILES).startswith("PermissionError")
    assert (tmp_path / "secret").read_text() == "authenticator"


def test_what_is_named_can_be_used(attempt: Try, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("given")
    code = """
        assert open('data').read() == 'given'
        try:
            open('data', 'w')
        except PermissionError:
            pass
        else:
            raise AssertionError('written')
        open('work/new', 'w').write('x'); os.rename('work/new', 'work/old'); os.mkdir('work/folder')
        assert sorted(os.listdir('work')) == ['folder', 'old']
    """
    assert attempt(code, "read=['data', 'missing'], write=['work']", layer=FILES) == "done"


def test_an_ordinary_program_runs(attempt: Try) -> None:
    code = """
        import decimal, hashlib, json, multiprocessing, random, sqlite3, ssl, subprocess, tempfile, threading, time
        os.chdir('work')
        sqlite3.connect('db').execute('create table t (n)')
        tempfile.tempdir = '.'
        tempfile.TemporaryFile().close()
        assert subprocess.run(['/bin/true']).returncode == 0
        thread = threading.Thread(target=time.localtime); thread.start(); thread.join()
        random.SystemRandom().random()
        with multiprocessing.get_context('fork').Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
    """
    assert attempt(code, "write=['work'], shared_memory=True") == "done"
    pool = "import multiprocessing; multiprocessing.Lock()"
    assert attempt(pool, layer=FILES).startswith("PermissionError")
    assert attempt("import multiprocessing; p = multiprocessing.Process(target=int); p.start(); p.join()") == "done"


# Network


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"])
def test_no_socket(attempt: Try, family: str) -> None:
    code = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM)"
    assert attempt(code, layer=NETWORK).startswith("PermissionError")


def test_connecting_is_denied_where_a_server_listens(attempt: Try) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert attempt(code, layer=NETWORK).startswith("PermissionError")
        assert attempt(code, "write=['work'], network=True") == "done"


def test_landlock_denies_tcp_by_itself(attempt: Try) -> None:
    from pyboinc.sandbox import landlock

    if landlock.abi() < landlock.ABI_OF_TCP:
        pytest.skip("this kernel's Landlock knows no TCP")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
            from pyboinc.sandbox import landlock
            import socket
            landlock.apply(['/usr', '/lib', '/root', '/home', *sys.path], [], network=False)
            socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)
        """
        assert attempt(code, "network=True, read=['/']").startswith("PermissionError")


def test_sockets_between_own_processes(attempt: Try) -> None:
    pair = "import socket; a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'; a.close(); b.close()"
    assert attempt(pair) == "done"
    by_path = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('work/s'); s.close()"
    assert attempt(by_path, "write=['work'], unix_sockets=True") == "done"


# Other processes


def test_others_are_not_signalled(attempt: Try) -> None:
    assert attempt("os.kill(os.getppid(), 0)", layer=SIGNALS).startswith("PermissionError")
    own = "p = os.fork()\nif p == 0:\n    import signal; signal.pause()\nos.kill(p, 9); os.waitpid(p, 0)"
    assert attempt(own, layer=SIGNALS) == "done"


# What would slow down, limit, look into or end another process of the same user.
ON_OTHERS = {
    "prlimit64": "resource.prlimit(VICTIM, resource.RLIMIT_CPU, (1, 1))",
    "setpriority": "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)",
    "setpriority of the group": "os.setpriority(os.PRIO_PGRP, 0, 19)",
    "setpriority of the user": "os.setpriority(os.PRIO_USER, 0, 19)",
    "sched_setaffinity": "os.sched_setaffinity(VICTIM, [min(os.sched_getaffinity(0))])",
    "sched_setscheduler": "os.sched_setscheduler(VICTIM, os.SCHED_IDLE, os.sched_param(0))",
    "sched_setparam": "os.sched_setparam(VICTIM, os.sched_param(0))",
    "sched_setattr": "call('sched_setattr', VICTIM, (48, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0)",
    "ioprio_set": "call('ioprio_set', 1, VICTIM, 3 << 13)",
    "ioprio_set of the user": "call('ioprio_set', 3, os.getuid(), 3 << 13)",
    "migrate_pages": "call('migrate_pages', VICTIM, 64, (1, 0), (1, 0))",
    "move_pages": "call('move_pages', VICTIM, 0, 0, 0, 0, 0)",
    "get_robust_list": "call('get_robust_list', VICTIM, (0, 0), (0, 0))",
    "process_vm_readv": "call('process_vm_readv', VICTIM, 0, 0, 0, 0, 0)",
    "process_vm_writev": "call('process_vm_writev', VICTIM, 0, 0, 0, 0, 0)",
    "process_madvise": "call('process_madvise', os.pidfd_open(VICTIM), 0, 0, 0, 0)",
    "pidfd_getfd": "call('pidfd_getfd', os.pidfd_open(VICTIM), 1, 0)",
    "setns": "call('setns', os.pidfd_open(VICTIM), 0x20000)",
    "ptrace": "call('ptrace', 16, VICTIM, 0, 0)",
    "F_SETOWN": "fcntl.fcntl(1, fcntl.F_SETOWN, VICTIM)",
    "F_SETOWN_EX": "fcntl.fcntl(1, 15, __import__('struct').pack('ii', 1, VICTIM))",
    "FIOSETOWN": "fcntl.ioctl(1, 0x8901, __import__('struct').pack('i', VICTIM))",
    "TIOCSTI": "fcntl.ioctl(0, 0x5412, b'x')",
    "PR_SCHED_CORE": "call('prctl', 62, 2, VICTIM, 0, 0)",
}
SIGNALLING = {
    "kill": "os.kill(VICTIM, 9)",
    "tkill": "call('tkill', VICTIM, 9)",
    "tgkill": "call('tgkill', VICTIM, VICTIM, 9)",
    "rt_sigqueueinfo": "call('rt_sigqueueinfo', VICTIM, 9, (9, 0, -1, 0))",
    "rt_tgsigqueueinfo": "call('rt_tgsigqueueinfo', VICTIM, VICTIM, 9, (9, 0, -1, 0))",
    "pidfd_send_signal": "signal.pidfd_send_signal(os.pidfd_open(VICTIM), 9)",
}
PRELUDE = """
import ctypes, fcntl, os, resource, signal
from pyboinc.sandbox import kernel, seccomp
numbers = {**seccomp._DENIED, **seccomp._LEAVING, **seccomp._SHARED}
for table in (seccomp._ON_ITSELF, seccomp._SIGNALS, seccomp._WAYS_ROUND):
    numbers.update({name: row[0] for name, row in table.items()})
place = seccomp._MACHINES[os.uname().machine][0]
def call(name, *arguments):
    as_c = [(ctypes.c_int * len(a))(*a) if isinstance(a, tuple) else ctypes.c_long(a) for a in arguments]
    return kernel.call(numbers[name][place], *as_c)
"""


@pytest.fixture
def victim() -> Iterator[int]:
    """Another process of the same user, as it must still be afterwards."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        facts = _facts(other.pid)
        yield other.pid
        assert other.poll() is None
        assert _facts(other.pid) == facts
        other.communicate(b"\n")


def _facts(pid: int) -> tuple[object, ...]:
    return (
        os.sched_getaffinity(pid),
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getscheduler(pid),
        Path(f"/proc/{pid}/limits").read_text(),
    )


@pytest.mark.parametrize("what", ON_OTHERS)
def test_nothing_is_done_to_another_process(attempt: Try, victim: int, what: str) -> None:
    code = ON_OTHERS[what].replace("VICTIM", str(victim))
    assert attempt(PRELUDE + code, layer=SYSCALLS).startswith("PermissionError"), what


@pytest.mark.parametrize("what", SIGNALLING)
def test_no_way_of_signalling_reaches_another_process(attempt: Try, victim: int, what: str) -> None:
    code = PRELUDE + SIGNALLING[what].replace("VICTIM", str(victim))
    assert attempt(code, layer=SIGNALS).startswith("PermissionError")


@pytest.mark.parametrize("what", SIGNALLING)
def test_an_old_kernel_lets_who_is_accountable_signal_itself_alone(attempt: Try, victim: int, what: str) -> None:
    """Without Landlock's part, as before Linux 6.12."""
    before = "import pyboinc.sandbox.landlock as landlock; landlock.abi = lambda: 0\n"
    code = before + PRELUDE + "sandbox.apply(sandbox.Policy(accountable=True))\n"
    assert attempt(
        code + SIGNALLING[what].replace("VICTIM", str(victim)),
        "interpreter=False, read=['/'], write=['/']",
        layer=SYSCALLS,
    ).startswith("PermissionError")
    own = "os.kill(os.getpid(), 0); signal.raise_signal(signal.SIGCONT); call('tgkill', os.getpid(), os.getpid(), 0)"
    assert attempt(code + own, "read=['/'], write=['/']", layer=SYSCALLS) == "done"


def test_a_process_may_do_all_that_to_itself(attempt: Try) -> None:
    code = """
for me in (0, os.getpid()):
    os.sched_setaffinity(me, os.sched_getaffinity(me))
    os.sched_setscheduler(me, os.SCHED_BATCH, os.sched_param(0))
    resource.prlimit(me, resource.RLIMIT_NOFILE, (100, 100))
    os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + 1)
    call('ioprio_set', 1, me, 3 << 13)
os.nice(1)
fcntl.fcntl(1, fcntl.F_SETFD, fcntl.fcntl(1, fcntl.F_GETFD))
"""
    assert attempt(PRELUDE + code) == "done"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only a superuser has powers to give up")
@pytest.mark.parametrize(
    "code",
    [
        "os.mknod('work/disk', 0o60600, os.makedev(8, 0))",
        "os.mknod('work/memory', 0o20600, os.makedev(1, 1))",
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))",
        "os.nice(-1)",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "os.setuid(12345)",
        "os.chown('work', 12345, 12345)",
    ],
)
def test_a_superuser_has_no_powers(attempt: Try, code: str) -> None:
    result = attempt(PRELUDE + code, "write=['work'], memory=1 << 32")
    assert result.startswith(("PermissionError", "ValueError not allowed to raise maximum limit")), result
    started = "import subprocess; print(subprocess.run([sys.executable, '-c', 'import os; os.nice(-1)'], stderr=-1).stderr.split()[-1])"
    assert attempt(started).split("\n")[0] == b"permitted".__repr__()


# Who is accountable


@pytest.mark.parametrize(
    "code",
    [
        "os.setsid()",
        "os.setpgid(0, 0)",
        "os.memfd_create('hidden')",
        "call('memfd_secret', 0)",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, print)",
        "call('prctl', 4, 0, 0, 0, 0)",
    ],
)
def test_who_is_accountable_stays_in_sight(attempt: Try, code: str) -> None:
    bound = attempt(PRELUDE + code, "write=['work'], accountable=True", layer=SYSCALLS)
    assert bound.startswith(("PermissionError", "OSError [Errno 1]")), bound
    assert attempt(
        "os.fork() or os._exit(0)\nos.wait()\n"
        + PRELUDE
        + "if not os.fork():\n    "
        + code
        + "\n    os._exit(7)\nassert os.wait()[1] in (7 << 8, 38 << 8, 1 << 8)",
        "write=['work']",
    )
    assert (
        attempt(PRELUDE + "signal.signal(signal.SIGTERM, print); signal.getsignal(signal.SIGCHLD)", "accountable=True")
        == "done"
    )


def test_who_is_accountable_runs_programs_and_processes(attempt: Try) -> None:
    code = """
        import multiprocessing, os, signal, subprocess
        assert subprocess.run("exit 3", shell=True).returncode == 3
        assert os.system("exit 4") == 4 << 8
        p = multiprocessing.Process(target=signal.pause); p.start(); p.terminate(); p.join()
        assert p.exitcode == -signal.SIGTERM
    """
    assert attempt(code, "write=['work'], accountable=True", layer=SIGNALS) == "done"


@pytest.mark.parametrize("name", sorted(seccomp._SHARED))
def test_what_outlives_a_process_is_denied(attempt: Try, name: str) -> None:
    code = PRELUDE + f"call({name!r}, 0, 0, 0o1600, 0, 0)"
    assert attempt(code, layer=SYSCALLS).startswith("PermissionError")
    if name in ("shmget", "msgget", "semget"):
        allowed = PRELUDE + f"made = call({name!r}, 0, 1, 0o1600)\ncall({name[:3] + 'ctl'!r}, made, 0, 0, 0)"
        assert attempt(allowed, "shared_memory=True") == "done"


CALL = (
    "from pyboinc.sandbox import kernel; import ctypes; kernel.call({number}, *[ctypes.c_long(a) for a in {arguments}])"
)


@pytest.mark.parametrize("name", sorted(seccomp._DENIED))
def test_dangerous_calls_are_denied(attempt: Try, name: str) -> None:
    number = seccomp._DENIED[name][seccomp._MACHINES[os.uname().machine][0]]
    result = attempt(CALL.format(number=number, arguments=[-1, 0, 0, 0, 0, 0]), layer=SYSCALLS)
    assert result.startswith("PermissionError"), name


def test_no_new_user_namespace(attempt: Try) -> None:
    place = seccomp._MACHINES[os.uname().machine][0]
    clone = CALL.format(number=seccomp._CLONE[place], arguments=[0x10000000 | signal.SIGCHLD, 0, 0, 0, 0])
    assert attempt(clone, layer=SYSCALLS).startswith("PermissionError")
    clone3 = CALL.format(number=seccomp._CLONE3, arguments=[0, 0])
    assert "not implemented" in attempt(clone3, layer=SYSCALLS)


def test_the_second_set_of_calls_is_denied(attempt: Try) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("only x86_64 has it")
    assert attempt(CALL.format(number=0x40000000 + 101, arguments=[0, 0]), layer=SYSCALLS).startswith("PermissionError")


def test_what_is_started_is_bound_too(attempt: Try) -> None:
    code = "import subprocess; assert subprocess.run(['/bin/cat', '/etc/passwd'], stderr=subprocess.DEVNULL).returncode == 1"
    assert attempt(code, layer=FILES) == "done"


# Limits


def test_memory(attempt: Try) -> None:
    assert attempt("bytearray(3 << 30)", "memory=1 << 30").startswith("MemoryError")
    assert attempt("bytearray(1 << 28)", "memory=1 << 30") == "done"


def test_size_of_files(attempt: Try) -> None:
    code = "f = open('work/big', 'wb', buffering=0)\nfor _ in range(3): f.write(bytes(1 << 20))"
    assert attempt(code, "write=['work'], file_size=1 << 20").startswith("OSError [Errno 27]")


def test_open_files(attempt: Try) -> None:
    assert "Too many open files" in attempt("files = [open('/dev/null') for _ in range(100)]", "open_files=50")


def test_cpu_seconds(attempt: Try) -> None:
    assert "ended with -" in attempt("while True: pass", "cpu_seconds=1")


def test_no_core_is_dumped(attempt: Try, tmp_path: Path) -> None:
    assert attempt("os.abort()").startswith(f"ended with -{signal.SIGABRT}")
    assert not list(tmp_path.rglob("core*"))


# What holds


def test_the_level_says_what_holds(attempt: Try) -> None:
    everything = sandbox.available()
    assert LIMITS in everything
    assert attempt(f"assert str(level) == {str(everything)!r}, level") == "done"
    assert NETWORK not in sandbox.available(Policy(network=True))


def test_less_than_required_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "available", lambda policy=None: Level([LIMITS]))
    with pytest.raises(sandbox.SandboxUnavailableError, match=r"files, network \(it has: limits\)"):
        sandbox.apply(Policy(require=[NETWORK, FILES]))


def test_an_unknown_layer_is_said() -> None:
    with pytest.raises(ValueError, match="no such layer: magic; there are limits"):
        Policy(require=["magic"])


def test_no_way_back(attempt: Try) -> None:
    again = "sandbox.apply(sandbox.Policy(read=['/'], network=True)); open('/etc/passwd')"
    assert attempt(again, layer=FILES).startswith("PermissionError")
