"""`pymw boinc install-worker` and `trust`: what a project's operator does for PyMW."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from boincserver import control
from boincserver.errors import BoincServerError
from pyboinc.package import build, cache, runtimes, sources, toolchain
from pymw.backends.boinc.interpreters import install, installed
from pymw.backends.boinc.keys import trust, trusted_others
from pymw.backends.boinc.place import local_place
from pymw.errors import BackendError

__all__ = ["install_worker", "trust_key"]


def install_worker(
    directory: Path,
    targets: Sequence[str],
    *,
    ready_made: bool = False,
    archive: Path | None = None,
    as_json: bool = False,
) -> int:
    """Send the interpreters of these kinds of machines, by default those built here; register the worker on them.

    `ready_made` ones are those of python-build-standalone, which `archive` spares the download of.
    """
    if (ready_made and not targets) or (archive is not None and (not ready_made or len(targets) != 1)):
        raise BackendError("--from pbs wants a --target for each interpreter, and --archive exactly one of them")
    try:
        server = control.connect(directory)
        found = [_built(target, ready_made, archive) for target in targets] or _all_built()
        install(server, found)
        local_place(directory)
    except (BoincServerError, build.BuildError, sources.SourceError, toolchain.NoCompilerError) as error:
        raise BackendError(str(error)) from error
    known = installed(server.directory)
    if as_json:
        print(json.dumps({each.platform: each.python for each in known.values()}))  # noqa: T201
        return 0
    sizes = {each.platform: sum(file.path.stat().st_size for file in each.files) for each in found}
    for platform, interpreter in sorted(known.items()):
        told = f"{sizes[platform] / 1e6:.1f} MB, sent compressed" if platform in sizes else "was there already"
        print(f"{platform}: Python {interpreter.python}, {told}")  # noqa: T201
    return 0


def trust_key(directory: Path, key: str) -> int:
    """Let the project's volunteers run code that is signed with this key, which may be a file's content."""
    path = Path(key).expanduser() if len(key) < 400 else None
    trust(directory, path.read_text() if path is not None and path.is_file() else key)
    try:
        local_place(directory)
    except BoincServerError as error:
        raise BackendError(str(error)) from error
    print(f"volunteers of {directory} trust {1 + len(trusted_others(directory))} keys")  # noqa: T201
    return 0


def _all_built() -> list[runtimes.Runtime]:
    found = [runtimes.find(target, cache.default()) for target in runtimes.TARGETS]
    built = [runtime for runtime in found if runtime is not None]
    if not built:
        raise BackendError(
            "no interpreter is built here; name a --target to have it built now, which takes some minutes: "
            + ", ".join(sorted(runtimes.TARGETS))
        )
    return built


def _built(target: str, ready_made: bool, archive: Path | None) -> runtimes.Runtime:
    if target not in runtimes.TARGETS:
        raise BackendError(f"there is no kind of machine {target!r}; there are: {', '.join(sorted(runtimes.TARGETS))}")
    if ready_made:
        return runtimes.build_standalone(target, cache.default(), archive)
    began = time.monotonic()

    def tell(step: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:4.0f} s] {step}\n")

    return runtimes.build_runtime(target, cache.default(), tell=tell)
