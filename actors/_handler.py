"""The handler actor: runs one attached function, one event at a time, outside the emitter.

It belongs to an attachment of the kernel's handler table, whose mailbox outlives it: when the function raises, this
actor ends with that reason, its supervisor starts the next one, and that goes on with the next event. The event that
failed is not tried again; it is kept in the attachment's dead letters.
"""

from __future__ import annotations

from typing import Any

from actors._actor import Actor
from runtime import Event, _scheduler
from runtime._events import own
from runtime._harmless import harmless
from runtime._table import Attachment, table
from runtime.errors import BeamstalkError, Exit, ExitReason


class DeadlineExceeded(BeamstalkError):
    """The handler did not return within its `deadline_s`."""


class HandlerActor(Actor):
    """Run an attached handler."""

    def __init__(self, attachment: Attachment) -> None:
        super().__init__()
        self.attachment = attachment
        self.restarts = attachment.incarnations
        self._deadline: Any = None

    def on_start(self) -> None:
        self.attachment.incarnations += 1
        self.attachment.state = "running"
        if self.attachment.options.deadline_s is not None:
            self._watch_deadline(self.attachment.options.deadline_s)

    def on_stop(self, reason: ExitReason = "normal") -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def on_receive(self, event: Event) -> None:
        attachment = self.attachment
        # A copy of its own: what this handler does to its arguments must not show in another's.
        measurements, metadata = own(event.measurements, "measurements"), own(event.metadata, "metadata")
        if event.context is None:
            attachment.handler(event.name, measurements, metadata, attachment.config)
        else:
            # A context can be entered by one thread at a time, and several handlers may have this event.
            event.context.copy().run(attachment.handler, event.name, measurements, metadata, attachment.config)

    # -- the deadline: one timer per actor, set anew for the event that runs when it is due ----------------------------

    def _watch_deadline(self, deadline_s: float) -> None:
        self._deadline = _scheduler.scheduler().call_after(deadline_s, self._check_deadline)

    def _check_deadline(self) -> None:
        """Run on the hub's own greenlet."""
        deadline_s = self.attachment.options.deadline_s
        if self._dead or deadline_s is None:
            return
        since_ns, event = self._busy_since_ns, self._current
        left_s = deadline_s - (_scheduler.now_ns() - since_ns) / 1e9 if since_ns else deadline_s
        if left_s > 0 or event is None:
            self._watch_deadline(max(left_s, 0.001))
        else:
            self._past_deadline(event, deadline_s)

    def _past_deadline(self, event: Event, deadline_s: float) -> None:
        # Settling is the referee: when the handler returns at this very moment, one of the two is first.
        if not self._mailbox.settle(self, failed=True):
            self._watch_deadline(deadline_s)
            return
        error = DeadlineExceeded(f"expected the handler to return within {deadline_s} s, got: still running")
        if self.carrier == "thread":
            self.attachment.abandoned.add(self._id)
        self._message_failed(error, event)
        self._kill(error)
        if len(self.attachment.abandoned) >= self.attachment.options.max_abandoned and table.router is not None:
            table.router.retire(self.attachment)

    def _thread_ended(self) -> None:
        self.attachment.abandoned.discard(self._id)

    # -- failures ----------------------------------------------------------------------------------------------------

    def _blocks_hub(self) -> None:
        if self.attachment.options.fallback == "thread" and self.carrier == "green":
            self.attachment.change(carrier="thread")  # where the next incarnation starts
            self.stop(("shutdown", "moved to a thread: it blocked the hub"))

    def _is_failure(self, error: BaseException) -> bool:
        return True  # an attached function is no actor: it has no orderly way to end one

    @harmless
    def _message_failed(self, error: BaseException, event: Event) -> None:
        self.attachment.failed(event, error)

    @harmless
    def _message_lost(self, event: Event, reason: ExitReason) -> None:
        # Reported like any failure; but it was ended from outside, so it is not detached for it.
        self.attachment.lost(event, reason if isinstance(reason, BaseException) else Exit(reason))

    def _describe(self) -> dict[str, Any]:
        attachment = self.attachment
        return {"handler": {"id": attachment.id, "events": attachment.events, "state": attachment.state}}
