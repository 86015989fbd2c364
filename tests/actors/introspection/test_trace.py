"""Traces: bounded in every way, and gone when nobody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime import _taps
from runtime.catalogue import Catalogue, Declared
from runtime.shell._client import USAGE, Connection
from supervisors import Application
from tests.actors.introspection.house import WAIT_S, path_of, refused
from tests.runtime.meeting import PATIENCE_S, until


def test_trace_shows_matching_events_up_to_its_limit_and_then_leaves_no_tap(start: Callable[..., Application]) -> None:
    application = start()
    args = {"event": "shop.*", "limit": 2, "for_s": 30.0, "where": {"shop": "x"}}

    with Connection(path_of(application), WAIT_S) as connection:
        stream = connection.stream("trace", args, 30.0)
        emitter = in_background(lambda: [runtime.execute("shop.order", {"n": 1}, {"shop": shop}) for shop in "xy"])
        replies = [reply for reply, _ in stream]
        emitter()

    assert [reply.data["metadata"] for reply in replies[:-1]] == [{"shop": "x"}] * 2
    assert (replies[-1].end or {})["why"] == "limit"
    assert _taps._taps == ()


def test_units_are_as_declared_as_ours_or_as_every_spans_and_nobody_elses(start: Callable[..., Application]) -> None:
    declared = Declared(name="shop.film.stop", description="A film.", measurements={"duration": "frames", "wait": "ms"})
    application = start(catalogue=Catalogue([declared]))
    emitted = {
        "shop.film.stop": {"duration": 1, "wait": 1, "amount": 1},
        "shop.order.stop": {"duration": 1, "monotonic_time": 1, "amount": 1},
        "shop.order": {"duration": 1},
        "actors.crash": {"uptime": 1},
    }

    def emit() -> None:
        for name, measurements in emitted.items():
            runtime.execute(name, measurements)

    with Connection(path_of(application), WAIT_S) as connection:
        stream = connection.stream("trace", {"event": "*", "limit": 100, "for_s": 30.0}, 30.0)
        over = in_background(emit)
        units: dict[str, Any] = {}
        for reply, _ in stream:
            units[reply.data["event"]] = reply.data["units"]
            if units.keys() >= emitted.keys():
                break
        over()

    assert {name: units[name] for name in emitted} == {
        "shop.film.stop": {"duration": "frames", "wait": "ms"},
        "shop.order.stop": {"duration": "ns", "monotonic_time": "ns"},
        "shop.order": {},
        "actors.crash": {"uptime": "ns"},
    }


def in_background(emit: Callable[[], object]) -> Callable[[], None]:
    """Do something again and again, in a thread, until what is returned is called."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.005):
            emit()

    thread = threading.Thread(target=run)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join(PATIENCE_S)

    return stop


def test_trace_shows_no_more_a_second_than_was_asked_for(start: Callable[..., Application]) -> None:
    application = start()
    args = {"event": "shop.*", "limit": 7, "for_s": 600.0, "rate": 3.0}

    with Connection(path_of(application), WAIT_S) as connection:
        stream = connection.stream("trace", args, 600.0)
        emitter = in_background(lambda: [runtime.execute("shop.order", {"n": n}) for n in range(20)])
        begun_s = time.monotonic()
        *shown, end = [reply for reply, _ in stream]
        took_s = time.monotonic() - begun_s
        emitter()

    assert len(shown) == 7
    assert took_s >= 2  # three in each of the first two seconds, and only then one more
    assert (end.end or {})["skipped"] > 0


def test_trace_ends_with_its_time_when_nothing_comes(start: Callable[..., Application]) -> None:
    application = start()

    with Connection(path_of(application), WAIT_S) as connection:
        replies = [reply for reply, _ in connection.stream("trace", {"event": "shop.*", "for_s": 0.1}, 0.1)]

    assert [reply.end for reply in replies] == [{"why": "time", "seen": 0, "skipped": 0}]


def test_trace_ends_when_its_client_goes(start: Callable[..., Application]) -> None:
    application = start()
    connection = Connection(path_of(application), WAIT_S)
    connection._send("trace", {"event": "*", "for_s": 600.0}, WAIT_S)
    until(lambda: _taps._taps != ())

    connection.close()

    until(lambda: _taps._taps == ())


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 10**9}, {"for_s": 0.0}, {"for_s": 1e9}, {"rate": 0.0}, {"event": "a..b"}]
)
def test_trace_without_bounds_is_refused(start: Callable[..., Application], wrong: dict[str, Any]) -> None:
    error = refused(start(), "trace", **{"event": "shop.*"} | wrong)

    assert error.code == USAGE
    assert _taps._taps == ()
