"""The built-in measurements: numbers that are those of the process and of the runtime in it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors import Actor
from actors.measurements import built_in, measure_process, measure_runtime
from runtime import _process_table
from runtime._mailbox import Mailbox
from runtime.errors import InvalidValue, MailboxFull
from tests.runtime.meeting import Gate, until

Routed = Callable[..., Mailbox]
MB = 2**20


def test_the_process_is_measured(routed: Routed) -> None:
    mail = routed("runtime.process")
    gate = Gate()
    threads = [threading.Thread(target=gate.pass_through) for _ in range(20)]
    gc.collect()  # what other tests have left would be gone only from the second measurement

    measure_process()
    ballast = b"\1" * (64 * MB)
    for thread in threads:
        thread.start()
    gc.collect()
    measure_process()
    gate.open()
    for thread in threads:
        thread.join()

    first, second = (event.measurements for event in mail.load)
    assert all(type(value) is int for value in second.values())
    assert second["rss"] - first["rss"] > len(ballast) // 2
    assert second["threads"] - first["threads"] > len(threads) // 2  # some of an earlier test may have ended meanwhile
    assert second["gc_collections"] > first["gc_collections"]
    assert second["cpu"] > first["cpu"] > 0
    assert mail.load[0].metadata == {"pid": os.getpid()}


class Held(Actor):
    """Takes one message and holds it."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def on_receive(self, message: Any) -> None:
        self.gate.pass_through()


def test_actors_and_what_waits_for_them_are_measured(routed: Routed) -> None:
    mail = routed("runtime.system")
    gates = [Gate(), Gate()]
    first, second = (Held.options(carrier="thread", mailbox=Mailbox(5)).start(gate) for gate in gates)
    for ref, count in ((first, 3), (second, 5)):
        ref.tell("hold")
        gates[ref is second].wait_reached()
        for n in range(count):
            ref.tell(n)
    with pytest.raises(MailboxFull):
        second.tell("too many")
    boxes = [ref.info().mailbox for ref in (first, second)]

    measure_runtime()

    for gate in gates:
        gate.open()
    (event,) = mail.load
    assert event.measurements["actors"] == 2
    assert event.measurements["pending"] == sum(box.pending for box in boxes)
    assert event.measurements["deepest"] == max(box.pending for box in boxes) >= 5
    assert event.measurements["dropped"] == 1
    assert event.measurements["hub_lag"] > 0
    for ref in (first, second):
        ref.stop()
    until(lambda: _process_table.count() == 0)


def test_without_actors_there_is_nothing_to_count(routed: Routed) -> None:
    mail = routed("runtime.system")

    measure_runtime()

    (event,) = mail.load
    lag = event.measurements.pop("hub_lag")
    assert event.measurements == {"actors": 0, "pending": 0, "dropped": 0, "deepest": 0}
    assert lag > 0


def test_the_built_in_ones_share_a_period() -> None:
    assert [(each.name, each.period_s) for each in built_in(5)] == [("measure_process", 5), ("measure_runtime", 5)]
    with pytest.raises(InvalidValue, match="expected period_s to be a positive number of seconds, got: 0"):
        built_in(0)
