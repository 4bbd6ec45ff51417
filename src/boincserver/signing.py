"""BOINC's code signatures: RSA with 1024 bits over the hexadecimal MD5, which is all that the stock client can check.

Both numbers are weak by today's standards. They protect against a stranger who changes files on the server or on the
way, not against one who can factor 1024 bits; keep the private key off the server where that matters.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

__all__ = ["PrivateKey", "PublicKey", "generate", "sign", "verify"]

_BITS: Final = 1024
_BYTES: Final = _BITS // 8
_EXPONENT: Final = 65537
_SMALL_PRIMES: Final = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What clients check signatures with."""

    n: int
    e: int

    def text(self) -> str:
        """BOINC's form: the number of bits, then modulus and exponent in hexadecimal."""
        return _key_text(self.n.to_bytes(_BYTES, "big") + self.e.to_bytes(_BYTES, "big"))

    @staticmethod
    def parse(text: str) -> PublicKey:
        """Read BOINC's form; ValueError if it is not that."""
        data = _key_bytes(text, 2 * _BYTES)
        return PublicKey(_number(data[:_BYTES]), _number(data[_BYTES:]))


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What signs."""

    n: int
    e: int
    d: int
    p: int
    q: int

    @property
    def public(self) -> PublicKey:
        """The half that everybody may know."""
        return PublicKey(self.n, self.e)

    def text(self) -> str:
        """The form of the official tools: all numbers that RSA with the Chinese remainder wants."""
        half = _BYTES // 2
        whole = b"".join(number.to_bytes(_BYTES, "big") for number in (self.n, self.e, self.d))
        rest = (self.p, self.q, self.d % (self.p - 1), self.d % (self.q - 1), pow(self.q, -1, self.p))
        return _key_text(whole + b"".join(number.to_bytes(half, "big") for number in rest))

    @staticmethod
    def parse(text: str) -> PrivateKey:
        """Read what `text` wrote; ValueError if it is not that."""
        half = _BYTES // 2
        data = _key_bytes(text, 3 * _BYTES + 5 * half)
        n, e, d = (_number(data[i * _BYTES : (i + 1) * _BYTES]) for i in range(3))
        rest = data[3 * _BYTES :]
        p, q = _number(rest[:half]), _number(rest[half : 2 * half])
        if p * q != n or (e * d) % ((p - 1) * (q - 1)) != 1:
            raise ValueError("the numbers of this private key do not belong together")
        return PrivateKey(n, e, d, p, q)


def generate() -> PrivateKey:
    """A new key."""
    while True:
        p, q = _prime(_BITS // 2), _prime(_BITS // 2)
        phi = (p - 1) * (q - 1)
        if p != q and (p * q).bit_length() == _BITS and phi % _EXPONENT:
            return PrivateKey(p * q, _EXPONENT, pow(_EXPONENT, -1, phi), p, q)


def sign(data: bytes, key: PrivateKey) -> str:
    """The signature of `data` as the client wants it in XML."""
    return sign_md5(hashlib.md5(data).hexdigest(), key)


def sign_md5(md5: str, key: PrivateKey) -> str:
    """The signature of data whose MD5 in hexadecimal is known."""
    return _hex_block(pow(_number(_padded(md5)), key.d, key.n).to_bytes(_BYTES, "big"))


def verify(data: bytes, signature: str, key: PublicKey) -> bool:
    """True if `signature` is that of `data`."""
    return verify_md5(hashlib.md5(data).hexdigest(), signature, key)


def verify_md5(md5: str, signature: str, key: PublicKey) -> bool:
    """The same of data whose MD5 in hexadecimal is known."""
    try:
        number = _number(_block_bytes(signature.split(), _BYTES))
    except ValueError:
        return False
    return pow(number, key.e, key.n).to_bytes(_BYTES, "big") == _padded(md5)


def _padded(md5: str) -> bytes:
    # PKCS #1 v1.5 block type 1 around the digits themselves, without the usual header that names the digest.
    digits = md5.encode("ascii")
    return b"\x00\x01" + b"\xff" * (_BYTES - 3 - len(digits)) + b"\x00" + digits


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _hex_block(data: bytes) -> str:
    digits = data.hex()
    return "".join(f"{digits[i : i + 64]}\n" for i in range(0, len(digits), 64)) + ".\n"


def _key_text(data: bytes) -> str:
    return f"{_BITS}\n{_hex_block(data)}"


def _key_bytes(text: str, size: int) -> bytes:
    first, *lines = text.split() or [""]
    if first != str(_BITS):
        raise ValueError(f"not a BOINC key of {_BITS} bits")
    return _block_bytes(lines, size)


def _block_bytes(lines: list[str], size: int) -> bytes:
    data = bytes.fromhex("".join(lines).rstrip("."))
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} were expected")
    return data


def _prime(bits: int) -> int:
    while True:
        # The two highest bits set: the product of two such primes has exactly twice the bits.
        candidate = secrets.randbits(bits) | (3 << (bits - 2)) | 1
        if all(candidate % prime for prime in _SMALL_PRIMES) and _is_probable_prime(candidate):
            return candidate


def _is_probable_prime(n: int, rounds: int = 40) -> bool:
    """Miller and Rabin's test; wrong for a composite with probability below 4**-rounds."""
    odd = n - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for _ in range(rounds):
        x = pow(secrets.randbelow(n - 3) + 2, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
