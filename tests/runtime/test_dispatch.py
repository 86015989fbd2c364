"""Emission: one lookup when nobody listens, an event of its own for who does, and nothing thrown at the emitter."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import warnings
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

import runtime
from runtime import _dispatch
from runtime._mailbox import Mailbox
from runtime.clock import FakeClock
from runtime.errors import InvalidValue, NotCommitted
from tests.runtime.meeting import OwnThread, in_threads, until

Routed = Callable[..., Mailbox]


def emitted(mail: Mailbox) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [(event.name, event.measurements, event.metadata) for event in mail.load]


def test_an_event_reaches_who_is_routed_to_it(routed: Routed) -> None:
    mail = routed("shop.order.placed")

    answer = runtime.execute("shop.order.placed", {"amount": 12.5}, {"currency": "EUR"})

    assert answer is None
    assert emitted(mail) == [("shop.order.placed", {"amount": 12.5}, {"currency": "EUR"})]


def test_every_subscriber_gets_the_event() -> None:
    boxes = tuple(Mailbox() for _ in range(5))
    _dispatch.publish({"a": boxes})

    runtime.execute("a", {"n": 1})

    assert [len(box.load) for box in boxes] == [1] * 5


@pytest.mark.parametrize(
    "name", ["shop", "shop.order", "shop.order.placed.late", "shop.order.place", "Shop.Order.Placed"]
)
def test_matching_is_exact(routed: Routed, name: str) -> None:
    mail = routed("shop.order.placed")

    runtime.execute(name, {"n": 1})

    assert emitted(mail) == []


@pytest.mark.parametrize("name", [("shop", "order"), ["shop", "order"], "shop.order"])
def test_segments_mean_the_same_as_the_dotted_name(routed: Routed, name: Any) -> None:
    mail = routed("shop.order")

    runtime.execute(name, {"n": 1})

    assert emitted(mail) == [("shop.order", {"n": 1}, {})]


@pytest.mark.parametrize("measurements", [None, {}, {"n": object()}, 7, "nonsense", [1]])
def test_an_emission_that_nobody_gets_looks_at_nothing(measurements: Any) -> None:
    runtime.execute("nobody.listens", measurements, measurements)


@pytest.mark.parametrize("name", ["", "a..b", "a b", "no such event"])
def test_an_unknown_name_simply_has_no_routes(routed: Routed, name: str) -> None:
    routed("a.b")

    runtime.execute(name, {"n": 1})


@pytest.mark.parametrize("name", [(), [], ("a", "b.c"), 7, None, b"a.b"])
def test_what_cannot_be_a_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidValue, match="expected an event name"):
        runtime.execute(name)


@pytest.mark.parametrize("mapping", [OrderedDict(n=1), UserDict(n=1), MappingProxyType({"n": 1})])
def test_any_mapping_is_taken(routed: Routed, mapping: Any) -> None:
    mail = routed("a")

    runtime.execute("a", mapping, mapping)

    assert emitted(mail) == [("a", {"n": 1}, {"n": 1})]
    assert isinstance(mail.load[0].measurements, dict)


@pytest.mark.parametrize("value", ["text", [("n", 1)], {"n"}, object(), b"n"])
def test_what_is_no_mapping_is_refused_when_somebody_listens(routed: Routed, value: Any) -> None:
    mail = routed("a")

    with pytest.raises(InvalidValue, match="expected measurements to be a mapping, got: "):
        runtime.execute("a", value)
    with pytest.raises(InvalidValue, match="expected metadata to be a mapping, got: "):
        runtime.execute("a", {"n": 1}, value)

    assert emitted(mail) == []


@pytest.mark.parametrize("number", [7, 2.5, True])
def test_a_bare_number_is_a_measurement_called_value_and_deprecated(routed: Routed, number: Any) -> None:
    mail = routed("a")

    with pytest.warns(DeprecationWarning, match='a bare number as measurements means {"value": n}') as caught:
        runtime.execute("a", number)

    assert emitted(mail) == [("a", {"value": number}, {})]
    assert caught[0].filename == __file__


def test_the_warning_of_a_bare_number_is_given_once_per_place(routed: Routed) -> None:
    routed("a")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            runtime.execute("a", 1)

    assert len(caught) == 1


def test_what_the_caller_does_to_its_dicts_afterwards_changes_nothing(routed: Routed) -> None:
    mail = routed("a")
    measurements: dict[str, Any] = {"n": 1, "parts": [1, 2]}
    metadata: dict[str, Any] = {"errors": ["is required"], "user": {"id": 7, "tags": {"x"}}, "ids": ([1], 2)}

    runtime.execute("a", measurements, metadata)
    measurements["parts"].clear()
    measurements.clear()
    metadata["errors"].clear()
    metadata["user"]["tags"].clear()
    metadata["user"]["id"] = 8
    metadata["ids"][0].clear()
    metadata.clear()

    assert emitted(mail) == [
        (
            "a",
            {"n": 1, "parts": [1, 2]},
            {"errors": ["is required"], "user": {"id": 7, "tags": {"x"}}, "ids": ([1], 2)},
        )
    ]


def test_the_shortcut_for_dicts_of_numbers_and_strings_copies_them_as_well(routed: Routed) -> None:
    # The shortcut is taken for dicts that CPython's collector does not track; not every version has such.
    mail = routed("a")
    flat = {"n": 1, "s": "x"}

    runtime.execute("a", flat, flat)
    flat["n"] = 2

    assert emitted(mail) == [("a", {"n": 1, "s": "x"}, {"n": 1, "s": "x"})]
    assert gc.is_tracked({"n": []})


def test_an_event_of_plain_values_is_none_of_the_collectors_business(routed: Routed) -> None:
    mail = routed("a")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def emit_within_a_request() -> None:
        variable.set("r1")
        runtime.execute("a", {"n": 1}, {"user": "ada"})

    contextvars.Context().run(runtime.execute, "a", {"n": 1}, {"user": "ada"})
    contextvars.Context().run(runtime.execute, "a", {"n": 1}, {"users": ["ada"]})
    contextvars.Context().run(runtime.execute, "a", {"n": [1]}, {"user": "ada"})
    contextvars.Context().run(emit_within_a_request)

    assert [gc.is_tracked(event) for event in mail.load] == [False, True, True, True]
    assert all(isinstance(event, runtime.Event) for event in mail.load)


def test_an_event_that_its_own_metadata_lead_back_to_is_collected(routed: Routed) -> None:
    class Request:
        event: Any = None

    mail = routed("a")
    request = Request()
    runtime.execute("a", {}, {"request": request})
    request.event = mail.load.pop()
    gone = weakref.ref(request)

    del request
    gc.collect()

    assert gone() is None


def test_events_carry_the_time_of_the_clock_in_use(routed: Routed) -> None:
    mail = routed("a")
    clock = FakeClock(monotonic_ns=5)
    _dispatch.use_clock(clock)

    runtime.execute("a")
    clock.advance(1.0)
    runtime.execute("a")

    assert [event.time_ns for event in mail.load] == [5, 1_000_000_005]


def test_the_emitters_context_variables_travel_with_the_event(routed: Routed) -> None:
    mail = routed("a")
    trace = contextvars.ContextVar("trace", default="none")
    token = trace.set("t-1")

    runtime.execute("a")
    trace.reset(token)
    runtime.execute("a")

    assert [event.context.run(trace.get) for event in mail.load] == ["t-1", "none"]


def test_asyncio_tasks_emit_each_in_its_own_context(routed: Routed) -> None:
    mail = routed("a")
    trace: contextvars.ContextVar[int] = contextvars.ContextVar("trace")

    async def work(number: int) -> None:
        trace.set(number)
        await asyncio.sleep(0)
        runtime.execute("a", {"n": number})

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    asyncio.run(main())

    assert all(event.context.run(trace.get) == event.measurements["n"] for event in mail.load)
    assert len(mail.load) == 10


def test_a_snapshot_is_replaced_as_a_whole_while_others_emit() -> None:
    # Two mailboxes that are always routed together get the same events, whatever snapshot an emitter has.
    pairs = [(Mailbox(), Mailbox()) for _ in range(2)]
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for pair in pairs:
                _dispatch.publish({"a": pair})

    swapping = OwnThread(swap)
    until(runtime.event("a").has_handlers)
    in_threads(4, lambda number: [runtime.execute("a", {"n": n}) for n in range(2_000)])
    over.set()
    swapping.get()

    assert sum(len(first.load) for first, _ in pairs) == 8_000
    for first, second in pairs:
        assert len(first.load) == len(second.load)


def test_a_full_mailbox_does_not_keep_the_others_from_the_event() -> None:
    full, other = Mailbox(1), Mailbox()
    full.put("taken")
    _dispatch.publish({"a": (full, other)})

    runtime.execute("a")

    assert full.statistics().dropped == {"full": 1}
    assert len(other.load) == 1


def test_a_bound_emitter_checks_its_name_once_and_emits(routed: Routed) -> None:
    mail = routed("shop.order.placed")
    placed = runtime.event(["shop", "order", "placed"])

    placed.execute({"n": 1}, {"k": "v"})
    placed.execute()

    assert emitted(mail) == [("shop.order.placed", {"n": 1}, {"k": "v"}), ("shop.order.placed", {}, {})]
    assert placed.has_handlers()
    assert not runtime.event("shop.order").has_handlers()
    assert repr(placed) == "runtime.event('shop.order.placed')"


def test_an_emitter_with_a_bad_name_is_refused_where_it_is_made() -> None:
    with pytest.raises(InvalidValue, match=r"expected an event name .*, got: 'a\.\.b'"):
        runtime.event("a..b")


# -- emission with an obligation ---------------------------------------------------------------------------------------


class Ledger(Mailbox):
    """A durable subscriber that answers as it is told, and notes what it was asked to commit."""

    def __init__(self, answer: str = "") -> None:
        super().__init__()
        self.answer = answer
        self.committed: list[Any] = []
        self.timeouts: list[float] = []

    def commit(self, event: runtime.Event) -> Ledger:
        self.committed.append(event.measurements)
        return self

    def wait(self, timeout_s: float) -> str:
        self.timeouts.append(timeout_s)
        return self.answer


def test_commit_returns_when_every_durable_subscriber_has_committed() -> None:
    first, second, other = Ledger(), Ledger(), Mailbox()
    _dispatch.publish({"a": (first, other, second)})

    runtime.commit("a", {"n": 1}, timeout_s=3)

    assert first.committed == second.committed == [{"n": 1}]
    assert first.load == []
    assert len(other.load) == 1
    assert 0 <= second.timeouts[0] <= first.timeouts[0] <= 3


def test_commit_says_why_not_when_one_of_them_has_not() -> None:
    _dispatch.publish({"a": (Ledger(), Ledger("refused: full"), Ledger("timeout"))})

    with pytest.raises(NotCommitted, match="expected 'a' to be committed, got: refused: full"):
        runtime.commit("a")


def test_an_obligation_that_nobody_takes_is_refused_and_still_told_to_the_others(routed: Routed) -> None:
    mail = routed("a")

    with pytest.raises(NotCommitted, match="no durable reporter takes it"):
        runtime.commit("a")

    assert len(mail.load) == 1


def test_importing_the_kernel_starts_nothing_and_says_nothing() -> None:
    program = (
        "import runtime, actors, supervisors, threading, sys\n"
        "runtime.execute('a.b', {'n': 1})\n"
        "with runtime.span('a'): pass\n"
        "assert threading.active_count() == 1\n"
        "import os; assert len(os.listdir('/proc/self/task')) == 1 if os.path.exists('/proc/self/task') else True\n"
    )

    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
