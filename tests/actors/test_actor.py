"""An actor lives, answers, fails and ends the same way on every carrier, and takes nobody with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pykka
import pytest
from greenlet import GreenletExit

from actors import IGNORE, Actor, Exit, Ignore, current_actor, processes, whereis
from runtime._mailbox import Mailbox
from runtime.clock import FakeClock
from runtime.errors import BeamstalkError, InvalidValue, MailboxFull, StartError
from tests.actors.people import Obedient, notes, raising, thread_of
from tests.runtime.meeting import PATIENCE_S, Answer, Gate, in_threads, until

Routed = Callable[..., Mailbox]


# -- starting ----------------------------------------------------------------------------------------------------------


def test_on_start_has_finished_inside_the_actor_when_start_returns(carrier: str) -> None:
    begun: list[Any] = []

    class Worker(Obedient):
        def on_start(self) -> None:
            begun.append((current_actor(), threading.get_native_id()))

    ref = Worker.options(carrier=carrier).start()

    assert begun == [(ref, thread_of(ref))]
    assert begun[0][1] != threading.get_native_id()
    assert ref.is_alive()
    assert ref in processes()


def test_what_on_start_raises_is_raised_by_start_and_no_actor_lives(carrier: str) -> None:
    error = ValueError("no licence")

    class Worker(Actor):
        def on_start(self) -> None:
            raise error

    with pytest.raises(ValueError, match="no licence") as caught:
        Worker.options(carrier=carrier, name="worker").start()

    assert caught.value is error
    assert processes() == []
    assert whereis("worker") is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GreenletExit(), gevent.Timeout()])
def test_a_start_that_raises_what_ends_programs_is_a_failed_start_as_well(carrier: str, error: BaseException) -> None:
    class Worker(Actor):
        def on_start(self) -> None:
            raise error

    with pytest.raises(type(error)) as caught:
        Worker.options(carrier=carrier).start()

    assert caught.value is error
    assert processes() == []


def test_ignore_leaves_no_actor_and_is_no_failure(carrier: str, routed: Routed) -> None:
    mail = routed("actors.crash")

    class Worker(Actor):
        def on_start(self) -> None:
            raise Ignore

    assert Worker.options(carrier=carrier).start() is IGNORE
    assert repr(IGNORE) == "IGNORE"
    assert processes() == []
    assert mail.load == []


def test_an_actor_may_start_others_in_its_on_start_and_is_their_parent(carrier: str) -> None:
    class Nest(Obedient):
        def on_start(self) -> None:
            self.egg = Obedient.options(carrier=carrier).start("egg")

    nest = Nest.options(carrier=carrier).start()
    egg = nest.ask(lambda actor: actor.egg)

    assert egg.parent is nest
    assert nest.parent is None
    assert notes(egg) == ["egg"]


def test_start_failing_inside_another_actor_is_an_exception_there(carrier: str) -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise ValueError("broken")

    def try_it(actor: Obedient) -> str:
        try:
            Broken.options(carrier=carrier).start_link()
        except ValueError as error:
            return str(error)
        return "started"

    ref = Obedient.options(carrier=carrier).start()

    assert ref.ask(try_it) == "broken"
    assert ref.is_alive()
    assert ref.ask(lambda actor: dict(actor._links or {})) == {}


def test_who_is_killed_while_it_starts_makes_start_fail_at_once(carrier: str) -> None:
    gate = Gate()

    class Slow(Actor):
        def on_start(self) -> None:
            gate.pass_through()
            raise ValueError("too late")

    starting = Answer(Slow.options(carrier=carrier, name="slow").start)
    gate.wait_reached()
    ref = whereis("slow")
    ref.kill()

    with pytest.raises(Exit) as caught:
        starting.get()
    assert caught.value.reason == "killed"
    assert ref.exit_reason == "killed"
    gate.open()


def test_who_is_killed_while_it_starts_a_child_does_not_leave_the_child_behind(carrier: str) -> None:
    gate = Gate()

    class Slow(Actor):
        def on_start(self) -> None:
            gate.pass_through()

    parent = Obedient.options(carrier=carrier).start()
    parent.tell(lambda actor: Slow.options(carrier=carrier, name="child").start_link())
    gate.wait_reached()
    child = whereis("child")

    parent.kill()
    gate.open()

    assert child.wait(PATIENCE_S) == "killed"


def test_nothing_of_an_actor_that_was_killed_while_it_started_reaches_stderr() -> None:
    program = """
