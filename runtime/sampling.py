"""Sampling: emit only a share of the events of a name, or of the spans of a prefix, and say so.

A rate of 0.1 keeps one in ten at random; what is kept carries the rate, so that counters stay exact in expectation. For
a span the choice is made once, at its start, so starts and stops stay paired. Rates come from configuration
(`Application(sampling=…)`); the registry actor builds them into the routing snapshot, so an event that nobody samples
pays nothing.

Durable reporters get every event of a sampled name. Of sampled spans they too get only those that were chosen: what is
not chosen is not emitted at all. So do not sample a span that a durable reporter must hear of each time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from runtime._dispatch import Durable, Subscriber, deliver
from runtime._events import Event, canonical
from runtime.errors import expected

__all__ = ["Sampler", "check_rates", "chosen", "configure", "rate_of", "sampled"]

_rates: Mapping[str, float] = {}
_random = random.Random()


def check_rates(rates: Mapping[str, Any]) -> dict[str, float]:
    """Check a mapping from event name or span prefix to the share to keep, 0 to 1.

    >>> check_rates({"anvil.label.submit": 0.1})
    {'anvil.label.submit': 0.1}
    >>> check_rates({"anvil.label.submit": 10})
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected the sampling rate of anvil.label.submit to be a number from 0 to 1, got: 10
    """
    if not isinstance(rates, Mapping):
        raise expected("sampling to map event names or span prefixes to rates", rates)
    checked: dict[str, float] = {}
    for name, rate in rates.items():
        dotted = canonical(name)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise expected(f"the sampling rate of {dotted} to be a number from 0 to 1", rate)
        checked[dotted] = float(rate)
    return checked


def configure(rates: Mapping[str, float], rng: random.Random | None = None) -> None:
    """Use these rates from the next routing snapshot on; `rng` makes the choice repeatable."""
    global _rates, _random
    _rates = check_rates(rates)
    _random = rng or random.Random()


def rate_of(name: str) -> float | None:
    """Return the rate configured for an event name or span prefix, or None."""
    return _rates.get(name)


def chosen(rate: float) -> bool:
    """Decide for one event or span."""
    return _random.random() < rate


class Sampler:
    """Stand in the routing snapshot before the subscribers of a sampled event."""

    __slots__ = ("_rate", "_subscribers", "idle", "lazy", "limit", "load")

    def __init__(self, rate: float, subscribers: tuple[Subscriber, ...]) -> None:
        self._rate = rate
        self._subscribers = subscribers
        self.load: list[Any] = []
        self.limit = 0
        self.idle = False
        self.lazy = 0

    def wake(self) -> None:
        """Nothing ever waits here."""

    def put_when_full(self, event: Event) -> bool:
        """Pass an event on, or not."""
        if not chosen(self._rate):
            return False
        kept = msgspec.structs.replace(event, rate=event.rate * self._rate)
        for subscriber in self._subscribers:
            deliver(subscriber, kept)
        return True


def sampled(routes: Mapping[str, tuple[Subscriber, ...]]) -> dict[str, tuple[Subscriber, ...]]:
    """Put samplers before the subscribers of events that have a rate."""
    result = dict(routes)
    for name, rate in _rates.items():
        if rate < 1 and name in result:
            # A durable reporter has promised to take every event.
            durable = tuple(one for one in result[name] if isinstance(one, Durable))
            others = tuple(one for one in result[name] if not isinstance(one, Durable))
            result[name] = (Sampler(rate, others), *durable) if others else durable
    return result
