"""What makes a function the same function: each kind of thing that it may reach is edited in turn."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pymw.identity import _identify, identify
from pymw.owners import owner_of
from pymw.written import remember_sources

MODULE = '''
import functools
import helper
import numpy
from helper import *
from helper import Base, halve
from helper import third as divided

FACTOR = 3
TABLE = {"a": 1}
REGISTRY = {"inner": lambda x: x + 5}

def unrelated(x):
    return x

def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) * 2
    return wrapper

@twice
def inner(x):
    return x * FACTOR

class Unused:
    def method(self):
        return 1

class Tool(Base):
    """A tool."""
    SIZE = 4

    @property
    def large(self):
        return self.SIZE > 3

    @staticmethod
    def fixed():
        return 11

    def method(self, x):
        return x + self.SIZE + self.offset()

    def offset(self):
        return 12

GLOBAL_TOOL = Tool(13)

def make(step):
    def stepper(x):
        return x + step
    return stepper

stepper = make(14)
partly = functools.partial(pow, 15)

def function(x, extra=1, *, only=2):
    """What it does."""
    # a comment
    def nested(y):
        return y + 16
    total = inner(x) + halve(x) + helper.third(x) + TABLE["a"] + extra + only + nested(x)
    total += Tool(17).method(x) + GLOBAL_TOOL.size + stepper(x) + partly(x) + REGISTRY["inner"](x)
    return numpy.abs(total) + [y + 18 for y in range(x)][0]

def late(x):
    import deeper
    return deeper.deep(x)

def dynamic(x):
    return getattr(helper, "un" + "used")(x) + globals()["FACTOR"]
'''
HELPER = """
CONSTANT = 21

class Base:
    def __init__(self, size):
        self.size = size

def halve(x):
    return x // 2

def third(x):
    return x // 3 + CONSTANT

def unused(x):
    return x
"""
DEEPER = """
import deepest
def deep(x):
    return deepest.DEEP + x
