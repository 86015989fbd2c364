"""Datagrams out of the process: over UDP, or to a Unix datagram socket. Never blocks; every failure is an OSError.

UDP goes over the `statsd` package's client, of which we use the making, addressing and closing of the socket. Its own
`_send` passes over every error and takes ASCII only, and its constructor blocks while it resolves names: we hand it an
address and send ourselves. A connected socket learns of a refusal; on the same machine at once, so that `send` can say
which datagram was refused. Over a network UDP may lose datagrams without a word, and nothing here can know of it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from gevent import monkey
from gevent.socket import wait_write
from statsd import StatsClient

from runtime import _native
from runtime._waiting import waiter

_getaddrinfo: Callable[..., list[Any]] = monkey.get_original("socket", "getaddrinfo")


class Transport(Protocol):
    """Where datagrams go."""

    def send(self, datagram: bytes, timeout_s: float) -> None:
        """Hand over one datagram, waiting cooperatively for room; OSError when that fails or takes too long."""

    def close(self) -> None:
        """Give the socket back."""


class UdpTransport(StatsClient):  # type: ignore[misc]  # the package has no types
    """Send to one address; which must be numeric, so that nothing is looked up."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port, ipv6=":" in address)
        try:
            self._sock.setblocking(False)
            self._sock.connect(self._addr)
        except BaseException:
            self.close()
            raise

    def send(self, datagram: bytes, timeout_s: float) -> None:
        """Hand over one datagram; see `Transport`."""
        _send(self._sock, datagram, timeout_s)


class UnixTransport:
    """Send to the Unix datagram socket at a path; OSError if nobody listens there."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def send(self, datagram: bytes, timeout_s: float) -> None:
        """Hand over one datagram; see `Transport`."""
        _send(self._socket, datagram, timeout_s)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _send(sock: socket.socket, datagram: bytes, timeout_s: float) -> None:
    try:
        sock.send(datagram)
    except BlockingIOError:
        wait_write(sock.fileno(), timeout_s, timeout_exc=TimeoutError(f"no room to send within {timeout_s:g} s"))
        sock.send(datagram)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def is_address(host: str) -> bool:
    """Tell whether a host is a numeric address, which needs no look-up.

    >>> [is_address(host) for host in ("127.0.0.1", "::1", "localhost")]
    [True, True, False]
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int, timeout_s: float) -> str:
    """Look a host up and answer its first address; the caller waits cooperatively. OSError, TimeoutError included.

    The look-up itself blocks, for as long as the system's resolver likes: it has a thread of its own, which is left
    behind when the time is over.
    """
    found: list[Any] = []
    waiting = waiter()

    def look_up() -> None:
        try:
            found.append(_getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4][0])
        except (OSError, UnicodeError) as error:
            found.append(error)
        waiting.wake()

    _native.start_new_thread(look_up, ())
    if not waiting.wait(timeout_s):
        raise TimeoutError(f"no address of {host!r} within {timeout_s:g} s")
    if isinstance(found[0], UnicodeError):
        raise OSError(f"{host!r} is no host name: {found[0]}")
    if isinstance(found[0], OSError):
        raise found[0]
    address: str = found[0]
    return address
