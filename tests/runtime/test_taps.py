"""Taps: what the emitter's path sees of them. What users see is in `test_testing.py`."""

from collections.abc import Iterator

import pytest

import runtime
from runtime import _dispatch, _taps
from runtime._events import Event
from runtime._taps import Tap
from runtime.errors import InvalidValue, NotCommitted


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []
    tap = Tap(("shop.*",), events.append)
    _taps.add(tap)
    yield events
    _taps.remove(tap)


def test_an_emitter_has_handlers_where_a_tap_hears_it(heard: list[Event]) -> None:
    assert runtime.event("shop.order.placed").has_handlers()
    assert not runtime.event("bank.order.placed").has_handlers()


def test_a_commit_that_nobody_takes_is_refused_the_same_way_under_a_tap(heard: list[Event]) -> None:
    with pytest.raises(NotCommitted, match="no durable reporter takes it"):
        runtime.commit("bank.order.placed")
    with pytest.raises(NotCommitted, match="no durable reporter takes it"):
        runtime.commit("shop.order.placed")

    assert [event.name for event in heard] == ["shop.order.placed"]


def test_names_that_are_made_up_do_not_pile_up_under_a_tap(heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_taps, "_MOST_NAMES", 10)

    for n in range(100):
        runtime.execute(f"shop.order_{n}")

    routes = _dispatch._routes
    assert isinstance(routes, _taps._Tapped)
    assert len(routes._known) <= 10
    assert len(heard) == 100


@pytest.mark.parametrize("pattern", ["shop*", "*.order", "shop..order", "", 5])
def test_a_pattern_that_is_none_is_refused(pattern: object) -> None:
    with pytest.raises(InvalidValue, match=r"expected a pattern such as .*, got: "):
        Tap((pattern,), print)  # type: ignore[arg-type]
