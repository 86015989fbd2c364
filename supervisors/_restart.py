"""When a supervisor may restart, and how long it waits: restart intensity, back-off, and the ring of past restarts.

Plain data without a clock: the supervisor hands in the time, in monotonic nanoseconds. One `RestartWindow` and one
history ring per supervisor, one `Backoff` per child that needs one; each is touched by its supervisor alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import msgspec
import tenacity
from tenacity.wait import wait_base

from runtime.errors import ExitReason

__all__ = ["Backoff", "RestartHistory", "RestartRecord", "RestartWindow"]

_NS = 1_000_000_000
_HISTORY = 50


class RestartWindow:
    """Grant at most `max_restarts` restarts within `max_seconds`.

    OTP's rule: keep the stamps that are at most `max_seconds` old, add now; more than `max_restarts` is too many.
    (OTP's stamps are whole seconds; ours are nanoseconds, so a burst just outside the window is really outside.)

    >>> window = RestartWindow(max_restarts=1, max_seconds=5)
    >>> window.grant(0), window.grant(5_000_000_000), window.grant(10_000_000_001)
    (True, False, True)
    """

    __slots__ = ("_max_restarts", "_period_ns", "_stamps")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        self._period_ns = round(max_seconds * _NS)
        # Made at the first restart: an empty deque costs 600 bytes, and most supervisors never restart anything.
        self._stamps: deque[int] | None = None

    def grant(self, now_ns: int) -> bool:
        """Count one restart attempt and tell whether it is granted."""
        if self._stamps is None:
            self._stamps = deque()
        self._forget_before(now_ns - self._period_ns)
        self._stamps.append(now_ns)
        return len(self._stamps) <= self._max_restarts

    def used(self, now_ns: int) -> int:
        """Count the attempts that are inside the window now."""
        self._forget_before(now_ns - self._period_ns)
        return len(self._stamps or ())

    def inside(self, now_ns: int) -> int:
        """Count what is inside the window, without forgetting anything: for other threads than the supervisor's."""
        return sum(stamp >= now_ns - self._period_ns for stamp in tuple(self._stamps or ()))

    def _forget_before(self, oldest_ns: int) -> None:
        stamps = self._stamps
        while stamps and stamps[0] < oldest_ns:
            stamps.popleft()


class Backoff:
    """Count one child's attempts in a row and ask a tenacity wait policy how long to wait before the next.

    A child that went `reset_after_s` without needing an attempt starts anew at the policy's first wait.

    >>> backoff = Backoff(tenacity.wait_exponential(multiplier=1, max=10), reset_after_s=60)
    >>> [backoff.next_delay_s(now_ns=0, reason="boom") for _ in range(5)]
    [1.0, 2.0, 4.0, 8.0, 10.0]
    >>> backoff.next_delay_s(now_ns=71_000_000_000, reason="boom")
    1.0
    """

    __slots__ = ("_attempts", "_expires_ns", "_policy", "_reset_after_ns")

    def __init__(self, policy: wait_base, reset_after_s: float) -> None:
        self._policy = policy
        self._reset_after_ns = round(reset_after_s * _NS)
        self._attempts = 0
        self._expires_ns = 0

    def next_delay_s(self, now_ns: int, reason: ExitReason) -> float:
        """Return the seconds to wait before the next attempt; `reason` is why the last one ended."""
        if now_ns > self._expires_ns:
            self._attempts = 0
        self._attempts += 1
        delay_s = max(0.0, float(self._policy(_retry_state(self._attempts, reason))))
        self._expires_ns = now_ns + round(delay_s * _NS) + self._reset_after_ns
        return delay_s


def _retry_state(attempt: int, reason: ExitReason) -> tenacity.RetryCallState:
    # Wait policies read the attempt number and, some of them, the exception; nothing here retries through tenacity.
    state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    error = reason if isinstance(reason, BaseException) else RuntimeError(str(reason))
    state.set_exception((type(error), error, error.__traceback__))
    return state


class RestartRecord(msgspec.Struct, frozen=True):
    """Tell of one restart attempt: which child, why, when (monotonic ns).

    `reason` is text, so that a remembered crash does not keep the crashed child's frames alive.
    """

    child_id: Hashable
    reason: str
    time_ns: int


class RestartHistory:
    """Keep the last 50 restart attempts of a supervisor, and count all of them."""

    __slots__ = ("_ring", "total")

    def __init__(self) -> None:
        self.total = 0
        self._ring: deque[RestartRecord] | None = None

    def add(self, record: RestartRecord) -> None:
        """Remember one attempt; the oldest goes when there are 50."""
        if self._ring is None:
            self._ring = deque(maxlen=_HISTORY)
        self.total += 1
        self._ring.append(record)

    def last(self) -> tuple[RestartRecord, ...]:
        """Return the remembered attempts, oldest first."""
        return tuple(self._ring or ())
