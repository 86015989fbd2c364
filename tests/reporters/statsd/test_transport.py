"""Datagrams out: real sockets, and a name whose address changes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import runtime
from actors import whereis
from reporters import Statsd
from reporters._reporter import Flush
from reporters.statsd import reporter as statsd_reporter
from reporters.statsd._transport import UdpTransport, UnixTransport, is_address, resolve
from runtime.metrics import counter
from supervisors import Application
from tests.reporters.statsd.conftest import Endpoint


def test_a_refused_datagram_is_an_error_of_that_datagram(refusing_port: int) -> None:
    transport = UdpTransport("127.0.0.1", refusing_port)

    try:
        with pytest.raises(ConnectionRefusedError):
            transport.send(b"a:1|c", 1.0)
    finally:
        transport.close()


def test_any_bytes_travel(endpoint: Endpoint) -> None:
    transport = UdpTransport("127.0.0.1", endpoint.port)

    transport.send("é:1|c".encode(), 1.0)
    transport.close()

    assert endpoint.receive() == ["é:1|c".encode()]


def test_a_unix_socket_that_nobody_listens_to_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        UnixTransport(str(tmp_path / "none"))


def test_closing_twice_is_harmless(endpoint: Endpoint, unix_endpoint: Endpoint) -> None:
    for transport in (UdpTransport("127.0.0.1", endpoint.port), UnixTransport(unix_endpoint.socket.getsockname())):
        transport.close()
        transport.close()


def test_names_are_looked_up_and_addresses_told_apart() -> None:
    assert is_address(resolve("localhost", 8125, 10))
    assert not is_address("localhost")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64])
def test_a_name_that_cannot_be_looked_up_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError):
        resolve(host, 8125, 10)


def test_a_host_that_moves_is_followed_and_one_that_cannot_be_found_keeps_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The name server is the one part that is not real: there is none to be had that a test could move a host in.
    answers: list[str | OSError] = ["127.0.0.1", "127.0.0.2", OSError("no answer"), "127.0.0.2"]

    def looked_up(host: str, port: int, timeout_s: float) -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(statsd_reporter, "resolve", looked_up)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        here.bind(("127.0.0.1", 0))
        there.bind(("127.0.0.2", here.getsockname()[1]))
        statsd = Statsd(host="moving.example", port=here.getsockname()[1], interval_s=3600, reresolve_s=1e-9)

        with Application("shop", metrics=[counter("shop.order.count")], children=[statsd]).running():
            reporter = whereis(statsd.name)
            for _ in range(4):
                runtime.execute("shop.order")
                assert reporter.ask(Flush())

        assert Endpoint(here).lines() == ["shop.order.count:1|c"]
        assert Endpoint(there).lines() == ["shop.order.count:1|c"] * 3
        assert statsd.statistics().resolve_errors == 1
        assert statsd.statistics().opened == 2
