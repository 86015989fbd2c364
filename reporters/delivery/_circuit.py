"""The state of the way to one endpoint: closed (it answers), open (left alone for a while), half open (one probe).

The courier's thread moves it, one step per request; any thread may look. It keeps no timer: open turns into half open
when the time that the retry policy gave has passed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.clock import Clock
from runtime.errors import expected

CircuitState = Literal["closed", "open", "half_open"]


class CircuitStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Say how the way to the endpoint is.

    `failures` counts those in a row, `opened` how often it was given up, `wait_s` is the time until the next attempt
    may be made, `reason` what the last failure was.
    """

    state: CircuitState
    failures: int
    opened: int
    wait_s: float
    reason: str


class Circuit:
    """Count failures in a row and hold back the next attempt.

    >>> from runtime.clock import FakeClock
    >>> clock = FakeClock()
    >>> circuit = Circuit(clock, threshold=2)
    >>> circuit.failed("refused", wait_s=1.0), circuit.state
    (None, 'closed')
    >>> circuit.failed("refused", wait_s=2.0), circuit.state, circuit.wait_s()
    (None, 'open', 2.0)
    >>> clock.advance(2.0), circuit.state
    (None, 'half_open')
    >>> circuit.succeeded(), circuit.state
    (None, 'closed')
    """

    def __init__(self, clock: Clock, threshold: int = 5) -> None:
        if not threshold >= 1:
            raise expected("threshold to be a positive number of failures", threshold)
        self._clock = clock
        self._threshold = threshold
        self._not_before_ns = 0
        self._opened = 0
        self._reason = ""
        self.failures = 0

    @property
    def state(self) -> CircuitState:
        """Closed, open or half open, at this moment."""
        if self.failures < self._threshold:
            return "closed"
        return "open" if self.wait_s() > 0 else "half_open"

    def wait_s(self) -> float:
        """Return how long to wait before the next attempt; 0 when it may be made."""
        return max(self._not_before_ns - self._clock.monotonic_ns(), 0) / 1e9

    def succeeded(self) -> None:
        """Note that the endpoint answered."""
        self.failures = 0
        self._not_before_ns = 0

    def failed(self, reason: str, wait_s: float) -> None:
        """Note that it did not, and leave it alone for `wait_s` seconds."""
        self.failures += 1
        self._opened += self.failures == self._threshold
        self._reason = reason
        self._not_before_ns = self._clock.monotonic_ns() + int(wait_s * 1e9)

    def statistics(self) -> CircuitStatistics:
        """Say how the way to the endpoint is; any thread."""
        return CircuitStatistics(
            state=self.state, failures=self.failures, opened=self._opened, wait_s=self.wait_s(), reason=self._reason
        )
