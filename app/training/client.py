"""A client of a remote training service: JSON over HTTP, retried, with its queue watched.

Owns the events `tinkex.http.request` (a span around one request with all its retries) and `tinkex.queue.state_change`.
It blocks, so it belongs on plain threads, not in green actors; several threads may share one client, since every
attempt has a connection of its own. It never follows redirects and never reads more than 4 MiB.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import uuid
from collections.abc import Callable
from threading import TIMEOUT_MAX
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import tenacity

import runtime
from app.training.outputs import read_json
from reporters.delivery import retry_after_s
from runtime.errors import BeamstalkError, expected, shown

__all__ = ["HttpError", "QueueState", "RequestFailed", "Response", "TrainingClient"]

QueueState = Literal["active", "paused_rate_limit", "paused_capacity", "unknown"]

_STATES: dict[str, QueueState] = {
    "active": "active",
    "paused_rate_limit": "paused_rate_limit",
    "paused_capacity": "paused_capacity",
}

RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Answers that may be different next time."""

_URL = re.compile("https?://[!-~]+", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.IGNORECASE)
_METHOD = re.compile("[A-Z]+")
_PATH = re.compile("/[!-~]*")
_POLL = "/api/v1/retrieve_future"
_MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_PAUSE_S = 60.0


class HttpError(BeamstalkError):
    """Tell that the service answered, retries included, with another status than 2xx."""

    def __init__(self, method: str, path: str, response: Response) -> None:
        super().__init__(f"expected {method} {_bare(path)} to be answered with 2xx, got: {response.status}")
        self.response = response


class RequestFailed(BeamstalkError):
    """Tell that the service took a request, and failed at it; `.error` is its word on that."""

    def __init__(self, request_id: str, error: object) -> None:
        super().__init__(f"expected request {request_id!r} to succeed, got: {shown(error)}")
        self.request_id = request_id
        self.error = error


class Response(msgspec.Struct, frozen=True):
    """The answer to one request: `retry_count` is 0 when the first attempt got it."""

    status: int
    body: bytes
    retry_after_s: float | None = None
    retry_count: int = 0

    @property
    def is_ok(self) -> bool:
        """Tell whether the status is 2xx."""
        return 200 <= self.status < 300


class _Accepted(msgspec.Struct):
    """The service's receipt for a request."""

    request_id: str


class _Word(msgspec.Struct):
    """What the service may say about its queue, in any answer to a poll."""

    queue_state: str | None = None
    queue_state_reason: str | None = None


class _Progress(_Word, kw_only=True):
    """How far the service is with a request."""

    status: Literal["pending", "completed", "failed"]
    retry_after_ms: float | None = None
    result: Any = None
    error: Any = None

    @property
    def retry_after_s(self) -> float | None:
        return None if self.retry_after_ms is None else max(self.retry_after_ms, 0) / 1000


