"""A team as its files: read from a folder, a zip or one Python file, and looked at without running it."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from pacman_ctf.compat.modules import names
from pacman_ctf.errors import SubmissionError

MAX_NAME: Final = 100  # letters of a team's name
MAX_PATH: Final = 250  # bytes of a file's path within the team's folder
MAX_BYTES: Final = 32 << 20  # of all files: trained weights fit, film collections do not
MAX_FILES: Final = 500
MAX_SOURCE: Final = 1 << 20  # bytes of Python that are looked into; to parse more would take minutes
USUAL_NAMES: Final = ("myTeam.py", "my_team.py", "team.py")
FACTORIES: Final = ("create_team", "createTeam")
_CLOCKS: Final = {"time", "datetime", "timeit", "threading", "asyncio", "signal"}
_SKIPPED: Final = {"__pycache__", "__MACOSX", ".git", ".DS_Store", ".idea", ".vscode"}


@dataclass(frozen=True, slots=False)
class Submission:
    """A team's name and files by relative path. `main` is the module that makes the team's agents."""

    name: str
    files: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """What tells one submission from another: SHA-256 over paths and contents."""
        total = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            total.update(f"{len(path.encode())}:{path}:{len(content)}:".encode())
            total.update(content)
        return total.hexdigest()

    @cached_property
    def main(self) -> str:
        """The path of the module with the factory. Raises `SubmissionError` when there is none, or a choice."""
        modules = [path for path in self.files if path.endswith(".py")]
        if not modules:
            raise SubmissionError(f"team {self.name} has no Python file")
        usual = [path for usual in USUAL_NAMES for path in modules if PurePosixPath(path).name == usual]
        usual.sort(key=lambda path: path.count("/"))
        if usual:
            return usual[0]
        makers = [path for path in sorted(modules) if self._makes_team(path)]
        if len(makers) == 1:
            return makers[0]
        if not makers and len(modules) == 1:
            return modules[0]  # its load will say what is missing
        found = f"{len(makers)} files do ({', '.join(makers)})" if makers else "no file does"
        raise SubmissionError(f"team {self.name}: one file must define create_team or createTeam, and {found}; "
                              f"call the one that counts {USUAL_NAMES[0]}")  # fmt: skip

    def _makes_team(self, path: str) -> bool:
        return re.search(rb"^(def|from\b.*\bimport\b.*)\s*\b(create_team|createTeam)\b|^(create_team|createTeam)\s*=",
                         self.files[path], re.MULTILINE) is not None  # fmt: skip

    @cached_property
    def sources(self) -> dict[str, bytes]:
        """The team's Python files, as far as they are looked into."""
        found = {path: content for path, content in self.files.items() if path.endswith(".py")}
        return found if sum(map(len, found.values())) <= MAX_SOURCE else {}

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every module that the team's files import, as far as they can be parsed."""
        return frozenset(name for source in self.sources.values() for name in imported(source))

    @property
    def uses_clock(self) -> bool:
        """Whether the result may depend on time or threads, so that replicas may differ."""
        return not self.sources or any(name.partition(".")[0] in _CLOCKS for name in self.imports)

    @property
    def uses_numpy(self) -> bool:
        """Whether NumPy's generator is to be seeded as well."""
        return any(name.partition(".")[0] == "numpy" for name in self.imports)

    @property
    def dialect(self) -> str:
        """`flat-camel`, `contest-snake`, ...: by what the main module imports and how it calls its factory."""
        source = self.sources.get(self.main, b"")
        modules = imported(source) & set(names())
        if not modules and python2(source):
            return "flat-camel-py2"
        where = "contest" if any(name.startswith("contest") for name in modules) else "flat"
        camel = any(re.search("[a-z][A-Z]", name) for name in modules) or b"def createTeam" in source
        snake = any("_" in name for name in modules) or b"def create_team" in source
        return f"{where}-{'mixed' if camel and snake else 'camel' if camel else 'snake'}"

    def write(self, folder: Path) -> None:
        """Put the files into a folder."""
        for path, content in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    @classmethod
    def of(cls, name: str, files: Mapping[str, bytes]) -> Submission:
        """Files by path, checked: no path leaves the folder, every folder can hold them, no team is too large."""
        if not name.isprintable() or len(name) > MAX_NAME:
            raise SubmissionError(f"a team cannot be called {name[:MAX_NAME]!a}: "
                                  f"a name is at most {MAX_NAME} letters that can be printed")  # fmt: skip
        if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
            raise SubmissionError(f"team {name} is too large: at most {MAX_FILES} files, {MAX_BYTES >> 20} MB")
        for path in files:
            parts = PurePosixPath(path).parts
            if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
                raise SubmissionError(f"team {name}: the path {path!r} leaves the team's folder")
            if not path.isprintable() or len(path.encode("utf-8", "replace")) > MAX_PATH:
                raise SubmissionError(f"team {name}: no file can be called {path[:MAX_PATH]!a} on every host; "
                                      f"rename it")  # fmt: skip
            if any(str(parent) in files for parent in PurePosixPath(path).parents):
                raise SubmissionError(f"team {name}: {path!r} lies within what is a file as well")
        return cls(name, dict(sorted(files.items())))

    @classmethod
    def read(cls, source: str | Path) -> Submission:
        """The team in a folder, a zip file or one Python file."""
        path = Path(source)
        if path.is_dir():
            return cls.of(path.resolve().name, dict(_folder(path)))
        if not path.exists():
            raise SubmissionError(f"there is no team at {path}; a team is a folder, a zip or a Python file")
        if path.suffix == ".py":
            return cls.of(path.stem, {path.name: path.read_bytes()})
        if zipfile.is_zipfile(path):
            return cls.of(path.stem, dict(_zip(path.stem, path.read_bytes())))
        raise SubmissionError(f"{path} is neither a folder nor a zip file nor a Python file")


