"""The launchers, cross-compiled: an interpreter of many files is unpacked by them, once per host, and started."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from pyboinc.package import recipe, toolchain
from pyboinc.package.sources import SourceError

__all__ = ["ingredients", "make"]

_TARGETS = {
    "windows-x86_64": "x86_64-windows-gnu",
    "macos-x86_64": "x86_64-macos.10.15",
    "macos-aarch64": "aarch64-macos.11.0",
    "linux-x86_64": recipe.X86_64.zig,
    "linux-aarch64": recipe.AARCH64.zig,
}
_OPTIONS = ("-Os", "-s", "-fno-sanitize=undefined", "-Wall", "-Werror")
_HERE = Path(__file__).parent


def make(target: str, into: Path, cache: Path) -> Path:
    """The program that the client starts on this kind of machine, under a name that holds its digest."""
    out = into / "launcher"
    done = subprocess.run(
        [toolchain.find_zig(), "cc", "-target", _TARGETS[target], *_OPTIONS, *_sources(target), "-o", str(out)],
        env=toolchain.environment(recipe.X86_64, cache / "work", cache),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SourceError(f"the launcher does not compile:\n{done.stderr}")
    for debris in into.glob("launcher.*"):  # Windows' linker leaves its symbols there
        debris.unlink()
    digest = hashlib.sha256(out.read_bytes()).hexdigest()[:40]
    return out.rename(into / f"pyboinc_{digest}{'.exe' if target.startswith('windows') else ''}")


def ingredients(target: str) -> list[Path]:
    """What a launcher is made from."""
    return [Path(__file__), Path(toolchain.__file__), _HERE / "launcher.h", *map(Path, _sources(target))]


def _sources(target: str) -> list[str]:
    system = "windows" if target.startswith("windows") else "posix"
    return [str(_HERE / "launcher.c"), str(_HERE / f"launcher_{system}.c")]
