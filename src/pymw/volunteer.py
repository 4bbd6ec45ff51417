"""The program that runs on a volunteer's computer: a supervisor, and a child that runs the calls of one job.

    BOINC client ──shared memory── supervisor ──pipes── child, in the sandbox: load the bundle, run item after item
                                       │                   │ appends each outcome to JOURNAL
                                       └── the child died: the item that it was on is charged with that,
                                           a new child takes the rest

The job ends with exit code 0 whenever its items are accounted for: a non-zero exit means that the *host* failed,
since it makes the stock client back off from the whole project. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyboinc.ending import ChildExit

__all__ = ["BUNDLE", "FILES", "JOURNAL", "OUTCOMES", "PACKAGES", "PROGRESS", "SIGNATURE", "TASKS", "TRUSTED", "main"]

# The names under which a job's files stand in its slot directory.
BUNDLE, SIGNATURE, TASKS, OUTCOMES = "code.zip", "signature", "tasks", "outcomes"
FILES = "files"  # the folder of the data files
PACKAGES = "packages"  # the folder of the packages that the code imports, as archives
TRUSTED = "trusted_keys"  # a file of the app version: whose code may run here
JOURNAL = "pymw_outcomes.part"  # what is finished so far, so that a restarted job goes on behind it
FOLDERS = "PYMW_PACKAGES"  # the environment variable by which the child knows where packages are
HOST_FAILED = 1
PROGRESS = "boincserver.progress"  # the variety of the messages that tell how far a job is: "ITEM FRACTION"


def main(arguments: Sequence[str]) -> int:
    """Run the job in the current directory; the program's exit code."""
    if list(arguments) == ["--child"]:
        if os.environ.get(FOLDERS):
            from pyboinc import packages

            packages.use(os.environ[FOLDERS].split(os.pathsep))
        from pymw import items

        return items.run()
    from pyboinc.sandbox import Policy
    from pyboinc.supervisor import supervise

    os.environ["PYTHONHASHSEED"] = "0"  # replicas on other hosts must agree on the order of sets
    os.environ.pop("LD_PRELOAD", None)  # what somebody hung into the client need not bear the sandbox
    folders = _packages()
    if folders is None:
        return HOST_FAILED
    os.environ[FOLDERS] = os.pathsep.join(folders)
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[threads] = "1"  # the client gave this job one processor
    # Programs look after their own children in /proc; of others it shows what any user sees of them, and no more.
    policy = Policy(read=["/proc", *folders])
    return supervise(_child_command(), after_exit=_after_exit, sandbox=policy, outputs=[OUTCOMES])


def _packages() -> list[str] | None:
    """The folders of the packages that this job imports, unpacked once per host; None if one is refused."""
    if not os.path.isdir(PACKAGES):
        return []
    from pyboinc import packages
    from pyboinc.slot import resolve

    try:
        return [packages.unpack(resolve(f"{PACKAGES}/{name}")) for name in sorted(os.listdir(PACKAGES))]
    except packages.PackageError as refused:
        sys.stderr.write(f"refused: {refused}\n")
        return None


def _child_command() -> list[str]:
    return [sys.executable, sys.argv[0], "--child"]


def _after_exit(ending: ChildExit) -> Sequence[str] | int:
    """What comes after a child: the job's end, or another child for the items that are left."""
    from pyboinc.confine import WORK
    from pyboinc.slot import resolve

    if ending.exit_code() == 0 and os.path.exists(resolve(OUTCOMES)):
        return 0
    from pymw import items

    charged = items.charge(ending, os.path.join(WORK, JOURNAL))
    return _child_command() if charged else ending.exit_code() or HOST_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
