"""What handlers cost nobody: an emitter and a neighbour are untouched by whatever a handler does or becomes."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit

import runtime
from actors import Exit, current_actor, processes, whereis
from actors._handler import HandlerActor
from runtime import _dispatch
from runtime._table import FAILURE, GAVE_UP, table
from runtime.errors import BeamstalkError, StartError
from supervisors import Application
from supervisors.telemetry import HANDLERS
from tests.actors.people import Obedient
from tests.runtime.meeting import PATIENCE_S, Answer, Gate, OwnThread, in_threads, until


@pytest.fixture
def application() -> Iterator[Application]:
    """An application that runs; what the test attached is detached again."""
    with Application("test", drain_s=PATIENCE_S).running() as application:
        yield application
        for attachment in table.all():
            runtime.detach(attachment.id)
    assert processes() == []


@pytest.fixture(params=["green", "thread"])
def carrier(request: pytest.FixtureRequest) -> str:
    """Where the handler of the test runs."""
    return str(request.param)


class Seen(list[Any]):
    """A handler that notes the numbers of the events it sees."""

    def __call__(self, event: str, measurements: Any, metadata: Any, config: Any) -> None:
        self.append(measurements["n"])


def emit(count: int, event: str = "work.done") -> None:
    for n in range(count):
        runtime.execute(event, {"n": n})


def statistics(handler_id: str) -> Any:
    attachment = table.get(handler_id)
    assert attachment is not None
    return attachment.mailbox.statistics()


def settled(handler_id: str) -> Any:
    """Wait until a handler has nothing left to do and return its mailbox's statistics."""
    until(lambda: statistics(handler_id).pending == 0)
    found = statistics(handler_id)
    assert found.accepted == found.handled + found.failed + found.discarded
    return found


# -- what an emitter does ----------------------------------------------------------------------------------------------


def test_an_emitter_that_runs_out_of_stack_costs_the_handler_nothing(application: Application, carrier: str) -> None:
    seen = Seen()
    runtime.attach("log", "work.done", seen, carrier=carrier)

    def dive() -> None:
        with contextlib.suppress(RecursionError):
            dive()
        # From here upwards each emission comes a little further.
        with contextlib.suppress(RecursionError):
            emit(1)

    dive()
    runtime.execute("work.done", {"n": "last"})

    until(lambda: seen and seen[-1] == "last")
    assert settled("log").handled == len(seen)


# -- what a handler sees -----------------------------------------------------------------------------------------------


def test_a_handler_gets_the_event_outside_the_emitter_in_order(application: Application, carrier: str) -> None:
    seen: list[Any] = []

    def handler(*event: Any) -> None:
        seen.append((event, threading.get_ident(), current_actor() is not None))

    runtime.attach("log", "work.done", handler, {"level": 7}, carrier=carrier)
    for n in range(100):
        runtime.execute("work.done", {"n": n}, {"user": "ada"})
    settled("log")

    assert [event for event, _, _ in seen] == [
        ("work.done", {"n": n}, {"user": "ada"}, {"level": 7}) for n in range(100)
    ]
    assert threading.get_ident() not in {thread for _, thread, _ in seen}
    assert all(inside for _, _, inside in seen)


def test_the_context_of_the_emitter_is_the_context_of_the_handler(application: Application, carrier: str) -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen: list[list[str]] = [[], []]

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen[config].append(trace.get())
        trace.set("spoilt")

    for number in (0, 1):
        runtime.attach(f"log-{number}", "work.done", handler, number, carrier=carrier)
    for n in range(20):
        trace.set(f"t-{n}")
        runtime.execute("work.done", {"n": n})
    settled("log-0")
    settled("log-1")

    assert seen == [[f"t-{n}" for n in range(20)]] * 2


