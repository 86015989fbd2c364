"""The labelling platform: queues, assignments, labels, agreement, exports; see `service.Platform` for the front door.

Everything here emits through `runtime.execute` and `runtime.span` and knows nothing of who listens; `events.py`
declares what is emitted, `metrics.py` what is made of it.
"""

from app.labeling.assignments import Assignment, InvalidTransition
from app.labeling.auth import AccessDenied, Denied, Gate, Identity, Issuer
from app.labeling.export import ExportFailed, Manifest
from app.labeling.labels import Accepted, Rejected
from app.labeling.queues import Queue, Refused, Sweep
from app.labeling.records import Label, QueueSettings, Sample
from app.labeling.schema import Field, FieldError, Schema
from app.labeling.scoring import Report
from app.labeling.service import Platform
from app.labeling.storage import Storage

__all__ = [
    "Accepted",
    "AccessDenied",
    "Assignment",
    "Denied",
    "ExportFailed",
    "Field",
    "FieldError",
    "Gate",
    "Identity",
    "InvalidTransition",
    "Issuer",
    "Label",
    "Manifest",
    "Platform",
    "Queue",
    "QueueSettings",
    "Refused",
    "Rejected",
    "Report",
    "Sample",
    "Schema",
    "Storage",
    "Sweep",
]
