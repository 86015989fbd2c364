"""The registry: what it publishes is what emitters see, and its death changes nothing for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from actors import whereis
from actors._registry import NAME, Publish, Registry
from runtime import _dispatch
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime.clock import FakeClock
from tests.actors.people import Obedient
from tests.runtime.meeting import PATIENCE_S, in_threads, until


@pytest.fixture(autouse=True)
def no_sinks_are_left() -> Iterator[None]:
    yield
    for sink in table.sinks():
        runtime.unsubscribe(sink)


def start() -> Any:
    return Registry.options(name=NAME).start()


def test_it_publishes_the_table_when_it_starts_and_when_it_is_asked_to() -> None:
    one, two = Mailbox(), Mailbox()
    runtime.subscribe("one", ["a"], one)
    assert dict(_dispatch._routes) == {}

    ref = start()
    runtime.execute("a")
    runtime.subscribe("two", ["a"], two)
    runtime.execute("a")
    ref.ask(Publish())
    runtime.execute("a")

    assert (len(one.load), len(two.load)) == (3, 1)


@pytest.mark.parametrize("reason", ["kill", "boom", "shutdown"])
def test_emitters_go_on_with_the_last_snapshot_whatever_ends_it(reason: str) -> None:
    mail = Mailbox()
    runtime.subscribe("one", ["a"], mail)
    ref = start()

    ref.exit(reason)
    ref.wait(PATIENCE_S)
    runtime.execute("a")

    assert len(mail.load) == 1


def test_the_next_incarnation_publishes_what_was_attached_meanwhile() -> None:
    mail = Mailbox()
    first = start()
    first.kill()
    first.wait(PATIENCE_S)

    runtime.subscribe("one", ["a"], mail)
    runtime.execute("a")
    start()
    runtime.execute("a")

    assert len(mail.load) == 1


def test_killing_it_under_concurrent_emission_loses_no_event_and_routes_none_twice() -> None:
    boxes = [Mailbox() for _ in range(3)]
    for number, box in enumerate(boxes):
        runtime.subscribe(f"sink-{number}", ["a"], box)
    start()
    over = threading.Event()
    kills: list[Any] = []
    threads, each = 4, 3_000

    def keep_killing() -> None:
        while not over.is_set():
            ref = whereis(NAME)
            kills.append(ref)
            ref.kill()
            ref.wait(PATIENCE_S)
            start()

    killing = threading.Thread(target=keep_killing)
    killing.start()
    in_threads(threads, lambda number: [runtime.execute("a", {"thread": number, "n": n}) for n in range(each)])
    until(lambda: len(kills) >= 10)
    over.set()
    killing.join()

    everything = sorted((number, n) for number in range(threads) for n in range(each))
    for box in boxes:
        assert sorted((e.measurements["thread"], e.measurements["n"]) for e in box.load) == everything


def test_events_are_stamped_by_the_clock_of_the_scheduler(clock: FakeClock) -> None:
    mail = Mailbox()
    runtime.subscribe("one", ["a"], mail)
    start()

    clock.advance(7)
    runtime.execute("a")

    assert mail.load[0].time_ns == 7_000_000_000


def test_an_unexpected_message_does_not_hurt_it() -> None:
    ref = start()

    ref.tell("what?")

    assert ref.ask(Publish()) is None
    assert Obedient.start().ask("alive") == "alive"
