"""A labelling queue: samples in, assignments out, seats and deadlines kept.

`Queue` is the one place where an assignment changes; every change is in the storage before anybody hears of it. Any
thread may call: a lock makes calls take turns, each some tens of microseconds. Dispatch decides in memory (pool.py);
after a restart `Queue.open` rebuilds that memory from the storage. Events go out through the `emit` handed in, spans
through the runtime.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

import runtime
from app.labeling import policies
from app.labeling.assignments import Assignment
from app.labeling.policies import Policy
from app.labeling.pool import Pool
from app.labeling.records import Label, QueueSettings, QueueStatus, Sample
from app.labeling.schema import Schema
from app.labeling.storage import Storage
from runtime.clock import Clock
from runtime.errors import NotFound, expected

ACTIVE_WINDOW_S = 60.0
"""A labeler counts as active this long after last asking for work or submitting."""

_CHANGES: dict[QueueStatus, tuple[QueueStatus, ...]] = {
    "active": ("paused", "archived"),
    "paused": ("active", "archived"),
    "archived": (),
}


class Emit(Protocol):
    """How a queue emits: `runtime.execute`, or something around it."""

    def __call__(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any], /) -> None: ...


class Refused(msgspec.Struct, frozen=True):
    """Why a labeler gets no assignment now. An expected "no"."""

    reason: Literal[
        "no_samples_available", "labeler_below_threshold", "not_a_labeler", "queue_paused", "queue_archived"
    ]


class Sweep(msgspec.Struct, frozen=True):
    """What a sweep found overdue: assignments given another attempt, and those out of attempts."""

    requeued: int
    escalated: int


class Queue:
    """One queue; made by `create` or `open`, never directly.

    A labeler never gets the same sample twice: an assignment that timed out goes back to its own labeler as a further
    attempt (*requeued*). After `max_attempts` it is *escalated*: it stays expired, is listed by `escalated()` for an
    adjudicator, and its seat opens to a labeler who has not had the sample.
    """

    def __init__(
        self,
        storage: Storage,
        settings: QueueSettings,
        schema: Schema,
        policy: Policy,
        clock: Clock,
        emit: Emit,
        status: QueueStatus,
    ) -> None:
        self.storage = storage
        self.settings = settings
        self.id = settings.queue_id
        self.schema = schema
        self.clock = clock
        self.emit = emit
        self.status = status
        self.lock = threading.RLock()
        self._policy = policy
        self._pool = Pool(settings.labels_per_sample)
        self._unfinished: dict[str, Assignment] = {}
        self._pending: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._labelers: set[str] = set()
        self._labels: Counter[str] = Counter()
        self._escalated: list[str] = []
        self._seen_ns: dict[str, int] = {}

    @classmethod
    def create(
        cls,
        storage: Storage,
        settings: QueueSettings,
        schema: Schema,
        policy: Policy,
        *,
        clock: Clock | None = None,
        emit: Emit = runtime.execute,
    ) -> Queue:
        """Make a new, active queue and keep it. AlreadyExists if the id is taken. Emits `anvil.queue.created`."""
        _check_policy(settings, policy)
        storage.insert_queue(settings, "active", schema)
        queue = cls(storage, settings, schema, policy, clock or Clock(), emit, "active")
        emit(
            "anvil.queue.created",
            {},
            {
                "queue_id": queue.id,
                "tenant_id": settings.tenant_id,
                "policy_type": settings.policy_type,
                "labels_per_sample": settings.labels_per_sample,
            },
        )
        return queue

    @classmethod
    def open(
        cls,
        storage: Storage,
        queue_id: str,
        policy: Policy,
        *,
        clock: Clock | None = None,
        emit: Emit = runtime.execute,
    ) -> Queue:
        """Take up a queue that the storage has, with all its assignments. NotFound if it has none of that id."""
        settings, status, schema = storage.queue(queue_id)
        _check_policy(settings, policy)
        queue = cls(storage, settings, schema, policy, clock or Clock(), emit, status)
        queue._labelers.update(storage.labelers(queue_id))
        for sample in storage.samples(queue_id):
            queue._pool.add(sample.id, sample.difficulty)
        for assignment in storage.assignments(queue_id):
            queue._adopt(assignment)
        return queue

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Append samples; InvalidValue, and none added, if the queue has one of them already."""
        with self.lock:
            batch = list(samples)
            known = {*self._pool.ids}
            for sample in batch:
                if sample.id in known:
                    raise expected(f"samples that queue {self.id} does not have yet", sample.id)
                known.add(sample.id)
            self.storage.insert_samples(self.id, batch, len(self._pool.ids))
            for sample in batch:
                self._pool.add(sample.id, sample.difficulty)

    def add_labelers(self, *labeler_ids: str) -> None:
        """Let these labelers work here; who does so already is left alone."""
        with self.lock:
            self.storage.insert_labelers(self.id, labeler_ids)
            self._labelers.update(labeler_ids)

    @property
    def labelers(self) -> frozenset[str]:
        """Who may work here."""
        return frozenset(self._labelers)

    # -- the life of assignments -------------------------------------------------------------------------------------

    def dispatch(self, labeler_id: str, *, start: bool = False) -> Assignment | Refused:
        """Hand a labeler their next assignment: one they have not started yet, else a new one as the policy says.

        With `start` the work begins at once: the assignment comes back in progress, with its deadline.
        In the span `anvil.assignment.dispatch`; emits `anvil.assignment.created` for a new one.
        """
        with (
            runtime.span("anvil.assignment.dispatch", {"queue_id": self.id, "labeler_id": labeler_id}) as span,
            self.lock,
        ):
            span.metadata["policy_type"] = self.settings.policy_type
            outcome = self._refusal(labeler_id) or self._hand_out(labeler_id, start, span.metadata)
            if isinstance(outcome, Refused):
                span.metadata["refusal"] = outcome.reason
            return outcome

    def _refusal(self, labeler_id: str) -> Refused | None:
        if self.status != "active":
            return Refused("queue_paused" if self.status == "paused" else "queue_archived")
        return None if labeler_id in self._labelers else Refused("not_a_labeler")

    def _hand_out(self, labeler_id: str, start: bool, tell: dict[str, Any]) -> Assignment | Refused:
        self._seen_ns[labeler_id] = self.clock.monotonic_ns()
        waiting = self._pending.get(labeler_id)
        if waiting:
            assignment = self._unfinished[next(iter(waiting))]
            tell["sample_id"] = assignment.sample_id
            tell["retry_count"] = assignment.attempts
            tell["eligible_samples"] = self._pool.eligible(labeler_id).bit_count()
            return self.start(assignment.id) if start else assignment
        selection = policies.select(self._policy, self._pool, self.id, labeler_id)
        if isinstance(selection, str):
            return Refused(selection)
        assignment = Assignment(
            id=uuid.uuid4().hex,
            queue_id=self.id,
            sample_id=self._pool.ids[selection.index],
            labeler_id=labeler_id,
            created_at_ns=self.clock.system_ns(),
        )
        if start:
            assignment = self._begin(assignment)
        self.storage.insert_assignment(assignment)
        self._pool.take(selection.index, labeler_id)
        self._keep(assignment)
        tell["sample_id"] = assignment.sample_id
        tell["retry_count"] = 0
        tell["eligible_samples"] = selection.eligible_samples
        self.emit(
            "anvil.assignment.created",
            {},
            {
                "assignment_id": assignment.id,
                "queue_id": self.id,
                "sample_id": assignment.sample_id,
                "labeler_id": labeler_id,
            },
        )
        return assignment

    def start(self, assignment_id: str) -> Assignment:
        """Begin work on an assignment and set its deadline. InvalidTransition unless it is pending."""
        with self.lock:
            started = self._begin(self.unfinished(assignment_id))
            self.storage.update_assignments([started])
            self._keep(started)
            return started

    def _begin(self, assignment: Assignment) -> Assignment:
        return assignment.start(self.clock.system_ns(), int(self.settings.assignment_timeout_s * 1e9))

    def skip(self, assignment_id: str) -> Assignment:
        """Give an assignment up; its seat opens to another labeler. Emits `anvil.policy.requeue`."""
        with self.lock:
            skipped = self.unfinished(assignment_id).skip(self.clock.system_ns())
            self.storage.update_assignments([skipped])
            self._keep(skipped)
            self._pool.release(self._pool.index(skipped.sample_id))
        self._emit_requeue(skipped, "skipped")
        return skipped

    def complete(self, completed: Assignment, label: Label) -> bool:
        """Keep a label and the completion of its assignment; tell whether its sample now has all its labels.

        For `labels.submit`, which has checked both. Emits `anvil.assignment.completed`.
        """
        with self.lock:
            self.storage.insert_label(label, completed)
            self._keep(completed)
            self._labels[completed.sample_id] += 1
            self._seen_ns[completed.labeler_id] = self.clock.monotonic_ns()
            sample_is_complete = self._labels[completed.sample_id] == self.settings.labels_per_sample
        self.emit(
            "anvil.assignment.completed",
            {"labeling_time_seconds": label.labeling_time_seconds},
            {
                "assignment_id": completed.id,
                "queue_id": self.id,
                "sample_id": completed.sample_id,
                "labeler_id": completed.labeler_id,
            },
        )
        return sample_is_complete

    def sweep(self) -> Sweep:
        """Expire what is overdue; requeue it, or escalate what is out of attempts. A poller calls this.

        Emits `anvil.assignment.expired` for each, `anvil.policy.requeue` for each requeued, and one
        `anvil.assignment.timed_out` with the totals if there were any.
        """
        with self.lock:
            now_ns = self.clock.system_ns()
            expired = [one.expire(now_ns) for one in self._unfinished.values() if one.is_overdue(now_ns)]
            if not expired:
                return Sweep(0, 0)
            again = [one.requeue() for one in expired if one.attempts < self.settings.max_attempts]
            lost = [one for one in expired if one.attempts >= self.settings.max_attempts]
            self.storage.update_assignments([*again, *lost])
            for one in (*again, *lost):
                self._keep(one)
            for one in lost:
                self._pool.release(self._pool.index(one.sample_id))
                self._escalated.append(one.id)
        for one in expired:
            self.emit(
                "anvil.assignment.expired",
                {},
                {
                    "assignment_id": one.id,
                    "queue_id": self.id,
                    "sample_id": one.sample_id,
                    "labeler_id": one.labeler_id,
                    "attempt": one.attempts,
                },
            )
        for one in again:
            self._emit_requeue(one, "timeout")
        self.emit(
            "anvil.assignment.timed_out",
            {"count": len(expired)},
            {"queue_id": self.id, "requeued": len(again), "escalated": len(lost)},
        )
        return Sweep(len(again), len(lost))

    def unfinished(self, assignment_id: str) -> Assignment:
        """Return an assignment that is pending or in progress; NotFound if it is neither."""
        assignment = self._unfinished.get(assignment_id)
        if assignment is None:
            raise NotFound(f"expected an unfinished assignment of queue {self.id}, got: {assignment_id!r}")
        return assignment

    def unfinished_count(self) -> int:
        """Count assignments that are pending or in progress."""
        return len(self._unfinished)

    # -- the queue itself --------------------------------------------------------------------------------------------

    def change_status(self, status: QueueStatus) -> None:
        """Pause, resume or archive; an archived queue stays so. Emits `anvil.queue.status_changed`."""
        with self.lock:
            before = self.status
            if status not in _CHANGES[before]:
                allowed = " or ".join(_CHANGES[before]) or "nothing else"
                raise expected(f"queue {self.id}, which is {before}, to become {allowed}", status)
            self.storage.update_status(self.id, status)
            self.status = status
        self.emit("anvil.queue.status_changed", {}, {"queue_id": self.id, "from_status": before, "to_status": status})

    def migrate(self, schema: Schema) -> int:
        """Go over to another schema version, labels included; return how many labels that were.

        InvalidValue, and nothing changed, if a label would not be valid any more. Emits `anvil.schema.migration`.
        """
        with self.lock:
            before = self.schema
            for label in self.storage.labels(self.id):
                errors = schema.validate(label.values)
                if errors:
                    raise expected(
                        f"every label of queue {self.id} to be valid under schema {schema.version_id}",
                        f"{label.values} of sample {label.sample_id}: {errors[0].field} {errors[0].message}",
                        "Widen the schema, or correct the labels first",
                    )
            migrated = self.storage.migrate(self.id, schema)
            self.schema = schema
        self.emit(
            "anvil.schema.migration",
            {"labels_migrated": migrated},
            {"queue_id": self.id, "from_version": before.version_id, "to_version": schema.version_id},
        )
        return migrated

    def active_labelers(self) -> int:
        """Count labelers with work in progress, or seen in the last `ACTIVE_WINDOW_S` seconds."""
        with self.lock:
            since_ns = self.clock.monotonic_ns() - int(ACTIVE_WINDOW_S * 1e9)
            busy = {one.labeler_id for one in self._unfinished.values() if one.status == "in_progress"}
            return len(busy.union(labeler for labeler, seen_ns in self._seen_ns.items() if seen_ns >= since_ns))

    def escalated(self) -> Sequence[str]:
        """Return the ids of assignments that ran out of attempts, oldest first."""
        return tuple(self._escalated)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _keep(self, assignment: Assignment) -> None:
        """Remember an assignment's newest state."""
        waiting = self._pending[assignment.labeler_id]
        if assignment.status == "pending":
            waiting[assignment.id] = None
        else:
            waiting.pop(assignment.id, None)
        if assignment.status in ("pending", "in_progress"):
            self._unfinished[assignment.id] = assignment
        else:
            self._unfinished.pop(assignment.id, None)

    def _adopt(self, assignment: Assignment) -> None:
        """Remember an assignment that the storage had."""
        index = self._pool.index(assignment.sample_id)
        self._pool.take(index, assignment.labeler_id)
        self._keep(assignment)
        if assignment.status == "completed":
            self._labels[assignment.sample_id] += 1
        elif assignment.status in ("expired", "skipped"):
            self._pool.release(index)
            if assignment.status == "expired":
                self._escalated.append(assignment.id)

    def _emit_requeue(self, assignment: Assignment, reason: str) -> None:
        self.emit(
            "anvil.policy.requeue",
            {},
            {
                "assignment_id": assignment.id,
                "queue_id": self.id,
                "reason": reason,
                "attempt": assignment.attempts + 1,
            },
        )


def _check_policy(settings: QueueSettings, policy: Policy) -> None:
    if policy.type != settings.policy_type:
        raise expected(f"the policy {settings.policy_type} that queue {settings.queue_id} is set to", policy.type)
