"""What the answer of an endpoint means for the records that were sent: one table, one place.

| answer | decision |
|---|---|
| 200–299 | delivered |
| 408, 425, 429, 500, 502, 503, 504 | retry, after Retry-After where given |
| no connection, reset, no or garbled answer, time over | retry |
| 413 | split the batch; a single record that is too large is rejected |
| everything else (redirects included: they are not followed) | rejected: dead letter |

Pure functions; no clock, no network.
"""

from __future__ import annotations

import enum
import re
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
TOO_LARGE = 413


class Verdict(enum.Enum):
    """What happens to the records that were sent."""

    DELIVERED = "delivered"
    RETRY = "retry"
    SPLIT = "split"
    REJECTED = "rejected"


class Answer(msgspec.Struct, frozen=True):
    """What became of one request. `status` is None when no answer came; `body` is at most 4 MiB, `truncated` if cut."""

    verdict: Verdict
    reason: str
    status: int | None = None
    retry_after_s: float | None = None
    body: bytes = b""
    truncated: bool = False


def verdict_of(status: int) -> Verdict:
    """Decide by the status of an answer.

    >>> [verdict_of(status).value for status in (202, 503, 413, 404)]
    ['delivered', 'retry', 'split', 'rejected']
    """
    if 200 <= status <= 299:
        return Verdict.DELIVERED
    if status in RETRYABLE:
        return Verdict.RETRY
    return Verdict.SPLIT if status == TOO_LARGE else Verdict.REJECTED


def retry_after_s(header: str | None, now_ns: int) -> float | None:
    """Read a Retry-After header in either of its forms (RFC 9110, 10.2.3) as seconds from now; None when it is neither.

    A date that has passed means now.

    >>> retry_after_s("120", 0)
    120.0
    >>> retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 0)
    60.0
    >>> retry_after_s("soon", 0) is None
    True
    """
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # RFC 9110, 5.6.7: it is in UTC, whether it says so or not
        date = date.replace(tzinfo=UTC)
    return max(date.timestamp() - now_ns / 1e9, 0.0)
