"""When to try again, and when to stop trying: tenacity policies, and what they know of the last answer.

Two bounds meet here. How long a caller may wait is the transport's `timeout_s`; how long a record may live is the
spool's `max_age_s` and, optionally, a number of attempts. In between, the endpoint is left alone for longer and longer.
"""

from __future__ import annotations

import msgspec
import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from reporters.delivery._decision import Answer
from runtime.errors import expected

_RETRYING = tenacity.Retrying()


class wait_retry_after(wait_base):
    """Wait as long as the endpoint asked for, at most `max` seconds; as `otherwise` says when it did not ask.

    Zero, or a moment that has passed by our clock, asks for nothing: it must not make us ask without a pause.
    """

    def __init__(self, otherwise: wait_base, max: float = 3_600.0) -> None:
        self.otherwise = otherwise
        self.max = max

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        answer = None if retry_state.outcome is None else retry_state.outcome.result()
        if isinstance(answer, Answer) and answer.retry_after_s:
            return min(answer.retry_after_s, self.max)
        return self.otherwise(retry_state)


class RetryPolicy(msgspec.Struct, frozen=True):
    """Say how long to leave an endpoint alone and how often to try a record.

    wait: a tenacity wait policy, asked with the number of failures in a row. Default: what Retry-After says, up to an
        hour; else a random time between 0 and 0.5 · 2ⁿ⁻¹ s, at most 60 s (exponential back-off with full jitter).
    stop: a tenacity stop policy, asked with the attempts of each record; those it stops become dead letters. Default
        never: the spool's `max_age_s` decides.

    >>> policy = RetryPolicy(wait=wait_retry_after(tenacity.wait_exponential(multiplier=0.5, max=60)))
    >>> from reporters.delivery import Verdict
    >>> down, busy = Answer(Verdict.RETRY, "refused"), Answer(Verdict.RETRY, "429", 429, retry_after_s=7.0)
    >>> [policy.delay_s(n, down) for n in (1, 2, 3, 100)], policy.delay_s(1, busy)
    ([0.5, 1.0, 2.0, 60.0], 7.0)
    """

    wait: wait_base = wait_retry_after(tenacity.wait_random_exponential(multiplier=0.5, max=60))
    stop: stop_base = tenacity.stop_never

    def __post_init__(self) -> None:
        if not isinstance(self.wait, wait_base):
            raise expected("wait to be a tenacity wait policy", self.wait)
        if not isinstance(self.stop, stop_base):
            raise expected("stop to be a tenacity stop policy", self.stop)

    def delay_s(self, failures: int, answer: Answer) -> float:
        """Return how many seconds to leave the endpoint alone after so many failures in a row."""
        return float(self.wait(_state(failures, answer)))

    def gives_up(self, attempts: int, answer: Answer) -> bool:
        """Tell whether a record has had enough attempts."""
        return bool(self.stop(_state(attempts, answer)))


def _state(attempts: int, answer: Answer) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(_RETRYING, None, (), {})
    state.attempt_number = attempts
    state.set_result(answer)
    return state
