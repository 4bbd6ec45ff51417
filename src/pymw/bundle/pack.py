"""The file that travels: the sources and values of a cargo, as one deterministic zip."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymw.bundle.witness import Witness

__all__ = ["FORMAT", "Bundle", "Made", "Unit", "pack"]

FORMAT = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


@dataclass(frozen=True, slots=True)
class Bundle:
    """Shippable code: `data` is a zip file, `digest` its SHA-256, `entry` the function as `module:qualname`.

    `modules` are the modules whose classes results may hold, `requires` the installed ones that the code imports.
    """

    digest: str
    data: bytes = field(repr=False)
    entry: str
    modules: tuple[str, ...]
    requires: tuple[str, ...]
    witness: Witness = field(repr=False, compare=False)
    python: str = ""  # the only minor version that it runs on, where it holds no source: 3.13

    def is_current(self) -> bool:
        """Whether packing the function again would give the same: nothing that it reads was changed since."""
        return self.witness.holds()


@dataclass
class Unit:
    """One source file, of which only some lines are shipped, each where it stood."""

    name: str
    lines: dict[int, str] = field(default_factory=dict)

    def keep(self, first: int, text: str) -> None:
        """Ship these lines, from line number `first` on."""
        for number, line in enumerate(text.split("\n"), first):
            before = self.lines.get(number, "")
            if not before.strip() or before == line:
                self.lines[number] = line
            elif line.strip():
                self.lines[number] = f"{before}; {line.lstrip()}"

    def text(self) -> str:
        """The file, blank where nothing was kept."""
        last = max(self.lines, default=0)
        return "".join(self.lines.get(number, "") + "\n" for number in range(1, last + 1))


@dataclass(frozen=True)
class Made:
    """A function that is made anew from its code: `result` in `unit`, called with `cells` where it closes over any."""

    name: str  # in __main__
    unit: Unit
    result: str
    home: str  # the module whose globals it sees
    cells: dict[str, str] | None  # variable -> expression; None: not a factory


def pack(
    entry: str,
    *,
    prelude: Sequence[str],
    units: Iterable[Unit],
    made: Iterable[Made],
    postlude: Sequence[str],
    files: Mapping[str, str],
    own: Iterable[str],
    requires: Iterable[str],
    witness: Witness,
    pickle: tuple[str, bytes] = ("", b""),
) -> Bundle:
    """The bundle whose function is `entry`; the parts of `__main__` run in the order in which they are given here.

    `pickle` is what stands for the function where it has no source, and the minor version that can read it.
    """
    members = {path: text.encode() for path, text in files.items()}
    parts: list[dict[str, Any]] = []

    def add(name: str, text: str, **more: Any) -> None:
        path = f"main/{len(parts)}.py"
        members[path] = text.encode()
        parts.append({"path": path, "name": name, **more})

    if prelude:
        add("<prelude>", "\n".join(prelude) + "\n")
    for unit in units:
        add(unit.name, unit.text())
    for each in made:
        add(each.unit.name, each.unit.text(), made=each.name, result=each.result, home=each.home, cells=each.cells)
    if postlude:
        add("<postlude>", "\n".join(postlude) + "\n")
    for number, (_, data) in enumerate(witness.values):
        members[f"values/{number}"] = data
    manifest: dict[str, Any] = {
        "format": FORMAT, "entry": entry, "units": parts, "modules": sorted(own), "requires": sorted(requires)
    }  # fmt: skip
    python, pickled = pickle
    if python:
        members["pickle"], manifest["python"] = pickled, python
    members["manifest.json"] = json.dumps(manifest, sort_keys=True).encode()
    zipped = _zip(members)
    return Bundle(
        digest=hashlib.sha256(zipped).hexdigest(),
        data=zipped,
        entry=entry,
        modules=("__main__", *sorted(own)),
        requires=tuple(sorted(requires)),
        witness=witness,
        python=python,
    )


def _zip(members: dict[str, bytes]) -> bytes:
    """A zip file whose bytes depend on the members alone: stored, sorted, dated 1980."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[path])
    return file.getvalue()
