"""A function without source, as byte code for this very minor version of Python.

`cloudpickle` makes the pickle here and reads it on the worker, to which it travels inside the bundle. A pickle is code;
this one is the user's own, made where the master runs, and the signature covers it like any source.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from pymw.bundle.cargo import Cargo
from pymw.bundle.names import read
from pymw.bundle.pack import Bundle, pack
from pymw.bundle.refusal import describe, refusal
from pymw.bundle.witness import pickled

__all__ = ["MINOR", "bundle_of_byte_code"]

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


def bundle_of_byte_code(
    function: Callable[..., Any], *, modules: Collection[str] = (), classes: Collection[type] = ()
) -> Bundle:
    """Pack `function` with what it reaches; the arguments are those of `bundle`.

    Modules of the user's own travel as source all the same. Raises UnshippableError where something cannot be pickled.
    """
    cargo, described = Cargo(), describe(function)
    ours = {cls.__qualname__: cls for cls in classes if cls.__module__ == "__main__"}
    whole = (function, ours)
    try:
        data = pickled(whole)
    except Exception as error:
        raise refusal(
            f"{described} has no source, and cannot be pickled either: {error}", "define it in a script"
        ) from error
    for name in sorted({*modules, *_modules_in(data), *(cls.__module__ for cls in classes)}):
        if name != "__main__":
            cargo.module(name, wanted_by=described)
    cargo.witness.pickles.append((whole, data))
    return pack(
        "", prelude=(), units=(), made=(), postlude=(), files={**cargo.files, **_reader()}, own=cargo.own,
        requires=cargo.requires - {"cloudpickle"}, witness=cargo.witness, pickle=(MINOR, data),
    )  # fmt: skip


def _modules_in(data: bytes) -> Iterator[str]:
    """The modules that a pickle may import by name, and other words that happen to be names of modules."""
    return (word for _, word, _ in pickletools.genops(data) if isinstance(word, str) and word in sys.modules)


def _reader() -> dict[str, str]:
    """The sources of cloudpickle: what reads the pickle on a worker that has nothing but Python."""
    import cloudpickle  # type: ignore[import-untyped]

    folder = Path(cloudpickle.__file__).parent
    return {f"modules/cloudpickle/{path.name}": read(path) for path in folder.glob("*.py")}
