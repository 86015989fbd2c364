"""Links tell both ways and monitors one way, whatever ends an actor, and wherever it runs."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pykka
import pytest
from greenlet import GreenletExit
from loguru import logger

import runtime
from actors import Actor, processes
from runtime import _dispatch
from runtime._table import table
from runtime.errors import InvalidValue
from tests.actors.people import Obedient, Trapping, notes, raising
from tests.runtime.meeting import PATIENCE_S, Gate, in_threads, until


@pytest.fixture(params=["green", "thread"])
def other_carrier(request: pytest.FixtureRequest) -> str:
    """Where the other one of two actors runs."""
    return str(request.param)


def started(cls: type[Actor], carrier: str) -> Any:
    return cls.options(carrier=carrier).start()


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_crash_takes_the_linked_actor_along_with_the_same_reason(carrier: str, other_carrier: str) -> None:
    one, two = started(Obedient, carrier), started(Obedient, other_carrier)
    one.ask(lambda actor: actor.link(two))
    error = ValueError("bad")

    two.tell(raising(error))

    assert one.wait(PATIENCE_S) is error
    assert one._actor.notes == []  # as on the BEAM: who does not trap exits dies of a signal and cleans nothing up


def test_links_go_both_ways(carrier: str, other_carrier: str) -> None:
    one, two = started(Obedient, carrier), started(Obedient, other_carrier)
    one.ask(lambda actor: actor.link(two))

    one.tell(raising(ValueError("bad")))

    assert isinstance(two.wait(PATIENCE_S), ValueError)


def test_who_traps_exits_is_told_instead(carrier: str, other_carrier: str) -> None:
    one, two = started(Trapping, carrier), started(Obedient, other_carrier)
    one.ask(lambda actor: actor.link(two))

    two.stop(reason="why")

    until(lambda: notes(one) == [("exit", two, "why")])
    assert one.is_alive()


def test_a_normal_end_is_told_to_who_traps_exits_and_ignored_by_who_does_not(carrier: str) -> None:
    ended, trapping, plain = started(Obedient, carrier), started(Trapping, carrier), started(Obedient, carrier)
    trapping.ask(lambda actor: actor.link(ended))
    plain.ask(lambda actor: actor.link(ended))

    ended.stop()

    until(lambda: notes(trapping) == [("exit", ended, "normal")])
    assert plain.ask("alive") == "alive"


def test_a_shutdown_ends_who_does_not_trap_exits_in_order(carrier: str) -> None:
    one, two = started(Obedient, carrier), started(Obedient, carrier)
    actor = one._actor
    one.ask(lambda actor: actor.link(two))

    two.stop(reason="shutdown")

    assert one.wait(PATIENCE_S) == "shutdown"
    assert actor.notes == [("stopped", "shutdown")]


def test_killing_an_actor_signals_killed_to_its_links(carrier: str) -> None:
    victim, plain, trapping = started(Obedient, carrier), started(Obedient, carrier), started(Trapping, carrier)
    plain.ask(lambda actor: actor.link(victim))
    trapping.ask(lambda actor: actor.link(victim))
    victim.ask(lambda actor: None)  # it knows of both links by now; one that comes too late hears "noproc"

    victim.kill()

    assert plain.wait(PATIENCE_S) == "killed"
    until(lambda: notes(trapping) == [("exit", victim, "killed")])


def test_a_linked_actor_that_hangs_dies_as_well(carrier: str) -> None:
    gate = Gate()
    victim, hanging = started(Obedient, carrier), started(Obedient, carrier)
    hanging.ask(lambda actor: actor.link(victim))
    hanging.tell(lambda actor: gate.pass_through())
    gate.wait_reached()

    victim.tell(raising(ValueError("bad")))

    assert isinstance(hanging.wait(PATIENCE_S), ValueError)
    gate.open()


def test_a_chain_of_links_falls_as_a_whole(carrier: str) -> None:
    chain = [started(Obedient, carrier) for _ in range(20)]
    for one, next_one in itertools.pairwise(chain):
        one.ask(lambda actor, other=next_one: actor.link(other))

    chain[10].tell(raising(ValueError("bad")))

    assert {type(ref.wait(PATIENCE_S)) for ref in chain} == {ValueError}
    assert processes() == []


def test_linking_twice_is_one_link(carrier: str) -> None:
    one, two = started(Trapping, carrier), started(Obedient, carrier)
    one.ask(lambda actor: [actor.link(two), actor.link(two)] and None)

    two.stop(reason="why")
    one.ask("done")

    until(lambda: notes(one) == ["done", ("exit", two, "why")] or notes(one) == [("exit", two, "why"), "done"])


def test_unlinked_actors_tell_each_other_nothing(carrier: str, other_carrier: str) -> None:
    one, two = started(Trapping, carrier), started(Obedient, other_carrier)
    one.ask(lambda actor: actor.link(two))
    one.ask(lambda actor: actor.unlink(two))

    two.tell(raising(ValueError("bad")))
    two.wait(PATIENCE_S)

    assert notes(one) == []
    assert one.stop()


def test_linking_to_the_dead_signals_at_once(carrier: str) -> None:
    dead, plain, trapping = started(Obedient, carrier), started(Obedient, carrier), started(Trapping, carrier)
    dead.stop()

    trapping.ask(lambda actor: actor.link(dead))
    plain.ask(lambda actor: actor.link(dead))

    until(lambda: notes(trapping) == [("exit", dead, "noproc")])
    assert plain.wait(PATIENCE_S) == "noproc"


def test_an_actor_started_with_a_link_and_its_starter_are_linked_from_the_first_moment(carrier: str) -> None:
    starter = started(Obedient, carrier)
    child = starter.ask(lambda actor: Obedient.options(carrier=carrier).start_link())

    starter.kill()

    assert child.wait(PATIENCE_S) == "killed"


def test_a_crashing_child_started_with_a_link_tells_its_starter(carrier: str) -> None:
    starter = started(Trapping, carrier)
    child = starter.ask(lambda actor: Obedient.options(carrier=carrier).start_link())
    error = ValueError("bad")

    child.tell(raising(error))

    until(lambda: notes(starter) == [("exit", child, error)])


def test_a_child_that_traps_exits_still_ends_with_its_parent(carrier: str) -> None:
    parent = started(Obedient, carrier)
    child = parent.ask(lambda actor: Trapping.options(carrier=carrier).start_link())
    actor = child._actor

    parent.stop(reason="shutdown")

    assert child.wait(PATIENCE_S) == "shutdown"
    assert actor.notes == [("stopped", "shutdown")]


# -- exit signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["shutdown", ("shutdown", 1), "why"])
def test_exit_ends_who_does_not_trap_exits(carrier: str, reason: Any) -> None:
    ref = started(Obedient, carrier)

    ref.exit(reason)

    assert ref.wait(PATIENCE_S) == reason


def test_exit_normal_is_ignored_by_who_does_not_trap_exits(carrier: str) -> None:
    ref = started(Obedient, carrier)

    ref.exit("normal")

    assert ref.ask("alive") == "alive"


@pytest.mark.parametrize("reason", ["normal", "shutdown", "why", "killed"])
def test_exit_from_a_stranger_is_told_to_who_traps_exits(carrier: str, reason: Any) -> None:
    ref = started(Trapping, carrier)

    ref.exit(reason)

    until(lambda: notes(ref) == [("exit", None, reason)])


@pytest.mark.parametrize("reason", ["normal", "shutdown", "why"])
def test_exit_from_its_parent_always_ends_who_traps_exits(carrier: str, reason: Any) -> None:
    parent = started(Obedient, carrier)
    child = parent.ask(lambda actor: Trapping.options(carrier=carrier).start())
    actor = child._actor

    parent.ask(lambda actor: child.exit(reason))

    assert child.wait(PATIENCE_S) == reason
    assert actor.notes == [("stopped", reason)]


def test_exit_kill_cannot_be_trapped(carrier: str) -> None:
    ref = started(Trapping, carrier)
    actor = ref._actor

    ref.exit("kill")

    assert ref.wait(PATIENCE_S) == "killed"
    assert actor.notes == []


# -- monitors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_a_monitor_tells_the_reason_of_the_end(carrier: str, other_carrier: str, end: str) -> None:
    watcher, watched = started(Obedient, carrier), started(Obedient, other_carrier)
    monitor_id = watcher.ask(lambda actor: actor.monitor(watched))
    error = ValueError("bad")
    match end:
        case "stop":
            watched.stop(reason="shutdown")
        case "kill":
            watched.kill()
        case "crash":
            watched.tell(raising(error))

    reason = {"stop": "shutdown", "kill": "killed", "crash": error}[end]
    until(lambda: notes(watcher) == [("down", monitor_id, watched, reason)])


def test_monitors_go_one_way(carrier: str) -> None:
    watcher, watched = started(Obedient, carrier), started(Obedient, carrier)
    watcher.ask(lambda actor: actor.monitor(watched))

    watcher.tell(raising(ValueError("bad")))
    watcher.wait(PATIENCE_S)

    assert watched.ask("alive") == "alive"
    until(lambda: not watched._actor._monitors)  # and nothing is kept for the dead watcher


def test_monitors_are_stackable(carrier: str) -> None:
    watcher, watched = started(Obedient, carrier), started(Obedient, carrier)
    ids = watcher.ask(lambda actor: [actor.monitor(watched) for _ in range(3)])

    watched.stop()

    until(lambda: len(notes(watcher)) == 3)
    assert {note[1] for note in notes(watcher)} == set(ids)


def test_monitoring_the_dead_tells_at_once(carrier: str) -> None:
    watcher, dead = started(Obedient, carrier), started(Obedient, carrier)
    dead.stop(reason="shutdown")

    monitor_id = watcher.ask(lambda actor: actor.monitor(dead))

    until(lambda: notes(watcher) == [("down", monitor_id, dead, "shutdown")])


def test_a_monitor_that_was_taken_back_tells_nothing(carrier: str) -> None:
    watcher, watched = started(Obedient, carrier), started(Obedient, carrier)
    kept, taken_back = watcher.ask(lambda actor: (actor.monitor(watched), actor.monitor(watched)))

    watcher.ask(lambda actor: actor.demonitor(taken_back))
    watcher.ask(lambda actor: actor.demonitor(taken_back))
    watched.stop()

    until(lambda: notes(watcher) == [("down", kept, watched, "normal")])


def test_a_monitor_taken_back_when_the_news_is_under_way_tells_nothing(carrier: str) -> None:
    watcher, watched = started(Obedient, carrier), started(Obedient, carrier)

    def work(actor: Obedient) -> None:
        monitor_id = actor.monitor(watched)
        watched.kill()
        watched.wait(PATIENCE_S)
        actor.demonitor(monitor_id)

    watcher.ask(work)

    assert notes(watcher) == []


def test_one_actor_watches_a_thousand_and_misses_none() -> None:
    watcher = started(Obedient, "green")
    watched = [Obedient.start() for _ in range(1_000)]
    watcher.ask(lambda actor: [actor.monitor(ref) for ref in watched] and None)

    in_threads(4, lambda number: [ref.stop() for ref in watched[number::4]])

    until(lambda: len(notes(watcher)) == 1_000)
    assert {note[2] for note in notes(watcher)} == set(watched)


def test_links_and_ends_from_many_threads_leave_nobody_half_linked(carrier: str) -> None:
    # A trapping hub is linked to workers that are killed at any moment: it hears of each exactly once.
    hub = started(Trapping, "green")
    seen: list[Any] = []

    def live(number: int) -> None:
        for _ in range(25):
            worker = started(Obedient, carrier)
            seen.append(worker)
            hub.tell(lambda actor, worker=worker: actor.link(worker))
            worker.kill()
            worker.wait(PATIENCE_S)

    in_threads(4, live)

    until(lambda: len(notes(hub)) == 100)
    assert {note[1] for note in notes(hub)} == set(seen)
    assert {note[2] for note in notes(hub)} <= {"killed", "noproc"}
    assert hub.ask(lambda actor: len(actor._links or ())) == 0


def test_a_signal_that_overtakes_the_news_of_its_link_is_not_lost(carrier: str) -> None:
    gate = Gate()
    one, busy = started(Obedient, "green"), started(Obedient, carrier)
    busy.tell(lambda actor: gate.pass_through())
    gate.wait_reached()

    one.ask(lambda actor: actor.link(busy))
    one.tell(raising(ValueError("bad")))
    one.wait(PATIENCE_S)
    gate.open()

    assert isinstance(busy.wait(PATIENCE_S), ValueError)


def test_a_link_taken_back_before_the_other_knew_of_it_carries_no_signal(carrier: str) -> None:
    gate = Gate()
    one, busy = started(Obedient, "green"), started(Obedient, carrier)
    busy.tell(lambda actor: gate.pass_through())
    gate.wait_reached()

    one.ask(lambda actor: actor.link(busy))
    one.ask(lambda actor: actor.unlink(busy))
    one.tell(raising(ValueError("bad")))
    one.wait(PATIENCE_S)
    gate.open()

    assert busy.ask("alive") == "alive"


def test_a_very_long_chain_of_links_falls_as_a_whole() -> None:
    chain = [started(Obedient, "green") for _ in range(2_000)]
    for one, next_one in itertools.pairwise(chain):
        one.ask(lambda actor, other=next_one: actor.link(other))

    chain[0].kill()

    for ref in chain:
        ref.wait(PATIENCE_S)
    assert {ref.exit_reason for ref in chain} == {"killed"}


# -- the end, whatever is in its way -----------------------------------------------------------------------------------


class Unspeakable(Exception):
    """Cannot be shown."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_an_end_whose_reason_cannot_be_shown_is_told_to_everybody(carrier: str, error: type[BaseException]) -> None:
    gate = Gate()
    ref, watcher = started(Obedient, carrier), started(Trapping, carrier)
    watcher.ask(lambda actor: actor.link(ref))
    reason = Unspeakable(error)
    ref.tell(lambda actor: gate.pass_through())
    ref.tell(raising(reason))
    asking = ref.ask("late", block=False)

    gate.open()

    assert ref.wait(PATIENCE_S) is reason
    until(lambda: notes(watcher) == [("exit", ref, reason)])
    with pytest.raises(pykka.ActorDeadError):
        asking.get(timeout=PATIENCE_S)


