"""Which actor runs an attached handler, by its carrier. The only place that knows every kind of handler actor."""

from __future__ import annotations

from typing import Any

from actors._handler import HandlerActor
from actors._process_handler import ProcessHandler
from actors._ref import ActorRef
from runtime._table import Attachment


def start_handler(attachment: Attachment) -> ActorRef[Any]:
    """Start the next incarnation of an attached handler, on the carrier that its options name by then."""
    carrier = attachment.options.carrier
    if carrier == "process":
        return ProcessHandler.options(mailbox=attachment.mailbox).start_link(attachment)
    return HandlerActor.options(carrier=carrier, mailbox=attachment.mailbox).start_link(attachment)
