"""Every reporter of ours keeps to the suite that third parties can run on theirs."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors import whereis
from reporters import Console, Prometheus, Statsd
from reporters._reporter import Flush
from reporters.prometheus._families import name_of
from reporters.statsd._formatter import clean_name
from runtime import _reporter_suite as reporter_suite
from runtime._reporter_suite import Case, NotApplicable, Received
from runtime.metrics import Metric
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S, until

NEVER_S = 3600.0
SAFE = r"[^\x00-\x1f\x7f\x85\u2028\u2029|,#@]"
LINE = re.compile(
    rf"(?P<name>(?:(?!:){SAFE})+):(?P<values>[-+]?\d[\d.:-]*)\|(?P<type>c|g|ms|h|d)(?:\|@(?P<rate>[\d.]+))?"
    rf"(?:\|#(?P<tags>{SAFE}+:{SAFE}+(?:,{SAFE}+:{SAFE}+)*))?"
)


def kill(name: str) -> None:
    """Kill the actor of this name and wait until its supervisor has started it anew."""
    before = whereis(name)
    before.kill()
    until(lambda: whereis(name) not in (None, before))
    whereis(name).get_state()  # answered when it has started


class RunningStatsd:
    """A StatsD server of our own: reads lines as strictly as it can, and adds up as servers do."""

    def __init__(self, metrics: Sequence[Metric], statsd: Statsd, sock: socket.socket, path: Path) -> None:
        self.resolution = 0.5 if statsd.formatter.name == "standard" else 0.0
        self.statsd = statsd
        self.path = path
        self.bad = 0
        self.names = {clean_name(metric.name): metric.name for metric in metrics}
        self.totals: dict[tuple[str, str], float] = {}
        self.socket = sock
        self.is_reading = True
        self.is_closing = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        while not self.is_closing:
            with self.lock:
                self.read_what_is_there()
            time.sleep(0.0005)

    def read_what_is_there(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.is_reading:
                for line in self.socket.recv(1 << 20).decode().split("\n"):
                    self.take(line)

    def take(self, line: str) -> None:
        match = LINE.fullmatch(line)
        if match is None:
            self.bad += 1
            return
        name = match["name"] if match["name"] in self.names else self.without_tags(match["name"])
        series = (name, match["name"] + (match["tags"] or ""))
        rate = float(match["rate"] or 1)
        before = self.totals.get(series, 0.0)
        values = match["values"].split(":")
        if match["type"] == "c":
            self.totals[series] = before + sum(map(float, values)) / rate
        elif match["type"] != "g":
            self.totals[series] = before + len(values) / rate
        else:
            change = self.statsd.formatter.name == "standard" and values[0][0] in "+-"
            self.totals[series] = float(values[0]) + (before if change else 0)

    def without_tags(self, name: str) -> str:
        """In the standard dialect tags are segments behind the name."""
        return max((known for known in self.names if name.startswith(known + ".")), key=len, default=name)

    def flush(self) -> None:
        # A reader that does not get the processor for a second is a slow endpoint: what is left goes out next time.
        while not whereis(self.statsd.name).ask(Flush(), timeout=PATIENCE_S) and self.is_reading:
            pass

    def received(self) -> Sequence[Received]:
        with self.lock:
            self.read_what_is_there()
        return [Received(self.names.get(n, n), {"": tags}, total) for (n, tags), total in self.totals.items()]

    def malformed(self) -> int:
        return self.bad

    def crash(self) -> None:
        sent = self.statsd.statistics().datagrams
        whereis(self.statsd.name).tell(Flush())
        until(lambda: self.statsd.statistics().datagrams > sent)
        kill(self.statsd.name)

    def break_endpoint(self, how: Literal["dead", "slow"]) -> None:
        with self.lock:
            self.is_reading = False
            if how == "dead":
                self.socket.close()
                self.path.unlink()

    def mend_endpoint(self) -> None:
        with self.lock:
            if self.socket.fileno() < 0:
                self.socket = bound(self.path)
            self.is_reading = True
        self.flush()

    def close(self) -> None:
        self.is_closing = True
        self.thread.join()
        self.socket.close()


def bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(str(path))
    return sock


class StatsdUnderTest:
    """Over a Unix datagram socket, because that one can really be slow: it loses nothing, it lets the sender wait."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.options = options

    @contextlib.contextmanager
    def running(self, metrics: Sequence[Metric]) -> Iterator[RunningStatsd]:
        statsd = Statsd(socket_path=self.path, interval_s=NEVER_S, mtu=200, **self.options)
        run = RunningStatsd(metrics, statsd, bound(self.path), self.path)
        try:
            with Application("conformance", metrics=metrics, children=[statsd]).running():
                yield run
        finally:
            run.close()


