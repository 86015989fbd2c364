"""The life of an assignment: one labeler, one sample, one or more attempts.

    pending ──start──> in_progress ──complete──> completed
       ^                    │ ├──────skip──────> skipped
       │                    │
       └─requeue─ expired <─┘ expire

Pure values: each verb returns a new assignment, or raises InvalidTransition; nothing here stores or emits. The
deadline is set at the start and not before, so an assignment that nobody started cannot time out. Times are ns since
the epoch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.errors import BeamstalkError

Status = Literal["pending", "in_progress", "completed", "expired", "skipped"]


class InvalidTransition(BeamstalkError):
    """Refuse a step that the assignment's status does not allow. The caller's fault, or it came too late."""

    def __init__(self, assignment: Assignment, wanted: str) -> None:
        super().__init__(f"expected assignment {assignment.id} to allow {wanted}, got: status {assignment.status}")
        self.assignment_id = assignment.id
        self.status = assignment.status
        self.wanted = wanted


class Assignment(msgspec.Struct, frozen=True):
    """A sample given to a labeler. `attempts` counts starts; `deadline_ns` is that of the running attempt."""

    id: str
    queue_id: str
    sample_id: str
    labeler_id: str
    created_at_ns: int
    status: Status = "pending"
    attempts: int = 0
    started_at_ns: int | None = None
    deadline_ns: int | None = None
    ended_at_ns: int | None = None

    def start(self, now_ns: int, timeout_ns: int) -> Assignment:
        """Begin an attempt, due `timeout_ns` from now."""
        self._require("pending", "start")
        return msgspec.structs.replace(
            self,
            status="in_progress",
            attempts=self.attempts + 1,
            started_at_ns=now_ns,
            deadline_ns=now_ns + timeout_ns,
            ended_at_ns=None,
        )

    def complete(self, now_ns: int) -> Assignment:
        """End with a label. Refused once the deadline has passed, whether or not the sweep has been here yet."""
        self._require("in_progress", "complete")
        if self.is_overdue(now_ns):
            raise InvalidTransition(self.expire(now_ns), "complete")
        return msgspec.structs.replace(self, status="completed", ended_at_ns=now_ns)

    def skip(self, now_ns: int) -> Assignment:
        """End without a label, because the labeler said so."""
        self._require("in_progress", "skip")
        return msgspec.structs.replace(self, status="skipped", ended_at_ns=now_ns)

    def expire(self, now_ns: int) -> Assignment:
        """End without a label, because time ran out."""
        self._require("in_progress", "expire")
        return msgspec.structs.replace(self, status="expired", ended_at_ns=now_ns)

    def requeue(self) -> Assignment:
        """Make an expired assignment available to its labeler for another attempt."""
        self._require("expired", "requeue")
        return msgspec.structs.replace(self, status="pending", started_at_ns=None, deadline_ns=None, ended_at_ns=None)

    def is_overdue(self, now_ns: int) -> bool:
        """Tell whether the running attempt is past its deadline.

        >>> running = Assignment("a", "q", "s", "l", created_at_ns=0).start(now_ns=0, timeout_ns=10)
        >>> running.is_overdue(10), running.is_overdue(11)
        (False, True)
        """
        return self.deadline_ns is not None and self.status == "in_progress" and now_ns > self.deadline_ns

    def labeling_time_seconds(self) -> float | None:
        """Return the time from start to end of the last attempt in seconds, None while there is no end."""
        if self.started_at_ns is None or self.ended_at_ns is None:
            return None
        # The calendar clock may have been set back in between.
        return max(0, self.ended_at_ns - self.started_at_ns) / 1e9

    def _require(self, status: Status, wanted: str) -> None:
        if self.status != status:
            raise InvalidTransition(self, wanted)
