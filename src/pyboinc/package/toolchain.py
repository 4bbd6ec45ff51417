"""The cross compiler: zig's clang with the C library of every version and machine, from the package index."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from pyboinc.package.recipe import BUILD_DATE, ZIG_VERSION, Target

# Short names on the PATH: what compiles a library must not leave its own path in the result.
_WRAPPERS = {
    "pb-cc": "cc -target {target} -g0 -fno-sanitize=undefined -Wno-date-time -ffile-prefix-map={work}=/pyboinc",
    "pb-native-cc": "cc",
    "pb-ar": "ar",
    "pb-ranlib": "ranlib",
}
CFLAGS = "-O2 -fPIC"


class NoCompilerError(Exception):
    """The cross compiler is missing or another version."""


def find_zig() -> str:
    """The compiler's executable, of the one version that the recipe names."""
    try:
        package = metadata.distribution("ziglang")
    except metadata.PackageNotFoundError as error:
        raise NoCompilerError(f"no compiler: pip install ziglang=={ZIG_VERSION}") from error
    if package.version != ZIG_VERSION:
        raise NoCompilerError(f"ziglang is {package.version}: pip install ziglang=={ZIG_VERSION}")
    return str(package.locate_file("ziglang/zig"))


def environment(target: Target, work: Path, cache: Path) -> dict[str, str]:
    """Variables for configure and make; the wrappers go into `work`."""
    zig, tools = find_zig(), work / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name, arguments in _WRAPPERS.items():
        wrapper = tools / name
        wrapper.write_text(f'#!/bin/sh\nexec "{zig}" {arguments.format(target=target.zig, work=work)} "$@"\n')
        wrapper.chmod(0o755)
    return {
        "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "TZ": "UTC",
        "CC": "pb-cc",
        "NATIVE_CC": "pb-native-cc",
        "AR": "pb-ar",
        "RANLIB": "pb-ranlib",
        "CFLAGS": CFLAGS,
        "HOST": target.gnu,
        "OPENSSL_TARGET": target.openssl,
        "JOBS": str(os.cpu_count() or 1),
        "SOURCE_DATE_EPOCH": str(BUILD_DATE),
        "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig"),
    }
