"""The workers of a Dask scheduler: Master("dask:tcp://host:8786")."""

from __future__ import annotations

import importlib

from pymw.backends.executor import ExecutorBackend
from pymw.backends.protocol import Backend, Setup
from pymw.errors import BackendError

__all__ = ["open_dask"]

PATIENCE = 10  # seconds for the scheduler to answer


def open_dask(address: str, setup: Setup) -> Backend:
    """``dask:ADDRESS`` of a scheduler. Dask moves the tasks of a lost worker; pymw must be installed at the workers."""
    client_class = importlib.import_module("distributed").Client
    if not address:
        raise BackendError("dask: needs the address of a scheduler, as in dask:tcp://127.0.0.1:8786")
    try:
        client = client_class(address, timeout=PATIENCE, set_as_default=False)
    except OSError as error:
        raise BackendError(f"no Dask scheduler answers at {address}: {error}") from error
    workers = sum(client.nthreads().values()) or 1
    executor = client.get_executor(pure=False)

    def close() -> None:
        executor.shutdown(wait=False)
        client.close()

    return ExecutorBackend(
        executor, setup, name=f"dask:{address}", workers=workers, close=close, survives_worker_loss=True, elsewhere=True
    )
