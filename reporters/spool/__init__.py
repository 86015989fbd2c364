"""The durable spool: records stay on disk until they are delivered.

Start at `Spool`. Whoever has records `offer`s, `put`s or `commit`s them; a courier (`reporters.delivery`) `lease`s and
`settle`s them.
"""

from reporters.spool._ids import IdSource
from reporters.spool._model import (
    ClassStatistics,
    DeadLetter,
    Lease,
    NotCommitted,
    Pending,
    Record,
    RecordClass,
    SpoolStatistics,
    SpoolUnavailable,
)
from reporters.spool._spool import Settlement, Spool
from reporters.spool._ticket import Ticket

__all__ = [
    "ClassStatistics",
    "DeadLetter",
    "IdSource",
    "Lease",
    "NotCommitted",
    "Pending",
    "Record",
    "RecordClass",
    "Settlement",
    "Spool",
    "SpoolStatistics",
    "SpoolUnavailable",
    "Ticket",
]