import threading, time
from actors import Actor, whereis, Exit
inside, over, raised = threading.Event(), threading.Event(), threading.Event()
class Slow(Actor):
    carrier = "thread"
    def on_start(self):
        inside.set(); over.wait()
        try: raise ValueError("late")
        finally: raised.set()
def start():
    try: Slow.options(name="slow").start()
    except Exit: pass
starting = threading.Thread(target=start); starting.start()
inside.wait(); whereis("slow").kill(); starting.join()
over.set(); raised.wait(); time.sleep(0.1)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_actor_for_which_there_is_no_thread_leaves_nothing_behind() -> None:
    program = """
import threading
from actors import Actor, processes

class Worker(Actor):
    carrier = "thread"

def try_to_start():
    usual = threading.stack_size(2**48)  # more than a process can have
    try:
        Worker.start()
    except RuntimeError as error:
        print(error, processes())
    finally:
        threading.stack_size(usual)

try_to_start()  # nor is there one for the scheduler
Worker.start().stop()
try_to_start()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("can't start new thread []\n" * 2, "")


@pytest.mark.parametrize("bad", ["gren", "", "process"])
def test_an_unknown_carrier_is_refused(bad: str) -> None:
    with pytest.raises(InvalidValue, match=f"expected carrier to be one of .*, got: '{bad}'"):
        Obedient.options(carrier=bad)

    with pytest.raises(InvalidValue, match="expected carrier to be one of"):
        type("Bad", (Actor,), {"carrier": bad})


def test_start_link_outside_an_actor_is_refused() -> None:
    with pytest.raises(BeamstalkError, match="expected start_link to be called inside an actor, got: a plain thread"):
        Obedient.start_link()

    assert processes() == []


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_of_one_sender_are_handled_in_order(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    in_threads(4, lambda number: [ref.tell((number, n)) for n in range(1_000)])

    seen = notes(ref)
    assert len(seen) == 4_000
    for number in range(4):
        assert [n for who, n in seen if who == number] == list(range(1_000))


def test_one_message_at_a_time(carrier: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def step(actor: Obedient) -> None:
        inside.append(1)
        if actor.carrier == "green":
            gevent.sleep(0)
        most.append(len(inside))
        inside.pop()

    ref = Obedient.options(carrier=carrier).start()
    in_threads(4, lambda number: [ref.tell(step) for _ in range(100)])
    ref.ask("done")

    assert set(most) == {1}
    assert len(most) == 400


def test_an_ask_is_answered_with_what_on_receive_returns(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    assert [ref.ask(x) for x in (None, 0, "text")] == [None, 0, "text"]


@pytest.mark.parametrize("of_asker", ["green", "thread"])
def test_actors_ask_each_other_across_carriers(carrier: str, of_asker: str) -> None:
    asked = Obedient.options(carrier=carrier).start()
    asker = Obedient.options(carrier=of_asker).start()

    assert asker.ask(lambda actor: [asked.ask(n) for n in range(100)]) == list(range(100))


def test_a_chain_of_asks_holds_nobody_else_up() -> None:
    # Green actors share one thread: each of them waits for the next, and that one thread serves them all.
    chain = [Obedient.start()]
    for _ in range(100):
        chain.append(Obedient.start(chain[-1]))

    def pass_on(actor: Obedient) -> int:
        return 1 + actor.notes[0].ask(pass_on) if actor.notes else 0

    assert chain[-1].ask(pass_on) == 100


def test_an_ask_times_out_and_the_late_reply_is_dropped(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()

    with pytest.raises(pykka.Timeout, match=r"expected a reply within 0.001 s, got: none"):
        ref.ask(lambda actor: gate.pass_through(), timeout=0.001)
    gate.open()

    assert ref.ask("next") == "next"


@pytest.mark.parametrize("of_asker", ["green", "thread"])
def test_an_ask_of_an_actor_times_out_as_well(carrier: str, of_asker: str) -> None:
    gate = Gate()
    asked = Obedient.options(carrier=carrier).start()
    asker = Obedient.options(carrier=of_asker).start()

    def try_it(actor: Obedient) -> str:
        try:
            asked.ask(lambda _: gate.pass_through(), timeout=0.001)
        except pykka.Timeout:
            return "timeout"
        return "answered"

    assert asker.ask(try_it) == "timeout"
    gate.open()


def test_a_dead_actor_cannot_be_told_or_asked_anything(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    ref.stop()

    with pytest.raises(pykka.ActorDeadError):
        ref.tell("hello")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("hello")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("hello", block=False).get()
    with pytest.raises(pykka.ActorDeadError):
        ref.get_state()
    assert ref.stop() is False
    ref.kill()
    assert ref.exit_reason == "normal"


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_an_ask_ends_at_once_when_the_actor_ends_in_the_middle(carrier: str, end: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()
    asking = Answer(lambda: ref.ask(lambda actor: gate.pass_through(), timeout=None))
    gate.wait_reached()
    waiting = Answer(lambda: ref.ask("behind it", timeout=None))
    until(lambda: ref.info().mailbox.pending == 2)

    if end == "kill":
        ref.kill()
        with pytest.raises(pykka.ActorDeadError):
            asking.get()
        gate.open()
    else:
        ref.stop(block=False)
        gate.open()
        assert asking.get() is None

    with pytest.raises(pykka.ActorDeadError):
        waiting.get()


def test_asking_oneself_is_refused_and_nothing_is_left_of_it(carrier: str) -> None:
    def ask_oneself(actor: Obedient) -> list[str]:
        refused = []
        for call in (
            lambda: actor.actor_ref.ask("me"),
            lambda: actor.actor_ref.get_state(),
            lambda: actor.actor_ref.stop(),
            lambda: actor.actor_ref.suspend(),
            lambda: actor.actor_ref.wait(1),
            lambda: actor.actor_ref.ask("later", block=False).get(),
        ):
            try:
                call()
            except BeamstalkError as error:
                refused.append(str(error))
        return refused

    ref = Obedient.options(carrier=carrier).start()

    refused = ref.ask(ask_oneself)

    assert len(refused) == 6
    assert set(refused) == {f"expected to ask another actor, got: {ref} asking itself. Call its method"}
    assert notes(ref) == ["later"]  # sent, as one may do; only waiting for it is refused
    assert ref.is_alive()


def test_capacity_bounds_the_load_lane_and_the_control_lane_goes_on(carrier: str) -> None:
    gate = Gate()

    class Small(Obedient):
        capacity = 3

    ref = Small.options(carrier=carrier).start()
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()
    for n in range(3):
        ref.tell(n)

    with pytest.raises(MailboxFull, match="expected room for a message to .*, got: 3 waiting"):
        ref.tell("one too many")
    with pytest.raises(MailboxFull):
        ref.ask("one too many")
    gate.open()

    assert ref.get_state()["notes"] is not None
    until(lambda: ref.info().mailbox.pending == 0)
    assert notes(ref) == [0, 1, 2]
    assert ref.info().mailbox.dropped == {"full": 2}


# -- failing -----------------------------------------------------------------------------------------------------------

FATAL = [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GreenletExit(), gevent.Timeout(), GeneratorExit()]


class Neighbour(pykka.ThreadingActor):
    """An actor of pykka's own: pykka stops them all when a BaseException leaves any handler."""

    def on_receive(self, message: Any) -> Any:
        return message


