"""A function and everything of the user's own that it reaches, as one file of source code.

Source is shipped, not byte code, so that a volunteer's interpreter may be another version. What the function reaches
by name is followed from name to name:

    a function or class of the script    its very lines, at their own line numbers, the rest of the script left blank
    a module of the user's own           its file, and those that it imports in turn
    an installed or standard module      an import; the worker's interpreter must have it
    anything else that is read           its value, in the closed set of `pymw.codec`

so the script's top level never runs anywhere but where the user started it. The same sources give the same bytes on
every machine. What cannot be shipped is refused with its name, the reason, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pymw.bundle.cargo import Cargo
from pymw.bundle.pack import Bundle
from pymw.bundle.refusal import SourceMissing
from pymw.bundle.sourceless import bundle_of_byte_code

__all__ = ["Bundle", "SourceMissing", "bundle", "bundle_of_byte_code"]


def bundle(
    function: Callable[..., Any],
    *,
    modules: Collection[str] = (),
    classes: Collection[type] = (),
    beside: Collection[Callable[..., Any]] = (),
) -> Bundle:
    """Pack `function`.

    `modules` names further modules that it imports in ways which cannot be seen in its source, `classes` those of its
    arguments; what functions `beside` it reach comes along. Raises UnshippableError, which says which name stands in
    the way, why, and what to do; where that is the source it is a SourceMissing, and `bundle_of_byte_code` may do.
    """
    cargo = Cargo()
    for name in modules:
        cargo.module(name, wanted_by="modules=")
    for cls in sorted(classes, key=lambda each: each.__qualname__):
        cargo.cls(cls)
    for other in beside:
        cargo.entry(other)
    entry = cargo.entry(function)
    return cargo.pack(entry)
