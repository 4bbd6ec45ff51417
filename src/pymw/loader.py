"""Make a function again out of a code bundle, on the worker: the other half of `pymw.bundle`.

Standard library only, Python 3.9 or later: this runs on volunteers' computers.
"""

from __future__ import annotations
import __future__

import importlib
import json
import linecache
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

from pymw import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Loaded", "load"]


class Loaded:
    """A function that was shipped, and the modules whose classes its arguments and results may hold."""

    def __init__(self, function: Callable[..., Any], modules: tuple[str, ...], requires: tuple[str, ...]) -> None:
        self.function = function
        self.modules = modules
        self.requires = requires  # installed modules that the code imports


def load(bundle: Path, folder: Path) -> Loaded:
    """The function in `bundle`, whose own modules are unpacked below `folder`.

    The script's part becomes `__main__` again, at its own line numbers, so that tracebacks read as they do at home.
    """
    with zipfile.ZipFile(bundle) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members["manifest.json"])
    if manifest["format"] != 1:
        raise ImportError(f"the code bundle has format {manifest['format']}; this worker reads 1")
    _unpack_modules(members, folder)
    own = ("__main__", *manifest["modules"])
    if "pickle" in members:
        function = _unpickled(members["pickle"], manifest["python"])
        return Loaded(function, own, tuple(manifest["requires"]))
    module, _, qualname = manifest["entry"].partition(":")
    if manifest["units"]:
        _run_main(manifest["units"], members, own)
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return Loaded(found, own, tuple(manifest["requires"]))


def _unpickled(data: bytes, python: str) -> Any:
    """A function that has no source: what our master pickled and signed, never anything that a volunteer sent."""
    import pickle

    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != python:
        raise ImportError(f"the code bundle is byte code of Python {python}, and this is Python {here}")
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    function, classes = pickle.loads(data)  # noqa: S301 - the signature was checked
    main.__dict__.update(classes)
    return function


def _unpack_modules(members: dict[str, bytes], folder: Path) -> None:
    prefix = "modules/"
    for path, content in members.items():
        if path.startswith(prefix):
            target = folder / path[len(prefix) :]
            if ".." in target.parts:
                raise ImportError(f"the code bundle names a file outside its folder: {path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    if str(folder) not in sys.path:
        sys.path_importer_cache.pop(str(folder), None)  # `invalidate_caches` would import a tenth of the library
        sys.path.insert(0, str(folder))


def _run_main(units: list[dict[str, Any]], members: dict[str, bytes], own: tuple[str, ...]) -> None:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main

    def value(number: int) -> Any:
        data = members[f"values/{number}"]
        return codec.decode(data, modules=import_for(data, own))

    main.__dict__["__pymw_value__"] = value
    shown: dict[str, list[str]] = {}
    for unit in units:
        text = members[unit["path"]].decode()
        _show(shown.setdefault(unit["name"], []), unit["name"], text)
        flags = __future__.annotations.compiler_flag  # annotations name things that need not be here
        code = compile(text, unit["name"], "exec", flags=flags, dont_inherit=True)
        if "made" in unit:
            main.__dict__[unit["made"]] = _make(unit, code, main)
        else:
            exec(code, main.__dict__)  # noqa: S102 - the signature was checked


def _make(unit: dict[str, Any], code: types.CodeType, main: types.ModuleType) -> Any:
    """A function that no statement at the top of the script stands for."""
    home = main if unit["home"] == "__main__" else importlib.import_module(unit["home"])
    scratch: dict[str, Any] = {}
    exec(code, home.__dict__, scratch)  # noqa: S102 - the signature was checked
    made = scratch[unit["result"]]
    if unit["cells"] is None:
        return made
    return made(**{name: eval(expression, main.__dict__) for name, expression in unit["cells"].items()})  # noqa: S307


def _show(lines: list[str], name: str, text: str) -> None:
    """Let tracebacks show the lines of `text`, beside those of the same file that are known already."""
    for number, line in enumerate(text.split("\n")):
        if number < len(lines):
            lines[number] = line + "\n" if line.strip() else lines[number]
        else:
            lines.append(line + "\n")
    linecache.cache[name] = (len(text), None, lines, name)


def import_for(data: bytes, own: tuple[str, ...]) -> tuple[str, ...]:
    """Import those of the bundle's own modules whose classes `data` names; all that may be named then."""
    for module in own:
        if module != "__main__" and module not in sys.modules and f"{module}:".encode() in data:
            importlib.import_module(module)
    return own