def _kept(path: PurePosixPath) -> bool:
    return not _SKIPPED & set(path.parts) and path.suffix != ".pyc"


def _folder(folder: Path) -> Iterable[tuple[str, bytes]]:
    total = 0
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not path.is_symlink() and _kept(inside):
            total += path.stat().st_size
            if total > MAX_BYTES:
                raise SubmissionError(f"team {folder.name} is too large: more than {MAX_BYTES >> 20} MB")
            yield str(inside), path.read_bytes()


def _zip(name: str, data: bytes) -> Iterable[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir() and _kept(PurePosixPath(entry.filename))]
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise SubmissionError(f"team {name} is too large: more than {MAX_BYTES >> 20} MB unpacked")
        tops = {entry.filename.partition("/")[0] for entry in entries}
        nested = len(tops) == 1 and all("/" in entry.filename for entry in entries)
        for entry in entries:
            with archive.open(entry) as file:
                content = file.read(entry.file_size + 1)  # a header may lie about the size
            if len(content) > entry.file_size:
                raise SubmissionError(f"team {name}: {entry.filename} is larger than its header says")
            yield entry.filename.partition("/")[2] if nested else entry.filename, content


def parsed(source: bytes) -> ast.Module:
    """A source's tree. Raises `SyntaxError` for whatever Python cannot read, also when it only is too deep for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its strings, say: the team's own business
            return ast.parse(source)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "an expression is too deep") from error


def imported(source: bytes) -> set[str]:
    """The modules that a source imports anywhere; of what Python 3 cannot parse, none."""
    try:
        tree = parsed(source)
    except SyntaxError:
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            if node.module == "contest":
                found.update(f"contest.{alias.name}" for alias in node.names)
    return found


def python2(source: bytes) -> bool:
    """Whether a source looks like Python 2: Python 3 cannot parse it, and it has what was only there then."""
    try:
        parsed(source)
    except SyntaxError:
        pattern = (
            rb"^\s*print\s+[^(\s=]|^\s*except\s+[\w.]+\s*,\s*\w+\s*:|\bhas_key\(|^\s*raise\s+\w+\s*,|<>|^\s*print\s*$"
        )
        tabs = re.search(rb"^ +\S", source, re.MULTILINE) and re.search(rb"^\t+\S", source, re.MULTILINE)
        return bool(re.search(pattern, source, re.MULTILINE) or tabs)
    return False
