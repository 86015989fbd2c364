"""A StatsD endpoint that a test can look into: a real socket, and what came through it."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


class Endpoint:
    """A bound datagram socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def receive(self) -> list[bytes]:
        """Every datagram that has arrived; on loopback that is what was sent before."""
        found = []
        while select.select([self.socket], [], [], 0)[0]:
            found.append(self.socket.recv(1 << 20))
        return found

    def lines(self) -> list[str]:
        return [line for datagram in self.receive() for line in datagram.decode().split("\n")]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A UDP endpoint on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        yield Endpoint(sock)


@pytest.fixture
def unix_endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """A Unix datagram endpoint."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "statsd.sock"))
        yield Endpoint(sock)


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of loopback on which nobody listens: held by a TCP socket, so that nobody else takes it meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
