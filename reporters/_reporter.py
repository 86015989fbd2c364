"""What every pushing reporter shares: flush now and then and once more at the end, and account for it.

A reporter asks the aggregator what it has not committed yet, sends it, and commits. What could not be sent stays with
the aggregator, combined with what comes since, so an endpoint that is away costs bounded memory and nothing else. What
a reporter has begun to send is kept outside the actor (`Kept`): after a crash the next incarnation goes on behind the
last thing that was sent.

Runs green, on the runtime's hub: whatever a reporter does may wait cooperatively, and must never block.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gevent
import msgspec
import pykka
from loguru import logger

from actors import Actor, ActorRef, whereis
from actors._series_points import Delta, Point
from actors.aggregator import NAME as AGGREGATOR
from actors.aggregator import Collect, Commit, Subscribe
from runtime import _native
from runtime.errors import ExitReason, expected

_RESTART_LOOKS = 100


class Flush(msgspec.Struct, frozen=True):
    """Ask a reporter to send now; answered with whether everything was sent."""


class FlushStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Account for a reporter's flushes.

    `flushes` are those that were tried, `failed` those after which something was left to send, `waiting_points` how
    much that is; `no_aggregator` counts times when there was nobody to ask. `last_error` is "" while all is well.
    """

    flushes: int
    failed: int
    waiting_points: int
    no_aggregator: int
    last_error: str


@dataclass
class Kept:
    """What outlives the incarnations of a reporter: its accounts, and what it is in the middle of sending."""

    flushes: int = 0
    failed: int = 0
    waiting_points: int = 0
    no_aggregator: int = 0
    last_error: str = ""
    delta: Delta | None = None
    progress: Any = None
    pid: int = field(default_factory=os.getpid)

    def forget_parent(self) -> None:
        """Let go of what a fork has left here: it is the parent's to send."""
        self.delta = self.progress = None
        self.pid = os.getpid()

    def statistics(self) -> FlushStatistics:
        """Answer the accounts, from any thread."""
        return FlushStatistics(
            flushes=self.flushes,
            failed=self.failed,
            waiting_points=self.waiting_points,
            no_aggregator=self.no_aggregator,
            last_error=self.last_error,
        )


class Reporter(Actor):
    """Send what changed, every `interval_s` seconds and at the end.

    A subclass implements `send`. `name` tells reporters apart, for the aggregator too: one that comes back under the
    same name goes on where it was.
    """

    carrier: ClassVar[str] = "green"

    def __init__(self, name: str, interval_s: float, kept: Kept) -> None:
        super().__init__()
        self.name = name
        self.interval_s = interval_s
        self.kept = kept
        self._timer: Any = None

    def on_start(self) -> None:
        if self.kept.pid != os.getpid():
            self.kept.forget_parent()
        aggregator = self._aggregator()
        if aggregator is not None:
            aggregator.tell(Subscribe(self.name))
        self._flush_later()

    def on_receive(self, message: Any) -> Any:
        if not isinstance(message, Flush):
            return super().on_receive(message)
        self._timer.cancel()
        try:
            return self.flush()
        finally:
            self._flush_later()

    def on_stop(self, reason: ExitReason = "normal") -> None:
        self._timer.cancel()
        self._await_aggregator()
        self.flush()

    def get_state(self) -> FlushStatistics:
        return self.kept.statistics()

    def _describe(self) -> dict[str, Any]:
        kept = self.kept
        told = {"queue": kept.waiting_points, "dropped": self._dropped(), "last_error": kept.last_error}
        return {"reporter": {**told, "statistics": self.get_state()}}

    def _dropped(self) -> int:
        """Count what was left out for good; any thread."""
        return 0

    def send(self, points: Sequence[Point]) -> Sequence[Point]:
        """Send the points; answer those, or what is left of them, that could not be sent.

        May wait, never blocks. What it raises counts as a failed flush, of which everything is sent again.
        """
        raise NotImplementedError

    def left_over(self, points: Sequence[Point]) -> Sequence[Point]:
        """Answer what was not sent of these points when an earlier incarnation died over them; default: all of it."""
        return points

    def flush(self) -> bool:
        """Send what there is; tell whether nothing is left to send. Never raises for what an endpoint does."""
        kept = self.kept
        kept.flushes += 1
        aggregator = self._aggregator()
        if aggregator is None:
            kept.no_aggregator += 1
            return self._has_failed("no aggregator runs")
        try:
            if kept.delta is not None:
                self._commit(aggregator, self.left_over(kept.delta.points))
            kept.delta = aggregator.ask(Collect(self.name))
            unsent = self.send(kept.delta.points) if kept.delta.points else ()
            self._commit(aggregator, unsent)
        except (pykka.ActorDeadError, pykka.Timeout) as error:
            return self._has_failed(f"the aggregator does not answer: {error}")
        except Exception as error:  # noqa: BLE001 - told, counted, and tried again with nothing lost
            # To crash here once a second would use up the supervisor's restarts, and end the service's tree.
            logger.exception("reporter {} failed", self.name)
            return self._has_failed(repr(error))
        if kept.waiting_points:
            kept.failed += 1
            return False
        if kept.last_error:
            logger.info("reporter {} works again", self.name)
        kept.last_error = ""
        return True

    def _commit(self, aggregator: ActorRef[Any], unsent: Sequence[Point]) -> None:
        kept = self.kept
        assert kept.delta is not None
        is_known = aggregator.ask(Commit(self.name, kept.delta, tuple(unsent)))
        kept.waiting_points = len(unsent) if is_known else 0  # unknown: the delta is of an application that has ended
        kept.delta = kept.progress = None

    def _has_failed(self, error: str) -> bool:
        self.kept.failed += 1
        self.trouble(error)
        return False

    def trouble(self, error: str) -> None:
        """Remember what is wrong with the endpoint; told in the log when it begins and when it changes."""
        if error != self.kept.last_error:
            logger.warning("reporter {} cannot send: {}", self.name, error)
        self.kept.last_error = error

    def _aggregator(self) -> ActorRef[Any] | None:
        ref: ActorRef[Any] | None = whereis(AGGREGATOR)
        return ref

    def _await_aggregator(self) -> None:
        """Give an aggregator that is being restarted a moment: this is the last flush."""
        sleep = gevent.sleep if self.carrier == "green" else _native.sleep
        for _ in range(_RESTART_LOOKS):
            if self._aggregator() is not None:
                return
            sleep(0.01)

    def _flush_later(self) -> None:
        self._timer = self.send_after(self.interval_s, Flush())


def check_seconds(option: str, value: object) -> float:
    """Answer a positive number of seconds; InvalidValue for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise expected(f"{option} to be a positive number of seconds", value)
    return float(value)


def check_name(value: object) -> str:
    """Answer a non-empty name; InvalidValue for anything else."""
    if not isinstance(value, str) or not value:
        raise expected("name to be a non-empty string", value)
    return value
