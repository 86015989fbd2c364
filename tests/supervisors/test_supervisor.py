"""The rules of OTP's supervisor, one by one, under their names in the specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest

from actors import IGNORE, Actor, ActorRef
from runtime.errors import AlreadyExists, AlreadyStarted, Exit, InvalidValue, NotFound, StartError
from supervisors import ChildCounts, ChildRunning, ChildSpec, Supervisor, SupervisorRef
from tests.supervisors.house import Crash, House, Stubborn, Worker, child, standing

Run = Callable[..., Any]
NORMAL = ["normal", "shutdown", ("shutdown", "why")]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


class Slow(Worker):
    """Takes two steps to start and to stop, so that anybody who does not wait for it gets in between."""

    def on_start(self) -> None:
        self.house.journal.append(f"begin {self.label}")
        self._let_others_run()
        super().on_start()

    def on_stop(self, reason: Any = "normal") -> None:
        self.house.journal.append(f"told {self.label}")
        self._let_others_run()
        super().on_stop(reason)

    def _let_others_run(self) -> None:
        somebody = Actor.start()
        somebody.stop()


# --- start and stop -------------------------------------------------------------------------------------------------


def test_children_start_left_to_right_each_after_the_one_before_has_finished(house: House, run: Run) -> None:
    run(Supervisor, children=[house.spec(label, Slow) for label in "abc"])

    assert house.journal == ["begin a", "start a", "begin b", "start b", "begin c", "start c"]


def test_start_returns_when_all_children_have_been_started(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")])

    assert standing(supervisor) == {"a": "running", "b": "running"}


def test_children_stop_strictly_in_reverse_one_at_a_time(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label, Slow) for label in "abc"])
    house.happened()

    supervisor.stop()

    assert house.happened() == ["told c", "stop c", "told b", "stop b", "told a", "stop a"]


def test_a_child_failing_at_first_start_stops_those_before_it_in_reverse_and_later_ones_never_start(
    house: House,
) -> None:
    house.outcomes["c"] = ["no paper"]

    with pytest.raises(StartError) as failure:
        Supervisor.start(children=[house.spec(label) for label in "abcd"])

    assert (failure.value.child_id, failure.value.reason) == ("c", "no paper")
    assert house.happened() == ["start a", "start b", "no paper c", "stop b", "stop a"]


def test_the_reason_of_a_failed_start_is_the_exception_that_on_start_raised(house: House) -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise Crash("at once")

    with pytest.raises(StartError) as failure:
        Supervisor.start(children=[ChildSpec("a", Broken)])

    assert isinstance(failure.value.reason, Crash)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_not_even_an_exception_that_ends_programs_leaves_a_failed_start(
    house: House, run: Run, error: BaseException
) -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise error

    supervisor = run(Supervisor)

    with pytest.raises(StartError) as failure:
        supervisor.start_child(ChildSpec("a", Broken))

    assert failure.value.reason is error
    assert supervisor.is_alive()


def test_there_is_no_retry_at_first_start(house: House) -> None:
    house.outcomes["a"] = ["no paper", "ok"]

    with pytest.raises(StartError):
        Supervisor.start(children=[house.spec("a")])

    house.quiet()
    assert house.starts["a"] == 1


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_says_ignore_is_kept_without_a_process(house: House, run: Run, restart: str) -> None:
    house.outcomes["a"] = ["ignore"]

    supervisor = run(Supervisor, children=[house.spec("a", restart=restart), house.spec("b")])

    assert standing(supervisor) == {"a": "down", "b": "running"}


def test_a_temporary_child_that_says_ignore_is_not_kept(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ignore"]

    supervisor = run(Supervisor, children=[house.spec("a", restart="temporary"), house.spec("b")])

    assert standing(supervisor) == {"b": "running"}


def test_a_callable_may_start_the_child_and_the_supervisor_is_linked_to_it(house: House, run: Run) -> None:
    def start(label: str) -> ActorRef[Any]:
        return Worker.start(house, label)

    supervisor = run(Supervisor, children=[ChildSpec("a", (start, ["x"]))])
    house.end(child(supervisor, "a"), "boom")

    assert house.happened() == ["start x", "start x"]
    assert standing(supervisor) == {"a": "running"}


def test_a_callable_may_say_ignore(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[ChildSpec("a", lambda: IGNORE)])

    assert standing(supervisor) == {"a": "down"}


@pytest.mark.parametrize("answer", [None, 3, "ok"])
def test_a_callable_that_returns_no_actor_has_failed(house: House, answer: Any) -> None:
    with pytest.raises(StartError, match="to return an ActorRef or IGNORE") as failure:
        Supervisor.start(children=[ChildSpec("a", lambda: answer)])

    assert isinstance(failure.value.reason, InvalidValue)


def test_a_callable_that_returns_somebody_elses_process_twice_has_failed(house: House, run: Run) -> None:
    ref = Worker.start(house, "x")
    supervisor = run(Supervisor, children=[ChildSpec("a", lambda: ref)])

    with pytest.raises(StartError) as failure:
        supervisor.start_child(ChildSpec("b", lambda: ref))

    assert isinstance(failure.value.reason, AlreadyStarted)
    assert standing(supervisor) == {"a": "running"}


def test_a_callable_that_returns_a_dead_actor_is_restarted_like_any_child_that_died(house: House, run: Run) -> None:
    starts = []

    def start() -> ActorRef[Any]:
        ref = Worker.start_link(house, "a")
        if not starts:
            ref.kill()
        starts.append(ref)
        return ref

    supervisor = run(Supervisor, children=[ChildSpec("a", start)])
    house.quiet()

    assert child(supervisor, "a") is starts[1]


def test_a_child_gets_shutdown_and_its_time_and_is_killed_then(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Stubborn, shutdown=2_000)])
    ref = child(supervisor, "a")
    stopping = supervisor.stop(block=False)

    house.clock.advance(1.9)
    alive_before = ref.is_alive()
    house.clock.advance(0.2)

    assert alive_before
    assert ref.exit_reason == "killed"
    assert stopping.get(timeout=5) is True


def test_a_child_with_infinity_is_waited_for(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Stubborn, shutdown="infinity")])
    ref = child(supervisor, "a")
    stopping = supervisor.stop(block=False)

    house.clock.advance(1_000_000)

    assert (ref.is_alive(), supervisor.is_alive()) == (True, True)
    ref.kill()
    assert stopping.get(timeout=5) is True


def test_brutal_kill_kills_at_once(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", shutdown="brutal_kill")])
    ref = child(supervisor, "a")

    supervisor.stop()

    assert ref.exit_reason == "killed"
    assert house.happened() == ["start a"]


def test_killing_a_supervisor_takes_its_children_along_in_the_middle_of_a_stop_too(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b", Stubborn, shutdown="infinity")])
    a, b = child(supervisor, "a"), child(supervisor, "b")
    supervisor.stop(block=False)
    house.quiet()

    supervisor.kill()
    house.quiet()

    assert (a.is_alive(), b.exit_reason) == (False, "killed")


# --- which exits restart --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*NORMAL, "boom", "killed"])
def test_a_permanent_child_is_always_restarted_and_reported(house: House, run: Run, reason: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    first = child(supervisor, "a")

    house.end(first, reason)

    assert child(supervisor, "a") is not first
    assert house.contexts() == [("child_terminated", reason)]


@pytest.mark.parametrize("reason", NORMAL)
def test_a_transient_child_is_not_restarted_after_a_normal_exit_and_its_spec_is_kept(
    house: House, run: Run, reason: Any
) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="transient")])

    house.end(child(supervisor, "a"), reason)

    assert standing(supervisor) == {"a": "down"}
    assert house.contexts() == []


@pytest.mark.parametrize("reason", ["boom", "killed", ("shutdown",), ("shutdown", 1, 2)])
def test_a_transient_child_is_restarted_and_reported_after_any_other_exit(house: House, run: Run, reason: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="transient")])
    first = child(supervisor, "a")

    house.end(first, reason)

    assert child(supervisor, "a") is not first
    assert house.contexts() == [("child_terminated", reason)]


@pytest.mark.parametrize("reason", NORMAL)
def test_a_temporary_child_is_removed_without_a_report_after_a_normal_exit(house: House, run: Run, reason: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="temporary")])

    house.end(child(supervisor, "a"), reason)

    assert standing(supervisor) == {}
    assert house.contexts() == []


@pytest.mark.parametrize("reason", ["boom", "killed"])
def test_a_temporary_child_is_removed_with_a_report_after_any_other_exit(house: House, run: Run, reason: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="temporary")])

    house.end(child(supervisor, "a"), reason)

    assert standing(supervisor) == {}
    assert house.contexts() == [("child_terminated", reason)]


def test_a_killed_child_counts_as_an_abnormal_exit(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="transient")])
    first = child(supervisor, "a")

    first.kill()
    house.quiet()

    assert child(supervisor, "a") is not first
    assert house.contexts() == [("child_terminated", "killed")]


def test_a_crash_is_reported_with_the_exception_itself(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    crash = Crash("in the middle")

    child(supervisor, "a").tell(crash)
    house.quiet()

    assert house.contexts() == [("child_terminated", crash)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("restart", "reason"), [("transient", "normal"), ("temporary", "boom")])
def test_a_child_that_is_not_restarted_leaves_its_siblings_alone(
    house: House, run: Run, strategy: str, restart: str, reason: str
) -> None:
    supervisor = run(
        Supervisor, children=[house.spec("a"), house.spec("b", restart=restart), house.spec("c")], strategy=strategy
    )
    house.happened()

    house.end(child(supervisor, "b"), reason)

    assert house.happened() == []


# --- strategies -----------------------------------------------------------------------------------------------------


def test_one_for_one_restarts_that_child_only(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"])
    house.happened()

    house.end(child(supervisor, "b"), "boom")

    assert house.happened() == ["start b"]


def test_one_for_all_stops_all_others_in_reverse_and_starts_all_in_order(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abc"], strategy="one_for_all")
    house.happened()

    house.end(child(supervisor, "b"), "boom")

    assert house.happened() == ["stop c", "stop a", "start a", "start b", "start c"]


def test_rest_for_one_does_so_with_those_started_after_it(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec(label) for label in "abcd"], strategy="rest_for_one")
    house.happened()

    house.end(child(supervisor, "b"), "boom")

    assert house.happened() == ["stop d", "stop c", "start b", "start c", "start d"]


def test_temporary_children_stopped_on_the_way_never_come_back(house: House, run: Run) -> None:
    specs = [house.spec("a"), house.spec("b", restart="temporary"), house.spec("c")]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all")
    house.happened()

    house.end(child(supervisor, "a"), "boom")

    assert house.happened() == ["stop c", "stop b", "start a", "start c"]
    assert standing(supervisor) == {"a": "running", "c": "running"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_children_that_were_down_on_purpose_are_started_again_by_a_group_restart(
    house: House, run: Run, strategy: str
) -> None:
    specs = [house.spec("a"), house.spec("b"), house.spec("c", restart="transient")]
    supervisor = run(Supervisor, children=specs, strategy=strategy)
    supervisor.terminate_child("b")
    house.end(child(supervisor, "c"), "normal")

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running", "b": "running", "c": "running"}


def test_a_child_that_a_group_restart_finds_ignoring_stays_down(house: House, run: Run) -> None:
    house.outcomes["b"] = ["ok", "ignore"]
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], strategy="one_for_all")

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running", "b": "down"}


def test_the_rest_of_rest_for_one_goes_by_start_order_and_a_restart_keeps_the_position(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], strategy="rest_for_one")
    supervisor.start_child(house.spec("c"))
    house.end(child(supervisor, "b"), "boom")
    house.happened()

    house.end(child(supervisor, "b"), "boom")

    assert house.happened() == ["stop c", "start b", "start c"]


def test_delete_and_start_child_moves_a_child_to_the_end(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], strategy="rest_for_one")

    supervisor.terminate_child("a")
    supervisor.delete_child("a")
    supervisor.start_child(house.spec("a"))

    assert list(standing(supervisor)) == ["b", "a"]
    house.happened()
    supervisor.stop()
    assert house.happened() == ["stop a", "stop b"]


# --- automatic shutdown ---------------------------------------------------------------------------------------------


def significant(house: House, label: str, restart: str = "transient") -> ChildSpec:
    return house.spec(label, restart=restart, significant=True)


@pytest.mark.parametrize(
    ("restart", "reason"), [("transient", "normal"), ("temporary", "normal"), ("temporary", "boom")]
)
def test_any_significant_stops_the_supervisor_once_a_significant_child_ends_for_good(
    house: House, run: Run, restart: str, reason: str
) -> None:
    specs = [house.spec("a"), significant(house, "b", restart), significant(house, "c")]
    supervisor = run(Supervisor, children=specs, auto_shutdown="any_significant")
    house.happened()

    house.end(child(supervisor, "b"), reason)

    assert supervisor.exit_reason == "shutdown"
    assert house.happened() == ["stop c", "stop a"]


def test_all_significant_stops_the_supervisor_once_the_last_significant_child_ended(house: House, run: Run) -> None:
    specs = [house.spec("a"), significant(house, "b"), significant(house, "c", "temporary")]
    supervisor = run(Supervisor, children=specs, auto_shutdown="all_significant")

    house.end(child(supervisor, "b"), "normal")
    alive_with_one_left = supervisor.is_alive()
    house.end(child(supervisor, "c"), "boom")

    assert alive_with_one_left
    assert supervisor.exit_reason == "shutdown"


def test_a_significant_child_that_is_restarted_stops_nothing(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[significant(house, "a")], auto_shutdown="any_significant")

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running"}


def test_an_insignificant_child_stops_nothing(house: House, run: Run) -> None:
    specs = [house.spec("a", restart="temporary"), significant(house, "b")]
    supervisor = run(Supervisor, children=specs, auto_shutdown="any_significant")

    house.end(child(supervisor, "a"), "normal")

    assert supervisor.is_alive()


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_terminate_child_never_triggers_automatic_shutdown(house: House, run: Run, auto_shutdown: str) -> None:
    supervisor = run(Supervisor, children=[significant(house, "a")], auto_shutdown=auto_shutdown)

    supervisor.terminate_child("a")
    house.quiet()

    assert supervisor.is_alive()


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_being_stopped_because_a_sibling_failed_never_triggers_automatic_shutdown(
    house: House, run: Run, auto_shutdown: str
) -> None:
    specs = [house.spec("a"), significant(house, "b", "temporary")]
    supervisor = run(Supervisor, children=specs, auto_shutdown=auto_shutdown, strategy="one_for_all")

    house.end(child(supervisor, "a"), "boom")

    assert standing(supervisor) == {"a": "running"}


def test_terminated_significant_children_do_not_count_for_all_significant(house: House, run: Run) -> None:
    specs = [significant(house, "a"), significant(house, "b")]
    supervisor = run(Supervisor, children=specs, auto_shutdown="all_significant")
    supervisor.terminate_child("a")

    house.end(child(supervisor, "b"), "normal")

    assert supervisor.exit_reason == "shutdown"


def test_start_child_refuses_a_significant_child_where_auto_shutdown_is_never(house: House, run: Run) -> None:
    supervisor = run(Supervisor)

    with pytest.raises(InvalidValue, match="expected significant of child 'a' to be False"):
        supervisor.start_child(significant(house, "a"))

    assert standing(supervisor) == {}


# --- intensity ------------------------------------------------------------------------------------------------------


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


class Curious(Worker):
    """Has somebody else ask its supervisor something while its own start fails."""

    def on_start(self) -> None:
        outcomes = self.house.outcomes[self.label]
        if len(outcomes) > 1 and outcomes[0] != "ok":
            Asker.start(self.house, self.parent).tell("ask")
        super().on_start()


class Asker(Actor):
    def __init__(self, house: House, supervisor: SupervisorRef) -> None:
        super().__init__()
        self.house = house
        self.supervisor = supervisor

    def on_receive(self, message: Any) -> None:
        self.house.journal.append(f"asked: {standing(self.supervisor)}")
        self.house.journal.append(f"started: {self.supervisor.start_child(self.house.spec('new')) is not None}")
        self.stop()


def test_the_supervisor_answers_between_two_attempts(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper", "ok"]
    supervisor = run(Supervisor, children=[house.spec("a", Curious)])
    house.happened()

    house.end(child(supervisor, "a"), "boom")

    assert house.happened() == ["no paper a", "asked: {'a': 'restarting'}", "start a", "start new", "started: True"]


def test_a_group_restart_that_fails_in_the_middle_keeps_those_before_and_leaves_later_ones_down(
    house: House, run: Run
) -> None:
    house.outcomes["b"] = ["ok", "no paper", "ok"]
    specs = [house.spec("a"), house.spec("b", Curious), house.spec("c")]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all")
    house.happened()

    house.end(child(supervisor, "c"), "boom")

    happened = house.happened()
    assert happened[:4] == ["stop b", "stop a", "start a", "no paper b"]
    assert happened[4] == "asked: {'a': 'running', 'b': 'restarting', 'c': 'down'}"


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


# --- results --------------------------------------------------------------------------------------------------------


def test_start_child_answers_with_the_ref_and_appends_to_the_order(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    ref = supervisor.start_child(house.spec("b"))

    assert ref.is_alive()
    assert list(standing(supervisor)) == ["a", "b"]


def test_start_child_of_a_running_id_is_refused_with_the_ref_of_the_child(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    with pytest.raises(ChildRunning) as refusal:
        supervisor.start_child(house.spec("a"))

    assert refusal.value.ref is child(supervisor, "a")
    assert isinstance(refusal.value, AlreadyStarted)


def test_start_child_of_a_known_id_that_is_down_is_refused_as_already_present(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    supervisor.terminate_child("a")

    with pytest.raises(AlreadyExists):
        supervisor.start_child(house.spec("a"))


def test_start_child_does_not_keep_the_spec_of_a_child_that_failed_to_start(house: House, run: Run) -> None:
    house.outcomes["a"] = ["no paper"]
    supervisor = run(Supervisor)

    with pytest.raises(StartError) as failure:
        supervisor.start_child(house.spec("a"))

    assert failure.value.reason == "no paper"
    assert standing(supervisor) == {}
    assert house.contexts() == []


@pytest.mark.parametrize(("restart", "kept"), [("permanent", {"a": "down"}), ("temporary", {})])
def test_start_child_answers_none_for_ignore_and_keeps_the_spec_unless_temporary(
    house: House, run: Run, restart: str, kept: dict[str, str]
) -> None:
    house.outcomes["a"] = ["ignore"]
    supervisor = run(Supervisor)

    assert supervisor.start_child(house.spec("a", restart=restart)) is None
    assert standing(supervisor) == kept


def test_start_child_refuses_what_is_no_spec_in_the_caller(house: House, run: Run) -> None:
    supervisor = run(Supervisor)

    with pytest.raises(InvalidValue, match="expected a ChildSpec"):
        supervisor.start_child(Worker)

    assert supervisor.is_alive()


def test_terminate_child_stops_the_child_and_keeps_its_spec(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")])
    house.happened()

    supervisor.terminate_child("a")

    assert house.happened() == ["stop a"]
    assert standing(supervisor) == {"a": "down", "b": "running"}


def test_terminate_child_is_fine_with_a_child_that_is_down_already(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    supervisor.terminate_child("a")

    supervisor.terminate_child("a")

    assert standing(supervisor) == {"a": "down"}


def test_terminate_child_removes_a_temporary_child(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="temporary")])

    supervisor.terminate_child("a")

    assert standing(supervisor) == {}


def test_restart_child_starts_a_child_that_is_down(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    supervisor.terminate_child("a")

    ref = supervisor.restart_child("a")

    assert child(supervisor, "a") is ref
    assert supervisor.supervision().restarts == 0


def test_restart_child_that_fails_leaves_the_child_down(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper"]
    supervisor = run(Supervisor, children=[house.spec("a")])
    supervisor.terminate_child("a")

    with pytest.raises(StartError):
        supervisor.restart_child("a")

    assert standing(supervisor) == {"a": "down"}


def test_restart_child_answers_none_for_ignore(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ignore"]
    supervisor = run(Supervisor, children=[house.spec("a")])

    assert supervisor.restart_child("a") is None


def test_delete_child_forgets_a_child_that_is_down(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    supervisor.terminate_child("a")

    supervisor.delete_child("a")

    assert standing(supervisor) == {}


@pytest.mark.parametrize("call", ["restart_child", "delete_child"])
def test_restart_and_delete_refuse_a_running_child(house: House, run: Run, call: str) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    with pytest.raises(ChildRunning):
        getattr(supervisor, call)("a")

    assert standing(supervisor) == {"a": "running"}


@pytest.mark.parametrize("call", ["terminate_child", "restart_child", "delete_child", "get_child_spec"])
@pytest.mark.parametrize("child_id", ["b", ["unhashable"]])
def test_calls_on_an_unknown_id_are_refused_as_not_found(house: House, run: Run, call: str, child_id: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    with pytest.raises(NotFound, match="expected the id of a child"):
        getattr(supervisor, call)(child_id)

    assert supervisor.is_alive()


def test_get_child_spec_answers_the_spec(house: House, run: Run) -> None:
    spec = house.spec("a", restart="transient")

    assert run(Supervisor, children=[spec]).get_child_spec("a") is spec


def test_which_children_lists_id_ref_and_type_in_start_order(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), Supervisor.child("s"), house.spec("c")])
    supervisor.terminate_child("c")

    (a, s, c) = supervisor.which_children()

    assert (a.id, a.type, s.id, s.type, c) == ("a", "worker", "s", "supervisor", ("c", None, "worker"))
    assert (type(a.child), type(s.child)) == (ActorRef, SupervisorRef)


def test_count_children_counts_specs_active_supervisors_and_workers(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), Supervisor.child("s"), house.spec("c")])
    supervisor.terminate_child("c")
    supervisor.terminate_child("s")

    assert supervisor.count_children() == ChildCounts(specs=3, active=1, supervisors=1, workers=2)


# --- whom a supervisor listens to -----------------------------------------------------------------------------------


class Parent(Actor):
    """Starts a supervisor and ends as told."""

    trap_exits = True

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Exit):
            raise message
        return message()


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "boom"])
def test_the_parents_exit_stops_the_supervisor_with_that_reason(house: House, reason: Any) -> None:
    parent = Parent.start()
    supervisor = parent.ask(lambda: Supervisor.start_link(children=[house.spec("a"), house.spec("b")]))
    house.happened()

    parent.tell(Exit(reason))
    house.quiet()

    assert supervisor.exit_reason == reason
    assert house.happened() == ["stop b", "stop a"]


def test_a_strangers_exit_is_ignored(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    stranger = Parent.start()

    stranger.ask(lambda: supervisor.exit("shutdown"))
    stranger.ask(lambda: stranger._actor.link(supervisor))
    stranger.tell(Exit("boom"))
    supervisor.exit("boom")
    house.quiet()

    assert standing(supervisor) == {"a": "running"}


def test_an_unknown_message_is_reported_and_dropped(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], name="shop")

    supervisor.tell("good morning")

    assert supervisor.ask("how are you?") is None
    assert house.events("supervisors.unexpected_message") == [
        {"supervisor": "shop", "message": "good morning"},
        {"supervisor": "shop", "message": "how are you?"},
    ]
    assert standing(supervisor) == {"a": "running"}


def test_calls_may_come_from_inside_other_actors(house: House, run: Run) -> None:
    supervisor = run(Supervisor)
    somebody = Parent.start()

    ref = somebody.ask(lambda: supervisor.start_child(house.spec("a")))

    assert child(supervisor, "a") is ref
    somebody.stop()


def test_calls_to_a_dead_supervisor_fail_as_any_ask_does(house: House, run: Run) -> None:
    supervisor = run(Supervisor)
    supervisor.stop()

    with pytest.raises(pykka.ActorDeadError):
        supervisor.which_children()


# --- declaring ------------------------------------------------------------------------------------------------------


def test_a_subclass_declares_children_and_flags(house: House, run: Run) -> None:
    class Shop(Supervisor):
        strategy = "one_for_all"

        def __init__(self, tills: int, **options: Any) -> None:
            super().__init__(**options)
            self.tills = tills

        def children(self) -> Any:
            yield house.spec("stock")
            for number in range(self.tills):
                yield house.spec(f"till {number}")

    supervisor = run(Shop, 2, name="shop")
    house.end(child(supervisor, "till 0"), "boom")

    assert list(standing(supervisor)) == ["stock", "till 0", "till 1"]
    assert house.starts["stock"] == 2
    assert supervisor.name == "shop"


def test_an_iterator_of_children_is_refused_because_a_restart_could_not_read_it_again(house: House) -> None:
    with pytest.raises(InvalidValue, match="expected children to be a list or tuple"):
        Supervisor.start(children=iter([house.spec("a")]))


def test_child_gives_the_spec_of_a_supervisor_with_infinity(house: House, run: Run) -> None:
    spec = Supervisor.child("inner", children=[house.spec("a")], strategy="rest_for_one", restart="transient")

    assert (spec.type, spec.shutdown, spec.restart) == ("supervisor", "infinity", "transient")
    supervisor = run(Supervisor, children=[spec])
    assert standing(child(supervisor, "inner")) == {"a": "running"}


def test_a_tree_stops_from_its_last_leaf_to_its_first(house: House, run: Run) -> None:
    west = Supervisor.child("west", children=[house.spec("a"), house.spec("b")])
    east = Supervisor.child("east", children=[house.spec("c"), house.spec("d")])
    supervisor = run(Supervisor, children=[west, east])
    house.happened()

    supervisor.stop()

    assert house.happened() == ["stop d", "stop c", "stop b", "stop a"]


def test_a_leaf_that_fails_at_first_start_fails_the_whole_tree(house: House) -> None:
    house.outcomes["b"] = ["no paper"]
    inner = Supervisor.child("inner", children=[house.spec("a"), house.spec("b")])

    with pytest.raises(StartError) as failure:
        Supervisor.start(children=[house.spec("first"), inner])

    assert failure.value.child_id == "inner"
    assert isinstance(failure.value.reason, StartError)
    assert (failure.value.reason.child_id, failure.value.reason.reason) == ("b", "no paper")
    assert house.happened() == ["start first", "start a", "no paper b", "stop a", "stop first"]
