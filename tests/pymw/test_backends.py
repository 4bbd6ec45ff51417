"""The conformance suite, on the backends that run here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.pymw.conformance import Suite

from pymw import Master


class TestLocal(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with Master("local", max_workers=2) as master:
            yield master


class TestMemory(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with Master("memory", max_workers=2) as master:
            yield master
