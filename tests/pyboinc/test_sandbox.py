"""Each denial of the sandbox, in a process of its own, beside what must still work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
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