@pytest.fixture
def neighbour() -> Iterator[Any]:
    ref = Neighbour.start()
    yield ref
    ref.stop()


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_ends_that_actor_and_no_other(
    carrier: str, neighbour: Any, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = Obedient.options(carrier=carrier).start()
    ref = Obedient.options(carrier=carrier).start()

    ref.tell(raising(error))

    assert ref.wait(PATIENCE_S) is error
    assert not ref.is_alive()
    assert ours.ask("still here") == "still here"
    assert neighbour.ask("still here", timeout=PATIENCE_S) == "still here"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
def test_who_asked_gets_the_same_exception_and_finds_the_actor_dead(carrier: str, error: BaseException) -> None:
    ref = Obedient.options(carrier=carrier).start()

    with pytest.raises(type(error)) as caught:
        ref.ask(raising(error))

    assert caught.value is error
    assert not ref.is_alive()
    assert ref.exit_reason is error


@pytest.mark.parametrize("hook", ["on_stop", "on_continue", "on_exit", "on_down", "on_failure", "get_state"])
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), GreenletExit()], ids=lambda e: type(e).__name__)
def test_whatever_any_hook_raises_stays_inside(
    carrier: str, neighbour: Any, hook: str, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Obedient):
        trap_exits = True

    def fail(self: Any, *args: Any) -> None:
        raise error

    setattr(Broken, hook, fail)
    if hook == "on_stop":
        Broken._stop_takes_reason = True
    ref = Broken.options(carrier=carrier).start()
    other = Obedient.start()
    match hook:
        case "on_stop":
            ref.stop()
        case "on_continue":
            ref.tell(lambda actor: actor.continue_(1))
        case "on_exit":
            ref.exit("signal")
        case "on_down":
            ref.ask(lambda actor: actor.monitor(other))
            other.stop()
        case "on_failure":
            ref.tell(raising(LookupError("first")))
        case "get_state":
            with pytest.raises(type(error)):
                ref.get_state()
            assert ref.is_alive()  # who asked was told; nothing of the actor's own work failed
            return

    reason = ref.wait(PATIENCE_S)

    assert isinstance(reason, LookupError) if hook == "on_failure" else reason is error
    assert neighbour.ask("still here", timeout=PATIENCE_S) == "still here"
    assert capfd.readouterr().err == ""


