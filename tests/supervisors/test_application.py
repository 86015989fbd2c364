"""The application: what a service starts and stops, and what it may rely on in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger

import runtime
from actors import Actor, processes, whereis
from actors.poller import Measurement
from runtime import _dispatch, _scheduler
from runtime._table import table
from runtime.clock import FakeClock
from runtime.errors import AlreadyStarted, BeamstalkError, InvalidValue, StartError
from supervisors import Application, ChildSpec, Supervisor
from tests.actors.people import Obedient, raising
from tests.runtime.meeting import PATIENCE_S, Gate, OwnThread, in_threads, until


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No actor, no scheduler, no route and no attachment outlives a test."""
    yield
    for attachment in table.all():
        runtime.detach(attachment.id)
    assert processes() == []
    assert _scheduler._scheduler is None
    assert dict(_dispatch._routes) == {}


class Worker(Obedient):
    """Notes in a journal when it starts and stops."""

    def __init__(self, journal: list[str], label: str) -> None:
        super().__init__()
        self.journal = journal
        self.label = label

    def on_start(self) -> None:
        if self.label == "broken":
            raise ValueError("no licence")
        self.journal.append(f"start {self.label}")

    def on_stop(self, reason: Any = "normal") -> None:
        self.journal.append(f"stop {self.label}")


def specs(journal: list[str], *labels: str) -> list[ChildSpec]:
    return [ChildSpec(label, (Worker, (journal, label))) for label in labels]


def child(application: Application, child_id: Any) -> Any:
    return {entry.id: entry.child for entry in application.supervisor.which_children()}[child_id]


# -- start and stop ----------------------------------------------------------------------------------------------------


def test_children_run_when_start_returns_and_are_gone_when_stop_returns() -> None:
    journal: list[str] = []
    application = Application("test", children=specs(journal, "a", "b", "c"))

    assert not application.is_running
    assert application.start() is application
    assert journal == ["start a", "start b", "start c"]
    assert application.is_running
    assert repr(application) == "<Application 'test', running>"
    assert application.stop() is True

    assert journal[3:] == ["stop c", "stop b", "stop a"]
    assert not application.is_running
    assert repr(application) == "<Application 'test', stopped>"


def test_the_telemetry_part_is_there_before_and_after_the_services_own_children() -> None:
    seen: list[Any] = []

    class Child(Actor):
        def on_start(self) -> None:
            seen.append(whereis("telemetry.registry").is_alive())

        def on_stop(self, reason: Any = "normal") -> None:
            seen.append(whereis("telemetry.aggregator").is_alive())

    with Application("test", children=[ChildSpec("child", Child)]).running() as application:
        assert whereis("test") is application.supervisor
        assert [entry.id for entry in application.supervisor.which_children()] == ["telemetry", "child"]

    assert seen == [True, True]


def test_an_application_can_be_started_again() -> None:
    journal: list[str] = []
    application = Application("test", children=specs(journal, "a"))

    for _ in range(3):
        with application.running():
            assert child(application, "a").ask("alive") == "alive"

    assert journal == ["start a", "stop a"] * 3


def test_stopping_what_does_not_run_is_fine() -> None:
    application = Application("test")

    assert application.stop() is True
    application.start()
    assert [application.stop(), application.stop()] == [True, True]


def test_running_stops_also_when_the_block_is_interrupted() -> None:
    application = Application("test")

    with pytest.raises(KeyboardInterrupt), application.running():
        raise KeyboardInterrupt

    assert not application.is_running


def test_the_supervisor_of_a_stopped_application_is_an_error() -> None:
    with pytest.raises(BeamstalkError, match="expected application 'test' to run, got: stopped. Start it first"):
        _ = Application("test").supervisor


