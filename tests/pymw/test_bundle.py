"""Bundles: what a script's function reaches travels as source, and nothing else of the script runs."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACK = """
if __name__ == "__main__":
    import pathlib, sys
    from pymw.bundle import bundle
    pathlib.Path("code.zip").write_bytes(bundle({entry}).data)
"""
RUN = """
import sys, pathlib, traceback
from pymw.loader import load
function = load(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])).function
try:
    print(repr(function({arguments})))
except Exception:
    traceback.print_exc()
    sys.exit(1)
"""


@pytest.fixture
def ship(tmp_path: Path):
    """ship(script, entry, arguments): pack in one process, load and call in another; the printed result."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()

    def ship(script: str, entry: str = "f", arguments: str = "", *, files: dict[str, str] | None = None) -> str:
        for name, text in (files or {}).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        (home / "script.py").write_text(script + PACK.format(entry=entry))
        packed = subprocess.run([sys.executable, "script.py"], cwd=home, capture_output=True, text=True, check=False)
        if packed.returncode:
            raise RuntimeError(packed.stderr)
        run = [sys.executable, "-c", RUN.format(arguments=arguments), str(home / "code.zip"), str(away / "code")]
        done = subprocess.run(run, cwd=away, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    ship.home = home  # type: ignore[attr-defined]
    return ship


def test_a_function_of_a_script(ship) -> None:
    assert ship("def f(x): return x + 1", arguments="2") == "3"


def test_the_rest_of_the_script_never_runs(ship) -> None:
    script = "import math\nprint('top level')\nopen('trace', 'a').write('x')\ndef f(x):\n    return math.sqrt(x)\n"
    assert ship(script, arguments="16") == "4.0"
    assert (ship.home / "trace").read_text() == "x"


def test_functions_classes_constants_and_imports_that_it_reaches(ship) -> None:
    script = """
from __future__ import annotations
import collections as co, os
from functools import lru_cache, reduce as fold
import re, logging
import numpy as np
from math import pi
RATE = 2
TABLE = {"a": [1, 2]}
WORD = re.compile("[a-z]+", re.I)
log = logging.getLogger("x.y")
def helper(x): return x * RATE
@lru_cache(maxsize=None)
def cached(x): return helper(x)
class Base:
    factor = RATE
class Tool(Base):
    def use(self, x: Missing) -> int: return cached(x) + self.factor
alias = helper
if True:
    def inner(x):
        '''keeps
    its string'''
        return inner.__doc__
def f(x, default=RATE, tool=Tool()):
    log.info("x")
    import json
    c = co.Counter(TABLE["a"])
    return Tool().use(x), alias(x), fold(lambda a, b: a + b, [x, x]), WORD.match("Ab").group(), pi > 3, json.dumps(c[1]), inner(1), float(np.sin(0))
"""
    assert ship(script, arguments="5") == r"(12, 10, 10, 'Ab', True, '1', 'keeps\n    its string', 0.0)"


def test_modules_of_the_users_own_are_found_without_being_named(ship) -> None:
    files = {
        "helper.py": "from pkg import deep\nfrom pkg.sub import thing\ndef go(x): return thing(x) + deep.value()\n",
        "pkg/__init__.py": "",
        "pkg/deep.py": "def value():\n    from . import late\n    return late.N\n",
        "pkg/late.py": "N = 100\n",
        "pkg/sub/__init__.py": "from .thing import thing\n",
        "pkg/sub/thing.py": "from ..late import N\ndef thing(x): return x * N\n",
        "unrelated.py": "1/0\n",
    }
    assert ship("import helper\ndef f(x): return helper.go(x)", arguments="2", files=files) == "300"
    names = zipfile.ZipFile(ship.home / "code.zip").namelist()
    assert "modules/pkg/late.py" in names
    assert not [name for name in names if "numpy" in name or "unrelated" in name]


def test_what_our_own_package_provides(ship) -> None:
    script = "from pymw import checkpoint, progress\ndef f(x):\n    progress(0.5)\n    return checkpoint.load(x), checkpoint.due()\n"
    assert ship(script, arguments="7") == "(7, False)"


def test_named_tuples_of_either_kind(ship) -> None:
    script = """
import collections
from typing import NamedTuple
Point = collections.namedtuple("Point", "x y", defaults=[5])
class Pair(NamedTuple):
    a: int
    b: int = 6
def f(x): return Point(x), Pair(x)
"""
    assert ship(script, arguments="1") == "(Point(x=1, y=5), Pair(a=1, b=6))"


def test_a_function_of_a_module(ship) -> None:
    assert ship("import helper", "helper.go", "2", files={"helper.py": "def go(x): return -x\n"}) == "-2"
    assert ship("import math", "math.sqrt", "9") == "3.0"


def test_closures_lambdas_and_decorated_functions(ship) -> None:
    script = """
import functools
def power(n):
    def apply(x): return x ** n
    return apply
def twice(fn):
    @functools.wraps(fn)
    def wrapper(x): return fn(fn(x))
    return wrapper
@twice
def bump(x): return x + 1
offset = 10
shift = lambda x: x + offset
def plain(x): return x * 3
later = twice(plain)
"""
    assert ship(script, "power(3)", "2") == "8"
    assert ship(script, "bump", "1") == "3"
    assert ship(script, "shift", "1") == "11"
    assert ship(script, "later.__wrapped__", "1") == "3"
    assert ship(script, "(lambda y: power(y)(2))", "5") == "32"


ODDITIES = """
import contextlib, enum, functools, dataclasses
N = 1
def deco(f):
    @functools.wraps(f)
    def inner(*a): return ("deco", f(*a))
    return inner
def twice(f):
    def inner(x): return f(f(x))
    return inner
def plain(x): return x + 1
wrapped = deco(plain)
@twice
def doubled(x): return x * 2
@deco
@functools.lru_cache
def stacked(x): return x
@twice
def counted(x): return x if x > 10 else counted(x + 7)
def over(x): return x
old = over
def over(x): return old(x) + 100
def late(x, n=N): return n
N = 2
loop = []
for i in range(3):
    loop.append(lambda x, i=i: (x, i))
comprehended = [lambda x, j=j: (x, j) for j in range(3)]
def make(n):
    def add(x, n=n): return x + n
    return add
added = make(7)
def outer(n):
    total = [n]
    def rec(x): return 1 if x < 1 else x * rec(x - 1) + total[0]
    return rec
recursive = outer(2)
def spaces(x):
    return \"\"\"a{spaces}
b{spaces}\"\"\"
if N:
    def first(x): return x
    def second(x): return first(x) + 1
try:
    import no_such_module
except ImportError:
    def third(x): return "third"
    def fourth(x): return third(x)
match N:
    case 2:
        def matched(x): return "matched"
cached = functools.lru_cache(plain)
class Conf:
    K = 3
    def run(self, x): return ("own", x)
    @classmethod
    def made(cls, x): return cls.__name__, x
Conf.K = 10
Conf.run = lambda self, x: ("patched", x)
def reads(x): return Conf.K, Conf().run(x)
def attributed(x): return attributed.k
attributed.k = 5
def keyword(x, *, scale=N, seen=frozenset({1})): return x * scale, seen
part = functools.partial(plain)
def uses_partial(x): return part(x)
nested = (lambda f: (lambda x: f(x)))(plain)
one = 1; two = lambda q: (q, one); three = lambda q: -q
@contextlib.contextmanager
def manager(): yield 3
def managed(x):
    with manager() as y: return x + y
def even(x): return x == 0 or odd(x - 1)
def odd(x): return x != 0 and even(x - 1)
async def coroutine(x): return x
def awaits(x):
    import asyncio
    return asyncio.run(coroutine(x))
"""
CASES = [
    "wrapped", "doubled", "stacked", "counted", "over", "late", "loop[0]", "loop[2]", "comprehended[1]", "added", "recursive",
    "spaces", "second", "fourth", "matched", "cached", "reads", "attributed", "keyword", "uses_partial", "nested", "two", "three",
    "managed", "even", "awaits", "Conf.made", "str.upper",
]  # fmt: skip


def test_odd_functions_mean_on_a_worker_what_they_mean_here(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        ODDITIES.replace("{spaces}", "  ")
        + "from pymw.bundle import bundle\nimport pathlib\n"
        + f"for number, case in enumerate({CASES!r}):\n"
        + "    function = eval(case)\n"
        + "    pathlib.Path(f'{number}.zip').write_bytes(bundle(function).data)\n"
        + "    print(repr(function('a' if case == 'str.upper' else 3)))\n"
    )
    python = [sys.executable, "-W", "ignore"]
    here = subprocess.run([*python, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert here.returncode == 0, here.stderr
    expected = dict(zip(CASES, here.stdout.splitlines()))
    away = subprocess.run(
        [*python, "-c", AWAY, str(len(CASES))], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert away.returncode == 0, away.stderr
    assert dict(zip(CASES, away.stdout.splitlines())) == expected


AWAY = """
import sys, pathlib
from pymw.loader import load
for number in range(int(sys.argv[1])):
    function = load(pathlib.Path(f"{number}.zip"), pathlib.Path(f"code{number}")).function
    print(repr(function("a" if number == int(sys.argv[1]) - 1 else 3)))
"""


@pytest.mark.parametrize("odd", ["\x0c\n", "X = '\u2028'\n", "X = '\x85'\n", "X = 'a\x0bb'\r\n", "# é\r\n\r\n"])
def test_lines_are_counted_as_python_counts_them(ship, odd: str) -> None:
    assert ship(f"{odd}def g(): return 'é\u2028'\ndef f(x): return x, g()\n", arguments="1") == repr((1, "é\u2028"))


def test_values_of_the_users_own_classes(ship) -> None:
    script = """
from dataclasses import dataclass
from enum import Enum
class Kind(Enum):
    BIG = 1
@dataclass
class Box:
    side: int
    kind: Kind = Kind.BIG
BOX = Box(4)
def f(): return BOX.side, BOX.kind is Kind.BIG
"""
    assert ship(script) == "(4, True)"


def test_a_traceback_shows_the_scripts_own_lines(ship) -> None:
    with pytest.raises(RuntimeError) as caught:
        ship("import math\n\n\ndef f(x):\n    y = x\n    return 1 / (x - y)  # line 6\n", arguments="1")
    assert 'File "script.py", line 6, in f\n    return 1 / (x - y)  # line 6' in str(caught.value)


def test_the_same_sources_give_the_same_bytes(ship) -> None:
    ship("A = {'x', 'y', 'z'}\nB = 2\ndef g(): return B\ndef f(): return sorted(A), g()\n")
    first = (ship.home / "code.zip").read_bytes()
    ship("A = {'z', 'y', 'x'}\nB = 2\ndef g(): return B\ndef f(): return sorted(A), g()\n")
    assert (ship.home / "code.zip").read_bytes() == first


@pytest.mark.parametrize(
    ("script", "entry", "message"),
    [
        (
            "import threading\nlock = threading.Lock()\ndef f():\n    with lock: pass\n", "f",
            "'lock', which function 'f' reads, cannot be shipped: _thread.lock cannot be sent; pass what it needs",
        ),
        ("class A:\n    def m(self): pass\na = A()\n", "a.m", "'A.m' is bound to an object"),
        ("exec('def f(): pass')\n", "f", "the source of function 'f' is not to be had"),
        ("def make():\n    h = open(__file__)\n    def g(): return h\n    return g\n", "make()", "'h', which function"),
        ("import f_ext\ndef f(): return f_ext\n", "f", "module f_ext, which .* imports, is compiled"),
        ("class C:\n    def __call__(self): pass\nf = C()\n", "f", "an object of class 'C' has no name under which"),
        ("f = 3\n", "f", "cannot be called; give a function"),
        (
            "def f(): return 1\nimport linecache, pathlib\n"
            "p = pathlib.Path(__file__); p.write_text(p.read_text().replace('return 1', 'return 1 + len(str(2))'))\n",
            "f", "no longer stands in script.py as it was when it was loaded; start the script again",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_shipped_is_named_with_the_reason_and_what_to_do(ship, script, entry, message) -> None:
    fake_extension = {"f_ext/__init__.py": "__spec__.origin = '/x/f_ext.so'\n"} if "f_ext" in script else {}
    with pytest.raises(RuntimeError, match=message):
        ship(script, entry, files=fake_extension)


def test_a_notebook_cells_function(tmp_path: Path) -> None:
    notebook = f"""
import linecache, pathlib
def cell(number, text):
    name = f"<cell {{number}}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), globals())
cell(1, "import math as m\\nN = 3\\n")
cell(2, "class Data:\\n    size = 2\\n")
cell(3, "def g(x): return x * N + Data.size\\n")
cell(4, "def f(x):\\n    return m.floor(g(x))\\n")
from pymw.bundle import bundle
pathlib.Path({str(tmp_path / "code.zip")!r}).write_bytes(bundle(f).data)
"""
    subprocess.run([sys.executable, "-c", notebook], check=True)
    run = [sys.executable, "-c", RUN.format(arguments="1.5"), str(tmp_path / "code.zip"), str(tmp_path / "code")]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "6\n"


def test_the_loader_is_written_for_the_volunteers_python() -> None:
    import pymw.loader

    ast.parse(Path(pymw.loader.__file__).read_text(), feature_version=(3, 9))


SOURCELESS = """
import functools
import helper
factor = 10
names = {"__name__": "__main__", "helper": helper, "factor": factor}
exec("def f(x): return helper.twice(x) * factor", names)
exec("def adder(n): return lambda x: x + n", names)
f, g, p = names["f"], names["adder"](5), functools.partial(names["f"], 3)

if __name__ == "__main__":
    import pathlib
    from pymw.bundle import SourceMissing, bundle, bundle_of_byte_code
    for name in ("f", "g", "p"):
        function = globals()[name]
        try:
            bundle(function)
        except SourceMissing:
            made = bundle_of_byte_code(function)
            assert made.is_current() and made.modules == ("__main__", "helper")[:len(made.modules)]
            pathlib.Path(f"{name}.zip").write_bytes(made.data)
    names["factor"] = 11
    assert not bundle_of_byte_code(f).data == pathlib.Path("f.zip").read_bytes()
"""
CALLS = """
import pathlib, sys
from pymw.loader import load
found = load(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])).function
print(found(*map(int, sys.argv[3:])), sys.modules["cloudpickle"].__file__)
"""


def test_a_function_without_source_travels_as_byte_code_with_what_reads_it(tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    (home / "helper.py").write_text("def twice(x): return 2 * x\n")
    (home / "script.py").write_text(SOURCELESS)
    subprocess.run([sys.executable, "script.py"], cwd=home, check=True, timeout=60)

    def call(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CALLS, str(home / f"{name}.zip"), str(away), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    for name, arguments, value in (("f", "3", "60"), ("g", "1", "6"), ("p", "", "60")):
        done = call(name, *arguments.split())
        assert done.stdout.split() == [value, str(away / "cloudpickle/__init__.py")], done.stderr
    other = home / "other.zip"
    with zipfile.ZipFile(home / "f.zip") as made, zipfile.ZipFile(other, "w") as changed:
        for path in made.namelist():
            text = made.read(path)
            if path == "manifest.json":
                text = text.replace(b'"python": "3.', b'"python": "4.')
            changed.writestr(path, text)
    assert "byte code of Python 4." in call("other", "3").stderr
