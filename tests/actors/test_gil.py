"""An actor that drains lets the other threads of the process go on, whatever it runs on."""

from __future__ import annotations

import pytest

from actors import Actor
from tests.runtime.meeting import Gate

MESSAGES = 20_000


class Draining(Actor):
    """Take note of each message, once the gate is open."""

    def __init__(self, gate: Gate, handled: list[str]) -> None:
        super().__init__()
        self.gate = gate
        self.handled = handled

    def on_receive(self, message: str) -> None:
        if message == "wait":
            self.gate.pass_through()
        self.handled.append(message)


@pytest.mark.parametrize("carrier", ["green", "thread"])
def test_a_draining_actor_gives_the_gil_away_much_more_often_than_the_interpreter_would(carrier: str) -> None:
    gate, handled = Gate(), list[str]()
    ref = Draining.options(carrier=carrier).start(gate, handled)
    ref.tell("wait")
    gate.wait_reached()
    for _ in range(MESSAGES):
        ref.tell("go on")

    gate.open()
    seen = set()
    while (so_far := len(handled)) <= MESSAGES:
        seen.add(so_far)
    ref.stop()

    # Every 5 ms, as the interpreter does it, would be some five times.
    assert len(seen) > 30
