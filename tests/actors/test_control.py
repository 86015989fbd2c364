"""The control lane: an actor can be looked at and handled while it is busy with its mail, and never behind it."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from actors import Actor
from runtime.errors import InvalidValue
from tests.actors.people import Obedient, notes
from tests.runtime.meeting import PATIENCE_S, Answer, Gate, in_threads, until


def test_a_suspended_actor_handles_control_but_no_mail(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    ref.suspend()
    assert ref.info().state == "suspended"

    for n in range(5):
        ref.tell(n)

    assert ref.get_state()["notes"] == []
    assert ref.info().mailbox.pending == 5
    ref.resume()
    assert notes(ref) == [0, 1, 2, 3, 4]


def test_suspending_and_resuming_under_fire_loses_nothing(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    def work(number: int) -> None:
        for n in range(200):
            if number:
                ref.tell(n)
            elif n % 2:
                ref.resume()
            else:
                ref.suspend()

    in_threads(4, work)
    ref.resume()

    assert len(notes(ref)) == 600


def test_a_suspended_actor_can_be_stopped_and_answers_who_waits(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    ref.suspend()
    asking = ref.ask("hello", block=False)

    assert ref.stop() is True
    with pytest.raises(pykka.ActorDeadError):
        asking.get(timeout=PATIENCE_S)


def test_the_state_is_the_public_attributes(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start("a")
    ref.ask("b")

    assert ref.get_state() == {"notes": ["a", "b"], "count": 1}


def test_the_state_is_read_between_two_messages_and_ahead_of_the_mail(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()

    def half(actor: Obedient) -> None:
        actor.notes.append("begun")
        gate.pass_through()
        actor.notes.append("done")

    ref.tell(half)
    for n in range(1_000):
        ref.tell(n)
    gate.wait_reached()
    reading = Answer(ref.get_state)
    gate.open()

    assert reading.get()["notes"][:2] == ["begun", "done"]  # type: ignore[index]
    assert notes(ref)[-1] == 999


def test_reading_the_state_of_a_hanging_actor_times_out(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()

    with pytest.raises(pykka.Timeout):
        ref.get_state(timeout=0.001)

    assert ref.info().state == "running"  # what is known of it is known without it
    gate.open()
    assert ref.ask("alive") == "alive"


def test_a_state_is_replaced_between_two_messages(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start("a")

    new = ref.replace_state(lambda state: {**state, "count": 41})
    ref.ask("b")

    assert new["count"] == 41
    assert ref.get_state() == {"notes": ["a", "b"], "count": 42}


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()], ids=lambda e: type(e).__name__
)
def test_a_replacement_that_raises_changes_nothing_and_tells_who_wanted_it(carrier: str, error: BaseException) -> None:
    def fail(state: Any) -> Any:
        state["count"] = 99
        raise error

    ref = Obedient.options(carrier=carrier).start("a")

    with pytest.raises(type(error)) as caught:
        ref.replace_state(fail)

    assert caught.value is error
    assert ref.get_state() == {"notes": ["a"], "count": 0}
    assert ref.is_alive()


def test_a_new_state_that_is_none_is_refused_and_nothing_changes(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start("a")

    with pytest.raises(InvalidValue, match="expected the new state to be a dict of attributes, got: 7"):
        ref.replace_state(lambda state: 7)

    assert ref.get_state() == {"notes": ["a"], "count": 0}


def test_an_actor_may_say_itself_what_its_state_is(carrier: str) -> None:
    class Counter(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.n = 1

        def get_state(self) -> int:
            return self.n

        def set_state(self, state: int) -> None:
            self.n = state

    ref = Counter.options(carrier=carrier).start()

    assert ref.replace_state(lambda n: n + 1) == 2
    assert ref.get_state() == 2


def test_control_goes_ahead_of_a_full_load_lane(carrier: str) -> None:
    class Small(Obedient):
        capacity = 1

    gate = Gate()
    ref = Small.options(carrier=carrier).start()
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()
    ref.tell("waits")

    reading, suspending = Answer(ref.get_state), Answer(ref.suspend)
    until(lambda: len(ref._actor._control) == 2)
    gate.open()

    assert reading.get()["notes"] == []  # type: ignore[index]
    suspending.get()
    assert ref.info().mailbox.pending == 1


def test_many_look_at_a_busy_actor_from_many_threads(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    def look(number: int) -> None:
        for n in range(100):
            ref.tell(n)
            assert ref.get_state()["count"] >= 0
            assert ref.statistics().mailbox.accepted >= n

    in_threads(4, look)

    assert len(notes(ref)) == 400


def test_a_replacement_that_fails_halfway_changes_nothing(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start("a")

    with pytest.raises(AttributeError):
        ref.replace_state(lambda state: {"notes": [], "added": 1, "actor_ref": None})

    assert ref.get_state() == {"notes": ["a"], "count": 0}
    assert ref.is_alive()


@pytest.mark.parametrize("state", [{"count": 1, 7: 8}, 5])
def test_a_new_state_that_is_no_dict_of_attributes_is_refused(carrier: str, state: Any) -> None:
    ref = Obedient.options(carrier=carrier).start()

    with pytest.raises(InvalidValue, match="expected the new state to be a dict of attributes, got: "):
        ref.replace_state(lambda _: state)

    assert ref.get_state()["count"] == 0


def test_what_is_no_function_of_the_state_is_refused_at_the_call(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    with pytest.raises(InvalidValue, match="expected a function of the state, got: 5"):
        ref.replace_state(5)


def test_a_timeout_that_is_none_is_refused_before_anything_is_sent(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    calls = [
        lambda: ref.ask(notes, timeout="soon"),
        lambda: ref.get_state(timeout="soon"),
        lambda: ref.replace_state(dict, timeout="soon"),
        lambda: ref.stop(timeout="soon"),
        lambda: ref.wait("soon"),
        lambda: ref.ask(lambda actor: 1, block=False).get(timeout="soon"),
    ]

    for call in calls:
        with pytest.raises(InvalidValue, match="expected timeout to be a number of seconds, or None for ever"):
            call()

    assert ref.is_alive()
    assert ref.ask(lambda actor: 1) == 1


def test_who_sends_to_an_actor_that_has_ended_is_told_what_to_do(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    ref.stop()

    for send in (ref.tell, ref.ask, ref.replace_state):
        with pytest.raises(
            pykka.ActorDeadError, match=r"expected .* to be alive, got: ended \('normal'\)\. One that was"
        ):
            send(notes)