def test_a_gevent_timeout_inside_a_green_handler_works_and_may_be_caught() -> None:
    def patient(actor: Obedient) -> str:
        try:
            with gevent.Timeout(0.001):
                gevent.sleep(PATIENCE_S)
        except gevent.Timeout:
            return "timeout"
        return "slept"

    ref = Obedient.start()

    assert ref.ask(patient) == "timeout"
    with pytest.raises(gevent.Timeout):
        ref.ask(lambda actor: gevent.Timeout(0.001).start() or gevent.sleep(PATIENCE_S))
    assert isinstance(ref.exit_reason, gevent.Timeout)


def test_answer_and_live_on_is_pykkas_rule(carrier: str) -> None:
    class Pykkaish(Obedient):
        answer_and_live_on = True

    ref = Pykkaish.options(carrier=carrier).start()

    with pytest.raises(ValueError, match="bad"):
        ref.ask(raising(ValueError("bad")))
    assert ref.ask("alive") == "alive"
    assert ref.info().mailbox.failed == 1

    with pytest.raises(SystemExit):
        ref.ask(raising(SystemExit(3)))
    assert not ref.is_alive()


def test_answer_and_live_on_is_about_asks_only(carrier: str) -> None:
    class Pykkaish(Obedient):
        answer_and_live_on = True

    error = ValueError("bad")
    ref = Pykkaish.options(carrier=carrier).start()
    ref.tell(raising(error))

    assert ref.wait(PATIENCE_S) is error


