"""A hundred thousand actors: an idle one holds no stack, so that many start, answer and stop in one process.

Memory is measured as the growth of the process's resident set, supervision included. It is asserted with a margin of
one half above the 1 KB that an idle actor should cost: allocators round up, and other parts of the suite ran before.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, processes
from runtime import _process_table, _scheduler
from supervisors import ChildSpec, DynamicSupervisor
from tests.actors.people import Obedient
from tests.runtime.meeting import PATIENCE_S, until

MANY = 100_000
MARGIN_BYTES = 1_536


class Idle(Actor):
    """Does nothing but answer."""

    def on_receive(self, message: Any) -> Any:
        return message


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_hundred_thousand_supervised_actors_start_answer_and_stop(capsys: pytest.CaptureFixture[str]) -> None:
    errand = Obedient.start()
    sessions = DynamicSupervisor.start(name="sessions")
    # One spec serves them all; a first few, so that what is made once is there before the memory is measured.
    session = ChildSpec("session", Idle, restart="temporary", shutdown=60_000)
    kept: list[ActorRef[Any]] = []

    def start(count: int) -> None:
        errand.ask(lambda actor: kept.extend(sessions.start_child(session) for _ in range(count)), timeout=None)

    start(1_000)
    before = resident_bytes()
    start(MANY)
    each = (resident_bytes() - before) / MANY
    counts = sessions.count_children()
    answers = errand.ask(lambda actor: sum(ref.ask(1) for ref in kept), timeout=None)
    each_again = (resident_bytes() - before) / MANY
    with capsys.disabled():
        print(f"\n{MANY} idle supervised actors: {each:.0f} bytes each, {each_again:.0f} after an answer ", end="")
    greenlets = _scheduler.scheduler().statistics().greenlets

    assert (counts.specs, counts.active) == (MANY + 1_000, MANY + 1_000)
    assert answers == MANY + 1_000
    assert greenlets < 200
    assert max(each, each_again) < MARGIN_BYTES
    assert sessions.stop(timeout=PATIENCE_S)
    until(lambda: _process_table.count() == 1)
    assert processes() == [errand]
    assert not any(ref.is_alive() for ref in kept)
    assert {ref.exit_reason for ref in kept} == {"shutdown"}
    errand.stop()
