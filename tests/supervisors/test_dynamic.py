"""The dynamic supervisor: children by ref, max_children, all stopped at once."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import tenacity

from actors import Actor
from runtime.errors import InvalidValue, NotFound, StartError
from supervisors import ChildCounts, ChildSpec, DynamicSupervisor, MaxChildren
from tests.runtime.meeting import PATIENCE_S
from tests.supervisors.house import Crash, House, Run, Stubborn, Worker, standing

NORMAL = ["normal", "shutdown", ("shutdown", "why")]


def test_one_spec_serves_many_children_each_with_arguments_of_its_own(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    spec = ChildSpec("any", (Worker, (house,)))

    supervisor.start_child(spec, "alice")
    supervisor.start_child(spec, "bob")

    assert house.happened() == ["start alice", "start bob"]
    assert [(entry.id, entry.type) for entry in supervisor.which_children()] == [("any", "worker"), ("any", "worker")]


def test_a_restarted_child_gets_its_own_arguments_again_and_another_ref(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    first = supervisor.start_child(ChildSpec("any", (Worker, (house,))), "alice")

    house.end(first, "boom")

    (entry,) = supervisor.which_children()
    assert entry.child not in (first, None)
    assert house.happened() == ["start alice", "start alice"]


@pytest.mark.parametrize(
    ("restart", "reason", "stays"),
    [
        *[("permanent", reason, True) for reason in [*NORMAL, "boom"]],
        *[("transient", reason, False) for reason in NORMAL],
        ("transient", "boom", True),
        *[("temporary", reason, False) for reason in [*NORMAL, "boom"]],
    ],
)
def test_a_child_that_is_not_restarted_is_forgotten(
    house: House, run: Run, restart: str, reason: Any, stays: bool
) -> None:
    supervisor = run(DynamicSupervisor)
    ref = supervisor.start_child(house.spec("a", restart=restart))

    house.end(ref, reason)

    assert standing(supervisor) == ({"a": "running"} if stays else {})


class Forgetful(Actor):
    """Keeps nothing of what it is started with."""

    def __init__(self, given: object) -> None:
        super().__init__()


@pytest.mark.parametrize(("restart", "kept"), [("permanent", True), ("transient", True), ("temporary", False)])
def test_arguments_are_kept_only_for_a_child_that_may_be_restarted(run: Run, restart: Any, kept: bool) -> None:
    supervisor = run(DynamicSupervisor)
    given = Crash()
    seen = weakref.ref(given)

    supervisor.start_child(ChildSpec("a", Forgetful, restart=restart), given)
    supervisor.which_children()
    del given
    gc.collect()

    assert (seen() is not None) == kept


def test_a_crash_touches_no_other_child(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    a, b = supervisor.start_child(house.spec("a")), supervisor.start_child(house.spec("b"))
    house.happened()

    house.end(a, "boom")

    assert house.happened() == ["start a"]
    assert b.is_alive()


def test_start_child_answers_none_for_ignore_and_keeps_nothing(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ignore"]
    supervisor = run(DynamicSupervisor)

    assert supervisor.start_child(house.spec("a")) is None
    assert standing(supervisor) == {}


def test_a_child_that_says_ignore_at_a_restart_is_forgotten(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "ignore"]
    supervisor = run(DynamicSupervisor)

    house.end(supervisor.start_child(house.spec("a")), "boom")

    assert standing(supervisor) == {}


def test_start_child_that_fails_keeps_nothing(house: House, run: Run) -> None:
    house.outcomes["a"] = ["no paper"]
    supervisor = run(DynamicSupervisor)

    with pytest.raises(StartError):
        supervisor.start_child(house.spec("a"))

    assert standing(supervisor) == {}


def test_terminate_child_stops_and_forgets(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    ref = supervisor.start_child(house.spec("a"))

    supervisor.terminate_child(ref)

    assert ref.exit_reason == "shutdown"
    assert standing(supervisor) == {}


def test_terminate_child_is_fine_with_one_that_is_dead_already(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    ref = supervisor.start_child(house.spec("a", restart="temporary"))
    house.end(ref, "normal")

    supervisor.terminate_child(ref)

    assert standing(supervisor) == {}


def test_terminate_child_refuses_a_live_actor_that_is_no_child(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    stranger = run(DynamicSupervisor)

    with pytest.raises(NotFound, match="expected the ref of a child"):
        supervisor.terminate_child(stranger)

    assert stranger.is_alive()


def test_terminate_child_of_a_restarting_child_goes_by_the_ref_it_had(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, backoff=tenacity.wait_fixed(2))
    ref = supervisor.start_child(house.spec("a"))
    house.end(ref, "boom")

    supervisor.terminate_child(ref)
    house.clock.advance(10)

    assert standing(supervisor) == {}
    assert house.starts["a"] == 1


def test_a_child_goes_by_the_ref_it_had_after_further_failed_starts_too(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper"]
    supervisor = run(DynamicSupervisor, backoff=tenacity.wait_fixed(2))
    ref = supervisor.start_child(house.spec("a"))
    house.end(ref, "boom")
    house.clock.advance(2)

    assert house.starts["a"] == 2
    assert standing(supervisor) == {"a": "restarting"}
    supervisor.terminate_child(ref)
    assert standing(supervisor) == {}


@pytest.mark.parametrize("call", ["terminate_child", "get_child_spec"])
def test_calls_take_refs_and_not_ids(house: House, run: Run, call: str) -> None:
    supervisor = run(DynamicSupervisor)
    supervisor.start_child(house.spec("a"))

    with pytest.raises(InvalidValue, match="expected the ref of a child, got: 'a'"):
        getattr(supervisor, call)("a")


def test_get_child_spec_answers_the_spec_or_not_found(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    spec = house.spec("a", restart="temporary")
    ref = supervisor.start_child(spec)

    assert supervisor.get_child_spec(ref) is spec
    house.end(ref, "normal")
    with pytest.raises(NotFound):
        supervisor.get_child_spec(ref)


def test_max_children_is_a_bound(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, max_children=2)
    first = supervisor.start_child(house.spec("a"))
    supervisor.start_child(house.spec("b"))

    with pytest.raises(MaxChildren, match="max_children=2"):
        supervisor.start_child(house.spec("c"))
    supervisor.terminate_child(first)

    assert supervisor.start_child(house.spec("c")) is not None


def test_max_children_counts_those_that_are_restarting(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, max_children=1, backoff=tenacity.wait_fixed(2))
    house.end(supervisor.start_child(house.spec("a")), "boom")

    with pytest.raises(MaxChildren):
        supervisor.start_child(house.spec("b"))


def test_no_child_is_let_in_where_max_children_is_zero(house: House, run: Run) -> None:
    with pytest.raises(MaxChildren):
        run(DynamicSupervisor, max_children=0).start_child(house.spec("a"))


def test_count_children_counts_children_and_not_specs(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, backoff=tenacity.wait_fixed(2))
    spec = house.spec("a")
    house.end(supervisor.start_child(spec), "boom")
    supervisor.start_child(spec)
    supervisor.start_child(DynamicSupervisor.child("inner"))

    assert supervisor.count_children() == ChildCounts(specs=3, active=2, supervisors=1, workers=2)


def test_a_dynamic_supervisor_gives_up_by_the_same_intensity(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor, max_restarts=1)
    refs = [supervisor.start_child(house.spec(label)) for label in "abc"]
    house.happened()

    house.end(refs[0], "boom")
    house.end(refs[1], "boom")

    assert supervisor.exit_reason == "shutdown"
    assert sorted(house.happened()) == ["start a", "stop a", "stop c"]


def test_failed_starts_at_a_restart_are_tried_again_and_counted(house: House, run: Run) -> None:
    house.outcomes["a"] = ["ok", "no paper", "ok"]
    supervisor = run(DynamicSupervisor)

    house.end(supervisor.start_child(house.spec("a")), "boom")

    assert standing(supervisor) == {"a": "running"}
    assert supervisor.supervision().restarts_in_window == 2


@pytest.mark.parametrize(("auto_shutdown", "ends_after"), [("any_significant", 1), ("all_significant", 2)])
def test_automatic_shutdown_works_here_too(house: House, run: Run, auto_shutdown: str, ends_after: int) -> None:
    supervisor = run(DynamicSupervisor, auto_shutdown=auto_shutdown)
    spec = house.spec("a", restart="temporary", significant=True)
    refs = [supervisor.start_child(spec) for _ in range(2)]

    for ended, ref in enumerate(refs, start=1):
        assert supervisor.is_alive(), ended
        house.end(ref, "normal")
        if not supervisor.is_alive():
            break

    assert ended == ends_after
    assert supervisor.exit_reason == "shutdown"


def test_all_children_are_told_to_stop_at_once(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    for label in "abc":
        supervisor.start_child(house.spec(label, Stubborn, shutdown="infinity"))
    house.happened()

    supervisor.stop(block=False)

    assert sorted(house.happened()) == ["told a", "told b", "told c"]


def test_children_with_the_same_shutdown_share_one_deadline(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    slower = [supervisor.start_child(house.spec(label, Stubborn, shutdown=5_000)) for label in "de"]
    slow = [supervisor.start_child(house.spec(label, Stubborn, shutdown=3_000)) for label in "abc"]
    stopping = supervisor.stop(block=False)

    house.clock.advance(2.9)
    before = [ref.is_alive() for ref in slow + slower]
    house.clock.advance(0.2)
    after_three_seconds = [ref.is_alive() for ref in slow + slower]
    house.clock.advance(2.0)

    assert before == [True] * 5
    assert after_three_seconds == [False] * 3 + [True] * 2
    assert [ref.exit_reason for ref in slow + slower] == ["killed"] * 5
    assert stopping.get(timeout=PATIENCE_S) is True


def test_children_with_brutal_kill_are_killed_at_once(house: House, run: Run) -> None:
    supervisor = run(DynamicSupervisor)
    ref = supervisor.start_child(house.spec("a", shutdown="brutal_kill"))

    supervisor.stop()

    assert ref.exit_reason == "killed"
    assert house.happened() == ["start a"]
