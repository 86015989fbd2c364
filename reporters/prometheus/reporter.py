"""Serve every metric to Prometheus: `GET /metrics`, in the text format or OpenMetrics 1.0.

`Prometheus` is the declaration that goes among an application's children; `PrometheusReporter` is the actor that it
starts: a small web server on the runtime's hub. Each scrape asks the aggregator, so it sees everything that happened
before it. Writing a large answer is work for another thread, so that nobody on the hub waits for it.

It listens on loopback; on any other address only with a token. Needs the extra `prometheus`.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import gevent
import msgspec
import pykka
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer
from loguru import logger

from actors import Actor, whereis
from actors.aggregator import NAME as AGGREGATOR
from actors.aggregator import Snapshot
from reporters._extras import require
from reporters._reporter import check_name
from runtime.errors import BeamstalkError, ExitReason, expected
from supervisors.child_spec import ChildSpec

__all__ = ["Prometheus", "PrometheusReporter", "PrometheusStatistics"]

_SCRAPES_AT_ONCE = 4
_CLIENT_S = 10.0
"""How long a client may take over its request or its answer before it is left alone."""
_STOP_S = 1.0

_StartResponse = Callable[[str, list[tuple[str, str]]], object]


class PrometheusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Account for the requests: served, refused (wrong path, method, host or token), failed (no aggregator).

    `endpoint` has the port that is really used; `last_bytes` is the size of the last answer.
    """

    endpoint: str
    served: int
    refused: int
    failed: int
    last_bytes: int


