"""The StatsD reporter in a running application: what arrives at a real socket, and what happens when none is there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from actors import ActorRef, whereis
from reporters import Statsd
from reporters._reporter import Flush
from reporters.statsd import StatsdReporter
from runtime.clock import FakeClock
from runtime.errors import InvalidValue
from runtime.metrics import counter, distribution, last_value
from supervisors import Application
from tests.reporters.statsd.conftest import Endpoint
from tests.runtime.meeting import PATIENCE_S, until

METRICS = [
    counter("shop.order.count", tags=["country"]),
    distribution("shop.order.duration", unit=("native", "millisecond")),
]
NEVER_S = 3600.0


def shop(*children: Any, metrics: Any = METRICS) -> Application:
    return Application("shop", metrics=metrics, children=children)


def order(country: str = "nl", duration: int = 45_000_000) -> None:
    runtime.execute("shop.order", {"duration": duration}, {"country": country})


def reporter_of(declaration: Statsd) -> ActorRef[Any]:
    ref = whereis(declaration.name)
    assert ref is not None
    return ref


def flush(declaration: Statsd) -> bool:
    sent: bool = reporter_of(declaration).ask(Flush())
    return sent


@contextlib.contextmanager
def reading(endpoint: Endpoint, lines: list[str]) -> Iterator[None]:
    """Read what arrives at an endpoint, all the while and at the end, into `lines`."""
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            lines.extend(endpoint.lines())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        lines.extend(endpoint.lines())


# -- what arrives ----------------------------------------------------------------------------------------------------


def test_what_happened_arrives_at_shutdown(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, interval_s=NEVER_S)

    with shop(statsd).running():
        order("nl")
        order("fr")
        order("nl", duration=2_500_000)

    assert endpoint.receive() == [
        b"shop.order.count:2|c|#country:nl\nshop.order.count:1|c|#country:fr\n"
        b"shop.order.duration:45|d\nshop.order.duration:45|d\nshop.order.duration:2.5|d"
    ]
    statistics = statsd.statistics()
    assert (statistics.lines, statistics.datagrams, statistics.bytes) == (5, 1, 141)
    assert (statistics.flush.flushes, statistics.flush.failed) == (1, 0)


def test_what_happened_arrives_in_the_standard_dialect(endpoint: Endpoint) -> None:
    statsd = Statsd(
        port=endpoint.port, formatter="standard", prefix="eu", global_tags={"env": "test"}, interval_s=NEVER_S
    )

    with shop(statsd).running():
        order("nl", duration=2_500_000)

    assert endpoint.lines() == ["eu.shop.order.count.nl.test:1|c", "eu.shop.order.duration.test:3|ms"]


def test_it_sends_by_itself_every_interval(endpoint: Endpoint) -> None:
    endpoint.socket.settimeout(PATIENCE_S)

    with shop(Statsd(port=endpoint.port, interval_s=0.01)).running():
        order()

        assert endpoint.socket.recv(2000).startswith(b"shop.order.count:1|c|#country:nl\n")


def test_it_sends_when_the_clock_says_so(endpoint: Endpoint) -> None:
    clock = FakeClock()
    statsd = Statsd(port=endpoint.port, interval_s=10)

    with Application("shop", metrics=METRICS[:1], children=[statsd], clock=clock).running():
        order()
        clock.advance(9.9)
        assert endpoint.receive() == []
        clock.advance(0.1)
        assert endpoint.receive() == [b"shop.order.count:1|c|#country:nl"]
        order()
        clock.advance(25)
        assert endpoint.receive() == [b"shop.order.count:1|c|#country:nl"]
        assert statsd.statistics().flush.flushes == 3


def test_each_flush_sends_what_changed_since_the_one_before(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, interval_s=NEVER_S)

    with shop(statsd, metrics=METRICS[:1]).running():
        order()
        assert flush(statsd)
        order()
        order()
        assert flush(statsd)
        assert flush(statsd)

    assert endpoint.receive() == [b"shop.order.count:1|c|#country:nl", b"shop.order.count:2|c|#country:nl"]


def test_it_sends_to_a_unix_datagram_socket(unix_endpoint: Endpoint) -> None:
    path = unix_endpoint.socket.getsockname()

    with shop(Statsd(socket_path=Path(path), interval_s=NEVER_S)).running():
        order()

    assert unix_endpoint.lines() == ["shop.order.count:1|c|#country:nl", "shop.order.duration:45|d"]


def test_datagrams_keep_within_the_mtu_and_a_line_above_it_is_left_out_and_counted(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, mtu=64, interval_s=NEVER_S)

    with shop(statsd, metrics=METRICS[:1]).running():
        for country in ("a", "x" * 80, "b", "c", "y" * 90):
            order(country)
        assert flush(statsd)

    received = endpoint.receive()
    assert [len(datagram) for datagram in received] == [31, 63]
    assert statsd.statistics().too_large == 2
    assert statsd.statistics().lines == 3


def test_a_host_name_is_looked_up(endpoint: Endpoint) -> None:
    with shop(Statsd(host="localhost", port=endpoint.port, interval_s=NEVER_S)).running():
        order()

    assert len(endpoint.lines()) == 2


def test_several_reporters_each_send_everything(endpoint: Endpoint, unix_endpoint: Endpoint) -> None:
    udp = Statsd(port=endpoint.port, interval_s=NEVER_S)
    unix = Statsd(socket_path=unix_endpoint.socket.getsockname(), interval_s=NEVER_S)

    with shop(udp, unix).running():
        order()
        assert flush(udp)
        order()

    assert [line.split("|")[0] for line in endpoint.lines() if "count" in line] == ["shop.order.count:1"] * 2
    assert [line.split("|")[0] for line in unix_endpoint.lines() if "count" in line] == ["shop.order.count:2"]


def test_a_host_in_ipv6_notation_works() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("expected this machine to have IPv6 on loopback")
        statsd = Statsd(host="::1", port=sock.getsockname()[1], interval_s=NEVER_S)

        with shop(statsd).running():
            order()

        assert Endpoint(sock).lines()
        assert statsd.endpoint == f"[::1]:{statsd.port}"


# -- an endpoint that is not there -------------------------------------------------------------------------------------


def test_what_a_refusing_endpoint_did_not_take_is_sent_when_it_is_back(refusing_port: int) -> None:
    statsd = Statsd(port=refusing_port, interval_s=NEVER_S)

    with shop(statsd).running():
        for _ in range(3):
            order()
            assert not flush(statsd)
        refused = statsd.statistics()
        assert (refused.flush.failed, refused.send_errors, refused.lines, refused.datagrams) == (3, 3, 0, 0)
        assert refused.flush.waiting_points == 2
        assert "Connection refused" in refused.flush.last_error
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", refusing_port))
            assert flush(statsd)
            lines = Endpoint(sock).lines()

    assert lines == ["shop.order.count:3|c|#country:nl", *["shop.order.duration:45|d"] * 3]
    assert statsd.statistics().flush.last_error == ""
    assert statsd.statistics().flush.waiting_points == 0


def test_an_endpoint_that_vanishes_between_two_datagrams_gets_every_line_once(refusing_port: int) -> None:
    statsd = Statsd(port=refusing_port, mtu=40, interval_s=NEVER_S)
    lines: list[str] = []

    with shop(statsd, metrics=METRICS[:1]).running():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", refusing_port))
            for n in range(5):
                order(f"a{n}")
            assert flush(statsd)
            lines += Endpoint(sock).lines()
        for n in range(5):
            order(f"b{n}")
        assert not flush(statsd)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", refusing_port))
            assert flush(statsd)
            lines += Endpoint(sock).lines()

    assert sorted(lines) == sorted(f"shop.order.count:1|c|#country:{x}{n}" for x in "ab" for n in range(5))
    assert statsd.statistics().lines == 10
    assert statsd.statistics().opened == 2


def test_a_unix_socket_that_does_not_exist_is_told_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "later.sock"
    statsd = Statsd(socket_path=path, interval_s=NEVER_S)

    with shop(statsd, metrics=METRICS[:1]).running():
        order()
        assert not flush(statsd)
        assert "No such file" in statsd.statistics().flush.last_error
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
            assert flush(statsd)

            assert Endpoint(sock).lines() == ["shop.order.count:1|c|#country:nl"]


def test_a_slow_unix_endpoint_delays_nobody_and_gets_every_line_once(unix_endpoint: Endpoint) -> None:
    statsd = Statsd(socket_path=unix_endpoint.socket.getsockname(), mtu=40, interval_s=NEVER_S)
    neighbour: list[str] = []

    with shop(statsd, metrics=METRICS[:1]).running():
        runtime.attach("neighbour", "shop.other", lambda *event: neighbour.append(event[0]))
        for n in range(300):  # far more datagrams than the system keeps for a reader that does not read
            order(f"c{n:03}")

        def neighbour_goes_on_while_the_flush_waits() -> bool:
            neighbour.clear()
            flushing = reporter_of(statsd).ask(Flush(), block=False)
            runtime.execute("shop.other")
            until(lambda: neighbour or flushing.done())
            goes_on = not flushing.done()
            assert not flushing.get(timeout=PATIENCE_S)
            return goes_on

        until(neighbour_goes_on_while_the_flush_waits)  # at once, if only the system gives it the processor
        runtime.detach("neighbour")
        first = unix_endpoint.lines()
        assert "no room to send" in statsd.statistics().flush.last_error

        rest: list[str] = []
        with reading(unix_endpoint, rest):
            while not flush(statsd):
                pass

    assert 0 < len(first) < 300
    assert sorted(first + rest) == [f"shop.order.count:1|c|#country:c{n:03}" for n in range(300)]


def test_a_host_that_cannot_be_found_is_told_and_looked_up_again() -> None:
    statsd = Statsd(host="no-such-host.invalid", interval_s=NEVER_S)

    with shop(statsd).running():
        order()
        assert not flush(statsd)

    statistics = statsd.statistics()
    assert statistics.resolve_errors == 2
    assert statistics.flush.last_error
    assert statistics.opened == 0


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_a_reporter_that_is_killed_goes_on_where_it_was(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, interval_s=NEVER_S)

    with shop(statsd, metrics=METRICS[:1]).running():
        order()
        assert flush(statsd)
        order()
        before = reporter_of(statsd)
        before.kill()
        before.wait(PATIENCE_S)
        order()

    assert endpoint.receive() == [b"shop.order.count:1|c|#country:nl", b"shop.order.count:2|c|#country:nl"]


def test_a_reporter_that_is_killed_in_mid_batch_goes_on_behind_the_last_datagram(unix_endpoint: Endpoint) -> None:
    statsd = Statsd(socket_path=unix_endpoint.socket.getsockname(), mtu=40, interval_s=NEVER_S)
    lines: list[str] = []

    with shop(statsd, metrics=METRICS[:1]).running():
        for n in range(300):  # more than the system keeps for a reader that does not read: the flush has to wait
            order(f"c{n:03}")
        reporter = reporter_of(statsd)
        reporter.tell(Flush())
        until(lambda: statsd.statistics().datagrams > 0)
        reporter.kill()
        reporter.wait(PATIENCE_S)
        until(lambda: whereis(statsd.name) not in (None, reporter))
        reporter_of(statsd).get_state()  # answered when it has started
        with reading(unix_endpoint, lines):
            while not flush(statsd):
                pass

    assert sorted(lines) == [f"shop.order.count:1|c|#country:c{n:03}" for n in range(300)]
    assert statsd.statistics().lines == 300


def test_without_an_aggregator_a_flush_fails_and_is_counted(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, interval_s=NEVER_S)
    reporter = StatsdReporter.start(statsd)

    assert not reporter.ask(Flush())
    reporter.stop()

    assert statsd.statistics().flush.no_aggregator == 2
    assert statsd.statistics().flush.last_error == "no aggregator runs"


# -- declarations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ""}, "expected host to be a host name or an address, got: ''"),
        ({"host": 7}, "expected host to be a host name or an address, got: 7"),
        ({"host": "http://x"}, "expected host to be a host name or an address"),
        ({"host": "a b"}, "expected host to be a host name or an address"),
        ({"host": "x" * 64 + ".com"}, "expected host to be a host name or an address"),
        ({"port": 0}, "expected port to be an integer within 1…65535, got: 0"),
        ({"port": 65536}, "expected port to be an integer within 1…65535, got: 65536"),
        ({"port": "8125"}, "expected port to be an integer within 1…65535, got: '8125'"),
        ({"port": True}, "expected port to be an integer within 1…65535, got: True"),
        ({"socket_path": ""}, "expected socket_path to be the path"),
        ({"socket_path": 3}, "expected socket_path to be the path"),
        ({"socket_path": b"/x"}, "expected socket_path"),
        ({"socket_path": "/" + "x" * 200}, "expected socket_path of at most 107 bytes"),
        (
            {"socket_path": "/run/s", "host": "127.0.0.1"},
            "expected no host beside socket_path, got: '127.0.0.1'. Leave out host=, or socket_path=",
        ),
        ({"socket_path": "/run/s", "port": 8125}, "expected no port beside socket_path, got: 8125"),
        ({"socket_path": "/run/s", "reresolve_s": 60}, "expected no reresolve_s beside socket_path, got: 60"),
        ({"formatter": "graphite"}, "expected formatter to be 'datadog' or 'standard', got: 'graphite'"),
        ({"prefix": "app."}, "expected prefix to be a name without leading, trailing or double dots, got: 'app.'"),
        ({"prefix": None}, "expected prefix to be a name"),
        ({"global_tags": ["env:prod"]}, "expected global_tags to be a dict with string keys"),
        ({"global_tags": {1: "x"}}, "expected global_tags to be a dict with string keys"),
        ({"global_tags": {"env": {}}}, "expected global tag 'env' to have a value that makes a text, got: {}"),
        ({"mtu": 0}, "expected mtu to be a number of bytes within 1…65507, got: 0"),
        ({"mtu": 70_000}, "expected mtu to be a number of bytes within 1…65507, got: 70000"),
        ({"mtu": 1.5}, "expected mtu to be a number of bytes"),
        ({"interval_s": 0}, "expected interval_s to be a positive number of seconds, got: 0"),
        ({"interval_s": float("nan")}, "expected interval_s to be a positive number of seconds"),
        ({"reresolve_s": -1}, "expected reresolve_s to be a positive number of seconds, got: -1"),
        ({"packed": 1}, "expected packed to be False"),
        ({"packed": True, "formatter": "standard"}, "expected packed to be False"),
        ({"name": ""}, "expected name to be a non-empty string, got: ''"),
    ],
)
def test_a_bad_option_is_refused_where_it_is_given(options: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        Statsd(**options)

    assert message in str(refusal.value)


def test_defaults_are_those_of_the_transport() -> None:
    assert Statsd().mtu == 1432
    assert Statsd(socket_path="/run/statsd.sock").mtu == 8192
    assert Statsd().endpoint == Statsd(host=None, port=None).endpoint == "127.0.0.1:8125"
    assert Statsd(host="::1").endpoint == "[::1]:8125"
    assert Statsd().reresolve_s == 60
    assert repr(Statsd(socket_path="/run/statsd.sock")) == "Statsd('/run/statsd.sock', formatter='datadog')"


def test_a_declaration_makes_a_child_of_its_own_name() -> None:
    assert Statsd().child_spec().id == "statsd 127.0.0.1:8125"
    assert Statsd(name="second").child_spec().id == "second"


def test_a_negative_gauge_reaches_a_standard_server_with_its_reset_in_one_datagram(endpoint: Endpoint) -> None:
    statsd = Statsd(port=endpoint.port, formatter="standard", mtu=50, interval_s=NEVER_S)

    with shop(statsd, metrics=[counter("shop.order.count"), last_value("shop.order.balance")]).running():
        runtime.execute("shop.order", {"balance": -5})

    assert endpoint.receive() == [b"shop.order.count:1|c", b"shop.order.balance:0|g\nshop.order.balance:-5|g"]
