"""What the platform keeps: samples, labels, and what a queue was set up with.

Frozen values that know no storage and emit nothing. Times are ns since the epoch.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from runtime.errors import expected

QueueStatus = Literal["active", "paused", "archived"]


class Sample(msgspec.Struct, frozen=True):
    """Something to label: an id that is unique in its queue, its text, and how hard it is (0…1)."""

    id: str
    text: str
    difficulty: float = 0.5


class Label(msgspec.Struct, frozen=True):
    """One labeler's accepted answer for one sample."""

    id: str
    assignment_id: str
    queue_id: str
    sample_id: str
    labeler_id: str
    schema_version_id: str
    values: dict[str, Any]
    labeling_time_seconds: float
    submitted_at_ns: int


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue was created with.

    - `labels_per_sample` (1): labels wanted for each sample, each from another labeler.
    - `assignment_timeout_s` (3600): time to submit once an assignment is started.
    - `max_attempts` (3): timed-out attempts after which an assignment is escalated rather than requeued.
    """

    queue_id: str
    tenant_id: str
    policy_type: str
    labels_per_sample: int = 1
    assignment_timeout_s: float = 3600.0
    max_attempts: int = 3

    def __post_init__(self) -> None:
        if not self.queue_id:
            raise expected("a queue id that is not empty", self.queue_id)
        for name in ("labels_per_sample", "assignment_timeout_s", "max_attempts"):
            value = getattr(self, name)
            if not value > 0:
                raise expected(f"{name} to be a positive number", value)