@pytest.mark.parametrize(
    ("reason", "ends_with", "on_stop_runs"),
    [
        ("normal", "normal", True),
        ("shutdown", "shutdown", True),
        (("shutdown", 1), ("shutdown", 1), True),
        ("why", "why", False),
    ],
)
def test_exit_raised_inside_ends_the_actor_with_its_reason(
    carrier: str, routed: Routed, reason: Any, ends_with: Any, on_stop_runs: bool
) -> None:
    mail = routed("actors.crash")
    seen: list[Any] = []

    class Worker(Obedient):
        def on_stop(self, reason: Any = "normal") -> None:
            seen.append(reason)

    ref = Worker.options(carrier=carrier).start()
    ref.tell(raising(Exit(reason)))

    assert ref.wait(PATIENCE_S) == ends_with
    assert seen == ([reason] if on_stop_runs else [])
    assert len(mail.load) == (0 if on_stop_runs else 1)


def test_who_asks_an_actor_that_ends_itself_is_told_that_it_is_dead(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    with pytest.raises(pykka.ActorDeadError, match="got: ended \\('normal'\\)"):
        ref.ask(raising(Exit("normal")))


def test_a_crash_is_reported_once_with_all_one_needs(carrier: str, routed: Routed) -> None:
    mail = routed("actors.crash")
    parent = Obedient.options(name="parent").start()
    ref = parent.ask(lambda actor: Obedient.options(carrier=carrier, name="worker").start())
    gate = Gate()
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()
    error = ValueError("bad")
    ref.tell(raising(error))
    ref.tell("waiting")
    gate.open()
    ref.wait(PATIENCE_S)

    (event,) = mail.load
    assert event.measurements["mailbox"] == 1
    assert event.measurements["uptime"] > 0
    assert (event.metadata["name"], event.metadata["ref"], event.metadata["reason"]) == ("worker", ref, error)
    assert callable(event.metadata["last_message"])
    assert event.metadata["ancestors"] == ["parent"]
    assert "people.py" in str(event.metadata["stacktrace"])


def test_failed_messages_are_counted_as_failed(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    for n in range(3):
        ref.tell(n)
    ref.tell(raising(ValueError("bad")))
    ref.wait(PATIENCE_S)

    mailbox = ref.info().mailbox
    assert (mailbox.accepted, mailbox.handled, mailbox.failed, mailbox.pending) == (4, 3, 1, 0)


def test_an_unexpected_message_is_reported_and_dropped(carrier: str) -> None:
    class Deaf(Actor):
        pass

    ref = Deaf.options(carrier=carrier).start()
    ref.tell("what?")

    assert ref.ask("what?") is None
    assert ref.is_alive()


# -- ending ------------------------------------------------------------------------------------------------------------


def test_stop_ends_after_the_current_message_and_ahead_of_the_mail(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()
    actor = ref._actor
    ref.tell("first")
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()
    for n in range(100):
        ref.tell(n)

    stopping = ref.stop(block=False)
    gate.open()

    assert stopping.get(timeout=PATIENCE_S) is True
    assert actor.notes == ["first", ("stopped", "normal")]
    mailbox = ref.info().mailbox
    assert (mailbox.accepted, mailbox.handled, mailbox.discarded) == (102, 2, 100)


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "done"), "why"])
def test_on_stop_gets_the_reason(carrier: str, reason: Any) -> None:
    ref = Obedient.options(carrier=carrier).start()
    actor = ref._actor

    assert ref.stop(reason=reason) is True

    assert actor.notes == [("stopped", reason)]
    assert ref.exit_reason == reason


