from collections.abc import Callable

import pytest

from app.labeling import policies
from app.labeling.assignments import Assignment, InvalidTransition
from app.labeling.labels import Accepted, submit
from app.labeling.queues import ACTIVE_WINDOW_S, Queue, Refused, Sweep
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.storage import Storage
from runtime.clock import FakeClock
from runtime.errors import AlreadyExists, InvalidValue, NotFound
from runtime.testing import Capture
from tests.app.conftest import SCHEMA

NewQueue = Callable[..., Queue]


def started(queue: Queue, labeler: str) -> Assignment:
    assignment = queue.dispatch(labeler)
    assert isinstance(assignment, Assignment)
    return queue.start(assignment.id)


def label(queue: Queue, labeler: str, valence: int = 1) -> Accepted:
    accepted = submit(queue, started(queue, labeler).id, labeler, {"valence": valence})
    assert isinstance(accepted, Accepted)
    return accepted


def test_a_new_queue_is_active_and_tells_what_it_is(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue(labels_per_sample=2)

    assert queue.status == "active"
    (event,) = emitted.of("anvil.queue.created")
    assert event.metadata == {
        "queue_id": "q1",
        "tenant_id": "t1",
        "policy_type": "round_robin",
        "labels_per_sample": 2,
    }


def test_a_labeler_never_gets_the_same_sample_twice(new_queue: NewQueue) -> None:
    queue = new_queue(samples=3, labels_per_sample=3)

    given = [label(queue, "ada").label.sample_id for _ in range(3)]

    assert sorted(given) == ["s1", "s2", "s3"]
    assert queue.dispatch("ada") == Refused("no_samples_available")


def test_a_sample_gets_no_more_labels_than_it_has_seats(new_queue: NewQueue) -> None:
    queue = new_queue(samples=1, labels_per_sample=2)

    started(queue, "ada")
    started(queue, "bob")

    assert queue.dispatch("cyd") == Refused("no_samples_available")


def test_asking_again_before_starting_gives_the_same_assignment(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue()

    assert queue.dispatch("ada") == queue.dispatch("ada")

    assert len(emitted.of("anvil.assignment.created")) == 1


def test_a_dispatch_that_starts_gives_work_in_progress(new_queue: NewQueue, storage: Storage, clock: FakeClock) -> None:
    queue = new_queue(samples=2, assignment_timeout_s=10)
    waiting = queue.dispatch("ada")
    assert isinstance(waiting, Assignment)

    begun = [queue.dispatch("ada", start=True) for _ in range(2)]

    assert [isinstance(one, Assignment) and one.status for one in begun] == ["in_progress"] * 2
    assert isinstance(begun[0], Assignment)
    assert begun[0].id == waiting.id
    assert begun[0].deadline_ns == clock.system_ns() + 10 * 10**9
    assert storage.assignments("q1") == begun


def test_a_dispatch_tells_what_it_found(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue(samples=3)

    assignment = queue.dispatch("ada")

    assert isinstance(assignment, Assignment)
    (stop,) = emitted.of("anvil.assignment.dispatch.stop")
    assert stop.metadata == {
        "queue_id": "q1",
        "labeler_id": "ada",
        "policy_type": "round_robin",
        "retry_count": 0,
        "sample_id": "s1",
        "eligible_samples": 3,
        "telemetry_span_context": stop.metadata["telemetry_span_context"],
    }
    assert stop.measurements["duration"] >= 0
    (created,) = emitted.of("anvil.assignment.created")
    assert created.metadata == {
        "assignment_id": assignment.id,
        "queue_id": "q1",
        "sample_id": "s1",
        "labeler_id": "ada",
    }
    (selected,) = emitted.of("anvil.policy.select_assignment.stop")
    assert selected.metadata["eligible_samples"] == 3
    assert selected.metadata["selected_sample_difficulty"] == 0.5


def test_a_refused_dispatch_is_a_stop_with_its_reason(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue(samples=0)

    assert queue.dispatch("ada") == Refused("no_samples_available")
    assert queue.dispatch("stranger") == Refused("not_a_labeler")
    queue.change_status("paused")
    assert queue.dispatch("ada") == Refused("queue_paused")
    queue.change_status("archived")
    assert queue.dispatch("ada") == Refused("queue_archived")

    stops = emitted.of("anvil.assignment.dispatch.stop")
    assert [stop.metadata["refusal"] for stop in stops] == [
        "no_samples_available",
        "not_a_labeler",
        "queue_paused",
        "queue_archived",
    ]
    assert {stop.metadata["policy_type"] for stop in stops} == {"round_robin"}


def test_a_labeler_below_the_threshold_is_refused(new_queue: NewQueue) -> None:
    queue = new_queue(policy="weighted_expertise", policy_options={"expertise": {"ada": 0.1}, "min_expertise": 0.5})

    assert queue.dispatch("ada") == Refused("labeler_below_threshold")
    assert isinstance(queue.dispatch("bob"), Assignment)


def test_a_status_changes_only_along_its_life(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue()

    queue.change_status("paused")
    queue.change_status("active")
    queue.change_status("archived")

    with pytest.raises(InvalidValue, match="queue q1, which is archived, to become nothing else, got: 'active'"):
        queue.change_status("active")
    assert [
        (event.metadata["from_status"], event.metadata["to_status"])
        for event in emitted.of("anvil.queue.status_changed")
    ] == [("active", "paused"), ("paused", "active"), ("active", "archived")]


def test_a_timed_out_assignment_is_requeued_for_its_labeler_as_a_further_attempt(
    new_queue: NewQueue, clock: FakeClock, emitted: Capture
) -> None:
    queue = new_queue(samples=1, assignment_timeout_s=10)
    first = started(queue, "ada")
    clock.advance(10)
    assert queue.sweep() == Sweep(0, 0)

    clock.advance(0.001)
    swept = queue.sweep()
    again = started(queue, "ada")

    assert swept == Sweep(requeued=1, escalated=0)
    assert (again.id, again.attempts) == (first.id, 2)
    assert queue.dispatch("bob") == Refused("no_samples_available")
    (expired,) = emitted.of("anvil.assignment.expired")
    assert (expired.metadata["assignment_id"], expired.metadata["attempt"]) == (first.id, 1)
    (requeue,) = emitted.of("anvil.policy.requeue")
    assert requeue.metadata == {"assignment_id": first.id, "queue_id": "q1", "reason": "timeout", "attempt": 2}
    (timed_out,) = emitted.of("anvil.assignment.timed_out")
    assert timed_out.measurements == {"count": 1}
    assert timed_out.metadata == {"queue_id": "q1", "requeued": 1, "escalated": 0}
    given, given_again, _ = emitted.of("anvil.assignment.dispatch.stop")
    assert (given.metadata["retry_count"], given_again.metadata["retry_count"]) == (0, 1)


def test_an_assignment_out_of_attempts_is_escalated_and_its_seat_opens_to_others(
    new_queue: NewQueue, clock: FakeClock, emitted: Capture
) -> None:
    queue = new_queue(samples=1, assignment_timeout_s=10, max_attempts=2)
    for _ in range(2):
        lost = started(queue, "ada")
        clock.advance(11)
        swept = queue.sweep()

    assert swept == Sweep(requeued=0, escalated=1)
    assert queue.escalated() == (lost.id,)
    assert queue.dispatch("ada") == Refused("no_samples_available")
    assert label(queue, "bob").sample_is_complete
    assert [event.metadata["escalated"] for event in emitted.of("anvil.assignment.timed_out")] == [0, 1]


def test_a_sweep_tells_of_all_that_is_overdue_in_one_event_and_of_nothing_else(
    new_queue: NewQueue, clock: FakeClock, emitted: Capture
) -> None:
    queue = new_queue(samples=3, labels_per_sample=3, assignment_timeout_s=10)
    label(queue, "ada")
    started(queue, "ada")
    started(queue, "bob")
    assert isinstance(queue.dispatch("cyd"), Assignment)  # pending: without a deadline
    clock.advance(11)
    in_time = started(queue, "cyd")

    assert queue.sweep() == Sweep(2, 0)
    assert queue.sweep() == Sweep(0, 0)

    assert [event.measurements["count"] for event in emitted.of("anvil.assignment.timed_out")] == [2]
    assert isinstance(submit(queue, in_time.id, "cyd", {"valence": 0}), Accepted)


def test_a_skipped_sample_goes_to_another_labeler(new_queue: NewQueue, emitted: Capture) -> None:
    queue = new_queue(samples=1)
    skipped = queue.skip(started(queue, "ada").id)

    assert skipped.status == "skipped"
    assert queue.dispatch("ada") == Refused("no_samples_available")
    assert label(queue, "bob").label.sample_id == "s1"
    (requeue,) = emitted.of("anvil.policy.requeue")
    assert requeue.metadata["reason"] == "skipped"


def test_what_is_finished_cannot_be_started_skipped_or_found(new_queue: NewQueue) -> None:
    queue = new_queue()
    finished = label(queue, "ada").label.assignment_id
    running = started(queue, "ada").id

    for verb in (queue.start, queue.skip, queue.unfinished):
        with pytest.raises(NotFound, match=f"an unfinished assignment of queue q1, got: '{finished}'"):
            verb(finished)
    with pytest.raises(InvalidTransition, match="to allow start, got: status in_progress"):
        queue.start(running)


def test_samples_are_added_all_or_none(new_queue: NewQueue) -> None:
    queue = new_queue(samples=2)

    with pytest.raises(InvalidValue, match="samples that queue q1 does not have yet, got: 's2'"):
        queue.add_samples([Sample("s3", "new"), Sample("s2", "old")])

    assert [label(queue, "ada").label.sample_id for _ in range(2)] == ["s1", "s2"]
    assert queue.dispatch("ada") == Refused("no_samples_available")


def test_active_labelers_are_those_at_work_or_seen_lately(new_queue: NewQueue, clock: FakeClock) -> None:
    queue = new_queue(labels_per_sample=3, assignment_timeout_s=10 * ACTIVE_WINDOW_S)
    assert queue.active_labelers() == 0
    started(queue, "ada")
    label(queue, "bob")
    assert queue.active_labelers() == 2

    clock.advance(ACTIVE_WINDOW_S + 1)

    assert queue.active_labelers() == 1


def test_a_migration_takes_the_labels_along(new_queue: NewQueue, storage: Storage, emitted: Capture) -> None:
    queue = new_queue(samples=2)
    label(queue, "ada", valence=3)
    wider = Schema("v2", (Field(name="valence", type="range", min=-9, max=9),))

    assert queue.migrate(wider) == 1
    label(queue, "ada", valence=9)

    assert {kept.schema_version_id for kept in storage.labels("q1")} == {"v2"}
    (event,) = emitted.of("anvil.schema.migration")
    assert event.measurements == {"labels_migrated": 1}
    assert event.metadata == {"queue_id": "q1", "from_version": "v1", "to_version": "v2"}


def test_a_migration_that_would_break_a_label_is_refused_and_changes_nothing(
    new_queue: NewQueue, storage: Storage, emitted: Capture
) -> None:
    queue = new_queue(samples=2)
    label(queue, "ada", valence=3)
    narrower = Schema("v2", (Field(name="valence", type="range", min=-2, max=2),))

    with pytest.raises(InvalidValue, match=r"under schema v2, got: .*sample s1: valence must be at most 2"):
        queue.migrate(narrower)

    assert (queue.schema, storage.queue("q1")[2]) == (SCHEMA, SCHEMA)
    assert emitted.of("anvil.schema.migration") == []


def test_an_opened_queue_goes_on_where_it_was_left(new_queue: NewQueue, storage: Storage, clock: FakeClock) -> None:
    left = new_queue(samples=3, labels_per_sample=2, assignment_timeout_s=10, max_attempts=1)
    label(left, "ada")  # s1
    left.skip(started(left, "ada").id)  # s2
    started(left, "ada")  # s3, to be escalated
    clock.advance(11)
    left.sweep()
    running = started(left, "bob")  # s1 again: round robin starts over
    waiting = left.dispatch("cyd")

    queue = Queue.open(storage, "q1", policies.build("round_robin"), clock=clock)

    assert queue.labelers == {"ada", "bob", "cyd"}
    assert queue.escalated() == left.escalated() != ()
    assert queue.dispatch("ada") == Refused("no_samples_available")
    assert queue.dispatch("cyd") == waiting
    outcome = submit(queue, running.id, "bob", {"valence": 2})
    assert isinstance(outcome, Accepted)
    assert outcome.sample_is_complete == (outcome.label.sample_id == "s1")


def test_a_queue_is_opened_with_the_kind_of_policy_it_has(new_queue: NewQueue, storage: Storage) -> None:
    new_queue(policy="redundancy")

    with pytest.raises(InvalidValue, match="the policy redundancy that queue q1 is set to, got: 'random'"):
        Queue.open(storage, "q1", policies.build("random"))


def test_a_queue_id_is_taken_once(new_queue: NewQueue, emitted: Capture) -> None:
    new_queue()

    with pytest.raises(AlreadyExists):
        new_queue()

    assert len(emitted.of("anvil.queue.created")) == 1


@pytest.mark.parametrize("setting", ["labels_per_sample", "assignment_timeout_s", "max_attempts"])
def test_settings_that_make_no_sense_are_refused(setting: str) -> None:
    with pytest.raises(InvalidValue, match=f"expected {setting} to be a positive number, got: 0"):
        QueueSettings(queue_id="q", tenant_id="t", policy_type="random", **{setting: 0})


def test_a_queue_needs_an_id() -> None:
    with pytest.raises(InvalidValue, match="a queue id that is not empty"):
        QueueSettings(queue_id="", tenant_id="t", policy_type="random")
