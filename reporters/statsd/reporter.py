"""The StatsD reporter: what changed, in lines, in datagrams, to one endpoint.

`Statsd` is the declaration that goes among an application's children; `StatsdReporter` is the actor that it starts.
Best effort, as StatsD is: bounded memory, exact counts of what was sent and what was not, and an endpoint that refuses,
is slow or is away costs the service nothing. What could not be sent is kept, combined with what comes since, and sent
when the endpoint is back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gevent
import msgspec

from actors._series_extract import text
from actors._series_points import Point
from reporters._reporter import FlushStatistics, Kept, Reporter, check_name, check_seconds
from reporters.statsd._formatter import Datadog, Formatter, Standard
from reporters.statsd._packets import Datagram, pack
from reporters.statsd._transport import Transport, UdpTransport, UnixTransport, is_address, resolve
from runtime.errors import ExitReason, expected
from supervisors.child_spec import ChildSpec

__all__ = ["Statsd", "StatsdReporter", "StatsdStatistics"]

_HOST = "127.0.0.1"
_PORT = 8125
_RERESOLVE_S = 60.0
_UDP_MTU = 1432
_UNIX_MTU = 8192
_LARGEST_UDP = 65_507
_LARGEST_UNIX = 1 << 20
_SEND_S = 1.0
"""How long one flush may wait for room in the socket, all datagrams together."""
_RESOLVE_S = 2.0
_BREATH = 200
"""So many points are formatted between two looks of the hub at everybody else."""


class StatsdStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Account for a StatsD reporter: every line it made is sent, too large, or waiting with its point.

    `lines`, `datagrams`, `bytes`: handed to the network. `too_large`: lines above the mtu, left out. `not_finite`:
    values that no line can say. `send_errors`, `resolve_errors`: failures, the last of them in `flush.last_error`.
    `opened`: sockets so far.
    """

    endpoint: str
    flush: FlushStatistics
    lines: int
    datagrams: int
    bytes: int
    too_large: int
    not_finite: int
    send_errors: int
    resolve_errors: int
    opened: int


