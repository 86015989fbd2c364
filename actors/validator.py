"""The validator actor: checks events against the service's catalogue, off the emitter's path.

A full check costs microseconds, so a busy service has a share of its events checked: the first of each name, and then
one in so many. What is wrong is counted and emitted as `telemetry.event.invalid`; nothing is ever raised in the
service.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from loguru import logger

from actors._actor import Actor
from runtime import Event, execute, subscribe
from runtime._mailbox import Mailbox
from runtime.catalogue import INVALID, Catalogue
from runtime.errors import ExitReason, shown

__all__ = [
    "NAME",
    "Validator",
    "ValidatorStatistics",
    "validator_mailbox",
]

NAME = "telemetry.validator"
_CAPACITY = 10_000
_ALWAYS = 100
_AT_ONCE = 32
_TOLD = 10


class ValidatorStatistics(msgspec.Struct, frozen=True):
    """Events seen, checked, and found invalid by name."""

    seen: int
    checked: int
    invalid: dict[str, int]


def validator_mailbox() -> Mailbox:
    """Make a mailbox for the validator: it may fall behind, so what does not fit is dropped and counted."""
    return Mailbox(_CAPACITY, lazy=100)


class Validator(Actor):
    """Check the first 100 events of each name and then one in `every`."""

    def __init__(self, catalogue: Catalogue, every: int = 100) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.every = every
        self.checked = 0
        self.seen: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()

    def on_start(self) -> None:
        # Its own complaint is not checked, or an undeclared one would breed more.
        subscribe(NAME, [name for name in self.catalogue.names if name != INVALID], self._mailbox)

    def on_stop(self, reason: ExitReason = "normal") -> None:
        while self._handle_load():
            pass  # what waits is looked at, so that nothing is left unaccounted for

    def get_state(self) -> ValidatorStatistics:
        return ValidatorStatistics(self.seen.total(), self.checked, dict(self.invalid))

    def _handle_load(self) -> bool:
        """Look at some events at once: most are only counted, for which a message each would be dear."""
        events: list[Event] = self._mailbox.take_all(_AT_ONCE, self)
        if not events:
            return False
        for event in events:
            number = self.seen[event.name] = self.seen[event.name] + 1
            if number <= _ALWAYS or number % self.every == 0:
                self._check(event)
        self._mailbox.settle(self, count=len(events))
        return True

    def _check(self, event: Event) -> None:
        """Event `telemetry.event.invalid`: measurements {problems}, metadata {event_name, problems (sentences)}."""
        self.checked += 1
        try:
            problems: list[Any] = self.catalogue.check(event)
        except Exception as error:  # noqa: BLE001  # what is in an event may do anything when it is looked at
            problems = [f"the check failed: {shown(error)}"]
        if problems:
            self.invalid[event.name] += 1
            execute(INVALID, {"problems": len(problems)}, {"event_name": event.name, "problems": problems})
            if self.invalid[event.name] <= _TOLD:
                logger.warning("event {} is not as declared: {}", event.name, "; ".join(problems))
