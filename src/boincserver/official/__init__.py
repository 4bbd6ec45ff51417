"""Inside a project of the official server software: its submitter, validator and assimilator, beside its own daemons.

    OfficialProject ──workunits──▶ its tables ◀── its transitioner, feeder, scheduler, upload handler
          ▲                            │
          │                            ├─ need_validate ──▶ Validation    (a daemon of that project)
          └── boincserver_batches/ ◀───┴─ assimilate READY ─▶ Assimilation (another)

Official tables are written to by their published meaning, and never altered; what they have no place for lies in the
folder `boincserver_batches` of the project.
"""

from boincserver.official.assimilation import Assimilation
from boincserver.official.batches import Batches
from boincserver.official.daemon import Daemon
from boincserver.official.project import OfficialProject
from boincserver.official.settings import Settings, is_official
from boincserver.official.tables import Tables
from boincserver.official.validation import Validation

__all__ = ["Assimilation", "Batches", "Daemon", "OfficialProject", "Settings", "Tables", "Validation", "is_official"]
