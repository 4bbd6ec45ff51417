"""The canonical record of a match: what two hosts must agree on, and beside it what only this host can say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from pacman_ctf import rules
from pacman_ctf.errors import RecordError

FORMAT: Final = "pacman-ctf-match/1"
CODES: Final = ("score", "crash", "timeout", "illegal", "load")
SIDES: Final = ("red", "blue")
NOBODY: Final = ""
FAULTS: Final = (*SIDES, "both")  # who can be blamed
FORFEIT: Final = {"red": -1, "blue": 1, "both": 0, NOBODY: 0}  # the score of a match that a team did not finish
MAX_MOVES: Final = 100_000
_HOST_SAYS: Final = ("cpu", "start_cpu", "warnings", "factor", "isolation", "interpreter", "reason")


@dataclass(frozen=True, slots=True)
class Record:
    """One match. Up to `chain` two hosts that played the same must tell the same; the rest is this host's."""

    layout: str  # the text
    layout_name: str
    seed: str  # 32 hexadecimal digits
    length: int
    first: int  # the agent that moved first
    red: str  # digest of the submission
    blue: str
    red_name: str
    blue_name: str
    moves: str  # a letter each: N S E W and a dot for Stop
    code: str  # how it ended: score, or what a team did
    blame: str  # the team that did it: red, blue, both, or nobody
    score: int
    winner: str  # red, blue or tie
    chain: str  # a hash over all of the above, move by move
    engine: str = rules.ENGINE
    format: str = FORMAT
    reason: str = ""  # what the blamed team did, in a line
    cpu: tuple[float, ...] = ()  # seconds of the moves, by agent
    start_cpu: tuple[float, ...] = ()  # seconds to load, by team
    warnings: tuple[int, ...] = ()  # by agent
    factor: float = 1.0  # how many times slower than the reference the host is
    isolation: tuple[str, ...] = ()  # by team: the level that was reached
    interpreter: str = ""
    clock: bool = field(default=False)  # a team reads the clock, so that replicas may differ

    def as_json(self) -> dict[str, Any]:
        """As a dictionary of JSON's types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def compared(self) -> dict[str, Any]:
        """The part that replicas must agree on."""
        return {name: value for name, value in self.as_json().items() if name not in _HOST_SAYS}

    @property
    def digest(self) -> str:
        """Equal when replicas agree exactly."""
        return hashlib.sha256(canonical(self.compared())).hexdigest()

    @classmethod
    def of_json(cls, data: Any) -> Record:
        """The record in a dictionary. Raises `RecordError` naming what is missing or of the wrong kind."""
        if not isinstance(data, Mapping):
            raise RecordError(f"a record is an object, not {type(data).__name__}")
        if data.get("format") != FORMAT:
            raise RecordError(f"not a record of format {FORMAT}: {str(data.get('format'))[:50]!r}")
        values = {}
        for known in fields(cls):
            if known.name not in data:
                raise RecordError(f"the record has no {known.name!r}: it is truncated or of another version")
            values[known.name] = _checked(known.name, str(known.type), data[known.name])
        record = cls(**values)
        if record.code not in CODES or record.winner not in (*SIDES, "tie"):
            raise RecordError(f"no outcome: {record.code[:30]!r}, {record.winner[:30]!r}")
        if len(record.moves) > MAX_MOVES or record.length > MAX_MOVES or len(record.layout) > 1 << 16:
            raise RecordError("the record is longer than any match")
        return record


def _checked(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        one = {"tuple[float, ...]": (int, float), "tuple[int, ...]": (int,), "tuple[str, ...]": (str,)}[kind]
        if isinstance(value, list | tuple) and len(value) <= 16 and all(type(each) in one for each in value):
            return tuple(value)
    else:
        allowed: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
        if type(value) in allowed[kind]:
            return value
    raise RecordError(f"the record's {name!r} is not of type {kind}")


def canonical(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def chain(header: Mapping[str, Any], moves: str, outcome: Mapping[str, Any]) -> str:
    """A hash that grows with each move, so that no part of a record can be exchanged."""
    link = hashlib.sha256(canonical(header)).digest()
    for letter in moves:
        link = hashlib.blake2b(letter.encode(), key=link, digest_size=32).digest()
    return hashlib.sha256(link + canonical(outcome)).hexdigest()


def seal(values: dict[str, Any]) -> Record:
    """The record of these values, with its chain."""
    header = {name: values[name] for name in
              ("layout", "layout_name", "seed", "length", "first", "red", "blue", "red_name", "blue_name")}  # fmt: skip
    outcome = {name: values[name] for name in ("code", "blame", "score", "winner")}
    return Record(**values, chain=chain(header | {"engine": rules.ENGINE}, values["moves"], outcome))
