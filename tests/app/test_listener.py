import socket
import threading
from collections.abc import Iterator

import pytest

from app.listener import Received, StatsdListener
from tests.runtime.meeting import PATIENCE_S


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield opened


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("anvil.queue.created.count:1|c", 1.0),
        ("n:3|c|#queue_id:q1,schema_version_id:v2", 3.0),
        ("n:1|c|@0.1|#a:b", 10.0),
        ("n:1:2:3|c", 6.0),
        ("n:-2.5|c", -2.5),
    ],
)
def test_counters_are_added_up_with_their_rate(client: socket.socket, line: str, counted: float) -> None:
    with StatsdListener() as listener:
        client.sendto(line.encode(), listener.address)
        received = listener.wait_for_packets(1, PATIENCE_S)

    assert received.bad_lines == 0
    assert list(received.counters.values()) == [pytest.approx(counted)]


@pytest.mark.parametrize(
    "line",
    ["anvil.assignment.dispatch.duration:45.2|ms|#policy_type:redundancy", "n:0.38|g|#dimension:x", "n:1:2|d", "n:1|h"],
)
def test_other_kinds_of_lines_are_understood(client: socket.socket, line: str) -> None:
    with StatsdListener() as listener:
        client.sendto(line.encode(), listener.address)
        received = listener.wait_for_packets(1, PATIENCE_S)

    assert (received.lines, received.bad_lines, received.counters) == (1, 0, {})


@pytest.mark.parametrize("line", ["", "n", "n:1", "n:1|x", "n:one|c", ":1|c", "n:1|c|@", "n:1|c\nextra", "a#b:1|c"])
def test_a_line_that_is_not_statsd_is_counted_as_such(client: socket.socket, line: str) -> None:
    with StatsdListener() as listener:
        client.sendto(line.encode() or b"\n", listener.address)
        received = listener.wait_for_packets(1, PATIENCE_S)

    assert received.packets == 1
    assert received.bad_lines >= 1


def test_lines_of_one_datagram_are_told_apart(client: socket.socket) -> None:
    with StatsdListener() as listener:
        client.sendto(b"a:1|c\na:2|c\nb:1|g", listener.address)
        received = listener.wait_for_packets(1, PATIENCE_S)

    assert received == Received(packets=1, lines=3, bad_lines=0, counters={"a": 3.0})


def test_what_was_sent_before_the_end_is_received(client: socket.socket) -> None:
    with StatsdListener() as listener:
        for _ in range(500):
            client.sendto(b"a:1|c", listener.address)

    assert listener.received() == Received(packets=500, lines=500, bad_lines=0, counters={"a": 500.0})


def test_a_summary_is_given_only_when_something_came(client: socket.socket) -> None:
    summaries: list[Received] = []
    told = threading.Event()

    def on_summary(received: Received) -> None:
        summaries.append(received)
        told.set()

    with StatsdListener(on_summary, every_s=0.01) as listener:
        client.sendto(b"a:1|c", listener.address)
        assert told.wait(PATIENCE_S)

    assert [summary.packets for summary in summaries] == [1]
