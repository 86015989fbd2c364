"""A real endpoint on loopback that misbehaves as it is told.

Each connection is served by a thread: it reads one request and does what the next behaviour says. Whatever can go
wrong between two machines is done with real sockets here: silence, resets, dripping, early answers.
"""

from __future__ import annotations

import contextlib
import gzip
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec


class Request(NamedTuple):
    """What arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    def unpacked(self) -> bytes:
        """The body without its gzip."""
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.unpacked())


Behaviour = Callable[[socket.socket], None]


def answer(status: int = 202, body: bytes = b"", *headers: str) -> Behaviour:
    """Answer properly."""
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers]

    def behave(sock: socket.socket) -> None:
        sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    return behave


def raw(data: bytes) -> Behaviour:
    """Send these bytes and hang up."""
    return lambda sock: sock.sendall(data)


def reset(sock: socket.socket) -> None:
    """Take the body and answer with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silence(sock: socket.socket) -> None:
    """Hold the line and say nothing until the other end hangs up."""
    with contextlib.suppress(OSError):
        sock.recv(1)


def drip(sock: socket.socket) -> None:
    """Send a header that never ends, a byte at a time, for as long as somebody listens."""
    with contextlib.suppress(OSError):
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not select.select([sock], [], [], 0.01)[0]:
            sock.sendall(b"x")


class Endpoint:
    """Serve behaviours in order, the last one for ever; `requests` is what arrived whole."""

    def __init__(self, *behaviours: Behaviour, context: ssl.SSLContext | None = None, read_body: bool = True) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._behaviours = list(behaviours) or [answer()]
        self._context = context
        self._read_body = read_body
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}/ingest"
        self._spawn(self._accept)

    def becomes(self, *behaviours: Behaviour) -> None:
        """Do this from now on."""
        with self._changed:
            self._behaviours = list(behaviours)

    def wait_for(self, what: Callable[[Endpoint], object], within_s: float = 30.0) -> None:
        """Wait until the endpoint has seen enough."""
        with self._changed:
            assert self._changed.wait_for(lambda: what(self), within_s), f"the endpoint saw {len(self.requests)}"

    def close(self) -> None:
        """Hang up on everybody."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self._open.add(sock)
                self.connections += 1
                self._changed.notify_all()
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        connection = sock
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(sock, server_side=True)
                with self._changed:
                    self._open.add(connection)
            request = self._read(connection)
            with self._changed:
                behave = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                self.requests.append(request)
                self._changed.notify_all()
            behave(connection)
        except OSError:
            return
        finally:
            with self._changed:
                self._open -= {sock, connection}
            connection.close()
            sock.close()

    def _read(self, sock: socket.socket) -> Request:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        while self._read_body and len(body) < int(headers.get("content-length", "0")):
            body += self._more(sock)
        return Request(line, headers, body)

    def _more(self, sock: socket.socket) -> bytes:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("hung up in the middle of a request")
        return more


@contextlib.contextmanager
def endpoint(*behaviours: Behaviour, **options: Any) -> Iterator[Endpoint]:
    """Run an endpoint for the length of a block."""
    one = Endpoint(*behaviours, **options)
    try:
        yield one
    finally:
        one.close()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Hold a port that nobody listens on, so that nobody else gets it meanwhile; a server of the test's own may."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
