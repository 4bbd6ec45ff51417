"""`make demo`: a BOINC project, two volunteers' computers and one Python function, all on this machine.

Makes a project in a scratch folder, serves it on loopback, lets two volunteers join, runs examples/monte_pi.py on them,
and says who did what. Leaves nothing behind, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from boincserver.testing import SimulatedVolunteer, StockClient, free_port, serving
from boincserver.testing.stock import missing_programs

SCRIPT = Path(__file__).parent.parent / "examples" / "monte_pi.py"
VOLUNTEERS = ("alice", "bob")


def main() -> int:
    """Run the demonstration; the exit code of the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true", help="simulated volunteers, whatever is installed")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: leave through the blocks below
    started = time.perf_counter()
    # Volunteers' computers find the Python of this environment under the name python3.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pymw-demo-", ignore_cleanup_errors=True)))
        project, url = folder / "pi-project", f"http://127.0.0.1:{free_port()}/"
        say(f"$ boincserver create {project} --url {url}")
        subprocess.run([sys.executable, "-m", "boincserver", "create", project, "--url", url], check=True, stdout=-3)
        say(f"$ boincserver serve {project}")
        server = stack.enter_context(serving(project))
        stock = not options.simulated and not missing_programs()
        kind = "stock BOINC clients" if stock else "simulated volunteers, built in"
        say(f"Two volunteers join: {' and '.join(VOLUNTEERS)} ({kind})")
        if missing_programs():
            say("For the real thing install the BOINC client: sudo apt install boinc-client")
        for name in VOLUNTEERS:
            key = server.control.create_account(f"{name}@example.org", name)
            if stock:
                stack.enter_context(StockClient(name=name)).attach(url, key)
            else:
                stack.enter_context(SimulatedVolunteer(url, key, name=name).start())
        say(f"$ python examples/monte_pi.py --backend boinc:{project}")
        done = run_example(project)
        tell_hosts(server.control.hosts())
    say(f"Everything was stopped and removed again. {time.perf_counter() - started:.0f} s in all.")
    return done


def run_example(project: Path) -> int:
    """The example in a process of its own, as a user would start it."""
    child = subprocess.Popen([sys.executable, SCRIPT, "--backend", f"boinc:{project}"])
    try:
        return child.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(30)  # it had the Ctrl-C as well
        raise
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def tell_hosts(hosts: list[Any]) -> None:
    """Who worked on it."""
    worked = [host for host in hosts if host.succeeded]
    say(f"{len(worked)} hosts worked on it:")
    for host in worked:
        print(f"  host {host.id} of {host.user_name}: {host.succeeded} workunits done, {host.failed} failed")


def say(text: str) -> None:
    """Tell what happens."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nInterrupted; everything was stopped and removed.")
        sys.exit(130)
