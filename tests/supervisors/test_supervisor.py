"""Starting, stopping, declaring supervisors, and whom they listen to."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from actors import IGNORE, Actor, ActorRef
from runtime.errors import AlreadyStarted, Exit, InvalidValue, StartError
from supervisors import ChildSpec, Supervisor
from tests.runtime.meeting import PATIENCE_S
from tests.supervisors.house import Crash, House, Run, Stubborn, Worker, child, standing


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


def test_a_child_knows_how_often_it_was_started_again(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")])

    house.end(child(supervisor, "a"), "boom")
    house.end(child(supervisor, "a"), "boom")

    assert [child(supervisor, label).info().restarts for label in "ab"] == [2, 0]


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
    starts: list[ActorRef[Any]] = []

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
    assert stopping.get(timeout=PATIENCE_S) is True


def test_a_child_with_infinity_is_waited_for(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Stubborn, shutdown="infinity")])
    ref = child(supervisor, "a")
    stopping = supervisor.stop(block=False)

    house.clock.advance(1_000_000)

    assert (ref.is_alive(), supervisor.is_alive()) == (True, True)
    ref.kill()
    assert stopping.get(timeout=PATIENCE_S) is True


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


class Trapper(Worker):
    """Decides for itself what to do about exit signals: nothing."""

    trap_exits = True

    def on_exit(self, ref: ActorRef[Any] | None, reason: Any) -> None:
        self.house.journal.append(f"{reason} from {type(ref).__name__}")


def test_a_child_that_somebody_else_started_and_that_traps_exits_is_killed_when_its_time_is_over(
    house: House, run: Run
) -> None:
    ref = Trapper.start(house, "a")
    supervisor = run(Supervisor, children=[ChildSpec("a", lambda: ref, shutdown=1_000)])
    house.happened()

    supervisor.stop(block=False)
    house.clock.advance(1)

    assert house.happened() == ["shutdown from SupervisorRef"]
    assert ref.exit_reason == "killed"


class Hanging(Worker):
    """Starts once; the second start never comes to an end."""

    def on_start(self) -> None:
        super().on_start()
        if self.house.starts[self.label] > 1:
            self.house.journal.append(self.actor_ref)
            Actor.start().wait()


def test_killing_a_supervisor_in_the_middle_of_a_restart_ends_both_and_reports_no_failed_start(
    house: House, run: Run
) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", Hanging)])
    house.end(child(supervisor, "a"), "boom")
    starting = house.journal[-1]

    supervisor.kill()
    house.quiet()

    assert (supervisor.exit_reason, starting.exit_reason) == ("killed", "killed")
    assert house.contexts() == [("child_terminated", "boom")]


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
