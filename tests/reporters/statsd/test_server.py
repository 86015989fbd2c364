"""The server that all StatsD clients are written against takes a run of ours, and its numbers equal ours."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from reporters import Statsd
from runtime import metrics as m
from runtime.metrics import counter, distribution, last_value, summary
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S

BACKEND = """
exports.init = function (startup, config, events, logger) {
  events.on('flush', function (timestamp, metrics) {
    const {counters, gauges, timers} = metrics;
    console.log('FLUSH ' + JSON.stringify({counters, gauges, timers, counts: metrics.timer_counters}));
  });
  return true;
};
"""


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A running StatsD server, and everything that it has flushed."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.timers: dict[str, list[float]] = {}
        self.counts: Counter[str] = Counter()

    def read_flush(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("FLUSH "):
                flush: dict[str, dict[str, Any]] = json.loads(line.removeprefix("FLUSH "))
                self.counters.update(flush["counters"])
                self.gauges.update(flush["gauges"])
                for name, values in flush["timers"].items():
                    self.timers.setdefault(name, []).extend(values)
                self.counts.update(flush["counts"])
                return
        pytest.fail(f"expected the server to go on, got: {self.process.wait()}")

    def read_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (self.counters, self.gauges, self.timers)
            self.read_flush()


@pytest.fixture
def server(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Server]:
    """A real StatsD server on loopback, with a back end that prints each flush."""
    program = peer("statsd")
    port, management = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    (tmp_path / "backend.js").write_text(BACKEND)
    config = {
        "address": "127.0.0.1",
        "port": port,
        "mgmt_address": "127.0.0.1",
        "mgmt_port": management,
        "flushInterval": 50,
        "deleteCounters": True,
        "deleteTimers": True,
        "backends": [str(tmp_path / "backend.js")],
    }
    (tmp_path / "config.js").write_text(json.dumps(config))
    process = subprocess.Popen([program, str(tmp_path / "config.js")], stdout=subprocess.PIPE, text=True)
    try:
        _wait_until_it_listens(process, management)
        yield Server(process, port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


def _wait_until_it_listens(process: subprocess.Popen[str], management: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", management), timeout=5) as probe:
            probe.sendall(b"health\n")
            if b"up" in probe.recv(100):
                return
        time.sleep(0.01)
    pytest.fail("expected the StatsD server to listen, got: nobody there")


def test_a_real_statsd_server_has_our_numbers(server: Server) -> None:
    metrics = [
        counter("shop.order.count", tags=["country"]),
        m.sum("shop.order.items", reporter_options={"report_as": "counter"}),
        m.sum("shop.order.balance"),
        last_value("shop.order.queue"),
        summary("shop.order.weight"),
        distribution("shop.order.duration", unit=("native", "millisecond")),
    ]
    statsd = Statsd(port=server.port, formatter="standard", prefix="test", interval_s=0.05)

    with Application("shop", metrics=metrics, children=[statsd]).running():
        for n in range(300):
            measurements = {
                "items": n % 4,
                "balance": 0.5 - (n % 3),
                "queue": 7 - n,
                "weight": n / 2,
                "duration": n * 1_000_000,
            }
            runtime.execute("shop.order", measurements, {"country": ("nl", "fr")[n % 2]})
        runtime.execute("shop.order", {"items": 2}, {"country": "a b|c:d\ne"})

    expected = {"test.shop.order.count.nl": 150, "test.shop.order.count.fr": 150, "test.shop.order.items": 452}
    # The last event has no duration, and may have come alone.
    server.read_until(
        lambda: server.counts["test.shop.order.duration"] >= 300 and server.counters["test.shop.order.items"] >= 452
    )
    server.read_flush()
    ours = {name: count for name, count in server.counters.items() if name.startswith("test.")}
    hostile = ours.keys() - expected.keys()
    assert {name: ours[name] for name in expected} == expected
    assert [ours[name] for name in hostile] == [1]
    assert server.counters["statsd.bad_lines_seen"] == 0
    assert server.gauges["test.shop.order.queue"] == -292
    assert server.gauges["test.shop.order.balance"] == -150
    assert sorted(server.timers["test.shop.order.duration"]) == list(range(300))
    assert len(server.timers["test.shop.order.weight"]) == 300
    assert statsd.statistics().flush.waiting_points == 0


def test_a_real_statsd_server_scales_samples_by_their_rate(server: Server) -> None:
    metrics = [
        counter("shop.order.count"),
        distribution("shop.order.duration", reporter_options={"max_samples": 50}),
    ]
    statsd = Statsd(port=server.port, formatter="standard", interval_s=3600)

    with Application("shop", metrics=metrics, children=[statsd]).running():
        for n in range(1_000):
            runtime.execute("shop.order", {"duration": n})

    server.read_until(lambda: server.counts["shop.order.duration"] >= 1_000)
    server.read_flush()
    assert server.counts["shop.order.duration"] == 1_000
    assert len(server.timers["shop.order.duration"]) <= 50 + 16
