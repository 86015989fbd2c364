"""The handler actor: runs one attached function, one event at a time, outside the emitter.

It belongs to an attachment of the kernel's handler table, whose mailbox outlives it: when the function raises, this
actor ends with that reason, its supervisor starts the next one, and that goes on with the next event. The event that
failed is not tried again; it is kept in the attachment's dead letters.
"""

from __future__ import annotations

from typing import Any

from actors._actor import Actor, Starter
from runtime import Event, execute
from runtime._events import own
from runtime._handlers import Attachment
from runtime._spans import describe

FAILURE = "telemetry.handler.failure"
GAVE_UP = "telemetry.handler.gave_up"


def handler_starter(attachment: Attachment) -> Starter:
    """Say how the next incarnation of an attached handler is started."""
    return HandlerActor.options(carrier=attachment.options.carrier, mailbox=attachment.mailbox)


class HandlerActor(Actor):
    """Run an attached handler."""

    def __init__(self, attachment: Attachment) -> None:
        super().__init__()
        self.attachment = attachment
        self.restarts = attachment.incarnations

    def on_start(self) -> None:
        self.attachment.incarnations += 1
        self.attachment.state = "running"

    def on_receive(self, event: Event) -> None:
        attachment = self.attachment
        # A copy of its own: what this handler does to its arguments must not show in another's.
        measurements, metadata = own(event.measurements, "measurements"), own(event.metadata, "metadata")
        if event.context is None:
            attachment.handler(event.name, measurements, metadata, attachment.config)
        else:
            # A context can be entered by one thread at a time, and several handlers may have this event.
            event.context.copy().run(attachment.handler, event.name, measurements, metadata, attachment.config)

    def _failed(self, error: BaseException, message: Any) -> None:
        if not self._dead:
            self._report_failure(error, message)
        super()._failed(error, message)

    def _report_failure(self, error: BaseException, event: Event) -> None:
        """Bury the event and tell of the failure, once.

        Event `telemetry.handler.failure`: measurements {monotonic_time, system_time} (ns); metadata {event_name,
        handler_id, handler_config, kind, reason, stacktrace}.
        """
        attachment, clock = self.attachment, self.clock
        attachment.bury(event, error, clock.system_ns())
        if attachment.options.on_failure == "detach":
            # telemetry's rule and order: detached first, so that a failing failure handler cannot loop.
            attachment.detach_soon()
        execute(
            FAILURE,
            {"monotonic_time": clock.monotonic_ns(), "system_time": clock.system_ns()},
            {
                "event_name": event.name,
                "handler_id": attachment.id,
                "handler_config": attachment.config,
                **describe(error),
            },
        )
