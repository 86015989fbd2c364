"""Delivery: bring what is in a spool to an endpoint, at least once, with stable ids.

Start at `Courier`; it takes batches to a `Transport`: `HttpTransport` or `FileTransport`. What an answer means is
decided in one table (`verdict_of`), when to try again by a `RetryPolicy` of tenacity policies.
"""

from reporters.delivery._circuit import Circuit, CircuitStatistics
from reporters.delivery._courier import Batching, Courier, CourierStatistics, Transport
from reporters.delivery._decision import RETRYABLE, Answer, Verdict, retry_after_s, verdict_of
from reporters.delivery._files import FileTransport
from reporters.delivery._http import RESPONSE_LIMIT, HttpTransport
from reporters.delivery._retry import RetryPolicy, wait_retry_after
from reporters.delivery._secret import Secret, checked_headers

__all__ = [
    "RESPONSE_LIMIT",
    "RETRYABLE",
    "Answer",
    "Batching",
    "Circuit",
    "CircuitStatistics",
    "Courier",
    "CourierStatistics",
    "FileTransport",
    "HttpTransport",
    "RetryPolicy",
    "Secret",
    "Transport",
    "Verdict",
    "checked_headers",
    "retry_after_s",
    "verdict_of",
    "wait_retry_after",
]
