"""Whose a module is: the user's own, Python's, ours, or an installed package's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["PYTHON", "is_the_users", "owner_of"]

PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"
INSTALLED = {"site-packages", "dist-packages"}  # the latter are Debian's
PROVIDED = "pymw"  # our own package is not part of anybody's function


@lru_cache(maxsize=4096)
def owner_of(module: str) -> tuple[str, str] | None:
    """(name, what stands for it) of a module that is not the user's own; None for the user's."""
    top = module.partition(".")[0]
    if top == "__main__":
        return None
    if top in sys.stdlib_module_names:
        return f"standard {module}", PYTHON
    if top == PROVIDED:
        return "pymw", "pymw"
    file = _file(top)
    if file is None:
        return None
    paths = sysconfig.get_paths()
    where = Path(file).resolve()
    installed = [Path(paths[kind]).resolve() for kind in ("purelib", "platlib")]
    if not any(where.is_relative_to(place) for place in installed) and not INSTALLED & set(where.parts):
        return None
    try:
        version = importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        # Looked up without running a module's own __getattr__, which may warn or import.
        version = str(vars(sys.modules[top]).get("__version__", "unknown")) if top in sys.modules else "unknown"
    return f"installed {top}", version


def _file(top: str) -> str | None:
    """Where a top-level module lies, imported or not."""
    module = sys.modules.get(top)
    if module is not None:
        return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    spec = importlib.util.find_spec(top)
    return spec.origin if spec is not None else None


def is_the_users(name: str, module: Any) -> bool:
    """Whether a module of that name is the user's own: not installed, not Python's, not ours."""
    return name != "__main__" and getattr(module, "__file__", None) is not None and owner_of(name) is None
