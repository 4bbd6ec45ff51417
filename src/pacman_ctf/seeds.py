"""Randomness that nobody can foresee and everybody can check: derived seeds and the noise of the sonar.

A tournament keeps one secret; every seed of it is an HMAC of a label, revealed afterwards. Noise is a keyed hash of
the move and the observer, so that it depends on no agent's behaviour.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from typing import Final

from pacman_ctf import rules

SEED_BYTES: Final = 16  # 128 bits: not to be guessed from the noise that an agent hears
_WIDTH: Final = rules.SONAR_NOISE_RANGE
_LOWEST: Final = -(_WIDTH // 2)

Noise = Callable[[int, int], tuple[int, ...]]  # (move number, observing agent) -> one offset per agent


def derive(secret: bytes, *label: object) -> bytes:
    """The seed that belongs to a label under a secret."""
    message = "\x1f".join(map(str, label)).encode()
    return hmac.new(secret, message, hashlib.sha256).digest()[:SEED_BYTES]


def from_text(text: str) -> bytes:
    """The seed that a person writes: 32 hexadecimal digits as they are, anything else hashed."""
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    return seed if len(seed) == SEED_BYTES else hashlib.sha256(text.encode()).digest()[:SEED_BYTES]


def first_mover(seed: bytes) -> int:
    """Agent 0 or agent 1, drawn from the match's seed."""
    return derive(seed, "first mover")[0] & 1


def team_seed(seed: bytes, red: bool) -> int:
    """What a team's own `random` starts from: of another label, so that it tells nothing about the noise."""
    return int.from_bytes(derive(seed, "team", "red" if red else "blue"), "big")


def keyed_noise(seed: bytes, agents: int = 4) -> Noise:
    """The noise of a real match: a keyed hash of (move, observer), 64 bits per agent."""
    key = derive(seed, "sonar")
    spans = [slice(8 * agent, 8 * agent + 8) for agent in range(agents)]
    blake2b, number = hashlib.blake2b, int.from_bytes

    def noise(move: int, observer: int) -> tuple[int, ...]:
        digest = blake2b(b"%d/%d" % (move, observer), key=key, digest_size=8 * agents).digest()
        return tuple([number(digest[span], "little") % _WIDTH + _LOWEST for span in spans])

    return noise


def reference_noise(source: random.Random, agents: int = 4) -> Noise:
    """Noise as the engines in use draw it, from one shared generator: for comparisons within one process only."""
    values = range(_LOWEST, _LOWEST + _WIDTH)

    def noise(move: int, observer: int) -> tuple[int, ...]:
        return tuple([source.choice(values) for _ in range(agents)])

    return noise
