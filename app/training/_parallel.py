"""Regularizers as actors: each computes on a thread of its own, and one that is slow, hung or crashing costs its
neighbours nothing.

Owns the actors and the spans around them; only `custom_loss` calls it. The rule it keeps: once a span is open, exactly
one of the actor (it computed, or failed) and the waiting caller (the time is over, the actor was killed, the caller is
interrupted) closes it, and whoever came second changes nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import copy_context
from threading import Lock
from typing import NamedTuple

import pykka

from actors import Actor, ActorRef, Future, Ignore
from app.training._terms import Computed, compute, regularizer_span
from app.training.gradients import Array
from app.training.regularizers import Regularizer, RegularizerError

__all__ = ["compute_in_actors"]


def compute_in_actors(
    regularizers: Sequence[Regularizer], data: object, at: Array, track_grad_norms: bool, timeout_s: float
) -> list[Computed]:
    """Compute regularizers at once, each in an actor, and wait until all of them are done or the time is over.

    Emits all starts before the first actor runs. Returns in the order given. Raises RegularizerError for the first one
    in that order that failed, with the others as its notes.
    """
    runs = [_Run(regularizer) for regularizer in regularizers]
    deadline = time.monotonic() + timeout_s
    try:
        for run in runs:
            run.open()
        for run in runs:
            run.start(data, at, track_grad_norms, timeout_s)
        for run in runs:
            run.wait(deadline, timeout_s)
    except BaseException as reason:  # an interrupt: whatever it is, spans get closed
        for run in runs:
            run.give_up(reason)
        raise
    return _all_computed(runs)


class _Failed(NamedTuple):
    reason: BaseException


class _Run:
    """One computation of one regularizer: its actor, its span, and the outcome that closed the span."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.regularizer = regularizer
        self.outcome: Computed | _Failed | None = None
        self._ref: ActorRef[_Worker] | None = None
        self._reply: Future[None] | None = None
        self._span = regularizer_span(regularizer)
        self._opened = False
        self._closing = Lock()
        # Spans that overlap without nesting must not take each other for parents: each has a context of its own.
        self._context = copy_context()

    def open(self) -> None:
        """Emit the start."""
        self._opened = True
        self._context.run(self._span.__enter__)

    def start(self, data: object, at: Array, track_grad_norms: bool, timeout_s: float) -> None:
        """Start the actor, and let it compute; one that cannot be started has failed."""
        try:
            self._reply = _Worker.start(self).ask((data, at, track_grad_norms, timeout_s), block=False)
        except Exception as reason:  # noqa: BLE001 - there may be no thread for it
            self.give_up(reason)

    def adopt(self, ref: ActorRef[_Worker]) -> bool:
        """Remember the actor that is just starting; False when nobody waits for it any more.

        The actor calls this, for an interrupt may take its ref from who started it.
        """
        with self._closing:
            self._ref = ref
            return self.outcome is None

    def compute(self, data: object, at: Array, track_grad_norms: bool, timeout_s: float) -> None:
        """Compute in this thread, inside the span, and close it."""
        outcome: Computed | _Failed
        try:
            outcome = self._context.copy().run(compute, self.regularizer, data, at, track_grad_norms, timeout_s)
        except BaseException as reason:  # noqa: BLE001 - it is the outcome, which the caller raises
            outcome = _Failed(reason)
        self._close(outcome)

    def wait(self, deadline: float, timeout_s: float) -> None:
        """Wait until the span is closed; close it when the time is over or the actor was killed."""
        if self._reply is None:
            return
        try:
            self._reply.get(timeout=max(0.0, deadline - time.monotonic()))
        except pykka.Timeout:
            what = f"regularizer {self.regularizer.name!r}"
            self.give_up(TimeoutError(f"expected {what} to compute within {timeout_s} s, got: still running"))
        except pykka.ActorDeadError as dead:
            self.give_up(dead)

    def give_up(self, reason: BaseException) -> None:
        """Close the span with this reason if it is still open, and have done with the actor."""
        self._close(_Failed(reason))
        if self._ref is not None:
            self._ref.kill()

    def _close(self, outcome: Computed | _Failed) -> None:
        with self._closing:
            if not self._opened or self.outcome is not None:
                return
            self.outcome = outcome
            if isinstance(outcome, Computed):
                self._span.measurements |= outcome.measurements()
                self._context.run(self._span.__exit__, None, None, None)
            else:
                reason = outcome.reason
                self._context.run(self._span.__exit__, type(reason), reason, reason.__traceback__)


class _Worker(Actor):
    """Computes one regularizer, once."""

    carrier = "thread"

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run = run

    def on_start(self) -> None:
        if not self._run.adopt(self.actor_ref):
            raise Ignore

    def on_receive(self, message: tuple[object, Array, bool, float]) -> None:
        self._run.compute(*message)
        self.stop()


def _all_computed(runs: Sequence[_Run]) -> list[Computed]:
    computed = [run.outcome for run in runs if isinstance(run.outcome, Computed)]
    if len(computed) == len(runs):
        return computed
    failures = [(run.regularizer.name, run.outcome.reason) for run in runs if isinstance(run.outcome, _Failed)]
    error, *others = (RegularizerError(name, reason) for name, reason in failures)
    for other in others:
        error.add_note(str(other))
    raise error from error.reason
