"""The accounts add up: whatever happens to handlers, every event offered is somewhere, and is there once.

    offered  = accepted + dropped
    accepted = handled + failed + discarded + pending

Random handlers under random policies, eight threads, and a script of deaths and restarts; counted outside as well.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

import hypothesis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

import runtime
from actors import processes, whereis
from actors._handler import HandlerActor
from runtime import _native
from runtime._handlers import HandlerInfo
from runtime._table import table
from runtime.testing import Capture, capture_events
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S, in_threads, until

EMITTERS, EACH = 7, 120
REASONS = {
    "drop_newest": {"full"},
    "drop_oldest": {"oldest"},
    "sample": {"sampled", "full"},
    "block": {"full"},
}


class Plan(msgspec.Struct):
    """How one handler is attached and how it behaves."""

    carrier: str
    policy: str
    capacity: int
    failures: int
    slow: bool

    def options(self) -> dict[str, Any]:
        patience = {"block_s": 0.0005} if self.policy == "block" else {}
        common = {"carrier": self.carrier, "policy": self.policy, "capacity": self.capacity}
        return {**common, **patience, "max_restarts": 1_000}


class Counting:
    """A handler that counts for itself what begins, ends and fails."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.failures_left = plan.failures
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # a fenced incarnation may still be at work when the next one begins

    def __call__(self, event: str, measurements: Any, metadata: Any, config: Any) -> None:
        self._count("begun")
        if self.plan.slow:
            _native.sleep(0)
        if self.failures_left > 0 and measurements["n"] % 10 == 0:
            self.failures_left -= 1
            self._count("failed")
            raise ValueError("as planned")
        self._count("done")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


