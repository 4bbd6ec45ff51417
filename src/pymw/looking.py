"""A look into an object of somebody else's making: what it holds, and which code of the user's is in it."""

# ruff: noqa: BLE001 - values of the user's may raise anything when they are looked at

from __future__ import annotations

import copyreg
import hashlib
import io
import pickle
import types
from typing import Any

from pymw import codec

__all__ = ["look_into"]


def look_into(value: object) -> tuple[str, list[Any]]:
    """The digest of its pickle, equal in every process, and the functions, classes and modules that are in it.

    Functions count by name there, wherever they were defined. The digest is empty if something else in it cannot be
    pickled: locks and connections come with much that is different each time.
    """
    look = _Look()
    try:
        look.dump(value)
    except Exception:
        return "", look.met
    return "" if look.refused else look.digest(), look.met


class _Look(pickle.Pickler):
    def __init__(self) -> None:
        self._written = io.BytesIO()
        self.met: list[Any] = []
        self.refused = False
        super().__init__(self._written, protocol=5)

    def digest(self) -> str:
        return hashlib.sha256(self._written.getvalue()).hexdigest()

    def persistent_id(self, thing: Any) -> Any:
        """What stands for it in the pickle; None for itself."""
        if isinstance(thing, (types.FunctionType, type, types.ModuleType)):
            self.met.append(thing)
            return "code", str(getattr(thing, "__module__", None)), getattr(thing, "__qualname__", thing.__name__)
        if type(thing) in (set, frozenset):  # which have another order in each process
            return type(thing).__name__, *sorted(map(self._element, thing))
        return None

    def _element(self, element: Any) -> str:
        try:
            return codec.digest(element)
        except Exception:
            look = _Look()
            look.dump(element)
            self.met += look.met
            self.refused |= look.refused
            return look.digest()

    def reducer_override(self, thing: Any) -> Any:
        """How it is pickled; what cannot be is left out."""
        reducer = copyreg.dispatch_table.get(type(thing))
        try:
            return reducer(thing) if reducer is not None else thing.__reduce_ex__(5)
        except Exception:
            self.refused = True
            return str, ()