def test_an_actor_stops_itself_after_the_current_message(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    actor = ref._actor

    answer = ref.ask(lambda actor: actor.stop() or "said before the end")

    assert answer == "said before the end"
    assert ref.wait(PATIENCE_S) == "normal"
    assert actor.notes == [("stopped", "normal")]


def test_an_on_stop_without_argument_as_pykka_has_it_works(carrier: str) -> None:
    ended: list[str] = []

    class Pykkaish(Actor):
        def on_stop(self) -> None:  # type: ignore[override]
            ended.append("stopped")

    Pykkaish.options(carrier=carrier).start().stop()

    assert ended == ["stopped"]


def test_on_failure_runs_instead_of_on_stop_when_it_crashes(carrier: str) -> None:
    seen: list[Any] = []

    class Worker(Obedient):
        def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
            seen.append((exception_type, exception_value, traceback is not None))

        def on_stop(self, reason: Any = "normal") -> None:
            seen.append("stopped")

    error = ValueError("bad")
    ref = Worker.options(carrier=carrier).start()
    ref.tell(raising(error))
    ref.wait(PATIENCE_S)

    assert seen == [(ValueError, error, True)]


def test_kill_ends_an_actor_in_the_middle_of_a_message(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier).start()
    actor = ref._actor
    ref.tell(lambda actor: gate.pass_through() or actor.notes.append("went on"))
    ref.tell("waiting")
    gate.wait_reached()

    ref.kill()

    assert ref.wait(PATIENCE_S) == "killed"
    gate.open()
    mailbox = ref.info().mailbox
    assert (mailbox.accepted, mailbox.failed, mailbox.discarded, mailbox.pending) == (2, 1, 1, 0)
    if carrier == "green":
        assert actor.notes == []  # a green actor that waits is thrown out of its wait
    assert ("stopped", "killed") not in actor.notes


def test_kill_ends_an_idle_actor_and_one_that_is_suspended(carrier: str) -> None:
    idle, suspended = (Obedient.options(carrier=carrier).start() for _ in range(2))
    suspended.suspend()

    idle.kill()
    suspended.kill()

    assert idle.wait(PATIENCE_S) == suspended.wait(PATIENCE_S) == "killed"


def test_a_thread_that_hangs_for_ever_is_fenced_and_its_late_results_are_ignored(routed: Routed) -> None:
    mail = routed("actors.crash")
    gate = Gate()
    ref = Obedient.options(carrier="thread").start()
    actor = ref._actor
    asking = Answer(lambda: ref.ask(lambda actor: gate.pass_through() or "late", timeout=None))
    gate.wait_reached()
    ref.tell("never delivered")

    ref.kill()
    with pytest.raises(pykka.ActorDeadError):
        asking.get()
    before = ref.info().mailbox
    gate.open()
    until(lambda: actor._worker is None)

    assert ref.info().mailbox == before
    assert actor.notes == []
    assert mail.load == []


def test_a_fenced_thread_that_raises_late_is_ignored(routed: Routed, capfd: pytest.CaptureFixture[str]) -> None:
    mail = routed("actors.crash")
    gate = Gate()

    def fail(actor: Obedient) -> None:
        gate.pass_through()
        raise ValueError("late")

    ref = Obedient.options(carrier="thread").start()
    ref.tell(fail)
    gate.wait_reached()
    ref.kill()
    ref.wait(PATIENCE_S)
    gate.open()
    until(lambda: ref._actor._worker is None)

    assert ref.exit_reason == "killed"
    assert mail.load == []
    assert capfd.readouterr().err == ""


def test_a_killed_green_actor_that_refuses_to_go_is_fenced() -> None:
    gate = Gate()
    went_on = threading.Event()

    def stubborn(actor: Obedient) -> None:
        try:
            gate.pass_through()
        except BaseException:
            went_on.set()

    ref = Obedient.start()
    ref.tell(stubborn)
    ref.tell("never delivered")
    gate.wait_reached()

    ref.kill()

    assert went_on.wait(PATIENCE_S)
    assert ref.wait(PATIENCE_S) == "killed"
    until(lambda: ref._actor._worker is None)
    assert ref._actor.notes == []


def test_killing_in_the_middle_of_a_control_call_answers_its_caller(carrier: str) -> None:
    gate = Gate()

    class Slow(Obedient):
        def get_state(self) -> Any:
            gate.pass_through()

    ref = Slow.options(carrier=carrier).start()
    asking = Answer(lambda: ref.get_state(timeout=None))
    gate.wait_reached()

    ref.kill()

    with pytest.raises(pykka.ActorDeadError):
        asking.get()
    gate.open()


def test_wait_returns_the_reason_and_times_out_while_the_actor_lives(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    with pytest.raises(pykka.Timeout, match=r"expected Obedient <\d+> to end within 0.001 s, got: still alive"):
        ref.wait(0.001)

    waiting = Answer(lambda: ref.wait(PATIENCE_S))
    inside = Obedient.start()
    asking = inside.ask(lambda actor: ref.wait(PATIENCE_S), block=False)
    ref.stop(reason="shutdown")

    assert waiting.get() == asking.get(timeout=PATIENCE_S) == ref.wait() == "shutdown"


def test_what_should_be_called_at_the_end_is_called_once(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()
    called: list[str] = []
    ref.call_at_end(lambda: called.append("before"))

    ref.stop()
    ref.kill()
    ref.call_at_end(lambda: called.append("after"))

    assert called == ["before", "after"]


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_everybody_who_asks_while_an_actor_ends_is_answered_or_told(carrier: str, end: str) -> None:
    # Every ask ends, and ends at once: with the answer, or with the news that the actor is dead. None times out.
    for _ in range(15):
        ref = Obedient.options(carrier=carrier).start()
        outcomes: list[str] = []

        def ask(number: int, ref: Any = ref, outcomes: list[str] = outcomes) -> None:
            for n in range(30):
                if number == 0 and n == 10:
                    match end:
                        case "stop":
                            ref.stop()
                        case "kill":
                            ref.kill()
                            ref.wait(PATIENCE_S)
                        case "crash":
                            ref.tell(raising(ValueError("bad")))
                            ref.wait(PATIENCE_S)
                try:
                    assert ref.ask(n, timeout=PATIENCE_S) == n
                    outcomes.append("answered")
                except pykka.ActorDeadError:
                    outcomes.append("dead")

        in_threads(4, ask)

        assert len(outcomes) == 120
        assert outcomes.count("dead") >= 20
        mailbox = ref.info().mailbox
        assert mailbox.pending == 0
        assert mailbox.accepted == mailbox.handled + mailbox.failed + mailbox.discarded


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_name_finds_the_actor_while_it_lives(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier, name="clerk").start()

    assert whereis("clerk") is ref
    assert ref.name == "clerk"
    assert str(ref) == f"Obedient clerk <{ref.id}>"
    ref.stop()
    assert whereis("clerk") is None


def test_a_taken_name_is_refused_and_free_again_after_the_end(carrier: str) -> None:
    first = Obedient.options(carrier=carrier, name="clerk").start()

    with pytest.raises(BeamstalkError, match="expected a name that no live actor has, got: 'clerk'"):
        Obedient.options(carrier=carrier, name="clerk").start()
    assert processes() == [first]
    first.stop()
    second = Obedient.options(carrier=carrier, name="clerk").start()

    assert whereis("clerk") is second


def test_of_many_who_want_a_name_at_once_one_gets_it(carrier: str) -> None:
    started: list[Any] = []
    refused: list[Any] = []

    def start(number: int) -> None:
        try:
            started.append(Obedient.options(carrier=carrier, name="clerk").start())
        except BeamstalkError as error:
            refused.append(error)

    in_threads(8, start)

    assert (len(started), len(refused)) == (1, 7)
    assert whereis("clerk") is started[0]


@pytest.mark.parametrize("name", ["", 7])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(InvalidValue, match="expected name to be a non-empty string"):
        Obedient.options(name=name)


# -- follow-ups and timers ---------------------------------------------------------------------------------------------


def test_what_is_continued_runs_before_any_queued_message_and_in_order(carrier: str) -> None:
    gate = Gate()

    def work(actor: Obedient) -> None:
        gate.pass_through()
        actor.continue_("a")
        actor.continue_(lambda actor: actor.continue_("c"))
        actor.continue_("b")

    ref = Obedient.options(carrier=carrier).start()
    ref.tell(work)
    gate.wait_reached()
    ref.tell("queued")
    gate.open()

    assert notes(ref) == [("continued", "a"), ("continued", "b"), ("continued", "c"), "queued"]


def test_a_slow_start_that_is_continued_does_not_hold_up_who_starts_it(carrier: str) -> None:
    gate = Gate()

    class Slow(Obedient):
        def on_start(self) -> None:
            self.continue_(lambda actor: gate.pass_through() or actor.notes.append("ready"))

    ref = Slow.options(carrier=carrier).start()
    ref.tell("early")
    gate.wait_reached()
    gate.open()

    assert notes(ref) == ["ready", "early"]


def test_what_an_actor_sends_to_itself_comes_when_the_clock_says(carrier: str, clock: FakeClock) -> None:
    ref = Obedient.options(carrier=carrier).start()
    ref.ask(lambda actor: [actor.send_after(delay_s, delay_s) for delay_s in (30, 10, 20)] and None)

    clock.advance(9.999)
    assert notes(ref) == []
    clock.advance(10.001)
    assert notes(ref) == [10, 20]
    clock.advance(10)

    assert notes(ref) == [10, 20, 30]


def test_a_cancelled_timer_sends_nothing_nor_does_one_of_a_dead_actor(carrier: str, clock: FakeClock) -> None:
    timers: list[Any] = []
    ref, dead = (Obedient.options(carrier=carrier).start() for _ in range(2))
    ref.ask(lambda actor: timers.append(actor.send_after(10, "cancelled")))
    dead.ask(lambda actor: timers.append(actor.send_after(10, "too late")))

    timers[0].cancel()
    dead.stop()
    clock.advance(20)

    assert notes(ref) == []
    assert dead.info().mailbox.dropped == {}


def test_the_clock_of_an_actor_is_the_schedulers(carrier: str, clock: FakeClock) -> None:
    ref = Obedient.options(carrier=carrier).start()

    assert ref.ask(lambda actor: actor.clock) is clock


def test_real_timers_arrive_too(carrier: str) -> None:
    ref = Obedient.options(carrier=carrier).start()

    ref.ask(lambda actor: actor.send_after(0.001, "soon") and None)

    until(lambda: notes(ref) == ["soon"])


# -- many --------------------------------------------------------------------------------------------------------------


def test_actors_come_and_go_from_many_threads_and_none_is_left(carrier: str) -> None:
    def live(number: int) -> None:
        for n in range(40):
            ref = Obedient.options(carrier=carrier).start()
            assert ref.ask(n) == n
            if n % 3:
                ref.stop()
            else:
                ref.kill()
                ref.wait(PATIENCE_S)

    in_threads(4, live)

    assert processes() == []


def test_a_start_error_out_of_on_start_is_no_crash(carrier: str, routed: Routed) -> None:
    mail = routed("actors.crash")

    class Parent(Actor):
        def on_start(self) -> None:
            raise StartError("child", "why")

    with pytest.raises(StartError):
        Parent.options(carrier=carrier).start()

    assert mail.load == []


def test_time_stands_in_the_statistics(carrier: str) -> None:
    gate = Gate()
    ref = Obedient.options(carrier=carrier, name="clerk").start()
    begun = time.monotonic_ns()
    ref.tell(lambda actor: gate.pass_through())
    gate.wait_reached()
    ref.tell("waiting")

    info = ref.statistics()
    gate.open()
    ref.ask("done")
    handled = ref.statistics().mailbox.handled

    assert (info.id, info.name, info.kind, info.carrier) == (ref.id, "clerk", "Obedient", carrier)
    assert (info.state, info.mailbox.pending, info.parent, info.restarts) == ("running", 2, None, 0)
    assert 0 < info.busy_ns <= time.monotonic_ns() - begun
    assert info.uptime_ns >= info.busy_ns
    assert handled == 3  # counted before it is answered
    until(lambda: ref.statistics().state == "waiting")
    assert ref.statistics().busy_ns == 0
    ref.stop()
    assert ref.statistics().state == "dead"
