"""The platform's front door: every request is authorised, then done, then followed up.

`Platform` is what an HTTP layer would call: it knows the gate, the storage and the queues, and joins them so that no
caller can forget a check or a follow-up (an accepted label is counted, a finished sample is scored). Requests of any
thread; each blocks for the SQLite calls it makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import runtime
from app.labeling import export as exports
from app.labeling import labels
from app.labeling.assignments import Assignment
from app.labeling.auth import Gate, Identity, Role
from app.labeling.policies import Policy
from app.labeling.queues import Emit, Queue, Refused
from app.labeling.records import QueueSettings, QueueStatus
from app.labeling.schema import Schema
from app.labeling.scoring import Report, Scoring
from app.labeling.storage import Storage
from runtime.clock import Clock
from runtime.errors import NotFound


class Platform:
    """All queues of one storage. `AccessDenied` is raised by every request that the gate refuses."""

    def __init__(
        self, storage: Storage, gate: Gate, *, clock: Clock | None = None, emit: Emit = runtime.execute
    ) -> None:
        self._storage = storage
        self.gate = gate
        self._clock = clock or Clock()
        self._emit = emit
        self._queues: dict[str, Queue] = {}
        self._scorings: dict[str, Scoring] = {}

    def create_queue(self, identity: Identity, settings: QueueSettings, schema: Schema, policy: Policy) -> Queue:
        """Make a queue; who makes it administers it."""
        queue = Queue.create(self._storage, settings, schema, policy, clock=self._clock, emit=self._emit)
        self.gate.found(queue.id, settings.tenant_id, identity.labeler_id)
        self._queues[queue.id] = queue
        self._scorings[queue.id] = Scoring(queue)
        return queue

    def enroll(self, identity: Identity, queue_id: str, labeler_id: str, role: Role = "labeler") -> None:
        """Make somebody a member of a queue, and let them label there."""
        self.gate.require(identity, "manage_members", queue_id)
        self.gate.grant(queue_id, labeler_id, role)
        self.queue(queue_id).add_labelers(labeler_id)

    def change_status(self, identity: Identity, queue_id: str, status: QueueStatus) -> None:
        """Pause, resume or archive a queue."""
        self.gate.require(identity, "manage_queue", queue_id)
        self.queue(queue_id).change_status(status)

    def migrate_schema(self, identity: Identity, queue_id: str, schema: Schema) -> int:
        """Take a queue and its labels to another schema version; see `Queue.migrate`."""
        self.gate.require(identity, "manage_queue", queue_id)
        return self.queue(queue_id).migrate(schema)

    def request_assignment(self, identity: Identity, queue_id: str) -> Assignment | Refused:
        """Hand out and start the next assignment of whoever asks."""
        self.gate.require(identity, "request_assignment", queue_id)
        return self.queue(queue_id).dispatch(identity.labeler_id, start=True)

    def submit(
        self, identity: Identity, queue_id: str, assignment_id: str, values: Mapping[str, Any]
    ) -> labels.Accepted | labels.Rejected:
        """Submit a label; see `labels.submit`. Scores the sample if this was its last label."""
        self.gate.require(identity, "submit_label", queue_id)
        queue, scoring = self.queue(queue_id), self._scorings[queue_id]
        with queue.lock:  # counted before another thread can score it
            outcome = labels.submit(queue, assignment_id, identity.labeler_id, values)
            if isinstance(outcome, labels.Accepted):
                scoring.count(outcome.label)
        if isinstance(outcome, labels.Accepted) and outcome.sample_is_complete:
            scoring.score(outcome.label.sample_id)
        return outcome

    def agreement(self, identity: Identity, queue_id: str) -> Report:
        """Compute the agreement of a whole queue; see `Scoring.recompute`."""
        self.gate.require(identity, "compute_agreement", queue_id)
        return self._scorings[queue_id].recompute()

    def export(
        self, identity: Identity, queue_id: str, output: str | Path, format: exports.Format, **options: Any
    ) -> exports.Manifest:
        """Write a queue's labels to a file; see `export.export` for options and errors."""
        self.gate.require(identity, "export_data", queue_id)
        return exports.export(self.queue(queue_id), output, format, **options)

    def queue(self, queue_id: str) -> Queue:
        """Return a queue of this platform; NotFound if it has none of that id."""
        if queue_id not in self._queues:
            raise NotFound(f"expected a queue that exists, got: {queue_id!r}")
        return self._queues[queue_id]

    def queues(self) -> list[Queue]:
        """Return all queues, for sweeps and measurements."""
        return list(self._queues.values())
