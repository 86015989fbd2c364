"""The validator: a share of the events is checked, each of them is accounted for, and nobody is harmed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import runtime
from actors import whereis
from actors.validator import NAME, ValidatorStatistics, validator_mailbox
from runtime.catalogue import Catalogue, Declared
from runtime.testing import capture_events
from supervisors import Application
from tests.runtime.meeting import until

PLACED = "shop.order.placed"
INVALID = "telemetry.event.invalid"
FILLED = "shop.cart.filled"


class Awkward:
    """Cannot even be asked for its class."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("not now")


@pytest.fixture
def shop() -> Iterator[Application]:
    declared = [
        Declared(name=PLACED, description="An order.", measurements={"amount": "euro"}, metadata={"shop": str}),
        Declared(name=FILLED, description="A cart.", metadata={"shop": str}),
    ]
    application = Application("shop", catalogue=Catalogue(declared))
    with application.running():
        yield application


def state() -> ValidatorStatistics:
    """Ask the validator, once it has looked at what waits; its mailbox is lazy, so somebody has to wake it."""
    validator = whereis(NAME)
    validator._actor._wake()
    until(lambda: validator.info().mailbox.pending == 0)
    found: ValidatorStatistics = validator.get_state()
    return found


@pytest.mark.usefixtures("shop")
def test_the_first_hundred_of_each_name_are_checked_and_then_one_in_a_hundred() -> None:
    for _ in range(1_000):
        runtime.execute(PLACED, {"amount": 1.5}, {"shop": "s1"})
    for _ in range(50):
        runtime.execute(FILLED, {}, {"shop": "s1"})

    assert state() == ValidatorStatistics(seen=1_050, checked=100 + 9 + 50, invalid={})


@pytest.mark.usefixtures("shop")
def test_what_is_not_as_declared_is_counted_and_told_as_an_event() -> None:
    with capture_events(INVALID) as captured:
        runtime.execute(PLACED, {"amount": 1.5}, {"shop": 7})
        runtime.execute(PLACED, {"amount": 1.5}, {"shop": "s1"})
        found = state()

    assert found == ValidatorStatistics(seen=2, checked=2, invalid={PLACED: 1})
    (event,) = captured.events
    assert event.measurements == {"problems": 1}
    assert event.metadata["event_name"] == PLACED
    assert "shop" in event.metadata["problems"][0]


@pytest.mark.usefixtures("shop")
def test_an_event_that_cannot_be_looked_at_is_a_problem_of_that_event_alone() -> None:
    runtime.execute(PLACED, {"amount": 1.5}, {"shop": Awkward()})
    runtime.execute(PLACED, {"amount": 1.5}, {"shop": "s1"})

    assert state() == ValidatorStatistics(seen=2, checked=2, invalid={PLACED: 1})


@pytest.mark.usefixtures("shop")
def test_an_event_that_nobody_has_declared_is_none_of_its_business() -> None:
    runtime.execute("shop.rumour.heard", {"amount": "much"}, {})

    assert state().seen == 0


def test_every_event_is_accounted_for_whether_it_was_looked_at_or_did_not_fit(shop: Application) -> None:
    capacity = validator_mailbox().capacity
    assert capacity is not None
    validator = whereis(NAME)
    validator.suspend()
    for _ in range(capacity + 5):
        runtime.execute(PLACED, {"amount": 1.5}, {"shop": "s1"})
    validator.resume()

    seen = state().seen

    mailbox = validator.info().mailbox
    assert (seen, mailbox.handled, mailbox.dropped) == (capacity, capacity, {"full": 5})


def test_what_waits_when_it_is_stopped_is_looked_at_first(shop: Application) -> None:
    validator = whereis(NAME)
    for _ in range(70):  # fewer than it takes to wake it
        runtime.execute(PLACED, {"amount": 1.5}, {"shop": 7})

    shop.stop()

    mailbox = validator.info().mailbox
    assert (mailbox.handled, mailbox.pending, mailbox.discarded) == (70, 0, 0)
