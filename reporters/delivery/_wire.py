"""One TCP or TLS connection with one deadline for everything, that another thread can cut.

Made for `http.client`, which takes it for a socket. Everything blocks the calling native thread, never longer than the
deadline, however slowly the other end drips; only the resolver cannot be hurried. `cut` may come from any thread.

Why not the `ssl` module's socket: its timeout starts anew with each byte, and in a gevent-patched host it is another
class, bound to a hub. TLS through memory buffers is the same code in every host, and only a plain socket ever waits.
"""

from __future__ import annotations

import io
import ssl
import time
from typing import Any

from gevent import monkey

_socket: Any = monkey.get_original("socket", "socket")
_getaddrinfo: Any = monkey.get_original("socket", "getaddrinfo")
_CHUNK = 64 << 10
_SHUT_RDWR = 2
_STREAM = 1


class Cut(OSError):
    """Another thread ended the exchange."""


class Wire:
    """A connection that is good for one exchange of at most `timeout_s` seconds."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        self._timeout_s = timeout_s
        self._sock: Any = None
        self._is_cut = False
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    def connect(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect to the first address that answers, and shake hands if there is a context. Errors: OSError."""
        failure: OSError | None = None
        for family, _, protocol, _, address in _getaddrinfo(host, port, 0, _STREAM):
            sock = _socket(family, _STREAM, protocol)
            self._sock = sock  # published before the look at `_is_cut`; `cut` does it the other way round
            try:
                sock.settimeout(self._left_s())
                sock.connect(address)
            except OSError as error:
                sock.close()
                self._left_s()
                failure = error
            else:
                break
        else:
            raise failure or OSError(f"expected {host} to have an address, got: none")
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shake_hands()

    def cut(self) -> None:
        """End whatever waits on this connection; any thread, any number of times."""
        self._is_cut = True
        sock = self._sock
        if sock is not None:
            try:
                sock.shutdown(_SHUT_RDWR)
            except OSError:
                return  # not connected, or closed: then nobody waits on it

    def hang_up(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._sock.close()

    # -- what http.client asks of a socket ---------------------------------------------------------------------------

    def sendall(self, data: bytes) -> None:
        """Send bytes. Errors: OSError, TimeoutError included."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            piece = view[start : start + _CHUNK]
            if self._tls is None:
                self._send(piece)
            else:
                self._tls.write(piece)
                self._send(self._outgoing.read())

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader of what comes in."""
        return io.BufferedReader(_Reader(self), _CHUNK)

    def close(self) -> None:
        """Do nothing: http.client closes while it still reads; `hang_up` is the end."""

    def receive_into(self, buffer: Any) -> int:
        """Read at least a byte; 0 at the end. Errors: OSError, TimeoutError included."""
        if self._tls is None:
            return len(self._receive(buffer))
        while True:
            try:
                return self._tls.read(len(buffer), buffer)  # type: ignore[return-value]
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLZeroReturnError:
                return 0

    # -- parts -------------------------------------------------------------------------------------------------------

    def _left_s(self) -> float:
        if self._is_cut:
            raise Cut("stopped")
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise self._over()
        return left_s

    def _shake_hands(self) -> None:
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read())
                self._feed()
            except ssl.SSLError:
                self._send(self._outgoing.read())  # the alert that tells the other end why
                raise
            else:
                self._send(self._outgoing.read())
                return

    def _feed(self) -> None:
        received = self._receive(memoryview(bytearray(_CHUNK)))
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def _send(self, data: bytes | memoryview) -> None:
        if data:
            self._sock.settimeout(self._left_s())
            try:
                self._sock.sendall(data)
            except TimeoutError:
                raise self._over() from None

    def _receive(self, buffer: Any) -> Any:
        self._sock.settimeout(self._left_s())
        try:
            return buffer[: self._sock.recv_into(buffer)]
        except TimeoutError:
            raise self._over() from None

    def _over(self) -> TimeoutError:
        return TimeoutError(f"no complete answer within {self._timeout_s:g} s")


class _Reader(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.receive_into(buffer)
