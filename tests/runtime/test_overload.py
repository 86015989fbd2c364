"""Overload: more is offered than anybody can handle. Memory stays bounded, the shortfall is counted to the event, and
afterwards everything is as before.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import _native
from runtime._handlers import table
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S, in_threads, until

SECONDS = 3.0
EMITTERS = 2
CAPACITY = 1_000
HANDLERS = [("thread", "drop_newest"), ("green", "drop_oldest"), ("thread", "sample"), ("green", "drop_newest")]
GROWTH_BYTES = 64 * 2**20
"""Four full mailboxes are a few megabytes; the suite's own allocations before and after are the rest."""


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Slow:
    """A handler that can do with a tenth of what is offered at the very most."""

    def __init__(self) -> None:
        self.handled = Counter(dict.fromkeys(range(EMITTERS + 1), 0))
        self.last: list[int] = []
        self.slow = True

    def __call__(self, event: str, measurements: Any, metadata: Any, config: Any) -> None:
        self.handled[measurements["emitter"]] += 1
        self.last.append(measurements["n"])
        del self.last[:-200]
        if self.slow:
            _native.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_ten_times_as_much_as_can_be_handled_is_dropped_to_the_event_and_then_forgotten() -> None:
    slow = {f"{carrier}-{policy}": Slow() for carrier, policy in HANDLERS}
    emitted = Counter(dict.fromkeys(range(EMITTERS), 0))

    def is_too_much() -> bool:
        """Tell whether ten times as much was offered as anybody has handled, or still has to."""
        return emitted.total() > 11 * (max(handler.handled.total() for handler in slow.values()) + CAPACITY)

    def flood(emitter: int) -> None:
        begun_s = time.monotonic()
        while (now_s := time.monotonic()) < begun_s + SECONDS or not is_too_much():
            assert now_s < begun_s + PATIENCE_S, "expected ten times as much to be offered as can be handled"
            for _ in range(50):
                runtime.execute("work.done", {"emitter": emitter, "n": emitted[emitter]}, {"user": "ada"})
                emitted[emitter] += 1

    try:
        with Application("overload", drain_s=PATIENCE_S).running():
            for handler_id, handler in slow.items():
                carrier, policy = handler_id.split("-")
                runtime.attach(handler_id, "work.done", handler, carrier=carrier, policy=policy, capacity=CAPACITY)
            before = resident_bytes()

            in_threads(EMITTERS, flood)
            at_the_peak = resident_bytes()
            for handler in slow.values():
                handler.slow = False
            until(lambda: all(info.mailbox.pending == 0 for info in runtime.list_handlers()))
            found = {info.id: info.mailbox for info in runtime.list_handlers()}

            for n in range(100):
                runtime.execute("work.done", {"emitter": EMITTERS, "n": n})
            until(lambda: all(info.mailbox.pending == 0 for info in runtime.list_handlers()))
            after = {info.id: info.mailbox for info in runtime.list_handlers()}
    finally:
        for attachment in table.all():
            runtime.detach(attachment.id)

    total = emitted.total()
    for handler_id, handler in slow.items():
        s = found[handler_id]
        handled = sum(handler.handled[emitter] for emitter in range(EMITTERS))
        assert s.offered == total
        assert (s.accepted, s.handled, s.failed, s.discarded) == (handled, handled, 0, 0)
        assert sum(s.dropped.values()) == total - handled > 9 * handled, (handler_id, s)
        # Recovered: not one more is dropped, and all come in order.
        assert after[handler_id].dropped == s.dropped
        assert after[handler_id].handled == handled + 100
        assert handler.last[-100:] == list(range(100))
    assert at_the_peak - before < GROWTH_BYTES
