"""Volunteers for tests and demonstrations: simulated ones that speak the wire protocol, and the stock client.

>>> from boincserver.testing import SimulatedVolunteer, StockClient, serving
"""

from boincserver.testing.serving import configure, free_port, serving
from boincserver.testing.simulated import SimulatedJob, SimulatedVolunteer
from boincserver.testing.stock import StockClient, StockTask
from boincserver.testing.waiting import wait_until

__all__ = [
    "SimulatedJob",
    "SimulatedVolunteer",
    "StockClient",
    "StockTask",
    "configure",
    "free_port",
    "serving",
    "wait_until",
]
