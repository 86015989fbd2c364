"""What users test with."""

from __future__ import annotations

import threading

import pytest

import runtime
from actors import Actor
from runtime.errors import BeamstalkError, InvalidValue
from runtime.testing import Capture, capture_events, fake_clock
from tests.runtime.meeting import PATIENCE_S


def test_events_are_captured_in_the_emitter_without_an_application() -> None:
    with capture_events("shop.order.*", "shop.cart") as captured:
        runtime.execute("shop.order.placed", {"amount": 3}, {"shop": "s1"})
        runtime.execute("shop.cart")
        runtime.execute("shop.orders")
        runtime.execute(("shop", "order", "paid"))

    runtime.execute("shop.order.late")
    assert [event.name for event in captured.events] == ["shop.order.placed", "shop.cart", "shop.order.paid"]
    assert captured.count("shop.order.placed") == 1


def test_assert_event_matches_a_subset_and_returns_the_event() -> None:
    with capture_events() as captured:
        runtime.execute("shop.order", {"amount": 3, "lines": 1}, {"shop": "s1", "user": "u"})

    assert captured.assert_event("shop.order", {"amount": 3}, {"shop": "s1"}).measurements["lines"] == 1


def test_a_miss_shows_the_nearest_events() -> None:
    with capture_events() as captured:
        runtime.execute("shop.order.placed", {"amount": 3})

    with pytest.raises(
        AssertionError, match=r"(?s)shop\.order\.place with .*got: .*shop\.order\.placed \{'amount': 3\}"
    ):
        captured.assert_event("shop.order.place")
    with pytest.raises(AssertionError, match="nothing was captured"):
        Capture().assert_event("shop.order")


def test_refute_event_fails_only_on_a_match() -> None:
    with capture_events() as captured:
        runtime.execute("shop.order", {"amount": 3})

    captured.refute_event("shop.order", {"amount": 4})
    captured.refute_event("shop.cart")
    with pytest.raises(AssertionError, match="expected no such event"):
        captured.refute_event("shop.order")


def test_wait_for_sees_what_another_thread_emits() -> None:
    with capture_events() as captured:
        thread = threading.Thread(target=runtime.execute, args=("shop.order", {"amount": 3}))
        thread.start()
        (event,) = captured.wait_for("shop.order", timeout_s=PATIENCE_S)
        thread.join()

    assert event.measurements == {"amount": 3}
    with pytest.raises(AssertionError, match=r"expected 2 events shop.order within 0.01 s, got: 1"):
        captured.wait_for("shop.order", count=2, timeout_s=0.01)


@pytest.mark.parametrize("pattern", ["", "shop..order", "*.order", "shop.*.order", 7])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidValue, match="a pattern such as"), capture_events(pattern):
        pass


def test_the_fake_clock_moves_only_when_told() -> None:
    class Alarm(Actor):
        def on_start(self) -> None:
            self.rung: list[int] = []
            self.send_after(60, "ring")
            self.send_after(30, "ring")

        def on_receive(self, message: object) -> list[int]:
            if message == "ring":
                self.rung.append(self.clock.monotonic_ns())
            return self.rung

    with fake_clock() as clock:
        alarm = Alarm.start()
        clock.advance(29)
        assert alarm.ask("rung?") == []
        clock.advance(31)
        assert alarm.ask("rung?") == [30_000_000_000, 60_000_000_000]


def test_the_fake_clock_wants_no_actors_about() -> None:
    ref = Actor.start()

    with pytest.raises(BeamstalkError, match="expected no live actors"), fake_clock():
        pass
    ref.stop()