class TrainingClient:
    """Talk to a training service at `base_url` (http or https).

    Options:
    - `pool_type` ("default"): a label for the events.
    - `max_retries` (3): attempts after the first.
    - `timeout_s` (30): of one attempt's connecting, and of each of its reads.
    - `pause` (exponential up to 8 s, full jitter): between attempts, any tenacity wait. A Retry-After of the service
      overrides it, up to 60 s.
    - `sleep` (time.sleep): what waits, given seconds.

    >>> TrainingClient("ftp://example.org")
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected base_url to be http(s)://host[:port], got: 'ftp://example.org'
    """

    def __init__(
        self,
        base_url: str,
        *,
        pool_type: str = "default",
        max_retries: int = 3,
        timeout_s: float = 30.0,
        pause: tenacity.wait.wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # Credentials would end up in the metadata of every event, so neither are they taken nor shown here.
        told = "a URL with credentials" if isinstance(base_url, str) and "@" in base_url else base_url
        try:
            url = urlsplit(base_url if isinstance(base_url, str) and _URL.fullmatch(base_url) else "")
            host, port = url.hostname, url.port
            (host or "").encode("idna")  # the resolver would not take it later
        except ValueError as error:
            raise expected("base_url to be http(s)://host[:port]", told) from error
        if not host or not _HOST.fullmatch(host) or port == 0 or "@" in url.netloc or url.query or url.fragment:
            raise expected("base_url to be http(s)://host[:port]", told)
        if not isinstance(pool_type, str):
            raise expected("pool_type to be a string", pool_type)
        if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
            raise expected("max_retries to be a whole number >= 0", max_retries)
        if timeout_s == 0:
            raise expected("timeout_s to be above 0", timeout_s)
        _check_seconds(timeout_s)
        self._base_url = base_url.rstrip("/")
        self._host, self._port, self._prefix = host, port, url.path.rstrip("/")
        self._connection = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._pool_type = pool_type
        self._max_retries = max_retries
        self._timeout_s = timeout_s
        self._pause = pause or tenacity.wait_random_exponential(multiplier=0.5, max=8.0)
        self._sleep = sleep

    def request(self, method: str, path: str, body: object = None) -> Response:
        """Send a request, again while it fails in a way that may pass, and return the answer, whatever its status.

        `body` is sent as JSON. All attempts carry one Idempotency-Key. Emits `tinkex.http.request.start` (method, path
        without its query, pool_type, base_url), then `.stop` (+ result: ok for 2xx, else error; retry_count), or
        `.exception` (+ retry_count) when no attempt got an answer; its reason is then raised: OSError or
        http.client.HTTPException; or BeamstalkError for an answer that is too long. Raises InvalidValue, before any
        event, for a method or path that is none, and for a body that has no JSON: NaN and infinity have none.
        """
        return self._request(method, path, body, lambda response: None)

    def _request(self, method: str, path: str, body: object, heard: Callable[[Response], None]) -> Response:
        """Send a request as `request` does, and hand every answer to `heard`, also those that are asked for again."""
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise expected("method to be in capital letters", method)
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise expected("path to begin with / and hold printable ASCII without spaces", path, "Quote it first.")
        content = b"" if body is None else _json(body)
        headers = {"Accept": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        if content:
            headers["Content-Type"] = "application/json"
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._max_retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type((OSError, http.client.HTTPException))
            | tenacity.retry_if_result(lambda response: response.status in RETRIED_STATUSES),
            retry_error_callback=_last_outcome,
            sleep=self._sleep,
        )
        metadata = {
            "method": method,
            "path": _bare(path),
            "pool_type": self._pool_type,
            "base_url": self._base_url,
        }
        with runtime.span("tinkex.http.request", metadata) as span:
            try:
                response = retrying(self._attempt, method, path, content, headers, heard)
            finally:
                retry_count = retrying.statistics.get("attempt_number", 1) - 1
                span.metadata["retry_count"] = retry_count
            span.metadata["result"] = "ok" if response.is_ok else "error"
        return msgspec.structs.replace(response, retry_count=retry_count)

    def post(self, path: str, body: object) -> Any:
        """Send JSON and return the JSON of the answer, None of an empty one.

        Raises HttpError for any status but 2xx, msgspec.DecodeError for an answer that is no JSON, else as `request`.
        """
        return _content(path, self.request("POST", path, body))

    def run(self, path: str, body: object, timeout_s: float = 300.0) -> Any:
        """Have the service do some work, wait for it at most `timeout_s`, and return its result.

        POST `path` answers {"request_id": …}; then POST /api/v1/retrieve_future {"request_id": …} answers {"status":
        "pending" | "completed" | "failed", …} until it is over. The time is looked at between these polls: one under
        way is waited for, retries included. Any answer, also one that is asked for again, may name the state of the
        service's queue; 429 without one is "paused_rate_limit". Whenever that state or its reason is another than
        before, emits `tinkex.queue.state_change` (request_id, queue_state, reason). Raises RequestFailed, TimeoutError,
        InvalidValue for a `timeout_s` that is none, and as `post`.
        """
        _check_seconds(timeout_s)
        request_id = msgspec.convert(self.post(path, body), _Accepted).request_id
        queue = _Queue(request_id)

        def ask() -> _Progress:
            answer = self._request("POST", _POLL, {"request_id": request_id}, queue.watch)
            return msgspec.convert(_content(_POLL, answer), _Progress)

        polling = tenacity.Retrying(
            stop=tenacity.stop_after_delay(timeout_s),
            wait=lambda state: min(self._wait(state), max(0.0, timeout_s - (state.seconds_since_start or 0.0))),
            retry=tenacity.retry_if_result(lambda progress: progress.status == "pending"),
            retry_error_callback=_last_outcome,
            sleep=self._sleep,
        )
        progress = polling(ask)
        if progress.status == "failed":
            raise RequestFailed(request_id, progress.error)
        if progress.status == "pending":
            raise TimeoutError(f"expected request {request_id!r} to be over within {timeout_s} s, got: still pending")
        return progress.result

    def _attempt(
        self, method: str, path: str, content: bytes, headers: dict[str, str], heard: Callable[[Response], None]
    ) -> Response:
        connection = self._connection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, self._prefix + path, content or None, headers)
            with connection.getresponse() as answer:
                # Whatever it is told, http.client's read() takes all that comes of a chunk whose size is negative.
                read = answer.read1 if answer.chunked else answer.read
                body = bytearray()
                while len(body) <= _MAX_BODY_BYTES and (piece := read(_MAX_BODY_BYTES + 1 - len(body))):
                    body += piece
                if len(body) > _MAX_BODY_BYTES:
                    limit = f"at most {_MAX_BODY_BYTES} bytes"
                    raise BeamstalkError(f"expected {method} {_bare(path)} to be answered with {limit}, got: more")
                if answer.length:  # http.client overlooks it when told how much to read at most
                    raise http.client.IncompleteRead(bytes(body), answer.length)
                asked_s = retry_after_s(answer.headers.get("Retry-After"), time.time_ns())
                response = Response(answer.status, bytes(body), asked_s)
        finally:
            connection.close()
        heard(response)
        return response

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Choose the pause before the next attempt: what the service asked for, else ours."""
        outcome = state.outcome
        if outcome is not None and not outcome.failed:
            asked_s: float | None = outcome.result().retry_after_s
            if asked_s is not None:
                return min(asked_s, _MAX_PAUSE_S)
        return self._pause(state)


class _Queue:
    """The state of the service's queue, as seen by one request."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._seen: tuple[QueueState | None, str | None] = None, None

    def watch(self, response: Response) -> None:
        """Emit a state, or a reason for it, that is another than before."""
        try:
            word = read_json(response.body, _Word)
        except msgspec.DecodeError:
            word = _Word()  # an answer of a proxy, say; whether it is one to take is decided elsewhere
        if word.queue_state is None and response.status == 429 and self._seen[0] != "paused_rate_limit":
            word.queue_state = "paused_rate_limit"
        if word.queue_state is None:
            return
        state = _STATES.get(word.queue_state, "unknown")
        if self._seen != (state, word.queue_state_reason):
            self._seen = state, word.queue_state_reason
            metadata = {"request_id": self._request_id, "queue_state": state, "reason": word.queue_state_reason}
            runtime.execute("tinkex.queue.state_change", {}, metadata)


def _check_seconds(timeout_s: object) -> None:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 <= timeout_s <= TIMEOUT_MAX:
        raise expected(f"timeout_s to be a number of seconds, at most {TIMEOUT_MAX:.0f}", timeout_s)


def _json(body: object) -> bytes:
    # msgspec alone would write null for NaN.
    try:
        return json.dumps(msgspec.to_builtins(body, str_keys=True), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise expected("body to have JSON", body) from error


def _content(path: str, response: Response) -> Any:
    if not response.is_ok:
        raise HttpError("POST", path, response)
    return read_json(response.body, Any) if response.body else None


def _bare(path: str) -> str:
    """Leave the query out, in which there may be secrets."""
    return path.partition("?")[0]


def _last_outcome(state: tenacity.RetryCallState) -> Any:
    """Return the last answer, or raise what the last attempt raised."""
    assert state.outcome is not None
    return state.outcome.result()