PLANS = st.lists(
    st.builds(
        Plan,
        carrier=st.sampled_from(["green", "thread"]),
        policy=st.sampled_from(sorted(REASONS)),
        capacity=st.sampled_from([1, 2, 16, 40, 1_000, 100_000]),
        failures=st.integers(0, 3),
        slow=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)
DEATHS = st.sampled_from(
    [
        "a handler",
        "a handler's supervisor",
        "telemetry.registry",
        "telemetry.handlers",
        "telemetry.aggregator",
        "telemetry",
    ]
)
CALM = st.sampled_from(["suspend", "statistics"])


def disturb(what: str, choice: random.Random) -> None:
    """Do one thing to the tree and wait until it has happened."""
    handlers = [ref for ref in processes() if ref.actor_class is HandlerActor]
    victim: Any = None
    match what:
        case "a handler":
            victim = choice.choice(handlers) if handlers else None
        case "a handler's supervisor":
            victim = choice.choice(handlers).parent if handlers else None
        case "suspend":
            for ref in handlers[:1]:
                try:
                    ref.suspend()
                    ref.resume()
                except runtime.errors.BeamstalkError:
                    raise
                except Exception:
                    return
        case "statistics":
            for attachment in table.all():
                attachment.mailbox.statistics()
        case name:
            victim = whereis(name)
    if victim is not None:
        victim.kill()
        victim.wait(PATIENCE_S)


def infos() -> dict[str, HandlerInfo]:
    return {info.id: info for info in runtime.list_handlers()}


def check_identities() -> None:
    for info in runtime.list_handlers():
        s = info.mailbox
        assert s.accepted == s.handled + s.failed + s.discarded + s.pending, (info.id, s)
        assert s.offered == s.accepted + sum(s.dropped.values()), (info.id, s)


def told(captured: Capture) -> Counter[str]:
    return Counter(event.metadata["handler_id"] for event in captured.failures)


@hypothesis.settings(max_examples=20)
@given(plans=PLANS, script=st.lists(st.one_of(DEATHS, CALM), max_size=6), seed=st.integers(0, 2**32))
def test_every_event_offered_is_accounted_for_whatever_dies_meanwhile(
    plans: list[Plan], script: list[str], seed: int
) -> None:
    choice = random.Random(seed)
    handlers = [Counting(plan) for plan in plans]
    try:
        running = Application("accounts", max_restarts=1_000, drain_s=PATIENCE_S).running()
        with capture_events("telemetry.*") as captured, running:
            for number, handler in enumerate(handlers):
                runtime.attach(f"handler-{number}", "work.done", handler, **handler.plan.options())

            def work(number: int) -> None:
                if number == EMITTERS:
                    for what in script:
                        disturb(what, choice)
                else:
                    for n in range(EACH):
                        runtime.execute("work.done", {"n": n})

            in_threads(EMITTERS + 1, work)
            until(lambda: all(info.mailbox.pending == 0 for info in runtime.list_handlers()))
            check_identities()
            found = infos()
            # A failure is counted first and told then: in the end each was told once.
            until(lambda: told(captured) == Counter({each.id: each.mailbox.failed for each in found.values()}))
    finally:
        for attachment in table.all():
            runtime.detach(attachment.id)

    killed = any(what not in ("suspend", "statistics") for what in script)
    for number, handler in enumerate(handlers):
        s, counts = found[f"handler-{number}"].mailbox, handler.counts
        assert s.offered == EMITTERS * EACH
        assert s.discarded == 0
        assert set(s.dropped) <= REASONS[handler.plan.policy]
        # What was killed in the middle has failed, whether its function had begun, or came to its end later.
        assert s.handled <= counts["done"]
        assert counts["begun"] <= s.handled + s.failed
        assert s.failed <= counts["failed"] + len(script)
        if not killed:
            assert (s.handled, s.failed) == (counts["done"], counts["failed"])


@hypothesis.settings(max_examples=12)
@given(
    plans=PLANS,
    script=st.lists(
        st.sampled_from(["stop and start", "detach", "attach", "give up", "reattach"]), min_size=1, max_size=5
    ),
    seed=st.integers(0, 2**32),
)
def test_the_accounts_add_up_across_stops_starts_and_detachments(
    plans: list[Plan], script: list[str], seed: int
) -> None:
    choice = random.Random(seed)
    application = Application("accounts", max_restarts=1_000, drain_s=PATIENCE_S).start()
    everything: list[tuple[Counting, Any]] = []
    over = threading.Event()

    def attach(number: int, plan: Plan) -> None:
        handler = Counting(plan)
        runtime.attach(f"handler-{number}", "work.done", handler, **plan.options())
        attachment = table.get(f"handler-{number}")
        assert attachment is not None
        everything.append((handler, attachment))

    def act(what: str) -> None:
        attachments = table.all()
        match what:
            case "stop and start":
                application.stop()
                check_identities()
                application.start()
            case "detach" if attachments:
                runtime.detach(choice.choice(attachments).id)
            case "attach":
                attach(len(everything), choice.choice(plans))
            case "give up" if attachments:
                # Its supervisor ends with shutdown, as one that gave up does.
                attachment = choice.choice(attachments)
                router = table.router
                assert router is not None
                router.retire(attachment)
                until(lambda: attachment.state == "gave_up")
            case "reattach":
                for attachment in attachments:
                    runtime.reattach(attachment.id)

    try:
        for number, plan in enumerate(plans):
            attach(number, plan)
        emitted = Counter[int]()

        def work(number: int) -> None:
            if number == EMITTERS:
                for what in script:
                    act(what)
                over.set()
                return
            while not over.is_set() or emitted[number] < EACH:
                runtime.execute("work.done", {"n": emitted[number]})
                emitted[number] += 1
                if emitted[number] % 5 == 0:
                    time.sleep(0.005)  # more than the handlers can take would only make the test long

        in_threads(EMITTERS + 1, work)
        until(lambda: all(a.state == "gave_up" or a.mailbox.pending() == 0 for a in table.all()))
        check_identities()
    finally:
        application.stop()
        for attachment in table.all():
            runtime.detach(attachment.id)

    for handler, attachment in everything:
        s = attachment.mailbox.statistics()
        assert s.accepted == s.handled + s.failed + s.discarded
        assert s.pending == 0
        assert s.offered <= emitted.total()
        assert s.handled <= handler.counts["done"]
        assert set(s.dropped) <= REASONS[handler.plan.policy] | {"closed"}
    assert processes() == []
