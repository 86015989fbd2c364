import pytest

from app.labeling.assignments import Assignment, InvalidTransition

PENDING = Assignment(id="a1", queue_id="q1", sample_id="s1", labeler_id="ada", created_at_ns=0)
STARTED = PENDING.start(now_ns=1_000_000_000, timeout_ns=5_000_000_000)
COMPLETED = STARTED.complete(3_500_000_000)
EXPIRED = STARTED.expire(7_000_000_000)
SKIPPED = STARTED.skip(2_000_000_000)


def test_the_start_sets_the_deadline_and_counts_an_attempt() -> None:
    assert (PENDING.deadline_ns, PENDING.attempts) == (None, 0)
    assert (STARTED.status, STARTED.deadline_ns, STARTED.attempts) == ("in_progress", 6_000_000_000, 1)


def test_the_labeling_time_is_that_from_start_to_end() -> None:
    assert COMPLETED.labeling_time_seconds() == 2.5
    assert STARTED.labeling_time_seconds() is None


def test_the_labeling_time_is_never_negative_though_the_calendar_was_set_back() -> None:
    assert STARTED.complete(0).labeling_time_seconds() == 0


def test_a_requeued_assignment_keeps_its_attempts_and_loses_its_deadline() -> None:
    again = EXPIRED.requeue()

    assert (again.status, again.attempts, again.deadline_ns, again.started_at_ns) == ("pending", 1, None, None)
    assert again.start(now_ns=9, timeout_ns=1).attempts == 2


@pytest.mark.parametrize(
    ("assignment", "verb", "arguments"),
    [
        *((one, "start", (0, 1)) for one in (STARTED, COMPLETED, EXPIRED, SKIPPED)),
        *((one, "complete", (0,)) for one in (PENDING, COMPLETED, EXPIRED, SKIPPED)),
        *((one, "skip", (0,)) for one in (PENDING, COMPLETED, EXPIRED, SKIPPED)),
        *((one, "expire", (0,)) for one in (PENDING, COMPLETED, EXPIRED, SKIPPED)),
        *((one, "requeue", ()) for one in (PENDING, STARTED, COMPLETED, SKIPPED)),
    ],
)
def test_a_step_that_the_status_does_not_allow_is_refused(
    assignment: Assignment, verb: str, arguments: tuple[int, ...]
) -> None:
    with pytest.raises(
        InvalidTransition, match=f"expected assignment a1 to allow {verb}, got: status {assignment.status}"
    ):
        getattr(assignment, verb)(*arguments)


def test_work_handed_in_after_the_deadline_is_refused_as_expired() -> None:
    with pytest.raises(InvalidTransition, match="got: status expired"):
        STARTED.complete(6_000_000_001)


def test_only_a_running_attempt_can_be_overdue() -> None:
    much_later_ns = 10**18

    assert STARTED.is_overdue(much_later_ns)
    assert not any(one.is_overdue(much_later_ns) for one in (PENDING, COMPLETED, EXPIRED, SKIPPED))
