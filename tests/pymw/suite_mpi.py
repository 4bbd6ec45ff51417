"""The conformance suite under MPI: test_backends.py has `mpiexec` run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.pymw.conformance import Suite

from pymw import Master


class TestMpi(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with Master("mpi") as master:
            assert master.status().carried.workers == 2
            yield master
