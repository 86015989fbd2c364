"""The management calls and their results."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Actor, ActorRef
from runtime.errors import AlreadyExists, AlreadyStarted, InvalidValue, NotFound, StartError
from supervisors import ChildCounts, ChildRunning, ChildSpec, Supervisor, SupervisorRef
from tests.runtime.meeting import until
from tests.supervisors.house import House, Run, Worker, child, standing


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


class Curious(Actor):
    """Ask its supervisor something, when it starts or when it has started."""

    def __init__(self, when: str, answers: list[Any]) -> None:
        super().__init__()
        self.when = when
        self.answers = answers

    def on_start(self) -> None:
        self.continue_("started")
        if self.when == "starting":
            self.answers.append(self._question())

    def on_continue(self, x: Any) -> None:
        self.answers.append(self._question())

    def _question(self) -> Any:
        supervisor: Any = self.parent
        return supervisor.count_children()


@pytest.mark.parametrize("carrier", ["green", "thread"])
def test_a_child_that_calls_its_supervisor_before_it_has_started_fails_instead_of_waiting_for_ever(
    run: Run, carrier: str
) -> None:
    curious = ChildSpec("curious", (Curious.options(carrier=carrier).start_link, ("starting", [])))

    with pytest.raises(StartError, match="while it waits for them to start"):
        run(Supervisor, children=[curious])


@pytest.mark.parametrize("carrier", ["green", "thread"])
def test_a_child_that_has_started_may_call_its_supervisor(run: Run, carrier: str) -> None:
    answers: list[Any] = []
    curious = ChildSpec("curious", (Curious.options(carrier=carrier).start_link, ("started", answers)))

    run(Supervisor, children=[curious])

    until(lambda: answers == [ChildCounts(1, 1, 0, 1)])