def test_a_subclass_may_say_what_it_consists_of() -> None:
    journal: list[str] = []
    measured = threading.Event()

    class Shop(Application):
        name = "shop"

        def children(self) -> Any:
            return specs(journal, "a")

        def pollers(self) -> Any:
            return [Measurement(measured.set, period_s=3600)]

    with Shop().running() as shop:
        assert shop.name == "shop"
        assert measured.wait(PATIENCE_S)

    assert journal == ["start a", "stop a"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": ""}, "expected name to be a non-empty string, got: ''"),
        ({"name": 7}, "expected name to be a non-empty string, got: 7"),
        ({"on_exit": "exit"}, "expected on_exit to be callable with the exit reason, got: 'exit'"),
        ({"drain_s": 0}, "expected drain_s to be a positive number of seconds, got: 0"),
        ({"drain_s": "soon"}, "expected drain_s to be a positive number of seconds, got: 'soon'"),
        ({"fork": "ignore"}, "expected fork to be 'stop' or 'restart', got: 'ignore'"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Application(**{"name": "test", **arguments})

    assert str(caught.value) == sentence


@pytest.mark.parametrize("flag", [{"strategy": "some"}, {"max_restarts": -1}, {"max_seconds": 0}])
def test_bad_flags_of_the_top_supervisor_are_refused_and_nothing_is_left(flag: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=f"expected {next(iter(flag))}"):
        Application("test", **flag).start()

    with Application("test").running():
        pass


# -- failing starts ----------------------------------------------------------------------------------------------------


def test_a_child_that_fails_makes_start_fail_with_its_name_and_reason() -> None:
    journal: list[str] = []
    application = Application("test", children=specs(journal, "a", "b", "broken", "c"))

    with pytest.raises(StartError) as caught:
        application.start()

    assert caught.value.child_id == "broken"
    assert isinstance(caught.value.reason, ValueError)
    assert str(caught.value) == "expected child 'broken' to start, got: ValueError('no licence')"
    assert journal == ["start a", "start b", "stop b", "stop a"]
    assert not application.is_running
    with Application("next").running():
        pass


def test_one_application_runs_at_a_time() -> None:
    with Application("first").running() as first:
        with pytest.raises(AlreadyStarted, match="expected no application to run in this process, got: 'first'"):
            Application("second").start()
        with pytest.raises(AlreadyStarted):
            first.start()
        assert first.is_running

    with Application("second").running():
        pass


def test_of_many_threads_that_start_an_application_one_succeeds() -> None:
    started: list[Application] = []
    refused: list[AlreadyStarted] = []

    def start(number: int) -> None:
        try:
            started.append(Application(f"application-{number}").start())
        except AlreadyStarted as error:
            refused.append(error)

    in_threads(6, start)

    assert (len(started), len(refused)) == (1, 5)
    assert started[0].stop()


def test_many_threads_may_stop_it_at_once() -> None:
    for _ in range(5):
        application = Application("test", children=specs([], "a", "b")).start()

        in_threads(4, lambda number, application=application: application.stop())  # type: ignore[misc]

        assert not application.is_running


# -- events ------------------------------------------------------------------------------------------------------------


def collect(seen: list[Any]) -> Callable[..., None]:
    return lambda event, measurements, metadata, config: seen.append(measurements["n"])


def test_attachments_made_before_the_start_go_live_with_it_and_stay_for_the_next() -> None:
    seen: list[int] = []
    runtime.attach("early", "work.done", collect(seen))
    application = Application("test")

    runtime.execute("work.done", {"n": 0})
    for n in (1, 2):
        with application.running():
            assert [info.state for info in runtime.list_handlers()] == ["running"]
            runtime.execute("work.done", {"n": n})
        runtime.execute("work.done", {"n": 0})
        assert [info.state for info in runtime.list_handlers()] == ["waiting"]

    assert seen == [1, 2]


@pytest.mark.parametrize("carrier", ["green", "thread"])
def test_what_was_emitted_before_stop_is_handled_when_it_returns(carrier: str) -> None:
    seen: list[int] = []
    application = Application("test", drain_s=PATIENCE_S).start()
    runtime.attach("log", "work.done", collect(seen), carrier=carrier, capacity=100_000)

    for n in range(20_000):
        runtime.execute("work.done", {"n": n})
    assert application.stop() is True

    assert seen == list(range(20_000))


def test_drain_waits_for_the_handlers_and_says_when_it_gave_up_waiting() -> None:
    gate = Gate()
    with Application("test").running() as application:
        assert application.drain() is True
        runtime.attach("slow", "work.done", lambda *event: gate.pass_through())
        runtime.execute("work.done")
        gate.wait_reached()

        assert application.drain(0.001) is False
        gate.open()
        assert application.drain(PATIENCE_S) is True


@pytest.mark.parametrize("carrier", ["green", "thread"])
def test_a_handler_that_never_returns_does_not_keep_the_application_from_stopping(carrier: str) -> None:
    gate = Gate()
    seen: list[int] = []
    application = Application("test", drain_s=0.2).start()
    runtime.attach("hung", "work.done", lambda *event: gate.pass_through(), carrier=carrier)
    runtime.attach("log", "work.done", collect(seen))
    for n in range(10):
        runtime.execute("work.done", {"n": n})
    gate.wait_reached()
    until(lambda: len(seen) == 10)

    stopped_in_order = application.stop()

    assert stopped_in_order is False
    assert seen == list(range(10))
    assert processes() == []
    (hung,) = (info for info in runtime.list_handlers() if info.id == "hung")
    assert (hung.mailbox.failed, hung.mailbox.pending) == (1, 9)
    gate.open()
    with application.running():  # and what still waited is not lost
        until(lambda: next(i for i in runtime.list_handlers() if i.id == "hung").mailbox.handled == 9)


def test_stop_inside_the_tree_is_refused_because_it_would_wait_for_itself() -> None:
    with Application("test", children=specs([], "a")).running() as application:
        with pytest.raises(BeamstalkError, match="expected stop to be called outside the tree, got: Worker"):
            child(application, "a").ask(lambda actor: application.stop())

        assert application.is_running


def test_a_metric_is_collected_from_the_first_event_on() -> None:
    from actors.aggregator import NAME, Snapshot
    from runtime.metrics import counter

    with Application("test", metrics=[counter("work.done.count", event_name="work.done")]).running():
        for _ in range(100):
            runtime.execute("work.done")

        (view,) = whereis(NAME).ask(Snapshot())

    assert [series.value for series in view.series] == [100]


# -- the end of the tree -----------------------------------------------------------------------------------------------


def exhaust(application: Application, child_id: str) -> None:
    """Kill a child more often than its supervisor grants restarts."""
    for _ in range(4):
        until(lambda: whereis(child_id) is not None or not application.is_running)
        ref = whereis(child_id)
        if ref is not None:
            ref.kill()
            ref.wait(PATIENCE_S)


def crashing(name: str) -> ChildSpec:
    return ChildSpec(name, Obedient.options(name=name).start_link)


def doomed(on_exit: Callable[[Any], None]) -> Application:
    """An application that grants its only child so few restarts in so long a time that no machine is too slow."""
    return Application("test", children=[crashing("victim")], max_restarts=3, max_seconds=3600, on_exit=on_exit)


def test_the_host_is_told_when_the_tree_gives_up_and_its_process_goes_on() -> None:
    told: list[Any] = []
    done = threading.Event()
    applications: list[Application] = []

    def on_exit(reason: Any) -> None:
        told.append((reason, threading.get_ident(), applications[0].is_running))
        done.set()

    application = doomed(on_exit)
    applications.append(application)
    runtime.attach("log", "work.done", print)
    application.start()

    exhaust(application, "victim")

    assert done.wait(PATIENCE_S)
    ((reason, thread, running),) = told
    assert (reason, running) == ("shutdown", False)
    assert thread != threading.get_ident()
    assert not application.is_running
    runtime.execute("work.done")
    assert [info.state for info in runtime.list_handlers()] == ["waiting"]
    with application.running():
        assert whereis("victim").is_alive()


def test_on_exit_may_start_the_application_again() -> None:
    again = threading.Event()

    def on_exit(reason: Any) -> None:
        application.start()
        again.set()

    application = doomed(on_exit)
    application.start()

    exhaust(application, "victim")

    assert again.wait(PATIENCE_S)
    assert application.is_running
    assert application.stop()


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_an_on_exit_that_raises_hurts_nobody(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    called = threading.Event()

    def on_exit(reason: Any) -> None:
        called.set()
        raise error

    application = doomed(on_exit).start()

    exhaust(application, "victim")

    assert called.wait(PATIENCE_S)
    until(lambda: _scheduler._scheduler is None)
    assert not application.is_running
    assert capfd.readouterr().err == ""


def test_the_host_is_told_also_when_a_sink_of_the_log_raises() -> None:
    def fail(message: object) -> None:
        raise RuntimeError("disk full")

    called = threading.Event()
    application = Application("test", children=[crashing("victim")], on_exit=lambda reason: called.set()).start()
    logger.enable("supervisors")
    sink = logger.add(fail, catch=False)
    try:
        exhaust(application, "victim")

        assert called.wait(PATIENCE_S)
    finally:
        logger.remove(sink)
        logger.disable("supervisors")


def test_on_exit_is_not_called_by_stop() -> None:
    told: list[Any] = []
    application = Application("test", on_exit=told.append)

    application.start()
    application.stop()
    application.start()
    application.stop()

    assert told == []


def test_a_child_is_restarted_without_the_service_noticing() -> None:
    with Application("test", children=[crashing("victim")]).running() as application:
        first = whereis("victim")
        first.tell(raising(ValueError("bad")))
        until(lambda: whereis("victim") not in (None, first))

        assert whereis("victim").ask("alive") == "alive"
        assert application.is_running


def test_the_strategy_of_the_top_supervisor_can_be_chosen() -> None:
    journal: list[str] = []

    with Application("test", children=specs(journal, "a", "b"), strategy="rest_for_one").running() as application:
        first = child(application, "b")
        child(application, "a").kill()
        until(lambda: child(application, "b") not in (None, first))

    assert journal == ["start a", "start b", "stop b", "start a", "start b", "stop b", "stop a"]


def test_trees_may_be_as_deep_as_one_likes() -> None:
    journal: list[str] = []
    deep: Any = specs(journal, "leaf")[0]
    for n in range(10):
        deep = Supervisor.child(f"level-{n}", children=[deep])

    with Application("test", children=[deep]).running():
        pass

    assert journal == ["start leaf", "stop leaf"]


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_whole_application_runs_by_a_fake_clock() -> None:
    clock = FakeClock()
    measured: list[int] = []
    pollers = [Measurement(lambda: measured.append(clock.monotonic_ns() // 10**9), period_s=60)]

    with Application("test", pollers=pollers, clock=clock).running():
        until(lambda: len(measured) == 1)
        for minute in range(1, 4):
            clock.advance(60)
            until(lambda minute=minute: len(measured) == 1 + minute)

    assert measured == [0, 60, 120, 180]


def test_a_clock_for_a_scheduler_that_runs_already_is_refused_and_nothing_is_left_of_it() -> None:
    ref = Obedient.start()

    with pytest.raises(BeamstalkError, match="expected the scheduler to be stopped"):
        Application("test", clock=FakeClock()).start()

    assert ref.ask("alive") == "alive"
    ref.stop()
    _scheduler.stop()
    with Application("test", clock=FakeClock()).running():
        pass


def test_other_actors_of_the_process_outlive_the_application() -> None:
    ref = Obedient.start()

    with Application("test").running():
        pass

    assert ref.ask("alive") == "alive"
    ref.stop()
    _scheduler.stop()


def test_an_emission_never_waits_for_the_application_to_start_or_stop() -> None:
    over = threading.Event()
    application = Application("test")
    runtime.attach("log", "work.done", lambda *event: None)

    def keep_emitting() -> int:
        emitted = 0
        while not over.is_set():
            runtime.execute("work.done", {"n": emitted})
            emitted += 1
        return emitted

    emitting = [OwnThread(keep_emitting) for _ in range(2)]
    for _ in range(10):
        with application.running():
            pass
    over.set()
    emitted = sum(one.get() for one in emitting)  # type: ignore[misc]

    (info,) = runtime.list_handlers()
    assert info.mailbox.offered <= emitted
    assert info.mailbox.accepted == info.mailbox.handled + info.mailbox.failed + info.mailbox.pending
