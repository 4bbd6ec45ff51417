"""Modules of the user's own at workers that do not see our files."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pymw import Master, UnshippableError
from pymw.shipping import own_modules_by_value, pack, ship
from pymw.sources import Equipped

WORKER = """
import pickle, sys, traceback
while True:
    try:
        function, args = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        print(repr(function(*args)))
    except Exception:
        print(traceback.format_exc().replace("\\n", "|"))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write modules and import one of them anew; what was imported is forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: set[str] = set()

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in written]:
            del sys.modules[name]

    def write(**sources: str) -> Any:
        for name, text in sources.items():
            path = tmp_path / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            written.add(name.partition("__in__")[0])
        importlib.invalidate_caches()
        forget()
        return importlib.import_module(next(iter(sources)))

    yield write
    forget()


def at_a_worker(*calls: tuple[Any, ...]) -> list[str]:
    """What each call gives in one process that sees none of our files; a call that is bytes is packed already."""
    data = b"".join(call if isinstance(call, bytes) else packed(*call) for call in calls)
    command = [sys.executable, "-c", WORKER]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout.decode().splitlines()


def packed(function: Any, *args: Any, named: tuple[str, ...] = ()) -> bytes:
    with own_modules_by_value():
        return pack((Equipped.of(function, named, send=True), args))


def test_what_a_function_imports_while_it_runs_goes_along_with_what_that_imports(own) -> None:
    module = own(
        outer="def f(x):\n    import inner\n    return inner.g(x)\n",
        inner="from deepest import FACTOR\n\ndef g(x):\n    return FACTOR * x\n",
        deepest="FACTOR = 7\n",
    )
    assert at_a_worker((module.f, 6)) == ["42"]


def test_an_edited_module_is_imported_anew_and_an_unchanged_one_is_not(own) -> None:
    text = "STATE = []\n\ndef g():\n    STATE.append(1)\n    return len(STATE)\n"
    main = "def f():\n    import inner\n    return inner.g()\n"
    first = packed(own(outer=main, inner=text).f)
    edited = packed(own(outer=main, inner=text.replace("len(STATE)", "-len(STATE)")).f)
    assert at_a_worker(first, first, edited, edited) == ["1", "2", "-1", "-2"]


def test_a_traceback_shows_the_lines_of_a_module_that_went_along(own, tmp_path: Path) -> None:
    module = own(
        outer="def f():\n    import inner\n    return inner.g()\n",
        inner="def g():\n    return 1 / 0  # here\n",
    )
    (told,) = at_a_worker((module.f,))
    assert f'File "{tmp_path / "inner.py"}", line 2, in g|    return 1 / 0  # here|' in told


def test_a_package_that_is_named_goes_along_whole(own) -> None:
    module = own(
        outer="import importlib\n\ndef f(name):\n    return importlib.import_module(name).HERE\n",
        pack__in____init__="",
        pack__in__part="from . import other\nHERE = 'part of ' + other.NAME\n",
        pack__in__other="NAME = 'pack'\n",
    )
    with own_modules_by_value():
        data = pack((Equipped.of(module.f, ["pack"], send=True), ("pack.part",)))
    assert at_a_worker(data) == ["'part of pack'"]


def test_one_module_of_a_package_brings_the_packages_around_it(own) -> None:
    module = own(
        outer="def f():\n    from pack import part\n    return part.HERE\n",
        pack__in____init__="AROUND = 1\n",
        pack__in__part="import pack\nHERE = pack.AROUND\n",
    )
    assert at_a_worker((module.f,)) == ["1"]


def test_a_module_that_cannot_be_imported_here_is_refused(own) -> None:
    module = own(outer="def f():\n    return 1\n", broken="1 / 0\n")
    for name in ("broken", "no_such_module"):
        with pytest.raises(UnshippableError, match=rf"modules=: '{name}' cannot be imported here"):
            Equipped.of(module.f, [name], send=True)


def test_a_longer_path_costs_no_pickling_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries lengthen sys.path too; the function goes on being shipped once, until the path is another one."""
    with Master("local", max_workers=1) as master:
        assert master.submit(abs, -1).result(60) == 1
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    first = ship(Equipped.of(plain, ()))
    assert ship(Equipped.of(plain, ())) is first
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "more")])
    assert ship(Equipped.of(plain, ())) is not first


def plain(x: int) -> int:
    return x
