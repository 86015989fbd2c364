"""The aggregator: no event is lost between an emitter and a reporter, whatever becomes of the actor between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from actors import whereis
from actors._registry import NAME as REGISTRY
from actors._registry import Publish, Registry
from actors._series import SeriesStore
from actors.aggregator import (
    NAME,
    Aggregator,
    Collect,
    Commit,
    Snapshot,
    Statistics,
    Subscribe,
    Unsubscribe,
    aggregator_mailbox,
)
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime.clock import FakeClock
from runtime.metrics import counter
from tests.runtime.meeting import PATIENCE_S, in_threads, until

COUNT = counter("work.count", event_name="work.done")


class House:
    """A store with its mailbox, and the actor that writes it."""

    def __init__(self, capacity: int = 200_000) -> None:
        self.store = SeriesStore([COUNT])
        self.mailbox: Mailbox = aggregator_mailbox(capacity)
        self.ref: Any = None
        self.start()
        Registry.options(name=REGISTRY).start()

    def start(self) -> None:
        self.ref = Aggregator.options(name=NAME, mailbox=self.mailbox).start(self.store)

    def restart(self) -> None:
        self.ref.kill()
        self.ref.wait(PATIENCE_S)
        self.start()

    def count(self) -> Any:
        (view,) = self.ref.ask(Snapshot(), timeout=PATIENCE_S)
        return sum(series.value for series in view.series)


@pytest.fixture
def house() -> Iterator[House]:
    yield House()
    for sink in table.sinks():
        runtime.unsubscribe(sink)


def emit(count: int) -> None:
    for _ in range(count):
        runtime.execute("work.done")


def test_every_event_emitted_before_a_call_is_in_its_answer(house: House) -> None:
    for n in range(1, 50):
        emit(7)
        assert house.count() == 7 * n


def test_events_from_many_threads_are_all_counted(house: House) -> None:
    in_threads(8, lambda number: emit(2_000))

    assert house.count() == 16_000
    s = house.mailbox.statistics()
    assert (s.offered, s.accepted, s.handled, s.pending) == (16_000, 16_000, 16_000, 0)


def test_a_reporter_collects_and_commits_and_gets_each_event_once(house: House) -> None:
    total = 0
    for _ in range(20):
        emit(11)
        delta = house.ref.ask(Collect("statsd"))
        total += sum(point.value for point in delta.points)
        assert house.ref.ask(Commit("statsd", delta)) is True

    assert total == 220
    assert house.ref.ask(Collect("statsd")).points == ()


def test_reporters_collect_from_many_threads_while_events_come_in(house: House) -> None:
    over = threading.Event()
    got: dict[int, float] = {}

    def report(number: int) -> None:
        name = f"reporter-{number}"
        got[number] = 0
        while True:
            last = over.is_set()
            delta = house.ref.ask(Collect(name), timeout=PATIENCE_S)
            got[number] += sum(point.value for point in delta.points)
            house.ref.ask(Commit(name, delta), timeout=PATIENCE_S)
            if last:
                return

    def work(number: int) -> None:
        if number < 3:
            report(number)
        else:
            emit(5_000)
            done.append(number)
            if len(done) == 3:
                over.set()

    done: list[int] = []
    for number in range(3):
        house.ref.ask(Subscribe(f"reporter-{number}"))
    in_threads(6, work)

    assert got == {0: 15_000, 1: 15_000, 2: 15_000}


def test_killing_it_again_and_again_loses_no_event(house: House) -> None:
    over = threading.Event()
    restarts: list[int] = []

    def keep_restarting() -> None:
        while not over.is_set():
            house.restart()
            restarts.append(1)

    restarting = threading.Thread(target=keep_restarting)
    restarting.start()
    in_threads(4, lambda number: emit(4_000))
    until(lambda: len(restarts) >= 10)
    over.set()
    restarting.join()

    assert house.count() == 16_000
    s = house.mailbox.statistics()
    assert (s.accepted, s.handled, s.failed, s.pending, s.dropped) == (16_000, 16_000, 0, 0, {})


def test_stopping_it_records_what_waits(house: House) -> None:
    emit(500)

    house.ref.stop(reason="shutdown")
    house.start()

    assert house.count() == 500


def test_a_full_mailbox_drops_and_says_how_many_and_calls_get_through() -> None:
    house = House(capacity=100)
    house.ref.suspend()
    emit(250)

    assert house.ref.ask(Statistics()) is not None
    assert house.count() == 100
    house.ref.resume()
    assert house.mailbox.statistics().dropped == {"full": 150}
    runtime.unsubscribe(NAME)


def test_it_looks_at_its_mail_by_itself_now_and_then(clock: FakeClock) -> None:
    house = House()
    emit(3)
    assert house.mailbox.pending() == 3  # lazy: a few events wake nobody

    clock.advance(1.1)

    assert house.mailbox.pending() == 0
    runtime.unsubscribe(NAME)


def test_it_wakes_by_itself_when_much_waits(house: House) -> None:
    emit(5_000)

    until(lambda: house.mailbox.pending() < 1_001)


def test_it_is_routed_again_by_every_incarnation(house: House) -> None:
    runtime.unsubscribe(NAME)
    whereis(REGISTRY).ask(Publish())
    emit(1)

    house.restart()
    whereis(REGISTRY).ask(Publish())
    emit(2)

    assert house.count() == 2


def test_a_reporter_that_will_not_come_back_is_forgotten(house: House) -> None:
    house.ref.ask(Subscribe("gone"))
    before = house.ref.ask(Statistics())
    house.ref.ask(Unsubscribe("gone"))
    after = house.ref.ask(Statistics())

    assert before != after


def test_its_state_is_the_account_of_its_store(house: House) -> None:
    emit(3)
    house.count()

    assert house.ref.get_state() == house.ref.ask(Statistics())
