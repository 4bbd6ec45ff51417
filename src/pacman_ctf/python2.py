"""A convenience for teams from Python 2: their files as Python 3, so that somebody can check and keep them.

It is done by hand or by `check`, never in a match: what plays is what was submitted.
"""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
import time
import tokenize
import warnings
from dataclasses import replace
from io import BytesIO
from typing import Any, Final

from pacman_ctf import isolation
from pacman_ctf.errors import SubmissionError
from pacman_ctf.submission import Submission, python2

NOTICE: Final = "# Converted from Python 2 by pacman-ctf; please check it, above all where numbers are divided.\n"
_MEMORY: Final = 2 << 30
_DIVIDE: Final = """
def _divide(a, b):  # what / was in Python 2
    return a // b if isinstance(a, int) and isinstance(b, int) else a / b

"""


def convert(team: Submission, seconds: float = 30.0) -> Submission:
    """The team with each Python 2 file converted; the others stay as they are. Raises `SubmissionError`."""
    files = dict(team.files)
    end = time.monotonic() + seconds
    for path, source in team.sources.items():
        if python2(source):
            files[path] = _converted(path, source, end - time.monotonic())
    return replace(team, files=files)


def _converted(path: str, source: bytes, seconds: float) -> bytes:
    """One file converted, by a process of its own: some sources take hours, or all the memory there is."""
    environment = isolation.environment()
    command = [sys.executable, "-W", "ignore", "-m", "pacman_ctf.python2", path]
    try:
        done = subprocess.run(
            command, input=source, capture_output=True, timeout=max(seconds, 0.1), env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise SubmissionError(f"{path} is Python 2, and to convert it takes longer than {seconds:.0f} s: "
                              "convert it by hand") from None  # fmt: skip
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["the converter gave up"]
        raise SubmissionError(words[-1])
    return done.stdout


def _main(path: str) -> None:
    """In that process: from standard input to standard output."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    try:
        sys.stdout.buffer.write(to_python3(path, sys.stdin.buffer.read()))
    except (RecursionError, MemoryError):
        sys.exit(f"{path} is Python 2, and too deep to be converted: convert it by hand")
    except SubmissionError as error:
        sys.exit(str(error))


def to_python3(path: str, source: bytes) -> bytes:
    """One file converted. Raises `SubmissionError` when even Python 2 could not read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter is on its way out of the standard library
            from lib2to3 import refactor
            from lib2to3.pgen2.parse import ParseError
            from lib2to3.pgen2.tokenize import TokenError
    except ImportError as error:
        raise SubmissionError(f"{path} is Python 2; to convert it, run this with Python 3.12 or earlier") from error
    encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
    text = source.decode(encoding, "replace").expandtabs(8).replace("\r\n", "\n").rstrip() + "\n"
    true_division = "import division" in text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tool = refactor.RefactoringTool(refactor.get_fixers_from_package("lib2to3.fixes"))
            tree = tool.refactor_string(text, path)
    except (ParseError, TokenError, IndentationError, AttributeError) as error:
        raise SubmissionError(f"{path} is neither Python 2 nor Python 3: {error}") from error
    divided = not true_division and _divisions(tree)
    return _headed(str(tree), _DIVIDE if divided else "").encode()


def _divisions(tree: Any) -> bool:
    """Turn each `/` into a call that divides as Python 2 did; whether there was one."""
    from lib2to3 import pytree
    from lib2to3.pgen2 import token
    from lib2to3.pygram import python_symbols as symbols

    found = False
    for node in list(tree.post_order()):
        slash = [child for child in node.children if child.type in (token.SLASH, token.SLASHEQUAL)]
        if not slash:
            continue
        found = True
        left, *rest = node.children
        text = str(left).lstrip()
        for operator, operand in zip(rest[::2], rest[1::2], strict=True):
            if operator.type == token.SLASH:
                text = f"_divide({text.strip()}, {str(operand).strip()})"
            elif operator.type == token.SLASHEQUAL:
                text = f"{text.strip()} = _divide({text.strip()}, {str(operand).strip()})"
            else:
                text += f"{operator}{operand}"
        node.replace(pytree.Leaf(token.NAME, text, prefix=left.prefix))
    assert symbols is not None
    return found


def _headed(text: str, helper: str) -> str:
    """The notice on top; the helper after what must come first."""
    body = ast.parse(text).body
    first = 0
    for statement in body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if not (docstring or future):
            break
        first = statement.end_lineno or 0
    lines = text.splitlines(keepends=True)
    coding = 1 if lines and lines[0].startswith("#!") else 0
    head = "".join(lines[:coding]) + NOTICE + "".join(lines[coding:first])
    return head + helper + "".join(lines[max(first, coding) :])


if __name__ == "__main__":
    _main(sys.argv[1])
