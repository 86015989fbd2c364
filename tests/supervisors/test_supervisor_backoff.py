"""Back-off between restarts, which is ours, and what a restarting child answers meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from runtime.errors import AlreadyExists
from supervisors import ChildCounts, ChildRestarting, DynamicSupervisor, Supervisor
from tests.supervisors.house import House, Run, child, standing

TWO_SECONDS = tenacity.wait_fixed(2)


def test_a_child_is_restarting_until_its_backoff_is_over(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], backoff=TWO_SECONDS)

    house.end(child(supervisor, "a"), "boom")
    at_once = standing(supervisor)
    house.clock.advance(1.9)
    just_before = standing(supervisor)
    house.clock.advance(0.2)

    assert at_once == just_before == {"a": "restarting", "b": "running"}
    assert standing(supervisor) == {"a": "running", "b": "running"}


def test_the_backoff_of_a_child_goes_before_that_of_its_supervisor(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", backoff=tenacity.wait_fixed(9))], backoff=TWO_SECONDS)

    house.end(child(supervisor, "a"), "boom")
    house.clock.advance(8.9)

    assert standing(supervisor) == {"a": "restarting"}


def test_a_backoff_of_nothing_restarts_at_once(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", backoff=tenacity.wait_none())], backoff=TWO_SECONDS)

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running"}


def test_failed_starts_wait_longer_each_time_as_the_policy_says(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper", "no paper", "ok"]
    policy = tenacity.wait_exponential(multiplier=1)
    supervisor = run(Supervisor, children=[house.spec("a")], backoff=policy, max_seconds=60)
    house.end(child(supervisor, "a"), "boom")

    starts = []
    for _ in range(8):
        house.clock.advance(1)
        starts.append(house.starts["a"])

    assert starts == [2, 2, 3, 3, 3, 3, 4, 4]


def test_attempts_are_counted_when_they_are_made(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], backoff=TWO_SECONDS, max_restarts=1, max_seconds=1)

    for _ in range(4):
        house.end(child(supervisor, "a"), "boom")
        house.clock.advance(2)

    assert standing(supervisor) == {"a": "running"}
    assert supervisor.supervision().restarts == 4


def test_siblings_run_on_until_the_attempt_is_made(house: House, run: Run) -> None:
    specs = [house.spec("a"), house.spec("b")]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all", backoff=TWO_SECONDS)
    house.happened()

    house.end(child(supervisor, "a"), "boom")
    before = house.happened()
    house.clock.advance(2)

    assert before == []
    assert house.happened() == ["stop b", "start a", "start b"]


def test_a_group_restart_by_a_sibling_takes_a_restarting_child_along_and_forgets_its_retry(
    house: House, run: Run
) -> None:
    specs = [house.spec("a", backoff=tenacity.wait_none()), house.spec("b")]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all", backoff=TWO_SECONDS)
    house.end(child(supervisor, "b"), "boom")

    house.end(child(supervisor, "a"), "boom")
    house.clock.advance(10)

    assert house.starts == {"a": 2, "b": 2}
    assert standing(supervisor) == {"a": "running", "b": "running"}


def test_a_supervisor_that_stops_forgets_its_retries(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], backoff=TWO_SECONDS)
    house.end(child(supervisor, "a"), "boom")

    supervisor.stop()
    house.clock.advance(10)

    assert house.starts["a"] == 1


# --- calls on a restarting child ------------------------------------------------------------------------------------


@pytest.fixture
def restarting(house: House, run: Run) -> Any:
    """A supervisor whose only child "a" is restarting."""
    supervisor = run(Supervisor, children=[house.spec("a")], backoff=TWO_SECONDS)
    house.end(child(supervisor, "a"), "boom")
    assert standing(supervisor) == {"a": "restarting"}
    return supervisor


def test_start_child_of_a_restarting_id_is_refused_as_already_present(house: House, restarting: Any) -> None:
    with pytest.raises(AlreadyExists):
        restarting.start_child(house.spec("a"))


@pytest.mark.parametrize("call", ["restart_child", "delete_child"])
def test_restart_and_delete_refuse_a_restarting_child(restarting: Any, call: str) -> None:
    with pytest.raises(ChildRestarting) as refusal:
        getattr(restarting, call)("a")

    assert refusal.value.child_id == "a"
    assert standing(restarting) == {"a": "restarting"}


def test_terminate_child_cancels_the_retry(house: House, restarting: Any) -> None:
    restarting.terminate_child("a")
    house.clock.advance(10)

    assert standing(restarting) == {"a": "down"}
    assert house.starts["a"] == 1


def test_a_child_restarted_by_hand_after_terminate_child_is_not_started_twice(house: House, restarting: Any) -> None:
    restarting.terminate_child("a")
    restarting.restart_child("a")
    house.clock.advance(10)

    assert house.starts["a"] == 2


def test_a_restarting_child_counts_as_a_spec_but_not_as_active(restarting: Any) -> None:
    assert restarting.count_children() == ChildCounts(specs=1, active=0, supervisors=0, workers=1)
    assert restarting.supervision().restarting == 1


def test_a_restarting_significant_child_still_counts_for_all_significant(house: House, run: Run) -> None:
    specs = [house.spec(label, restart="transient", significant=True) for label in "ab"]
    supervisor = run(Supervisor, children=specs, auto_shutdown="all_significant", backoff=TWO_SECONDS)
    house.end(child(supervisor, "a"), "boom")

    house.end(child(supervisor, "b"), "normal")
    alive_with_one_restarting = supervisor.is_alive()
    house.clock.advance(2)
    house.end(child(supervisor, "a"), "normal")

    assert alive_with_one_restarting
    assert supervisor.exit_reason == "shutdown"


def test_a_dynamic_supervisor_backs_off_as_well(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, backoff=TWO_SECONDS)
    first = supervisor.start_child(house.spec("a"))

    house.end(first, "boom")
    at_once = standing(supervisor)
    house.clock.advance(2)

    assert at_once == {"a": "restarting"}
    assert standing(supervisor) == {"a": "running"}