"""
DEEPEST = "DEEP = 31\n"

# What is edited, in which module, from what, to what, and whether `function` (or another) is another one then.
EDITS = [
    ("nothing", "module", "", "", False),
    ("a comment", "module", "# a comment", "# another comment", False),
    ("a docstring", "module", "What it does.", "What it is for.", False),
    ("a docstring of a class", "module", "A tool.", "Some tool.", False),
    ("the lines it is on", "module", "FACTOR = 3", "\n\n\nFACTOR = 3", False),
    ("an unrelated function", "module", "def unrelated(x):\n    return x", "def unrelated(x):\n    return -x", False),
    ("an unrelated class", "module", "return 1\n", "return 2\n", False),
    ("the function", "module", "return numpy.abs(total)", "return 1 + numpy.abs(total)", True),
    ("a function inside it", "module", "y + 16", "y - 16", True),
    ("a comprehension inside it", "module", "y + 18", "y - 18", True),
    ("a function that it calls", "module", "return x * FACTOR", "return FACTOR * x", True),
    ("a decorator", "module", "function(*args) * 2", "function(*args) * 3", True),
    ("a decorator taken off", "module", "@twice\n", "", True),
    ("a global number", "module", "FACTOR = 3", "FACTOR = 4", True),
    ("a global table", "module", '{"a": 1}', '{"a": 2}', True),
    ("a function in a table", "module", "lambda x: x + 5", "lambda x: x + 6", True),
    ("a default", "module", "extra=1", "extra=2", True),
    ("a keyword's default", "module", "only=2", "only=3", True),
    ("a method", "module", "return x + self.SIZE", "return x - self.SIZE", True),
    ("a method that a method calls", "module", "return 12", "return -12", True),
    ("an attribute of a class", "module", "SIZE = 4", "SIZE = 5", True),
    ("a property", "module", "self.SIZE > 3", "self.SIZE > 2", True),
    ("a static method", "module", "return 11", "return -11", True),
    ("the state of a global object", "module", "Tool(13)", "Tool(-13)", True),
    ("a closure's cell", "module", "make(14)", "make(-14)", True),
    ("a closure's code", "module", "return x + step", "return x - step", True),
    ("the arguments of a partial", "module", "partial(pow, 15)", "partial(pow, 16)", True),
    ("an imported function", "helper", "return x // 2", "return x // 2 + 0", True),
    ("an imported base class", "helper", "self.size = size", "self.size = -size", True),
    ("an attribute of a module", "helper", "return x // 3", "return x // 4", True),
    ("a global of another module", "helper", "CONSTANT = 21", "CONSTANT = 22", True),
    ("late: the function", "module", "deeper.deep(x)", "deeper.deep(-x)", True),
    ("late: the module imported inside", "deeper", "+ x", "- x", True),
    ("late: what that imports", "deepest", "31", "32", True),
    (
        "dynamic: what getattr may reach",
        "helper",
        "def unused(x):\n    return x",
        "def unused(x):\n    return -x",
        True,
    ),
    ("dynamic: what globals() may reach", "module", "FACTOR = 3", "FACTOR = 4", True),
    (
        "dynamic: something of the module",
        "module",
        "def unrelated(x):\n    return x",
        "def unrelated(x):\n    return -x",
        True,
    ),
]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = []

    def written_anew(sources: dict[str, str], function: str = "function") -> str:
        folder = tmp_path / str(len(written))
        folder.mkdir()
        written.append(folder)
        for name, text in sources.items():
            (folder / f"{name}.py").parent.mkdir(exist_ok=True)
            (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        forget(sources)
        return identify(getattr(importlib.import_module("module"), function)).digest

    yield written_anew
    forget([*SOURCES, "parcel", "parcel/part", "parcel/other"])


def forget(names) -> None:
    for name in names:
        sys.modules.pop(name.replace("/", "."), None)


SOURCES = {"module": MODULE, "helper": HELPER, "deeper": DEEPER, "deepest": DEEPEST}


@pytest.mark.parametrize(("what", "where", "old", "new", "counts"), EDITS, ids=[edit[0] for edit in EDITS])
def test_only_what_the_function_reaches_counts(digest, what: str, where: str, old: str, new: str, counts: bool) -> None:
    function = what.partition(":")[0] if ":" in what else "function"
    sources = SOURCES
    if function == "function":  # a star import makes the whole module count, as the test below shows
        sources = SOURCES | {"module": MODULE.replace("from helper import *\n", "")}
    assert not old or sources[where].count(old) == 1
    before = digest(sources, function)
    assert (digest(sources | {where: sources[where].replace(old, new)}, function) != before) is counts


def test_an_unused_function_of_a_helper_does_not_count(digest) -> None:
    before = digest(SOURCES)
    edited = HELPER.replace("def unused(x):\n    return x", "def unused(x):\n    return -x")
    assert digest(SOURCES | {"helper": edited}) == before


def test_a_function_that_is_defined_through_a_star_import_counts(digest) -> None:
    sources = {"module": "from helper import *\n\ndef function(x):\n    return halve(x)\n", "helper": HELPER}
    before = digest(sources)
    assert digest(sources | {"helper": HELPER.replace("x // 2", "x // 5")}) != before


def test_another_version_of_an_installed_package_counts(digest, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sources = (
        importlib.metadata.version,
        {"module": "import numpy\n\ndef function(x):\n    return numpy.abs(x)\n"},
    )
    before = digest(sources)
    assert digest(sources) == before
    owner_of.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == "numpy" else real(name))
    assert digest(sources) != before
    owner_of.cache_clear()


def test_without_source_the_compiled_code_counts() -> None:
    def made(source: str) -> str:
        cell: dict[str, object] = {"__name__": "no_such_module"}
        exec(compile(source, "<nowhere>", "exec"), cell)
        return identify(cell["function"]).digest  # type: ignore[arg-type]

    before = made("def function(x): return x + 1")
    assert made("def function(x): return x + 1") == before
    assert made("def function(x): return x + 2") != before
    assert made("def function(x): return x - 1") != before


def test_every_wrapper_of_a_function_counts(digest) -> None:
    source = "def plus(n):\n    def decorate(f):\n        @functools.wraps(f)\n        def wrapper(x):\n            return f(x) + n\n        return wrapper\n    return decorate\n\n"
    source = "import functools\n\n" + source + "@plus(1)\n@plus(2)\ndef function(x):\n    return x\n"
    before = digest({"module": source})
    assert digest({"module": source.replace("plus(1)", "plus(3)")}) != before
    assert digest({"module": source.replace("plus(2)", "plus(3)")}) != before
    assert digest({"module": source.replace("f(x) + n", "f(x) - n")}) != before
    assert digest({"module": source.replace("return x\n", "return -x\n")}) != before


def test_a_module_of_a_package_that_is_imported_late_counts(digest) -> None:
    sources = {
        "module": "def function(x):\n    from parcel import part\n    return part.PART + x\n",
        "parcel": "",  # so that it is forgotten; the folder of that name comes first
        "parcel/__init__": "",
        "parcel/part": "from .other import OTHER\nPART = OTHER\n",
        "parcel/other": "OTHER = 1\n",
    }
    before = digest(sources)
    assert digest(sources) == before
    assert digest(sources | {"parcel/part": "from .other import OTHER\nPART = -OTHER\n"}) != before
    assert digest(sources | {"parcel/other": "OTHER = 2\n"}) != before


@pytest.mark.parametrize(("folder", "installed"), [("site-packages", True), ("dist-packages", True), ("lib", False)])
def test_installed_packages_are_known_by_where_they_lie(
    tmp_path: Path, monkeypatch, folder: str, installed: bool
) -> None:
    name = f"lies_in_{folder.replace('-', '_')}"
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / folder)
    assert owner_of(name) == ((f"installed {name}", "unknown") if installed else None)


# A module with something in it that is 2 first, and 3 then: `function` is another one each time.
REACHED = {
    "a callable object that is the function": """
        @dataclass
        class Scale:
            factor: int
            def __call__(self, x): return self.factor * x * @@
        function = Scale(1)
        """,
    "a method of a global dataclass": """
        @dataclass
        class Scale:
            factor: int
            def apply(self, x): return self.factor * x * @@
        scale = Scale(1)
        def function(x): return scale.apply(x)
        """,
    "a method that a bound method of a dataclass calls": """
        @dataclass
        class Scale:
            factor: int
            def apply(self, x): return self.inner(x)
            def inner(self, x): return x * @@
        function = Scale(1).apply
        """,
    "what a dataclass in a table does": """
        @dataclass
        class Scale:
            factor: int
            def apply(self, x): return x * @@
        TABLE = {"one": [Scale(1)]}
        def function(x): return TABLE["one"][0].apply(x)
        """,
    "what an attribute of a class was computed from": """
        LIMIT = @@
        class Settings:
            limit = LIMIT
        def function(x): return Settings.limit * x
        """,
    "what a cached property calls": """
        def helper(): return @@
        class Tool:
            @functools.cached_property
            def value(self): return helper()
        def function(x): return Tool().value * x
        """,
    "what a cached method calls": """
        def helper(): return @@
        class Tool:
            @functools.lru_cache
            def value(self): return helper()
        def function(x): return Tool().value() * x
        """,
    "a class inside a class": """
        def helper(): return @@
        class Outer:
            class Inner:
                def value(self): return helper()
        def function(x): return Outer.Inner().value() * x
        """,
    "an object in a class": """
        class Tool:
            def value(self): return @@
        class Holder:
            tool = Tool()
        def function(x): return Holder.tool.value() * x
        """,
    "an implementation of a generic function": """
        @functools.singledispatch
        def function(x): return 0
        @function.register
        def _(x: int): return x * @@
        """,
    "which type has an implementation": """
        @functools.singledispatch
        def function(x): return 0
        def double(x): return 2 * x
        function.register([None, None, int, float][@@], double)
        """,
    "a wrapper of a library's function": """
        def twice(inner):
            @functools.wraps(inner)
            def wrapper(x): return inner(x) * @@
            return wrapper
        function = twice(math.floor)
        """,
    "a function that an object holds": """
        class Pipeline:
            def __init__(self, *steps): self.steps = steps
            def run(self, x): return self.steps[0](x)
        def step(x): return x * @@
        pipeline = Pipeline(step)
        def function(x): return pipeline.run(x)
        """,
    "a lambda that an object holds": """
        class Holder:
            def __init__(self, step): self.step = step
        holder = Holder(lambda x: x * @@)
        def function(x): return holder.step(x)
        """,
    "what else is in an object with a lock": """
        class Holder:
            def __init__(self, number): self.number, self.lock = number, threading.Lock()
        holder = Holder(@@)
        def function(x): return holder.number * x
        """,
    "an attribute of a function": """
        def function(x): return x * function.factor
        function.factor = @@
        """,
    "a method of a metaclass": """
        class Meta(type):
            def go(cls, x): return x * @@
        class Tool(metaclass=Meta): pass
        def function(x): return Tool.go(x)
        """,
    "what a decorator gives a class": """
        def decorated(kind):
            kind.factor = @@
            return kind
        @decorated
        class Tool: pass
        def function(x): return Tool.factor * x
        """,
    "a constant that an enum is made of": """
        FACTOR = @@
        class Kind(enum.Enum):
            ONE = FACTOR
        def function(x): return Kind.ONE.value * x
        """,
    "a method of an enum's member": """
        class Kind(enum.Enum):
            ONE = 1
            def value_of(self): return @@
        one = Kind.ONE
        def function(x): return one.value_of() * x
        """,
    "a function behind an installed library's object": """
        def scaled(x): return x * @@
        vectorized = numpy.vectorize(scaled)
        def function(x): return int(vectorized(x))
        """,
    "what one of two lambdas on a line looks up by name": """
        def hidden(x): return x * @@
        other, function = (lambda x: x), (lambda x: getattr(sys.modules[__name__], "hidden")(x))
        """,
    "what a descriptor calls": """
        def helper(): return @@
        class Descriptor:
            def __get__(self, instance, owner): return helper()
        class Tool:
            value = Descriptor()
        def function(x): return Tool.value * x
        """,
    "the factory of a dictionary": """
        def helper(): return @@
        table = collections.defaultdict(helper)
        def function(x): return table[x] * x
        """,
    "a callable that stands for what it wraps": """
        class Memo:
            def __init__(self, inner): functools.update_wrapper(self, inner); self.inner = inner
            def __call__(self, x): return self.inner(x) * @@
        @Memo
        def function(x): return x
        """,
}
IMPORTS = "import collections, enum, functools, math, sys, threading\nimport numpy\nfrom dataclasses import dataclass\n"


@pytest.mark.parametrize("what", REACHED)
def test_whatever_it_reaches_counts(digest, what: str) -> None:
    source = IMPORTS + textwrap.dedent(REACHED[what])
    assert source.count("@@") == 1
    before = digest({"module": source.replace("@@", "2")})
    assert digest({"module": source.replace("@@", "2")}) == before
    assert digest({"module": source.replace("@@", "3")}) != before


def test_a_relative_import_inside_a_function_counts(digest) -> None:
    def sources(factor: int) -> dict[str, str]:
        return {
            "parcel": "",
            "parcel/__init__": "",
            "parcel/part": "def f(x):\n    from .other import g\n    return g(x)\n",
            "parcel/other": f"def g(x):\n    return x * {factor}\n",
            "module": "from parcel.part import f as function\n",
        }

    before = digest(sources(2))
    assert digest(sources(3)) != before


STABLE = """
import logging
import threading
import config
from pymw.identity import identify