class RunningPrometheus:
    """A scraper."""

    resolution = 0.0

    def __init__(self, metrics: Sequence[Metric], prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.names = {name_of(metric): metric.name for metric in metrics}
        self.latest: list[Received] = []
        self.bad = 0

    def flush(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.prometheus.kept.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/metrics")
            body = connection.getresponse().read().decode()
        finally:
            connection.close()
        try:
            self.latest = [received for family in text_string_to_metric_families(body) for received in self.of(family)]
        except ValueError:
            self.bad += 1

    def of(self, family: Any) -> Iterator[Received]:
        ending = "_count" if family.type in ("summary", "histogram") else "_total" if family.type == "counter" else ""
        for sample in family.samples:
            if sample.name == family.name + ending and "quantile" not in sample.labels:
                name = self.names.get(family.name, self.names.get(family.name.removesuffix("_counter"), family.name))
                yield Received(name, sample.labels, sample.value)

    def received(self) -> Sequence[Received]:
        return self.latest

    def malformed(self) -> int:
        return self.bad

    def crash(self) -> None:
        kill(self.prometheus.name)

    def break_endpoint(self, how: Literal["dead", "slow"]) -> None:
        raise NotApplicable("Prometheus comes to us: there is no endpoint that could be away")

    def mend_endpoint(self) -> None:
        raise NotImplementedError


class PrometheusUnderTest:
    """On a free port."""

    @contextlib.contextmanager
    def running(self, metrics: Sequence[Metric]) -> Iterator[RunningPrometheus]:
        prometheus = Prometheus(port=0)
        with Application("conformance", metrics=metrics, children=[prometheus]).running():
            yield RunningPrometheus(metrics, prometheus)


class Terminal(io.StringIO):
    """A stream that can be gone, or take until somebody lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_gone = False
        self.goes_on = threading.Event()
        self.goes_on.set()

    def write(self, text: str) -> int:
        self.goes_on.wait()
        if self.is_gone:
            raise BrokenPipeError("gone")
        return super().write(text)


class RunningConsole:
    """A reader of plain words."""

    resolution = 1e-5  # six digits are said
    pattern = re.compile(r"  (?P<name>.+?)(?: \[(?P<tags>.*)\])?: (?P<said>.*)")

    def __init__(self, metrics: Sequence[Metric], console: Console, terminal: Terminal) -> None:
        self.console = console
        self.terminal = terminal
        self.metrics = {re.sub(r"\s+", " ", repr(metric.name)[1:-1]): metric for metric in metrics}
        self.bad = 0
        self.slow: Any = None

    def flush(self) -> None:
        future = whereis(self.console.name).ask(Flush(), block=False)
        if self.terminal.goes_on.is_set():
            future.get(timeout=PATIENCE_S)

    def received(self) -> Sequence[Received]:
        totals: dict[tuple[str, str], float] = {}
        for line in self.terminal.getvalue().split("\n"):
            match = self.pattern.fullmatch(line)
            if match is None or "skipped" in match["said"] or "overflow series" in match["said"]:
                continue
            said = match["said"].replace(",", "")
            series = (match["name"], match["tags"] or "")
            if " since the start" in said:
                totals[series] = float(said.split()[-4])
            elif "measurement" in said:
                totals[series] = totals.get(series, 0) + float(said.split()[0])
            else:
                totals[series] = float(said.split()[0])
        return [Received(name, {"": tags}, total) for (name, tags), total in totals.items()]

    def malformed(self) -> int:
        return self.bad

    def crash(self) -> None:
        kill(self.console.name)

    def break_endpoint(self, how: Literal["dead", "slow"]) -> None:
        self.terminal.is_gone = how == "dead"
        if how == "slow":
            self.terminal.goes_on.clear()

    def mend_endpoint(self) -> None:
        self.terminal.is_gone = False
        self.terminal.goes_on.set()


class ConsoleUnderTest:
    """Into a stream that a test can read."""

    @contextlib.contextmanager
    def running(self, metrics: Sequence[Metric]) -> Iterator[RunningConsole]:
        terminal = Terminal()
        console = Console(interval_s=NEVER_S, stream=terminal)
        with Application("conformance", metrics=metrics, children=[console]).running():
            yield RunningConsole(metrics, console, terminal)


def run(case: Case, reporter: reporter_suite.ReporterUnderTest) -> None:
    try:
        case(reporter)
    except NotApplicable:
        # It is asked rather than that it sends, so it has no endpoint that could be away. All others have.
        assert isinstance(reporter, PrometheusUnderTest)


every_case = pytest.mark.parametrize("case", reporter_suite.CASES, ids=str)


@every_case
@pytest.mark.parametrize(
    "options",
    [{"formatter": "datadog"}, {"formatter": "datadog", "packed": True}, {"formatter": "standard"}],
    ids=["datadog", "packed", "standard"],
)
def test_statsd_conforms(case: Case, options: Any, tmp_path: Path) -> None:
    run(case, StatsdUnderTest(tmp_path / "statsd.sock", **options))


@every_case
def test_prometheus_conforms(case: Case) -> None:
    run(case, PrometheusUnderTest())


@every_case
def test_the_console_conforms(case: Case) -> None:
    run(case, ConsoleUnderTest())


# -- the suite itself ------------------------------------------------------------------------------------------------


class Loses(RunningPrometheus):
    """A reporter that forgets a series."""

    def received(self) -> Sequence[Received]:
        return super().received()[1:]


class Repeats(RunningPrometheus):
    """A reporter that says everything twice."""

    def received(self) -> Sequence[Received]:
        return [*super().received(), *super().received()]


class Garbles(RunningPrometheus):
    """A reporter whose output cannot be read."""

    def malformed(self) -> int:
        return 1


@pytest.mark.parametrize("broken", [Loses, Repeats, Garbles])
def test_the_suite_finds_a_reporter_that_does_not_conform(broken: type[RunningPrometheus]) -> None:
    class UnderTest(PrometheusUnderTest):
        @contextlib.contextmanager
        def running(self, metrics: Sequence[Metric]) -> Iterator[RunningPrometheus]:
            with super().running(metrics) as run:
                yield broken(metrics, run.prometheus)

    with pytest.raises(AssertionError, match="expected "):
        reporter_suite.CASES[0](UnderTest())