def test_what_is_called_at_the_end_and_raises_keeps_nobody_else_waiting(carrier: str) -> None:
    ref = started(Obedient, carrier)
    called: list[str] = []

    def fail() -> None:
        raise SystemExit

    ref.call_at_end(fail)
    ref.call_at_end(lambda: called.append("second"))

    assert ref.stop(timeout=PATIENCE_S) is True
    assert called == ["second"]


def test_what_cannot_be_called_at_the_end_is_refused_at_once(carrier: str) -> None:
    ref = started(Obedient, carrier)

    with pytest.raises(InvalidValue, match="expected something to be called at the end of an actor, got: 5"):
        ref.call_at_end(5)


@pytest.mark.parametrize("call", ["link", "unlink", "monitor"])
def test_what_is_no_ref_cannot_be_linked_or_monitored_and_does_not_spoil_the_end(carrier: str, call: str) -> None:
    ref = started(Obedient, carrier)

    def wrong(actor: Obedient) -> None:
        with pytest.raises(InvalidValue, match="expected the ref of an actor, got: 'x'"):
            getattr(actor, call)("x")

    ref.ask(wrong)

    assert ref.stop(timeout=PATIENCE_S) is True


@pytest.mark.parametrize("error", [GreenletExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_listener_to_crashes_that_raises_does_not_keep_an_actor_from_ending(
    carrier: str, error: type[BaseException]
) -> None:
    def fail(*event: object) -> None:
        raise error

    ref = started(Obedient, carrier)
    reason = ValueError("bad")
    runtime.attach("crashes", "actors.crash", fail, carrier="inline")
    try:
        _dispatch.publish(table.snapshot())

        with pytest.raises(ValueError, match="bad"):
            ref.ask(raising(reason), timeout=PATIENCE_S)
    finally:
        runtime.detach("crashes")

    assert ref.wait(PATIENCE_S) is reason


def test_a_sink_of_the_log_that_raises_does_not_keep_an_actor_from_ending(carrier: str) -> None:
    def fail(message: object) -> None:
        raise RuntimeError("disk full")

    ref = started(Obedient, carrier)
    reason = ValueError("bad")
    logger.enable("actors")
    sink = logger.add(fail, catch=False)
    try:
        with pytest.raises(ValueError, match="bad"):
            ref.ask(raising(reason), timeout=PATIENCE_S)
    finally:
        logger.remove(sink)
        logger.disable("actors")

    assert ref.wait(PATIENCE_S) is reason
