"""Homogeneous redundancy: kinds of computers whose floating-point results can be expected to be equal."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["COARSE", "FINE", "hr_class"]

FINE: Final = 1
"""The same operating system and family of processors."""
COARSE: Final = 2
"""The same operating system and make of processors."""

_SYSTEMS: Final = ("", "Linux", "Windows", "Darwin", "FreeBSD")
_PER_SYSTEM: Final = 128
_MAKES: Final = (("Intel", "AMD", "x86"), ("PowerPC", "POWER"), ("ARM", "Aarch64", "Apple"))
_FAMILY: Final = re.compile(r"Family (\d+) Model (\d+)")


def hr_class(kind: int, os_name: str, p_vendor: str, p_model: str) -> int:
    """The number of a computer's kind; 0 for one of which too little is known."""
    system = next((n for n, name in enumerate(_SYSTEMS) if name and name in os_name), 0)
    processor = f"{p_vendor} {p_model}"
    make = next((n for n, names in enumerate(_MAKES, start=1) if any(name in processor for name in names)), 0)
    if not system or not make:
        return 0
    if kind == COARSE:
        return system * _PER_SYSTEM + make
    family = _FAMILY.search(p_model)
    if family is None:
        return 0
    amd = "AMD" in processor
    return system * _PER_SYSTEM + 8 + (int(family.group(1)) % 50) * 2 + amd
