"""Restart intensity: what counts as an attempt, and what giving up means."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors import Supervisor, SupervisorRef
from tests.supervisors.house import Crash, Errand, House, Run, Worker, child, standing


def crash_until_it_gives_up(house: House, supervisor: SupervisorRef, child_id: str, at_most: int = 20) -> int:
    """Crash a child again and again; the number of restarts that were granted."""
    for granted in range(at_most):
        house.end(child(supervisor, child_id), "boom")
        if not supervisor.is_alive():
            return granted
    return at_most


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
def test_max_restarts_restarts_are_granted_and_the_next_is_the_end(house: House, run: Run, max_restarts: int) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], max_restarts=max_restarts)

    assert crash_until_it_gives_up(house, supervisor, "a") == max_restarts
    assert supervisor.exit_reason == "shutdown"


def test_one_counter_is_shared_by_all_children(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], max_restarts=2)

    for label in "abc":
        house.end(child(supervisor, label), "boom")

    assert supervisor.exit_reason == "shutdown"


def test_restarts_older_than_max_seconds_do_not_count(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], max_restarts=1, max_seconds=5)

    for _ in range(5):
        house.end(child(supervisor, "a"), "boom")
        house.clock.advance(5.001)

    assert standing(supervisor) == {"a": "running"}


def test_max_seconds_may_be_a_fraction(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], max_restarts=1, max_seconds=0.5)
    house.end(child(supervisor, "a"), "boom")
    house.clock.advance(0.501)
    house.end(child(supervisor, "a"), "boom")
    house.clock.advance(0.499)

    house.end(child(supervisor, "a"), "boom")

    assert supervisor.exit_reason == "shutdown"


def test_giving_up_reports_stops_the_rest_in_reverse_and_exits_with_shutdown(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], max_restarts=0)
    house.happened()

    house.end(child(supervisor, "b"), "boom")

    assert house.happened() == ["stop c", "stop a"]
    assert supervisor.exit_reason == "shutdown"
    assert house.contexts() == [("child_terminated", "boom"), ("shutdown", "reached_max_restart_intensity")]
    assert [report["offender"]["id"] for report in house.events("supervisors.report")] == ["b", "b"]


def test_a_supervisor_that_gives_up_handles_no_further_exit(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], max_restarts=0)

    house.end_together({child(supervisor, label): "boom" for label in "abc"})

    assert house.starts == {"a": 1, "b": 1, "c": 1}
    assert house.contexts().count(("shutdown", "reached_max_restart_intensity")) == 1


def test_a_failed_start_during_a_restart_counts_as_another_attempt(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper", "no paper", "ok"]
    supervisor = run(Supervisor, children=[house.spec("a")], max_restarts=3)

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running"}
    assert supervisor.supervision().restarts_in_window == 3
    assert house.contexts() == [("child_terminated", "boom"), ("start_error", "no paper"), ("start_error", "no paper")]


def test_failed_starts_use_up_the_intensity(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper"]
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], max_restarts=3)

    house.end(child(supervisor, "a"), "boom")

    assert supervisor.exit_reason == "shutdown"
    assert house.starts["a"] == 1 + 3
    assert house.happened()[-1] == "stop b"


def test_the_report_of_giving_up_names_the_child_that_could_not_be_started(house: House, run: Run) -> None:
    house.outcomes["b"] = ["ok", "no paper"]
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], strategy="one_for_all", max_restarts=1)
    first = child(supervisor, "a")

    house.end(first, "boom")

    offenders = [(report["context"], report["offender"]) for report in house.events("supervisors.report")]
    assert [(context, offender["id"], offender["ref"]) for context, offender in offenders] == [
        ("child_terminated", "a", first),
        ("start_error", "b", None),
        ("shutdown", "b", None),
    ]


class Watched(Worker):
    """Has somebody do `house.meanwhile` while its own start fails: it comes before the retry."""

    def on_start(self) -> None:
        if self.house.outcomes[self.label][0] == "no paper":
            Errand.start().tell(self.house.meanwhile)
        super().on_start()


def test_the_supervisor_answers_between_two_attempts(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper", "ok"]
    supervisor = run(Supervisor, children=[house.spec("a", Watched)])
    seen = []
    house.meanwhile = lambda: seen.extend([standing(supervisor), supervisor.start_child(house.spec("b"))])

    house.end(child(supervisor, "a"), "boom")

    assert seen == [{"a": "restarting"}, child(supervisor, "b")]
    assert house.happened() == ["start a", "no paper a", "start a", "start b"]


class Restless(Worker):
    """Starts well and crashes right after, every time."""

    def on_start(self) -> None:
        super().on_start()
        self.continue_("crash")

    def on_continue(self, x: Any) -> None:
        raise Crash


def test_the_supervisor_answers_in_the_middle_of_a_restart_loop(house: House, run: Run) -> None:
    supervisor = run(Supervisor, max_restarts=1_000)
    restarts = []

    def ask() -> None:
        supervisor.start_child(house.spec("a", Restless))
        for _ in range(20):
            restarts.append(supervisor.supervision().restarts)

    Errand.start().tell(ask)
    house.quiet()

    assert len(restarts) == 20
    assert 0 < restarts[-1] < 1_000
    assert supervisor.exit_reason == "shutdown"


def test_terminate_child_between_two_attempts_cancels_the_retry(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper"]
    supervisor = run(Supervisor, children=[house.spec("a", Watched)])
    house.meanwhile = lambda: supervisor.terminate_child("a")

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "down"}
    assert house.starts["a"] == 2
    assert supervisor.supervision().restarts == 1


def test_a_group_restart_that_fails_in_the_middle_keeps_those_before_and_leaves_later_ones_down(
    house: House, run: Run
) -> None:
    house.outcomes["b"] = ["ok", "no paper", "ok"]
    specs = [house.spec("a"), house.spec("b", Watched), house.spec("c")]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all")
    house.happened()
    seen = []
    house.meanwhile = lambda: seen.append(standing(supervisor))

    house.end(child(supervisor, "c"), "boom")

    assert house.happened()[:4] == ["stop b", "stop a", "start a", "no paper b"]
    assert seen == [{"a": "running", "b": "restarting", "c": "down"}]


@pytest.mark.parametrize(
    ("strategy", "retry"),
    [
        ("one_for_all", ["stop a", "start a", "start b", "start c"]),
        ("rest_for_one", ["start b", "start c"]),
    ],
)
def test_the_retry_of_a_group_restart_is_a_restart_of_the_failed_child_under_the_strategy(
    house: House, run: Run, strategy: str, retry: list[str]
) -> None:
    house.outcomes["b"] = ["ok", "no paper", "ok"]
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], strategy=strategy)
    house.happened()

    house.end(child(supervisor, "a"), "boom")

    assert house.happened() == ["stop c", "stop b", "start a", "no paper b", *retry]
    assert supervisor.supervision().restarts_in_window == 2


@pytest.mark.parametrize(("strategy", "cost"), [("one_for_one", 2), ("one_for_all", 1), ("rest_for_one", 1)])
def test_two_children_killed_together_cost_one_under_a_group_strategy_and_two_under_one_for_one(
    house: House, run: Run, strategy: str, cost: int
) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], strategy=strategy)

    house.end_together({child(supervisor, label): "boom" for label in "ab"})

    assert standing(supervisor) == {"a": "running", "b": "running", "c": "running"}
    assert supervisor.supervision().restarts_in_window == cost


def test_a_transient_supervisor_that_gave_up_is_not_restarted_by_its_parent(house: House, run: Run) -> None:
    inner = Supervisor.child("inner", children=[house.spec("a")], max_restarts=0, restart="transient")
    supervisor = run(Supervisor, children=[inner])

    house.end(child(child(supervisor, "inner"), "a"), "boom")

    assert standing(supervisor) == {"inner": "down"}
    assert supervisor.supervision().restarts == 0


def test_a_permanent_supervisor_that_gave_up_is_restarted_and_costs_its_parent_one(house: House, run: Run) -> None:
    inner = Supervisor.child("inner", children=[house.spec("a")], max_restarts=0)
    supervisor = run(Supervisor, children=[inner], max_restarts=1)

    house.end(child(child(supervisor, "inner"), "a"), "boom")
    standing_after_one = standing(supervisor)
    house.end(child(child(supervisor, "inner"), "a"), "boom")

    assert standing_after_one == {"inner": "running"}
    assert supervisor.exit_reason == "shutdown"
