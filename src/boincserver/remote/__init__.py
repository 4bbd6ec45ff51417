"""A client of BOINC's remote job submission: for the official server and for this one, and for whoever submits jobs.

>>> url = "https://boinc.example.org/pi/"
>>> server = RemoteServer(url, account_key(url))                                               # doctest: +SKIP
>>> batch = server.create_batch("pi", "monday")                                                # doctest: +SKIP
>>> names = server.put_files([b"1000 darts", b"2000 darts"], batch)                            # doctest: +SKIP
>>> server.submit_batch("pi", [RemoteJob(f"pi_{n}", [name]) for n, name in enumerate(names)], batch)  # doctest: +SKIP
>>> server.query_batch(batch).fraction_done                                                    # doctest: +SKIP
"""

from boincserver.remote.account import account_key
from boincserver.remote.project import RemoteProject
from boincserver.remote.server import Inline, RemoteJob, RemoteServer
from boincserver.remote.told import BatchStatus, CompletedJob, Instance, JobStatus

__all__ = [
    "BatchStatus",
    "CompletedJob",
    "Inline",
    "Instance",
    "JobStatus",
    "RemoteJob",
    "RemoteProject",
    "RemoteServer",
    "account_key",
]
