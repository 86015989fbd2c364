from collections.abc import Callable

import pytest

from app.labeling.assignments import Assignment, InvalidTransition
from app.labeling.labels import Accepted, Rejected, submit
from app.labeling.queues import Queue
from app.labeling.schema import FieldError
from app.labeling.storage import Storage
from runtime.clock import FakeClock
from runtime.errors import InvalidValue, NotFound
from runtime.testing import Capture

NewQueue = Callable[..., Queue]


def started(queue: Queue, labeler: str = "ada") -> Assignment:
    assignment = queue.dispatch(labeler)
    assert isinstance(assignment, Assignment)
    return queue.start(assignment.id)


def test_an_accepted_label_is_kept_with_the_time_it_took(
    new_queue: NewQueue, clock: FakeClock, storage: Storage, emitted: Capture
) -> None:
    queue = new_queue()
    assignment = started(queue)
    clock.advance(2.5)

    accepted = submit(queue, assignment.id, "ada", {"valence": 3})

    assert isinstance(accepted, Accepted)
    assert storage.labels("q1") == [accepted.label]
    assert (accepted.label.values, accepted.label.labeling_time_seconds) == ({"valence": 3}, 2.5)
    (completed,) = emitted.of("anvil.assignment.completed")
    assert completed.measurements == {"labeling_time_seconds": 2.5}
    assert completed.metadata == {
        "assignment_id": assignment.id,
        "queue_id": "q1",
        "sample_id": "s1",
        "labeler_id": "ada",
    }
    (stop,) = emitted.of("anvil.label.submit.stop")
    assert stop.metadata == {
        "assignment_id": assignment.id,
        "labeler_id": "ada",
        "queue_id": "q1",
        "schema_version_id": "v1",
        "validation_errors": 0,
        "telemetry_span_context": stop.metadata["telemetry_span_context"],
    }
    (validation,) = emitted.of("anvil.schema.validation")
    assert validation.measurements == {"valid": 1, "error_count": 0}


def test_a_validation_failure_is_a_stop_and_the_labeler_may_try_again(
    new_queue: NewQueue, storage: Storage, emitted: Capture
) -> None:
    queue = new_queue()
    assignment = started(queue)

    rejected = submit(queue, assignment.id, "ada", {"valence": 9, "typo": 1})

    assert rejected == Rejected(
        [FieldError("valence", "must be at most 4"), FieldError("typo", "is not a field of this schema")]
    )
    assert storage.labels("q1") == []
    (stop,) = emitted.of("anvil.label.submit.stop")
    assert stop.metadata["validation_errors"] == 2
    assert emitted.of("anvil.label.submit.exception") == []
    (failed,) = emitted.of("anvil.label.validation_failed")
    assert failed.measurements == {"error_count": 2}
    assert failed.metadata == {
        "assignment_id": assignment.id,
        "queue_id": "q1",
        "schema_version_id": "v1",
        "errors": [
            {"field": "valence", "message": "must be at most 4"},
            {"field": "typo", "message": "is not a field of this schema"},
        ],
    }
    (validation,) = emitted.of("anvil.schema.validation")
    assert validation.measurements == {"valid": 0, "error_count": 2}
    assert isinstance(submit(queue, assignment.id, "ada", {"valence": 4}), Accepted)


def test_the_last_label_completes_its_sample(new_queue: NewQueue) -> None:
    queue = new_queue(samples=1, labels_per_sample=2)

    outcomes = [submit(queue, started(queue, labeler).id, labeler, {"valence": 0}) for labeler in ("ada", "bob")]

    assert [isinstance(one, Accepted) and one.sample_is_complete for one in outcomes] == [False, True]


def test_a_label_that_comes_too_late_is_an_exception_and_not_kept(
    new_queue: NewQueue, clock: FakeClock, storage: Storage, emitted: Capture
) -> None:
    queue = new_queue(assignment_timeout_s=10)
    assignment = started(queue)
    clock.advance(11)

    with pytest.raises(InvalidTransition, match="to allow complete, got: status expired"):
        submit(queue, assignment.id, "ada", {"valence": 1})

    assert storage.labels("q1") == []
    (exception,) = emitted.of("anvil.label.submit.exception")
    assert exception.metadata["kind"] == "error"
    assert exception.metadata["labeler_id"] == "ada"


def test_a_second_label_for_an_assignment_is_refused(new_queue: NewQueue, storage: Storage) -> None:
    queue = new_queue()
    assignment = started(queue)
    submit(queue, assignment.id, "ada", {"valence": 1})

    with pytest.raises(NotFound):
        submit(queue, assignment.id, "ada", {"valence": 2})

    assert [label.values for label in storage.labels("q1")] == [{"valence": 1}]


def test_nobody_submits_for_somebody_else_before_the_start_or_into_an_archive(new_queue: NewQueue) -> None:
    queue = new_queue()
    pending = queue.dispatch("bob")
    assert isinstance(pending, Assignment)
    assignment = started(queue)

    with pytest.raises(InvalidValue, match="to be submitted by its labeler, got: 'bob'"):
        submit(queue, assignment.id, "bob", {"valence": 1})
    with pytest.raises(InvalidTransition, match="to allow complete, got: status pending"):
        submit(queue, pending.id, "bob", {"valence": 1})
    queue.change_status("archived")
    with pytest.raises(InvalidValue, match="a queue that is not archived, got: 'q1'"):
        submit(queue, assignment.id, "ada", {"valence": 1})


def test_the_kept_values_are_a_copy(new_queue: NewQueue) -> None:
    queue = new_queue()
    values = {"valence": 1}

    accepted = submit(queue, started(queue).id, "ada", values)
    values["valence"] = 4

    assert isinstance(accepted, Accepted)
    assert accepted.label.values == {"valence": 1}
