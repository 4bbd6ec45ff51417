"""A child in the sandbox: the folder it works in, what it may read, and how its outputs get out.

slot/            out of reach: init data with the account's key, shared memory, lock
slot/work/       the child's own: current directory, checkpoints, temporary files, outputs until it ends
the job's files  readable where they lie
"""

from __future__ import annotations

import os
import stat
import sys

from pyboinc import slot
from pyboinc.sandbox import LIMITS, Level, Policy, SandboxUnavailableError, apply, available, system_paths
from pyboinc.sandbox.policy import LAYERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WORK = "work"
OUTPUTS_FILE = "pyboinc_outputs"
_CLIENTS_OWN = ("init_data.xml", "stderr.txt", "graphics_app")
_CLIENTS_PREFIXES = ("boinc_", "pyboinc_", "trickle_")


class Confinement:
    """The bounds of a task's children, made once per start of the task."""

    def __init__(self, policy: Policy, directory: str, outputs: Iterable[str] = ()) -> None:
        self.level = _level(policy)
        missing = [layer for layer in LAYERS if layer in policy.require and layer not in self.level]
        if missing:
            raise SandboxUnavailableError(f"the job requires a sandbox that this host lacks: {', '.join(missing)}")
        self.processes = policy.processes
        self._policy = policy
        self._directory = directory
        self.folder = os.path.join(directory, WORK)
        os.makedirs(self.folder, exist_ok=True)
        self._own = os.path.realpath(self.folder)
        self._inputs, self._outputs = self._sort_files(outputs)
        self.environment = {
            "PYBOINC_WORK": self.folder,
            "PYBOINC_OUTPUTS": "\n".join(self._outputs),
            "HOME": self.folder,
            "TMPDIR": self.folder,
        }

    def command(self, words: Sequence[str]) -> list[str]:
        """The command with its program named from anywhere, since the child starts in another folder.

        The program is the first word or, behind an interpreter from elsewhere, the first that is a file of the slot.
        What follows are its arguments, whatever files are called like them.
        """
        named, own = list(words), os.path.join(self._directory, "")
        for i, word in enumerate(words):
            path = os.path.join(self._directory, word)
            if os.path.isfile(path):
                named[i] = path
                if path.startswith(own) or i:
                    break
        return named

    def bind(self, command: Sequence[str], disk: float = 0) -> None:
        """In the new process, before the command: apply the sandbox and say how far it goes.

        No file may be larger than the job's bound on the `disk`, in bytes, which the supervisor looks at now and then.
        """
        policy = self._policy
        files = [os.path.realpath(word) for word in command if os.path.isfile(word)]
        bound = Policy(**vars(policy))
        bound.file_size = min((size for size in (policy.file_size, int(disk)) if size > 0), default=0)
        bound.read, bound.write = (*policy.read, *self._inputs, *files), (*policy.write, self.folder, os.devnull)
        if policy.interpreter:
            # Without sys.path: it is the supervisor's, and may begin with the folder of all the project's files.
            bound.read, bound.interpreter = (*bound.read, *system_paths()), False
        os.write(2, f"pyboinc: sandbox: {apply(bound)}\n".encode())

    def collect(self) -> None:
        """Move what the child made of its outputs to where the client looks for them."""
        for name in self._outputs:
            made = self._made(name)
            if made:
                os.replace(made, self._target(name))

    def publish(self, name: str) -> None:
        """Copy an output as it is now to where the client looks for it, to be uploaded while the child goes on."""
        made = self._made(name) if name in self._outputs else ""
        if not made:
            return
        target = self._target(name)
        with open(made, "rb", opener=_open_no_link) as source:
            # The child is at work, and could have put a link in its place since we looked.
            if sys.platform == "linux" and os.readlink(f"/proc/self/fd/{source.fileno()}") != os.path.join(
                self._own, name
            ):
                return
            with open(target + ".new", "wb") as copy:
                while data := source.read(1 << 20):
                    copy.write(data)
        os.replace(target + ".new", target)

    def _made(self, name: str) -> str:
        """Where the child made this output; empty where there is none that can be taken."""
        made = os.path.join(self.folder, name)
        try:
            found = os.lstat(made)
        except OSError:
            return ""
        # A link, or a folder that is one, would make the client upload some other file of the volunteer's.
        inside = os.path.realpath(os.path.dirname(made)) == os.path.dirname(os.path.join(self._own, name))
        if inside and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return made
        os.write(2, f"pyboinc: output {name} is not taken: it is a link or no plain file\n".encode())
        return ""

    def _target(self, name: str) -> str:
        # Some projects have clients make real links of the names, in the slot, where the child cannot write.
        target = slot.resolve(name, self._directory)
        return os.path.realpath(target) if os.path.islink(target) else target

    def _sort_files(self, named: Iterable[str]) -> tuple[list[str], list[str]]:
        """The job's files: those there at the very first start are inputs, the others become outputs."""
        files = list(_files(self._directory))
        record = os.path.join(self._directory, OUTPUTS_FILE)
        try:
            with open(record, encoding="utf-8") as file:
                outputs = file.read().splitlines()
        except OSError:
            links = [name for name in files if not os.path.exists(slot.resolve(name, self._directory))]
            outputs = sorted({*links, *named})
            with open(record, "w", encoding="utf-8") as file:
                file.write("\n".join(outputs))
        for name in outputs:
            os.makedirs(os.path.dirname(os.path.join(self.folder, name)), exist_ok=True)
        # A soft link is read like the file that it stands for.
        inputs = [name for name in files if name not in outputs]
        paths = {os.path.join(self._directory, name) for name in inputs}
        return sorted(paths | {slot.resolve(name, self._directory) for name in inputs}), outputs


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _level(policy: Policy) -> Level:
    """How far a child can be bound here; on Windows by the job object that its supervisor holds it in."""
    return Level([LIMITS]) if sys.platform == "win32" else available(policy)


def _files(directory: str) -> Iterable[str]:
    """Logical names of the job's files in the slot; the client's own are not the job's."""
    for folder, folders, names in os.walk(directory):
        if folder == directory and WORK in folders:
            folders.remove(WORK)
        for name in names:
            if name not in _CLIENTS_OWN and not name.startswith(_CLIENTS_PREFIXES):
                yield os.path.relpath(os.path.join(folder, name), directory)
