"""The inline carrier: a handler that runs in the emitter, guarded.

For bridges that need the caller's own thread and context. It stands in the routing snapshot where a mailbox would, with
a limit of 0, so that every event goes to `put_when_full`. A handler that raises, or exceeds its budget three times in a
row, is taken off at once: parked, or moved to a thread when its `fallback` says so. What it raises never reaches the
emitter, except what is not its own: a KeyboardInterrupt, or the end of the greenlet or task that emits.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from runtime._events import Event, own
from runtime.errors import BeamstalkError

if TYPE_CHECKING:
    from runtime._table import Attachment

OVERRUNS = 3
_NOT_ITS_OWN = (KeyboardInterrupt, GreenletExit, asyncio.CancelledError)


class OverBudget(BeamstalkError):
    """An inline handler took longer than its `budget_s`."""


class Inline:
    """Deliver the events of one attachment by calling its handler."""

    __slots__ = ("_attachment", "_overruns", "idle", "lazy", "limit", "load")

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._overruns = 0
        self.load: list[Any] = []
        self.limit = 0
        self.idle = False
        self.lazy = 0

    def wake(self) -> None:
        """Nothing ever waits here."""

    def put_when_full(self, event: Event) -> bool:
        """Run the handler on an event, in the emitter; False when it has been taken off."""
        attachment = self._attachment
        if attachment.subscriber is not self or attachment.mailbox.closed:
            return attachment.mailbox.put(event)  # moved to a thread, or detached; this emitter has the old snapshot
        if attachment.state == "gave_up":
            attachment.mailbox.refuse("gave_up")
            return False
        begun_ns = perf_counter_ns()
        try:
            attachment.handler(
                event.name, own(event.measurements, "measurements"), own(event.metadata, "metadata"), attachment.config
            )
        except _NOT_ITS_OWN:
            attachment.mailbox.count_inline(failed=True)
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises, the emitter goes on
            attachment.mailbox.count_inline(failed=True)
            self._take_off()
            attachment.failed(event, error)
            return True
        attachment.mailbox.count_inline(failed=False)
        self._check_budget(event, perf_counter_ns() - begun_ns)
        return True

    def _check_budget(self, event: Event, took_ns: int) -> None:
        budget_s = self._attachment.options.budget_s
        if took_ns <= budget_s * 1e9:
            self._overruns = 0
            return
        self._overruns += 1
        if self._overruns == OVERRUNS:
            error = OverBudget(
                f"expected an inline handler to return within {budget_s} s, got: {took_ns / 1e9:.6f} s, "
                f"{OVERRUNS} times in a row. Attach it with carrier='thread'"
            )
            self._take_off()
            self._attachment.report(event, error)

    def _take_off(self) -> None:
        if self._attachment.options.fallback == "thread":
            self._attachment.move_to_thread()
        else:
            self._attachment.give_up()