class Tags:
    def __init__(self):
        self.tags = {"a", "b", "c", "d"}
        self.lock = threading.Lock()

def first(): pass
def second(): pass
tags, functions, log = Tags(), {first, second}, logging.getLogger("any")
_, check = (lambda x: x), (lambda x: x in {"e", "f", "g", "h"})

def function(x):
    log.info("%s", check(x))
    return config.WIDTH * config.HEIGHT * config.DEPTH * len(tags.tags) * len(functions)

print(identify(function).digest)
"""


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the hash seed: equal constants may be one object or two, sets have any order."""
    (tmp_path / "config.py").write_text("WIDTH = 10\nHEIGHT = 10\nDEPTH = 10\n")
    (tmp_path / "script.py").write_text(STABLE)
    digests = {
        subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for seed in range(4)
    }  # fmt: skip
    assert len(digests) == 1


def test_what_runs_counts_and_not_what_was_edited_since(digest, tmp_path: Path) -> None:
    source = "FACTOR = 1\n\ndef function(x):\n    return x * 2\n\ndef dynamic(x):\n    return globals()['FACTOR'] * x\n"
    edited = source.replace("x * 2", "x * 3")
    right, right_dynamic = digest({"module": source}), digest({"module": source}, "dynamic")
    other, other_dynamic = digest({"module": edited}), digest({"module": edited}, "dynamic")
    # Edited while it runs, and not seen before: it is neither the one nor the other.
    digest({"module": source.replace("x * 2", "x * 4")})
    running = sys.modules["module"]
    Path(str(running.__file__)).write_text(edited)
    fresh = identify_anew(running.function), identify_anew(running.dynamic)
    assert not {right, other, right_dynamic, other_dynamic} & set(fresh)
    # Seen before, as it is when a named run begins: it is what it was.
    digest({"module": source})
    running = sys.modules["module"]
    remember_sources()
    Path(str(running.__file__)).write_text("\n" + edited)
    assert (identify_anew(running.function), identify_anew(running.dynamic)) == (right, right_dynamic)


def identify_anew(function) -> str:
    """Not the identity that this process found before."""
    return _identify(function).digest


def test_a_module_that_was_imported_anew_counts(digest, tmp_path: Path) -> None:
    digest({"module": "import helper\n\ndef function(x):\n    return helper.halve(x)\n", "helper": HELPER})
    function, helper = sys.modules["module"].function, sys.modules["helper"]
    before = identify(function).digest
    Path(str(helper.__file__)).write_text(HELPER.replace("x // 2", "x // 5"))
    importlib.invalidate_caches()
    importlib.reload(helper)
    assert identify(function).digest != before