class Statsd:
    """Declare a StatsD reporter, as a child of an application or supervisor.

    - `host`, `port`: where the server listens; default 127.0.0.1 and 8125. Or `socket_path`: its Unix datagram socket.
    - `formatter`: "datadog" (tags, floats; the default) or "standard" (tags in the name, integers).
    - `prefix`: goes before every name. `global_tags`: go to every line; a metric's own tag of the same key wins.
    - `mtu`: largest datagram in bytes; default 1432 for UDP, 8192 for a Unix socket.
    - `interval_s`: how often to send, in seconds; default 1.
    - `reresolve_s`: how often to look the host up, in seconds; default 60.
    - `packed`: send several samples in a line (`v1:v2|d`), for servers that take DogStatsD 1.1; datadog only.
    - `name`: tells reporters apart; default "statsd" and the endpoint.

    Raises `InvalidValue` for a bad option. A host that cannot be found is no error: it is looked up again and again,
    and counted. One declaration serves one child at a time; its `statistics()` go on across restarts.

    >>> Statsd(host="127.0.0.1", port=0)
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected port to be an integer within 1…65535, got: 0
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        socket_path: str | os.PathLike[str] | None = None,
        formatter: str = "datadog",
        prefix: str = "",
        global_tags: Mapping[str, Any] | None = None,
        mtu: int | None = None,
        interval_s: float = 1.0,
        reresolve_s: float | None = None,
        packed: bool = False,
        name: str | None = None,
    ) -> None:
        self.socket_path = _check_socket_path(socket_path)
        if self.socket_path is not None:
            _check_no_address(host=host, port=port, reresolve_s=reresolve_s)
        self.host = _check_host(_HOST if host is None else host)
        self.port = _check_port(_PORT if port is None else port)
        self.endpoint = self.socket_path or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        self.mtu = _check_mtu(mtu, is_unix=self.socket_path is not None)
        self.interval_s = check_seconds("interval_s", interval_s)
        self.reresolve_s = check_seconds("reresolve_s", _RERESOLVE_S if reresolve_s is None else reresolve_s)
        self.name = check_name(f"statsd {self.endpoint}" if name is None else name)
        self.formatter = _make_formatter(
            formatter,
            _check_prefix(prefix),
            _check_tags(global_tags),
            self.mtu if _check_packed(packed, formatter) else 0,
        )
        self.kept = _StatsdKept()

    def child_spec(self) -> ChildSpec:
        """Answer the specification under which a supervisor starts the reporter."""
        return ChildSpec(self.name, (StatsdReporter.options(name=self.name).start_link, (self,)))

    def statistics(self) -> StatsdStatistics:
        """Account for everything this reporter has sent, from any thread, also before and after it runs."""
        kept = self.kept
        return StatsdStatistics(
            endpoint=self.endpoint,
            flush=kept.statistics(),
            lines=kept.lines,
            datagrams=kept.datagrams,
            bytes=kept.bytes,
            too_large=kept.too_large,
            not_finite=kept.not_finite,
            send_errors=kept.send_errors,
            resolve_errors=kept.resolve_errors,
            opened=kept.opened,
        )

    def __repr__(self) -> str:
        return f"Statsd({self.endpoint!r}, formatter={self.formatter.name!r})"


@dataclass
class _StatsdKept(Kept):
    """The accounts and the socket of a StatsD reporter; `progress` is (texts of the points, lines done with).

    A killed actor runs no hook: its socket is here, so that the next incarnation goes on with it.
    """

    transport: Transport | None = None
    address: str | None = None
    resolve_at_ns: int = 0

    lines: int = 0
    datagrams: int = 0
    bytes: int = 0
    too_large: int = 0
    not_finite: int = 0
    send_errors: int = 0
    resolve_errors: int = 0
    opened: int = 0

    def forget_parent(self) -> None:
        super().forget_parent()
        if self.transport is not None:
            self.transport.close()  # this process's hold on it; the parent's stays
            self.transport = None


class StatsdReporter(Reporter):
    """Send to a StatsD endpoint; see the module."""

    kept: _StatsdKept

    def __init__(self, declaration: Statsd) -> None:
        super().__init__(declaration.name, declaration.interval_s, declaration.kept)
        self._declared = declaration
        self._formatter: Formatter = declaration.formatter
        if is_address(declaration.host):
            self.kept.address = declaration.host

    def get_state(self) -> StatsdStatistics:  # type: ignore[override]  # the wider accounts of the same flushes
        return self._declared.statistics()

    def _dropped(self) -> int:
        return self.kept.too_large + self.kept.not_finite

    def on_stop(self, reason: ExitReason = "normal") -> None:
        try:
            super().on_stop(reason)
        finally:
            self._close()

    def on_failure(self, *_: Any) -> None:
        self._close()

    def send(self, points: Sequence[Point]) -> Sequence[Point]:
        """Format, pack and send; stop at the first datagram that fails."""
        texts: list[str] = []
        for point in points:
            texts.append(self._formatter.text(point))
            if len(texts) % _BREATH == 0:
                gevent.sleep(0)
        not_finite, self._formatter.not_finite = self._formatter.not_finite, 0
        said = "\n".join(filter(None, texts))
        datagrams, _ = pack(said, self._declared.mtu)
        self.kept.progress = (texts, 0)
        if not self._send_all(texts, datagrams):
            return self.left_over(points)
        done = datagrams[-1].lines_done if datagrams else 0
        self.kept.too_large += said.count("\n") + 1 - done if said else 0
        self.kept.not_finite += not_finite
        return ()

    def left_over(self, points: Sequence[Point]) -> Sequence[Point]:
        """Answer the points, or parts of points, behind the last line that was sent."""
        if self.kept.progress is None:
            return points
        texts, taken = self.kept.progress
        left: list[Point] = []
        for point, said in zip(points, texts, strict=True):
            lines = said.count("\n") + 1 if said else 0
            rest = self._formatter.remainder(point, taken) if taken < lines else None
            taken = max(taken - lines, 0)
            if rest is not None:
                left.append(rest)
        return left

    def _send_all(self, texts: list[str], datagrams: Sequence[Datagram]) -> bool:
        """Send the datagrams, accounting for each; tell whether all were sent."""
        kept = self.kept
        done = 0
        deadline = monotonic() + _SEND_S
        for number, datagram in enumerate(datagrams):
            try:
                transport = self._open()
                transport.send(datagram.payload, max(deadline - monotonic(), 0.0))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    kept.send_errors += 1
                    self._close()
                    self.trouble(f"{self._declared.endpoint}: {error}")
                    return False
                kept.too_large += datagram.lines  # no later try will make them fit
            else:
                kept.datagrams += 1
                kept.bytes += len(datagram.payload)
                kept.lines += datagram.payload.count(b"\n") + 1
            kept.too_large += datagram.lines_done - done - datagram.lines
            done = datagram.lines_done
            kept.progress = (texts, done)
            if number % _BREATH == _BREATH - 1:
                gevent.sleep(0)
        return True

    def _open(self) -> Transport:
        """Answer the open socket, or a new one; OSError."""
        self._look_up()
        if self.kept.transport is None:
            path, address = self._declared.socket_path, self.kept.address
            if path is not None:
                self.kept.transport = UnixTransport(path)
            else:
                assert address is not None
                self.kept.transport = UdpTransport(address, self._declared.port)
            self.kept.opened += 1
        return self.kept.transport

    def _look_up(self) -> None:
        """Look the host up when it is time to, or after a failure; go on with the old address if that fails."""
        host = self._declared.host
        if self._declared.socket_path is not None or is_address(host):
            return
        if self.kept.address is not None and self.clock.monotonic_ns() < self.kept.resolve_at_ns:
            return
        try:
            address = resolve(host, self._declared.port, _RESOLVE_S)
        except OSError as error:
            self.kept.resolve_errors += 1
            if self.kept.address is None:
                raise
            self.trouble(f"{host}: {error}")
        else:
            if address != self.kept.address:
                self._close()
            self.kept.address = address
        self.kept.resolve_at_ns = self.clock.monotonic_ns() + int(self._declared.reresolve_s * 1e9)

    def _close(self) -> None:
        if self.kept.transport is not None:
            self.kept.transport.close()
            self.kept.transport = None
        self.kept.resolve_at_ns = 0


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_host(host: object) -> str:
    what = "host to be a host name or an address"
    if not isinstance(host, str) or not host or any(c.isspace() or not c.isprintable() or c in "/@[]" for c in host):
        raise expected(what, host)
    try:
        host.encode("idna")
    except UnicodeError:
        raise expected(what, host) from None
    return host


def _check_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535:
        raise expected("port to be an integer within 1…65535", port)
    return port


def _check_socket_path(path: object) -> str | None:
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise expected("socket_path to be the path of a Unix datagram socket", path)
    checked = os.fspath(path)
    if not isinstance(checked, str) or len(os.fsencode(checked)) > 107:
        raise expected("socket_path of at most 107 bytes, which is what the system takes", path)
    return checked


def _check_no_address(**given: object) -> None:
    for option, value in given.items():
        if value is not None:
            raise expected(f"no {option} beside socket_path", value, f"Leave out {option}=, or socket_path=")


def _check_mtu(mtu: object, *, is_unix: bool) -> int:
    if mtu is None:
        return _UNIX_MTU if is_unix else _UDP_MTU
    largest = _LARGEST_UNIX if is_unix else _LARGEST_UDP
    if isinstance(mtu, bool) or not isinstance(mtu, int) or not 1 <= mtu <= largest:
        raise expected(f"mtu to be a number of bytes within 1…{largest}", mtu)
    return mtu


def _check_prefix(prefix: object) -> str:
    if not isinstance(prefix, str) or (prefix and not all(prefix.split("."))):
        raise expected("prefix to be a name without leading, trailing or double dots", prefix)
    return prefix


def _check_tags(tags: object) -> dict[str, str | None]:
    if tags is None:
        return {}
    if not isinstance(tags, Mapping) or not all(isinstance(key, str) and key for key in tags):
        raise expected("global_tags to be a dict with string keys", tags)
    checked = {key: text(value) for key, value in tags.items()}
    for key, value in checked.items():
        if value == "":
            raise expected(f"global tag {key!r} to have a value that makes a text", tags[key])
    return checked


def _check_packed(packed: object, formatter: object) -> bool:
    if not isinstance(packed, bool) or (packed and formatter != "datadog"):
        raise expected("packed to be False, or True with formatter='datadog'", packed)
    return packed


def _make_formatter(formatter: object, prefix: str, tags: dict[str, str | None], packed_bytes: int) -> Formatter:
    if formatter == "datadog":
        return Datadog(prefix, tags, packed_bytes)
    if formatter == "standard":
        return Standard(prefix, tags)
    raise expected("formatter to be 'datadog' or 'standard'", formatter)
