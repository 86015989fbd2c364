"""Send a batch by HTTP POST, over the standard library and nothing else.

The courier's thread calls `send`, one request at a time; any thread may `cut` it. A request has a connection of its
own: batches are seconds apart, and a connection that is kept would have to be suspected each time it fails. Redirects
are not followed and environment proxies not used: what goes out carries secrets and goes where it was told to go.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import ssl
import zlib
from collections.abc import Mapping
from urllib.parse import urlsplit

from reporters.delivery._decision import Answer, Verdict, retry_after_s, verdict_of
from reporters.delivery._secret import Secret, checked_headers, masked_url
from reporters.delivery._wire import Wire
from runtime import _native
from runtime.clock import Clock
from runtime.errors import expected

RESPONSE_LIMIT = 4 << 20
"""How much of a response is read, and how much it may grow to when unpacked: 4 MiB."""

_OWN_HEADER = re.compile(
    "accept-encoding|connection|content-.*|host|idempotency-key|transfer-encoding|user-agent", re.IGNORECASE
)
_READ = 64 << 10
_EXCERPT = 200
_GZIP = 31  # zlib's word for: with a gzip header


class HttpTransport:
    """POST bodies to a URL.

    url: http or https, ASCII, without credentials in it (use a header).
    headers: sent with each request; values of names that look secret print masked, and any value may be a `Secret`.
        Those that the transport sets itself are refused.
    timeout_s: for the whole exchange, from resolving the name to the last byte. Default 10 s.
    compress: gzip the body. Default True.
    ca_file: certificates to trust instead of the system's. TLS is always verified.

    >>> HttpTransport("https://foundation.example/ingest", headers={"Authorization": "Bearer 0123456789"})
    HttpTransport('https://foundation.example/ingest', headers={'Authorization': Secret('***')})
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str | Secret] | None = None,
        timeout_s: float = 10.0,
        compress: bool = True,
        content_type: str = "application/json",
        ca_file: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
            (parts.hostname or "").encode("idna")  # the resolver would not take it later
        except ValueError as error:
            raise expected("a URL", url, str(error)) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or any(c <= " " or c == "\x7f" for c in url):
            raise expected("an http or https URL with a host", url)
        if not url.isascii():
            raise expected("a URL of ASCII characters", url, "Write others as %XX, in a host name as xn--….")
        if parts.username is not None or parts.password is not None:
            raise expected("a URL without credentials", masked_url(parts._replace(netloc="***")), "Use a header.")
        if not timeout_s > 0:
            raise expected("timeout_s to be a positive number of seconds", timeout_s)
        self._url = parts
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = checked_headers(headers or {})
        for name in self._headers:
            if _OWN_HEADER.fullmatch(name):
                raise expected("headers other than those that each request has already", name)
        self._timeout_s = timeout_s
        self._compress = compress
        self._content_type = content_type
        self._clock = clock or Clock()
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._lock = _native.allocate_lock()
        self._wire: Wire | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"HttpTransport({str(self)!r}, headers={self._headers!r})"

    def __str__(self) -> str:
        return masked_url(self._url)

    def send(self, body: bytes, key: str) -> Answer:
        """Send a body and say what became of it; never raises for the network.

        Blocks at most `timeout_s`, but for a resolver that hangs. `key` goes with it as Idempotency-Key.
        """
        wire = Wire(self._timeout_s)
        with self._lock:
            if self._stopped:
                return Answer(Verdict.RETRY, "stopped")
            self._wire = wire
        try:
            return self._exchange(wire, body, key)
        except (OSError, http.client.HTTPException, zlib.error, EOFError) as error:
            return Answer(Verdict.RETRY, f"{type(error).__name__}: {error}"[:_EXCERPT])
        finally:
            with self._lock:
                self._wire = None
            wire.hang_up()

    def cut(self) -> None:
        """End the request that is under way and refuse later ones; any thread."""
        with self._lock:
            self._stopped = True
            if self._wire is not None:
                self._wire.cut()

    def _exchange(self, wire: Wire, body: bytes, key: str) -> Answer:
        headers = {name: v.reveal() if isinstance(v, Secret) else v for name, v in self._headers.items()}
        headers |= {"Content-Type": self._content_type, "Idempotency-Key": key, "Accept-Encoding": "identity"}
        headers |= {"User-Agent": "beamstalk", "Connection": "close"}
        if self._compress:
            body = gzip.compress(body, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
        wire.connect(self._host, self._port, self._context)
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.default_port = 443 if self._context else 80  # what the Host header leaves out
        connection.sock = wire
        # An endpoint that refuses a body need not read it all; its answer may have come before it hung up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", self._target, body, headers)
        response = connection.getresponse()
        try:
            text, truncated = _read_capped(response)
        finally:
            response.close()
        verdict = verdict_of(response.status)
        reason = f"{response.status} {response.reason}".strip()
        if verdict is not Verdict.DELIVERED and text:
            reason += ": " + self._excerpt(text)
        wait_s = retry_after_s(response.getheader("Retry-After"), self._clock.system_ns())
        return Answer(verdict, reason, response.status, wait_s, text, truncated)

    def _excerpt(self, text: bytes) -> str:
        """Return the beginning of an answer, fit for logs."""
        words = text[:_READ].decode("utf-8", "replace")
        for value in self._headers.values():
            if isinstance(value, Secret):
                words = value.masked_in(words)
        return words[:_EXCERPT]


def _read_capped(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """Read a body, unpacked, up to the limit; tell whether there was more."""
    packed = response.getheader("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip")
    unpack = zlib.decompressobj(_GZIP) if packed else None
    parts: list[bytes] = []
    received = size = 0
    while received <= RESPONSE_LIMIT and size <= RESPONSE_LIMIT:
        chunk = response.read1(_READ)
        if not chunk:
            break
        received += len(chunk)
        part = unpack.decompress(chunk, RESPONSE_LIMIT + 1 - size) if unpack else chunk
        size += len(part)
        parts.append(part)
    else:
        return b"".join(parts)[:RESPONSE_LIMIT], True
    return b"".join(parts), False
