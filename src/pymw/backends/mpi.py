"""The ranks of an MPI job: ``mpiexec -n 3 python -m mpi4py.futures script.py``, with Master("mpi") in the script."""

from __future__ import annotations

import importlib

from pymw.backends.executor import ExecutorBackend
from pymw.backends.protocol import Backend, Setup
from pymw.errors import BackendError

__all__ = ["open_mpi"]


def open_mpi(address: str, setup: Setup) -> Backend:
    """``mpi``: all ranks but the first. MPI cannot lose a rank: the whole job ends with it."""
    if address:
        raise BackendError(f"mpi:{address}: nothing follows the colon; mpiexec says where the ranks run")
    futures = importlib.import_module("mpi4py.futures")
    executor = futures.MPIPoolExecutor(max_workers=setup.max_workers, main=False)  # nobody runs the script again
    executor.bootup(wait=True)
    ranks = max(1, executor.num_workers)
    return ExecutorBackend(
        executor,
        setup,
        name="mpi",
        workers=ranks,
        close=lambda: executor.shutdown(wait=True, cancel_futures=True),
        elsewhere=True,
    )
