"""An endpoint for people who have none: `python -m app --sink` receives what Foundation and AITrace send and checks it.

It plays the part of another machine: nothing of the runtime runs in it. It says what came, in a line per batch. A body
that does not validate is refused with the reason (400), as a real endpoint would; an event that comes again with the
same content is counted as a duplicate, one that comes again with other content is refused (409). `GET /` answers what
has come so far as JSON. With `--fail` it misbehaves on purpose, so that one can watch the reporters try again; with
`--token-env` it refuses (401) whoever does not send the token that this environment variable holds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import math
import os
import random
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import msgspec

from reporters.aitrace import LineageBatch
from reporters.delivery import Secret
from reporters.foundation import MetricBatch

BODY_LIMIT_BYTES = 16 << 20
DEFAULT_PORT = 4319
_TIMEOUT_S = 30.0
_GZIP = 31  # zlib's word for: with a gzip header


class Refused(Exception):
    """What is wrong with a request: `status` and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Received(msgspec.Struct, frozen=True):
    """What has come so far. `events`: different ones; `names`: by metric or by kind of lineage record."""

    requests: int
    events: int
    duplicates: int
    conflicts: int
    invalid: int
    unauthorized: int
    failed_on_purpose: int
    names: dict[str, int]


class Sink:
    """Check bodies and count what is in them. Any thread may call `receive`.

    `fail`: the share of requests to answer with 503, by chance. `journal`: gets one JSON line per event that arrives,
    {id, digest, name, key}, before the request is answered. `show` is told each batch in words. `token`: what has to
    come as a bearer token; None: anybody may send.

    >>> sink = Sink()
    >>> sink.receive(b"{}")
    Traceback (most recent call last):
    app.sink.Refused: expected a batch of metrics or lineage records, got: Object missing required field `batch_id`
    >>> sink.received().invalid
    1
    """

    def __init__(
        self,
        fail: float = 0.0,
        journal: IO[bytes] | None = None,
        show: Callable[[str], None] = lambda text: None,
        seed: int | None = None,
        token: Secret | None = None,
    ) -> None:
        self._fail = fail
        self._random = random.Random(seed)
        self._journal = journal
        self._show = show
        self._authorization = None if token is None else f"Bearer {token.reveal()}".encode()
        self._lock = threading.Lock()
        self._digests: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._names: Counter[str] = Counter()

    def receive(self, body: bytes, encoding: str = "", authorization: str = "") -> dict[str, int]:
        """Take a body, packed with "gzip" or not; answer what it brought. Errors: Refused."""
        with self._lock:
            self._counts["requests"] += 1
            if self._authorization is not None and not hmac.compare_digest(
                authorization.encode("utf-8", "replace"), self._authorization
            ):
                self._counts["unauthorized"] += 1
                raise Refused(401, "expected the bearer token of this endpoint, got: another or none")
            if self._random.random() < self._fail:
                self._counts["failed_on_purpose"] += 1
                raise Refused(503, "failing on purpose")
        try:
            content = _unpacked(body) if encoding.lower() == "gzip" else body
            batch = _decoded(content)
            events: list[dict[str, Any]] = msgspec.json.decode(content)["events"]
        except Refused:
            with self._lock:
                self._counts["invalid"] += 1
            raise
        with self._lock:
            return self._take(batch, events)

    def _take(self, batch: MetricBatch | LineageBatch, events: list[dict[str, Any]]) -> dict[str, int]:
        told: Counter[str] = Counter()
        lines = []
        for event in events:
            digest = hashlib.sha256(msgspec.json.encode(event, order="sorted")).hexdigest()
            name, known = _name(event), self._digests.get(event["id"])
            if known is None:
                self._digests[event["id"]] = digest
                self._names[name] += 1
                told["events"] += 1
            else:
                told["duplicates" if known == digest else "conflicts"] += 1
            lines.append({"id": event["id"], "digest": digest, "name": name, "key": _key(event)})
        self._counts.update(told)
        if self._journal is not None:
            self._journal.write(msgspec.json.Encoder().encode_lines(lines))
            self._journal.flush()
        words = ", ".join(f"{number} {what}" for what, number in told.items())
        self._show(f"{batch.source}: {words} ({', '.join(sorted({line['name'] for line in lines}))})")
        if told["conflicts"]:
            raise Refused(409, f"expected an event that comes again to be the same, got: {told['conflicts']} others")
        return dict(told)

    def received(self) -> Received:
        """Answer what has come so far."""
        with self._lock:
            fields = [name for name in Received.__struct_fields__ if name != "names"]
            return Received(**{name: self._counts[name] for name in fields}, names=dict(self._names))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sink: Sink

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away in the middle; of anything else, as always."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return self._answer(411, {"error": "expected a Content-Length, got: none"})
        if length > BODY_LIMIT_BYTES:
            return self._answer(413, {"error": f"expected at most {BODY_LIMIT_BYTES} bytes, got: {length}"})
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError("the client went away in the middle of its request")
        try:
            headers = (self.headers.get(name, "") for name in ("Content-Encoding", "Authorization"))
            return self._answer(202, self.server.sink.receive(body, *headers))
        except Refused as refused:
            return self._answer(refused.status, {"error": str(refused)})

    def do_GET(self) -> None:
        self._answer(200, self.server.sink.received())

    def _answer(self, status: int, content: object) -> None:
        body = msgspec.json.encode(content)
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests as such: what was in them is said elsewhere."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sink to a parser."""
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="where to listen on 127.0.0.1; 0: any free port"
    )
    parser.add_argument("--fail", type=_share, default=0.0, metavar="F", help="share of requests to answer with 503")
    parser.add_argument(
        "--token-env",
        type=_token,
        metavar="NAME",
        help="refuse requests without the bearer token that is in this environment variable",
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append a JSON line per event that arrives")
    parser.add_argument("--quiet", action="store_true", help="say only the address and, at the end, the sums")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted. Returns 0 when everything that came was valid and consistent, else 1.

    Prints the address first, then a line per batch, then what came in all. Errors: OSError for a port or a file that
    cannot be had.
    """
    journal = args.journal.open("ab") if args.journal else None
    sink = Sink(args.fail, journal, (lambda text: None) if args.quiet else _say, token=args.token_env)
    with _Server(("127.0.0.1", args.port), _Handler) as server:
        server.sink = sink
        _say(f"listening at http://127.0.0.1:{server.server_port}/")
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            server.serve_forever()
    received = sink.received()
    _say(msgspec.json.encode(received).decode())
    if journal is not None:
        journal.close()
    return 0 if received.invalid == received.conflicts == 0 else 1


def _say(text: str) -> None:
    print(text, flush=True)


def _unpacked(body: bytes) -> bytes:
    unpack = zlib.decompressobj(_GZIP)
    try:
        content = unpack.decompress(body, BODY_LIMIT_BYTES)
    except zlib.error as error:
        raise Refused(400, f"expected gzip, got: {error}") from None
    if unpack.unconsumed_tail:
        raise Refused(413, f"expected at most {BODY_LIMIT_BYTES} bytes when unpacked, got: more")
    return content


def _decoded(content: bytes) -> MetricBatch | LineageBatch:
    try:
        return msgspec.json.decode(content, type=MetricBatch)
    except msgspec.DecodeError as error:
        as_metrics = str(error)
    try:
        return msgspec.json.decode(content, type=LineageBatch)
    except msgspec.DecodeError as error:
        # The attempt that got further into the body says more.
        reason = max(as_metrics, str(error), key=len)
    raise Refused(400, f"expected a batch of metrics or lineage records, got: {reason}")


def _name(event: Mapping[str, Any]) -> str:
    return str(event["data"]["metadata"]["metric_name"] if "data" in event else event["type"])


def _key(event: Mapping[str, Any]) -> Any:
    """What tells events apart for whoever emitted them: a metric's tags, a lineage record's reference."""
    return event["data"]["metadata"]["tags"] if "data" in event else event["source_ref"]


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got: {text!r}")
    return int(text)


def _token(variable: str) -> Secret:
    value = os.environ.get(variable)
    if not value:
        raise argparse.ArgumentTypeError(f"expected the environment variable {variable} to be set, got: nothing")
    return Secret(value)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got: {text!r}")
    return share


def main(arguments: list[str]) -> int:
    """Run the sink alone: `python -m app.sink`."""
    parser = argparse.ArgumentParser(prog="python -m app.sink", allow_abbrev=False, description="Receive and check.")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