def test_what_one_handler_does_to_its_arguments_shows_in_no_other(application: Application, carrier: str) -> None:
    seen: list[Any] = []

    def spoil(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        metadata["tags"].append("spoilt")
        metadata.clear()
        measurements.clear()

    def look(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen.append((measurements, metadata))

    runtime.attach("spoil", "work.done", spoil, carrier=carrier)
    runtime.attach("look", "work.done", look, carrier=carrier)
    for _ in range(50):
        runtime.execute("work.done", {"n": 1}, {"tags": ["a"]})
    settled("spoil")
    settled("look")

    assert seen == [({"n": 1}, {"tags": ["a"]})] * 50


# -- isolation ---------------------------------------------------------------------------------------------------------


class Hostile:
    """Handlers that do what handlers should not do, by name."""

    def __init__(self) -> None:
        self.gate = Gate()

    def sleeps(self, *event: Any) -> None:
        gevent.sleep(0.001) if threading.get_ident() == hub_thread() else threading.Event().wait(0.001)

    def never_returns(self, *event: Any) -> None:
        self.gate.pass_through()

    def raises(self, *event: Any) -> None:
        raise ValueError("bad")

    def raises_system_exit(self, *event: Any) -> None:
        raise SystemExit(3)

    def raises_greenlet_exit(self, *event: Any) -> None:
        raise GreenletExit

    def raises_keyboard_interrupt(self, *event: Any) -> None:
        raise KeyboardInterrupt

    def raises_a_gevent_timeout(self, *event: Any) -> None:
        raise gevent.Timeout

    def raises_exit(self, *event: Any) -> None:
        raise Exit("shutdown")

    def raises_what_cannot_be_shown(self, *event: Any) -> None:
        raise Unshowable

    def kills_itself(self, *event: Any) -> None:
        ref = current_actor()
        assert ref is not None
        ref.kill()

    def stops_itself(self, *event: Any) -> None:
        ref = current_actor()
        assert ref is not None
        ref.stop(block=False)


class Unshowable(BaseException):
    """What has no text, not even for its own traceback."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def hub_thread() -> int | None:
    from runtime import _scheduler

    return _scheduler.scheduler()._thread_id


HOSTILE = [name for name in vars(Hostile) if not name.startswith("_")]


@pytest.mark.parametrize("way", HOSTILE)
def test_whatever_a_handler_does_emitters_and_neighbours_are_untouched(
    application: Application, carrier: str, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = Hostile()
    before, after = Seen(), Seen()
    runtime.attach("before", "work.done", before, carrier=carrier)
    runtime.attach("hostile", "work.done", getattr(hostile, way), carrier=carrier, capacity=50, max_restarts=2)
    runtime.attach("after", "work.done", after, carrier=carrier)

    in_threads(4, lambda number: emit(250))
    settled("before")
    settled("after")

    assert Counter(before) == Counter(after) == Counter(dict.fromkeys(range(250), 4))
    info = {info.id: info for info in runtime.list_handlers()}
    assert (info["before"].restarts, info["after"].restarts) == (0, 0)
    hostile.gate.open()
    mailbox = info["hostile"].mailbox
    assert mailbox.offered <= 1_000
    assert capfd.readouterr().err == ""
    late = Seen()
    runtime.attach("late", "work.done", late, carrier=carrier)
    emit(3)
    settled("late")
    assert late == [0, 1, 2]


@pytest.mark.parametrize("way", [way for way in HOSTILE if way.startswith("raises")])
def test_each_failure_is_kept_told_and_counted_once(application: Application, carrier: str, way: str) -> None:
    told: list[Any] = []
    runtime.attach("failures", FAILURE, lambda *event: told.append(event), carrier="green")
    handler = getattr(Hostile(), way)
    runtime.attach("hostile", "work.done", handler, {"k": 1}, carrier=carrier, max_restarts=100)

    emit(5)
    found = settled("hostile")
    until(lambda: statistics("failures").handled == 5)

    assert (found.failed, found.handled) == (5, 0)
    letters = runtime.dead_letters("hostile")
    assert [letter.event.measurements["n"] for letter in letters] == [0, 1, 2, 3, 4]
    assert all(way in letter.traceback for letter in letters)
    assert {name for name, *_ in told} == {FAILURE}
    for _, measurements, metadata, _ in told:
        assert set(measurements) == {"monotonic_time", "system_time"}
        assert (metadata["event_name"], metadata["handler_id"]) == ("work.done", "hostile")
        assert metadata["handler_config"] == {"k": 1}
        assert isinstance(metadata["reason"], BaseException)
        assert metadata["kind"] in ("error", "exit")
        assert way in str(metadata["stacktrace"])
    until(lambda: next(i for i in runtime.list_handlers() if i.id == "hostile").restarts == 5)


def test_a_failing_handler_goes_on_with_the_next_event_and_does_not_get_the_same_again(
    application: Application, carrier: str
) -> None:
    seen: list[int] = []

    def every_third_fails(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen.append(measurements["n"])
        if measurements["n"] % 3 == 0:
            raise ValueError("bad")

    runtime.attach("log", "work.done", every_third_fails, carrier=carrier, max_restarts=100)
    emit(12)
    found = settled("log")

    assert seen == list(range(12))
    assert (found.handled, found.failed) == (8, 4)


def test_dead_letters_are_bounded(application: Application) -> None:
    runtime.attach("log", "work.done", Hostile().raises, max_restarts=100, dead_letters=3)

    emit(5)
    settled("log")

    until(lambda: [letter.event.measurements["n"] for letter in runtime.dead_letters("log")] == [2, 3, 4])


def test_a_failing_handler_of_failures_does_not_loop(application: Application, carrier: str) -> None:
    runtime.attach("failures", FAILURE, Hostile().raises, carrier=carrier, on_failure="detach")
    runtime.attach("hostile", "work.done", Hostile().raises, carrier=carrier, max_restarts=100)

    emit(5)
    found = settled("hostile")

    assert found.failed == 5
    until(lambda: [info.id for info in runtime.list_handlers()] == ["hostile"])


# -- giving up ---------------------------------------------------------------------------------------------------------


def test_a_handler_that_keeps_failing_gives_up_alone_and_can_be_attached_again(
    application: Application, carrier: str
) -> None:
    told: list[Any] = []
    broken = threading.Event()
    broken.set()
    seen = Seen()

    def handler(*event: Any) -> None:
        if broken.is_set():
            raise ValueError("bad")
        seen(*event)

    runtime.attach("gave-up", GAVE_UP, lambda *event: told.append(event[2]))
    runtime.attach("log", "work.done", handler, carrier=carrier, max_restarts=3)
    neighbour = Seen()
    runtime.attach("neighbour", "work.done", neighbour)

    emit(10)
    until(lambda: next(i for i in runtime.list_handlers() if i.id == "log").state == "gave_up")
    until(lambda: told == [{"handler_id": "log", "restarts": 3}])
    settled("neighbour")
    attachment = table.get("log")
    assert attachment is not None
    until(lambda: attachment.mailbox not in _dispatch._routes["work.done"])
    parked = statistics("log")
    emit(5)
    settled("neighbour")

    assert parked.failed == 4
    assert statistics("log").offered == parked.offered  # nothing is routed to it any more
    broken.clear()
    runtime.reattach("log")
    emit(2)
    settled("log")
    settled("neighbour")

    assert neighbour == [*range(10), *range(5), *range(2)]
    assert seen == [*range(4, 10), 0, 1]  # what waited when it gave up, and what came since
    assert next(i for i in runtime.list_handlers() if i.id == "log").state == "running"


def test_crash_loops_of_many_handlers_never_reach_the_tree(application: Application) -> None:
    for number in range(20):
        runtime.attach(f"broken-{number}", "work.done", Hostile().raises, carrier="green", max_restarts=1)
    seen = Seen()
    runtime.attach("seen", "work.done", seen)
    tree = {name: whereis(name) for name in ("telemetry", HANDLERS, "telemetry.registry", "telemetry.aggregator")}

    emit(100)
    settled("seen")
    until(lambda: sum(info.state == "gave_up" for info in runtime.list_handlers()) == 20)

    assert seen == list(range(100))
    assert {name: whereis(name) for name in tree} == tree


def test_on_failure_detach_is_telemetrys_own_rule(application: Application, carrier: str) -> None:
    told: list[Any] = []
    runtime.attach("failures", FAILURE, lambda *event: told.append(event[2]["handler_id"]))
    runtime.attach_many("log", ["work.done", "work.begun"], Hostile().raises, carrier=carrier, on_failure="detach")

    emit(3)
    until(lambda: told == ["log"])
    until(lambda: [info.id for info in runtime.list_handlers()] == ["failures"])
    emit(3, "work.begun")

    runtime.attach("log", "work.done", Seen())  # the id is free
    settled("failures")
    assert told == ["log"]


# -- attaching and detaching while it runs -----------------------------------------------------------------------------


def test_events_reach_a_handler_from_the_moment_attach_returns(application: Application, carrier: str) -> None:
    for number in range(30):
        seen = Seen()
        runtime.attach("log", "work.done", seen, carrier=carrier)
        emit(3)
        settled("log")
        runtime.detach("log")
        emit(3)
        assert seen == [0, 1, 2], number


def test_detach_returns_when_nothing_more_is_delivered(application: Application, carrier: str) -> None:
    seen: list[int] = []
    over = threading.Event()

    def keep_emitting() -> None:
        while not over.is_set():
            runtime.execute("work.done", {"n": 1})

    runtime.attach("log", "work.done", lambda *event: seen.append(1), carrier=carrier)
    emitting = OwnThread(keep_emitting)
    until(lambda: len(seen) > 10)
    attachment = table.get("log")
    assert attachment is not None

    runtime.detach("log")
    count = len(seen)
    emit(100)
    over.set()
    emitting.get()

    assert len(seen) == count
    found = attachment.mailbox.statistics()
    assert found.pending == 0
    assert found.accepted == found.handled + found.failed + found.discarded
    assert found.handled == count


def test_a_handler_may_attach_and_detach_others_and_itself(application: Application, carrier: str) -> None:
    seen = Seen()

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        if measurements["n"] == 0:
            runtime.attach("other", "work.done", seen, carrier=carrier)
        elif measurements["n"] == 1:
            runtime.detach("self")

    runtime.attach("self", "work.done", handler, carrier=carrier)
    runtime.execute("work.done", {"n": 0})
    until(lambda: len(runtime.list_handlers()) == 2)
    runtime.execute("work.done", {"n": 1})
    until(lambda: [info.id for info in runtime.list_handlers()] == ["other"])
    runtime.execute("work.done", {"n": 2})
    settled("other")

    assert seen[-1] == 2
    until(lambda: sum(ref._actor.__class__.__name__ == "HandlerActor" for ref in processes()) == 1)


def test_an_attachment_goes_when_the_actor_that_owns_it_ends(application: Application, carrier: str) -> None:
    owner = Obedient.options(carrier=carrier).start()
    runtime.attach("log", "work.done", Seen(), owner=owner)
    runtime.attach("stays", "work.done", Seen())

    owner.kill()

    until(lambda: [info.id for info in runtime.list_handlers()] == ["stays"])
    with pytest.raises(BeamstalkError):
        runtime.detach("log")


def test_many_threads_attach_emit_and_detach_at_once(application: Application) -> None:
    def work(number: int) -> None:
        for n in range(15):
            seen = Seen()
            handler_id = f"{number}-{n}"
            runtime.attach(handler_id, f"work.{number}", seen, carrier=("green", "thread")[n % 2])
            emit(5, f"work.{number}")
            settled(handler_id)
            runtime.detach(handler_id)
            assert seen == [0, 1, 2, 3, 4]

    in_threads(4, work)

    assert runtime.list_handlers() == []


# -- the tree under attack ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["telemetry.registry", HANDLERS, "telemetry.aggregator", "telemetry"])
@pytest.mark.parametrize("times", [1, 3])
def test_killing_any_part_of_the_telemetry_tree_loses_no_handler_and_no_event(victim: str, times: int) -> None:
    # Emitted from several threads, counted outside, while the victim is killed and restarted.
    threads, each = 4, 1_500
    seen = {carrier: Counter[Any]() for carrier in ("green", "thread")}

    def counting(carrier: str) -> Callable[..., None]:
        def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
            seen[carrier][measurements["thread"], measurements["n"]] += 1

        return handler

    with Application("test", max_restarts=100, drain_s=PATIENCE_S).running():
        for carrier in seen:
            runtime.attach(carrier, "work.done", counting(carrier), carrier=carrier, capacity=1_000_000)
        kills = threading.Semaphore(0)

        def work(number: int) -> None:
            if number == threads:
                for _ in range(times):
                    assert kills.acquire(timeout=PATIENCE_S)
                    ref = whereis(victim)
                    until(lambda: whereis(victim) is not None)
                    ref = whereis(victim)
                    ref.kill()
                    ref.wait(PATIENCE_S)
                    until(lambda ref=ref: whereis(victim) not in (None, ref))
                return
            for n in range(each):
                runtime.execute("work.done", {"thread": number, "n": n})
                if number == 0 and n % (each // (times + 1)) == each // (times + 1) - 1:
                    kills.release()

        in_threads(threads + 1, work)
        until(lambda: all(info.state == "running" for info in runtime.list_handlers()))
        found = {carrier: settled(carrier) for carrier in seen}
        listed = sorted(info.id for info in runtime.list_handlers())
        runtime.attach("late", "work.done", late := Seen())
        runtime.execute("work.done", {"thread": -1, "n": 7})
        settled("late")
        for carrier in (*seen, "late"):
            runtime.detach(carrier)

    assert listed == ["green", "thread"]
    assert late == [7]
    everything = {(number, n) for number in range(threads) for n in range(each)}
    for carrier, counted in seen.items():
        s = found[carrier]
        assert (s.offered, s.accepted, s.dropped) == (threads * each, threads * each, {})
        counted.pop((-1, 7), None)
        # A handler whose supervisor is killed in the middle of an event fails that one event, accounted for; none is
        # lost besides, and none is handled twice.
        assert s.handled + s.failed == threads * each
        assert set(counted.values()) == {1}
        missing = everything - set(counted)
        assert len(missing) <= s.failed <= times
        if victim == "telemetry.registry":
            assert (missing, s.failed) == (set(), 0)
    assert processes() == []


# -- what no handler may do to its supervisors -------------------------------------------------------------------------


class Unspeakable(Exception):
    """Whoever shows it ends."""

    def __repr__(self) -> str:
        raise SystemExit


def test_an_exception_that_cannot_be_shown_costs_the_handlers_supervisors_nothing(
    application: Application, carrier: str
) -> None:
    supervisor, seen = whereis(HANDLERS), Seen()

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen(event, measurements, metadata, config)
        if measurements["n"] < 3:
            raise Unspeakable

    runtime.attach("log", "work.done", handler, carrier=carrier)
    emit(5)

    found = settled("log")
    assert (found.handled, found.failed, seen) == (2, 3, [0, 1, 2, 3, 4])
    assert whereis(HANDLERS) is supervisor


@pytest.mark.parametrize("event", ["supervisors.report", "supervisors.progress", GAVE_UP, FAILURE])
def test_a_listener_to_reports_that_raises_costs_the_supervisors_nothing(
    application: Application, carrier: str, event: str
) -> None:
    supervisor = whereis(HANDLERS)

    def listener(*event: Any) -> None:
        raise GreenletExit

    def handler(*event: Any) -> None:
        raise ValueError("bad")

    runtime.attach("listener", event, listener, carrier="inline")
    runtime.attach("log", "work.done", handler, carrier=carrier, max_restarts=2)
    emit(3)

    attachment = table.find("log")
    until(lambda: attachment.state == "gave_up")
    assert statistics("log").failed == 3
    assert whereis(HANDLERS) is supervisor


def test_a_handler_that_the_system_gives_no_thread_to_is_refused_at_attach(application: Application) -> None:
    size = threading.stack_size(1 << 48)  # more than a process can have
    try:
        with pytest.raises(StartError, match="start new thread"):
            runtime.attach("log", "work.done", Seen())
    finally:
        threading.stack_size(size)

    assert table.get("log") is None
    runtime.attach("log", "work.done", Seen())
    emit(1)
    assert settled("log").handled == 1


@pytest.mark.parametrize("who", ["the handler", "its supervisor"])
def test_a_handler_that_is_killed_while_it_starts_is_started_again(
    application: Application, carrier: str, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    seen, gate, on_start = Seen(), Gate(), HandlerActor.on_start
    first = [True]

    def held_up(actor: HandlerActor) -> None:
        if first:
            first.clear()
            gate.pass_through()
        on_start(actor)

    monkeypatch.setattr(HandlerActor, "on_start", held_up)
    attaching = Answer(lambda: runtime.attach("log", "work.done", seen, carrier=carrier))
    gate.wait_reached()
    (handler,) = [ref for ref in processes() if issubclass(ref.actor_class, HandlerActor)]

    victim = handler if who == "the handler" else handler.parent
    victim.kill()
    victim.wait(PATIENCE_S)
    attaching.get()
    emit(1)

    assert settled("log").handled == 1
    gate.open()
    assert table.find("log").state == "running"


def test_a_handler_that_gave_up_is_routed_to_again_when_the_application_starts_anew() -> None:
    faults = [ValueError("once")]
    seen = Seen()

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        if faults:
            raise faults.pop()
        seen(event, measurements, metadata, config)

    application = Application("test", drain_s=PATIENCE_S)
    runtime.attach("log", "work.done", handler, max_restarts=0)
    with application.running():
        emit(1)
        until(lambda: table.find("log").state == "gave_up")

    with application.running():
        emit(1)
        settled("log")

    runtime.detach("log")
    assert seen == [0]