class Prometheus:
    """Declare a Prometheus endpoint, as a child of an application or supervisor.

    - `host`, `port`: where to listen; default 127.0.0.1 and 9464. Port 0 takes a free one, see `statistics()`.
    - `path`: default "/metrics".
    - `token`: what a client has to send as `Authorization: Bearer …`; needed on any address but loopback.
    - `name`: tells reporters apart; default "prometheus" and the address.

    Raises `InvalidValue` for a bad option, and `MissingExtra` (an ImportError) with the line to run where
    `prometheus_client` is not installed. A port that is taken is a failed start.

    >>> Prometheus(host="0.0.0.0")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected a token where host is not loopback, got: '0.0.0.0'. Give token=
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9464,
        path: str = "/metrics",
        token: str | None = None,
        name: str | None = None,
    ) -> None:
        require("prometheus_client", extra="prometheus")
        self.host = _check_host(host)
        self.port = _check_port(port)
        self.path = _check_path(path)
        self.token = _check_token(token, host)
        self.name = check_name(f"prometheus {_address(host, port)}" if name is None else name)
        self.kept = _Kept()

    def child_spec(self) -> ChildSpec:
        """Answer the specification under which a supervisor starts the endpoint."""
        return ChildSpec(self.name, (PrometheusReporter.options(name=self.name).start_link, (self,)))

    def statistics(self) -> PrometheusStatistics:
        """Account for every request, from any thread, also before and after it runs."""
        kept = self.kept
        return PrometheusStatistics(
            endpoint=f"http://{_address(self.host, kept.port or self.port)}{self.path}",
            served=kept.served,
            refused=kept.refused,
            failed=kept.failed,
            last_bytes=kept.last_bytes,
        )

    def __repr__(self) -> str:
        return f"Prometheus({self.statistics().endpoint!r})"


@dataclass
class _Kept:
    """What outlives the incarnations; a killed actor runs no hook, so the next one closes its server."""

    server: WSGIServer | None = None
    port: int = 0
    served: int = 0
    refused: int = 0
    failed: int = 0
    last_bytes: int = 0

    def close(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.stop(_STOP_S)


class _Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """A server whose clients may not dawdle."""

    def do_handle(self, *args: Any) -> None:
        args[0].settimeout(_CLIENT_S)
        super().do_handle(*args)


class PrometheusReporter(Actor):
    """Serve the metrics; see the module."""

    carrier: ClassVar[str] = "green"

    def __init__(self, declaration: Prometheus) -> None:
        super().__init__()
        self._declared = declaration
        self._kept = declaration.kept

    def on_start(self) -> None:
        declared, kept = self._declared, self._kept
        kept.close()
        listener = _listen(declared.host, declared.port)
        kept.port = listener.getsockname()[1]
        kept.server = _Server(listener, self._serve, spawn=Pool(_SCRAPES_AT_ONCE), log=None, error_log=None)
        kept.server.start()
        logger.info("serving metrics on {}", declared.statistics().endpoint)

    def on_stop(self, reason: ExitReason = "normal") -> None:
        self._kept.close()

    def on_failure(self, *_: Any) -> None:
        self._kept.close()

    def get_state(self) -> PrometheusStatistics:
        return self._declared.statistics()

    def _describe(self) -> dict[str, Any]:
        return {"reporter": {"queue": 0, "dropped": 0, "last_error": "", "statistics": self.get_state()}}

    def _serve(self, request: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        """Answer one request; each runs on a greenlet of its own."""
        kept = self._kept
        refusal = self._refusal(request)
        if refusal is not None:
            kept.refused += 1
            return _answer(start_response, refusal, b"", "text/plain")
        try:
            body, content_type = self._render(request.get("HTTP_ACCEPT", ""))
        except (BeamstalkError, pykka.ActorDeadError, pykka.Timeout) as error:
            kept.failed += 1
            return _answer(start_response, "503 Service Unavailable", f"{error}\n".encode(), "text/plain")
        kept.served += 1
        kept.last_bytes = len(body)
        return _answer(start_response, "200 OK", b"" if request["REQUEST_METHOD"] == "HEAD" else body, content_type)

    def _refusal(self, request: dict[str, Any]) -> str | None:
        declared = self._declared
        if declared.token is not None:
            sent = request.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
            if not hmac.compare_digest(sent, f"Bearer {declared.token}".encode()):
                return "401 Unauthorized"
        elif not _is_loopback(_host_of(request.get("HTTP_HOST", ""))):
            return "403 Forbidden"  # a web page that had its own name point here
        if request["PATH_INFO"] != declared.path:
            return "404 Not Found"
        if request["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed"
        return None

    def _render(self, accept: str) -> tuple[bytes, str]:
        from reporters.prometheus._families import render  # needs the extra, which the declaration has checked

        aggregator = whereis(AGGREGATOR)
        if aggregator is None:
            raise BeamstalkError("expected an aggregator to run, got: none")
        views = aggregator.ask(Snapshot())
        rendered: tuple[bytes, str] = gevent.get_hub().threadpool.apply(render, (views, accept))
        return rendered


def _listen(host: str, port: int) -> Any:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
    except OSError as error:
        sock.close()
        raise BeamstalkError(f"expected {_address(host, port)} to be free for Prometheus, got: {error}") from error
    return sock


def _answer(start_response: _StartResponse, status: str, body: bytes, content_type: str) -> Iterable[bytes]:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(status, headers)
    return [body]


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_of(header: str) -> str:
    """Answer the host of a Host header, without its port."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_host(host: object) -> str:
    try:
        if not isinstance(host, str) or host != "localhost":
            ipaddress.ip_address(host)  # type: ignore[arg-type]  # refused below
    except ValueError:
        raise expected("host to be an address of this machine, or localhost", host) from None
    return str(host)


def _check_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise expected("port to be an integer within 0…65535", port)
    return port


def _check_path(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or any(c.isspace() or c in "?#" for c in path):
        raise expected("path to begin with / and hold no spaces, ? or #", path)
    return path


def _check_token(token: object, host: str) -> str | None:
    if token is None:
        if not _is_loopback(host):
            raise expected("a token where host is not loopback", host, "Give token=")
        return None
    if not isinstance(token, str) or not token or not token.isascii() or any(c.isspace() for c in token):
        # Never quoted: it is a secret.
        raise expected("token to be a non-empty ASCII string without spaces", type(token).__name__)
    return token
