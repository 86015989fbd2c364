"""The telemetry part of every application's tree: registry, handlers, aggregator, pollers.

    telemetry             rest_for_one
    ├─ registry           routes events, sole writer of the routing snapshot
    ├─ handlers           dynamic; one small supervisor per attached handler
    ├─ aggregator         events → series
    ├─ validator          checks events against the catalogue, where the service declares one
    └─ pollers            periodic measurements

What must survive these actors (the handler table, the mailboxes, the series) does not belong to them: the table is the
kernel's, `Telemetry` holds the rest for as long as the application exists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import pykka
from loguru import logger
from tenacity import wait_exponential

from actors import ActorRef, current_actor, whereis
from actors import _registry as registry
from actors._carriers import start_handler
from actors._series import SeriesStore
from actors.aggregator import NAME as AGGREGATOR
from actors.aggregator import Aggregator, aggregator_mailbox
from actors.poller import Measurement, Poller
from actors.validator import NAME as VALIDATOR
from actors.validator import Validator, validator_mailbox
from runtime import _dispatch, sampling
from runtime._harmless import harmless
from runtime._table import Attachment, table
from runtime.catalogue import Catalogue
from runtime.clock import Clock
from runtime.errors import ExitReason, StartError
from runtime.metrics import Metric, bind
from supervisors._core import Child
from supervisors.child_spec import ChildSpec
from supervisors.dynamic import DynamicSupervisor
from supervisors.refs import Call, Refused
from supervisors.supervisor import Supervisor

__all__ = ["HANDLERS", "Handlers", "Telemetry"]

HANDLERS = "telemetry.handlers"
_HANDLER_BACKOFF = wait_exponential(multiplier=0.01, max=5)


class Telemetry:
    """What an application's telemetry keeps across restarts of its actors, and the router of the handler table."""

    def __init__(
        self,
        metrics: Iterable[Metric],
        pollers: Iterable[Measurement] = (),
        catalogue: Catalogue | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.store = SeriesStore(bind(metrics, catalogue.span_prefixes) if catalogue is not None else metrics, clock)
        self.mailbox = aggregator_mailbox()
        self.checks = validator_mailbox()
        self.pollers = tuple(pollers)

    def child_spec(self) -> ChildSpec:
        """The spec of the whole part."""
        aggregator = Aggregator.options(name=AGGREGATOR, mailbox=self.mailbox)
        children = [
            ChildSpec("registry", registry.Registry.options(name=registry.NAME).start_link),
            Handlers.child("handlers", name=HANDLERS),
            ChildSpec("aggregator", (aggregator.start_link, (self.store,))),
        ]
        if self.catalogue is not None:
            checks = Validator.options(name=VALIDATOR, mailbox=self.checks)
            children.append(ChildSpec("validator", (checks.start_link, (self.catalogue,))))
        pollers = [ChildSpec((n, m.name), (Poller, (m,))) for n, m in enumerate(self.pollers)]
        return Supervisor.child(
            "telemetry",
            [*children, Supervisor.child("pollers", pollers)],
            strategy="rest_for_one",
            name="telemetry",
        )

    # -- the router of the handler table: called by whoever attaches and detaches --------------------------------------

    def open(self) -> None:
        """Become the router; attachments that were made before go live with the tree."""
        table.forget_snapshot()
        table.router = self

    def close(self) -> None:
        """Stop routing; attachments are kept for the next start."""
        table.router = None
        table.remove_sink(AGGREGATOR)
        table.remove_sink(VALIDATOR)
        _dispatch.publish({})
        sampling.configure({})
        table.forget_snapshot()
        for attachment in table.all():
            table.unpark(attachment)

    def changed(self, wait: bool = True) -> None:
        """Have the registry publish the table as it is now."""
        _ask(registry.NAME, registry.Publish(), block=wait)

    def attached(self, attachment: Attachment, wait: bool = True) -> None:
        """Route to a new attachment and start its actor; raises StartError when that cannot be started."""
        self.changed(wait)
        answer = _ask(HANDLERS, Call("start_handler", (attachment,)), block=wait)
        if isinstance(answer, Refused):
            raise answer.error

    def detached(self, attachment: Attachment, wait: bool) -> None:
        """Stop routing to an attachment and stop its actor."""
        caller = current_actor()
        if caller is not None and getattr(caller._actor, "attachment", None) is attachment:
            wait = False  # a handler that detaches itself: it cannot wait for its own end
        self.changed(wait)
        # The supervisor of the handlers must not wait for the end of one: that one may be waiting for it.
        ref = _ask(HANDLERS, Call("stop_handler", (attachment,)), block=wait)
        if isinstance(ref, ActorRef):
            ref.wait()

    def retire(self, attachment: Attachment) -> None:
        """Stop the actor of a handler that stays attached; its supervisor's end parks it."""
        _ask(HANDLERS, Call("stop_handler", (attachment,)), block=False)


def _ask(name: str, message: Any, block: bool = True) -> Any:
    """Ask an actor of the telemetry part; one that is being restarted adopts the table when it comes back."""
    ref = whereis(name)
    if ref is None:
        return None
    try:
        return ref.ask(message, block=block, timeout=None)
    except pykka.ActorDeadError:
        logger.debug("{} is being restarted; the handler table is adopted then", name)
        return None


class _HandlerChild(Child):
    """The small supervisor of one attachment; ids do not do, because one may be attached again before it is gone."""

    __slots__ = ("attachment",)

    def __init__(self, spec: ChildSpec, attachment: Attachment) -> None:
        super().__init__(spec)
        self.attachment = attachment


class Handlers(DynamicSupervisor):
    """Supervise the handlers: each under a small supervisor of its own: no crash loop uses up another's budget."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._running: dict[Attachment, _HandlerChild] = {}

    def on_start(self) -> None:
        for attachment in table.all():
            if attachment.state != "gave_up":
                with contextlib.suppress(StartError):  # parked, and reported; the others shall live
                    self._call_start_handler(attachment)

    def _call_start_handler(self, attachment: Attachment) -> None:
        if attachment in self._running or table.get(attachment.id) is not attachment:
            return  # adopted from the table already, or detached again meanwhile
        if attachment.options.carrier == "inline":
            attachment.state = "running"  # in the emitters: it needs no actor
            return
        options = attachment.options
        child = _HandlerChild(
            Supervisor.child(
                attachment.id,
                [ChildSpec("handler", (start_handler, (attachment,)))],
                restart="transient",
                max_restarts=options.max_restarts,
                max_seconds=options.max_seconds,
                backoff=_HANDLER_BACKOFF,
            ),
            attachment,
        )
        self._running[attachment] = child
        try:
            self._start_child(child)
        except StartError as error:
            del self._running[attachment]
            if _was_killed(error.reason):
                self._call_start_handler(attachment)  # as it would be had it been killed a moment later
                return
            # The system gives us no thread, say. Nobody would ever handle what is routed to it.
            harmless(attachment.give_up)()
            raise

    def _call_stop_handler(self, attachment: Attachment) -> ActorRef[Any] | None:
        """Tell a handler to stop and return what to wait for, without waiting."""
        child = self._running.get(attachment)
        if child is None:
            return None
        if not child.running:
            self._stop_child(child)
            return None
        self._signal(child)
        return child.ref

    def _retire(self, child: Child) -> None:
        """Park a handler whose supervisor gave up; one that was detached is simply gone."""
        super()._retire(child)
        assert isinstance(child, _HandlerChild)
        attachment = child.attachment
        self._running.pop(attachment, None)
        harmless(attachment.give_up)()


def _was_killed(reason: ExitReason) -> bool:
    """Tell whether a start failed because somebody killed who was starting, or the handler that it was to start."""
    if isinstance(reason, tuple):
        reason = reason[-1]
    return reason == "killed" or (isinstance(reason, StartError) and _was_killed(reason.reason))
