"""Which exits restart, what a restart takes along, and when a supervisor shuts itself down."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from runtime.errors import Exit, InvalidValue
from supervisors import ChildSpec, Supervisor
from tests.supervisors.house import Crash, Errand, House, Run, Worker, child, standing

NORMAL = ["normal", "shutdown", ("shutdown", "why")]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


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


def test_whoever_has_seen_a_child_end_finds_its_next_incarnation(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    seen = []

    def end_and_look() -> None:
        for _ in range(3):
            ref = child(supervisor, "a")
            ref.tell(Exit("boom"))
            ref.wait()
            seen.append(standing(supervisor))

    Errand.start().ask(end_and_look)

    assert seen == [{"a": "running"}] * 3


class Impolite(Worker):
    """Sends its supervisor exit signals, and lives on or not."""

    def on_receive(self, message: Any) -> Any:
        assert self.parent is not None
        self.parent.exit("go away")
        if message == "and crash":
            raise Crash


def test_an_exit_signal_from_a_child_that_lives_is_not_taken_for_its_end(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Impolite)])
    ref = child(supervisor, "a")

    ref.tell("and live on")
    house.quiet()

    assert child(supervisor, "a") is ref
    assert house.contexts() == []


def test_two_signals_of_one_child_are_one_end(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Impolite)], backoff=tenacity.wait_fixed(2))

    child(supervisor, "a").tell("and crash")
    house.quiet()

    assert standing(supervisor) == {"a": "restarting"}
    assert len(house.contexts()) == 1


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
