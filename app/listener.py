"""A StatsD server for people who have none: receives datagrams on loopback, checks them, and says what came.

A thread of its own, outside the supervision tree, because it plays the part of another machine: it is there before the
application starts and after it has stopped, so that the last flush is received as well. It understands the lines that
StatsD and DogStatsD servers take and counts those that it does not understand.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType

import msgspec

_LINE = re.compile(
    r"(?P<name>[^:|@#]+):(?P<values>[^|#@]+)\|(?P<type>c|g|ms|h|d|s)(?:\|@(?P<rate>[0-9.]+))?(?:\|#(?P<tags>.*))?"
)
_RECEIVE_BUFFER_BYTES = 4 << 20
_LARGEST_DATAGRAM_BYTES = 65_536


class Received(msgspec.Struct, frozen=True):
    """What has come so far: datagrams, lines, lines that nobody could parse, and the sum of each counter."""

    packets: int
    lines: int
    bad_lines: int
    counters: dict[str, float]


class StatsdListener:
    """Listen on a free UDP port of 127.0.0.1 while the `with` block lasts.

    `on_summary` is called with what has come, from the listener's thread, at most every `every_s` seconds and only if
    something came. OSError if no port can be had.

    >>> with StatsdListener() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    ...     _ = client.sendto(b"shop.orders:2|c|#country:fr", listener.address)
    ...     listener.wait_for_packets(1)
    Received(packets=1, lines=1, bad_lines=0, counters={'shop.orders': 2.0})
    """

    def __init__(self, on_summary: Callable[[Received], None] | None = None, every_s: float = 2.0) -> None:
        self._on_summary = on_summary
        self._every_s = every_s
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._packets = self._lines = self._bad_lines = 0
        self._counters: defaultdict[str, float] = defaultdict(float)

    def __enter__(self) -> StatsdListener:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            # A burst at the end of a fast run must find room, or the kernel drops what we promise to count.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.settimeout(0.1)
        except OSError:
            self._socket.close()
            raise
        self.address: tuple[str, int] = self._socket.getsockname()
        self._threads = [threading.Thread(target=self._receive)]
        if self._on_summary is not None:
            self._threads.append(threading.Thread(target=self._summarise, args=[self._on_summary]))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take in what has been sent already, then close."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def received(self) -> Received:
        """Return what has come so far."""
        with self._changed:
            return Received(self._packets, self._lines, self._bad_lines, dict(self._counters))

    def wait_for_packets(self, count: int, timeout_s: float = 5.0) -> Received:
        """Wait until so many datagrams have come, or the time is up; return what has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._packets >= count, timeout_s)
        return self.received()

    def _receive(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(_LARGEST_DATAGRAM_BYTES)
            except TimeoutError:
                # Closed only when nothing waits any more: what was sent before is in the socket's buffer by now.
                if self._closing.is_set():
                    return
            else:
                self._take(datagram)

    def _take(self, datagram: bytes) -> None:
        with self._changed:
            self._packets += 1
            for line in datagram.decode("utf-8", "replace").split("\n"):
                self._lines += 1
                self._take_line(line)
            self._changed.notify_all()

    def _take_line(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        try:
            values = [float(value) for value in match["values"].split(":")] if match else []
        except ValueError:
            values = []
        if match is None or not values:
            self._bad_lines += 1
        elif match["type"] == "c":
            self._counters[match["name"]] += sum(values) / float(match["rate"] or 1)

    def _summarise(self, on_summary: Callable[[Received], None]) -> None:
        shown = 0
        while not self._closing.wait(self._every_s):
            received = self.received()
            if received.packets > shown:
                shown = received.packets
                on_summary(received)
