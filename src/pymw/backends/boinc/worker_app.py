"""The program that volunteers' computers run, as one file: pyboinc, and the volunteer's part of pymw.

It is a zip file that the host's own python3 runs, and its bytes depend on the sources alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyboinc
import pymw
from pymw.backends.boinc.keys import SigningKey

__all__ = ["PLATFORMS", "Worker", "worker_program"]

# BOINC's names of the platforms on which `#!/usr/bin/env python3` starts a program.
PLATFORMS = ("x86_64-pc-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "arm64-apple-darwin")
SHEBANG = b"#!/usr/bin/env python3\n"
PART_OF_PYMW = (
    "__init__",
    "broken",
    "envelope",
    "errors",
    "items",
    "loader",
    "outcome",
    "signature",
    "volunteer",
    "worker",
    "workplace",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)

MAIN = """\
import sys

if sys.version_info < (3, 9):
    sys.exit("This work needs Python 3.9 or later; this computer's python3 is " + sys.version.split()[0])

from pymw.volunteer import main

sys.exit(main(sys.argv[1:]))
"""

# A shipped module may import the master's names at its top; using one inside a task is an error that says so.
STUBS = """\
from pymw.errors import NotInsideTask


class _OfTheMaster:
    def __init__(self, *args, **kwargs):
        raise NotInsideTask


"""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a project offers to its volunteers' computers: the program, and by which key they know our code."""

    project: str  # its URL
    key: SigningKey
    program: bytes = field(repr=False)
    others: Sequence[str] = ()  # keys of people who submit from elsewhere

    @property
    def trusted(self) -> bytes:
        """The file that makes volunteers' computers trust these keys."""
        return self.key.trusted(self.project, self.others)


def worker_program() -> bytes:
    """The zip file, with the line on top that makes it a program."""
    file = io.BytesIO()
    file.write(SHEBANG)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, content in sorted(_members()):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_STORED
            archive.writestr(info, content)
    return file.getvalue()


def _members() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN.encode()
    for module, names in pymw.HOME.items():
        name = module.removeprefix("pymw.")
        if name != module and name not in PART_OF_PYMW:
            yield f"pymw/{name}.py", (STUBS + f"{' = '.join(names)} = _OfTheMaster\n").encode()
    here = Path(str(pymw.__file__)).parent
    for name in PART_OF_PYMW:
        yield f"pymw/{name}.py", (here / f"{name}.py").read_bytes()
    for path in (here / "codec").glob("*.py"):
        yield f"pymw/codec/{path.name}", path.read_bytes()
    there = Path(str(pyboinc.__file__)).parent
    for path in (*there.glob("*.py"), *there.glob("sandbox/*.py")):
        yield f"pyboinc/{path.relative_to(there).as_posix()}", path.read_bytes()
