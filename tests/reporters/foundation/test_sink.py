"""The development endpoint takes what our reporters send, and finds fault with everything else."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import runtime
from app.sink import Refused, Sink
from reporters.aitrace import AITrace
from reporters.delivery import Batching, Secret
from reporters.foundation import Foundation
from runtime.testing import capture_events
from supervisors import Application
from tests.reporters.aitrace.test_lineage import MANIFEST
from tests.runtime.meeting import PATIENCE_S

EVENT: dict[str, Any] = {
    "id": "e1",
    "timestamp": "2026-01-02T03:04:05Z",
    "name": "foundation.metric",
    "severity": "info",
    "data": {
        "measurements": {"value": 1.0},
        "metadata": {"metric_name": "anvil.x", "tags": {}, "timestamp": 1_767_322_805_000},
    },
    "metadata": {},
}


def batch(*events: dict[str, Any], **changes: Any) -> bytes:
    content = {"batch_id": "b", "source": "anvil", "sent_at": "2026-01-02T03:04:05Z", "events": list(events)}
    return json.dumps({**content, **changes}).encode()


class Running:
    """A sink in a process of its own."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.sink", "--port", "0", *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def received(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url) as response:
            told: dict[str, Any] = json.load(response)
        return told

    def post(self, body: bytes, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, body, headers)) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Running]:
    running = Running("--journal", str(tmp_path / "journal.jsonl"))
    yield running
    running.process.kill()
    running.process.communicate()


def test_it_receives_checks_and_shows_what_the_reporters_send(sink: Running, tmp_path: Path) -> None:
    children = [
        Foundation(sink.url, spool=tmp_path / "foundation", batching=Batching(max_age_s=0.01), drain_s=PATIENCE_S),
        AITrace(tmp_path / "aitrace", url=sink.url, spool=tmp_path / "spool", batching=Batching(max_age_s=0.01)),
    ]
    application = Application("shop", children=children, drain_s=2 * PATIENCE_S)
    with capture_events("aitrace.*") as captured, application.running():
        runtime.execute("anvil.agreement.low_score", {"value": 0.38}, {"dimension": "novelty"})
        about = {"export_id": "3f0c", "manifest": MANIFEST}
        runtime.execute("anvil.export.generate.stop", {"duration": 1_000_000}, about)
        captured.wait_for("aitrace.artifact.registered", 1, PATIENCE_S)

    received = sink.received()
    code, said = sink.interrupt()

    assert received["names"] == {
        "anvil.agreement.low_score.value": 1,
        "anvil.export.generate.duration": 1,
        "artifact": 1,
        "edge": 2,
    }
    assert (code, received["invalid"], received["conflicts"]) == (0, 0, 0)
    assert "anvil: 3 events (artifact, edge)" in said
    journal = [msgspec.json.decode(line) for line in (tmp_path / "journal.jsonl").read_bytes().splitlines()]
    assert len(journal) == 5
    assert {"dimension": "novelty"} in [line["key"] for line in journal]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        batch(),
        batch({**EVENT, "name": "another.event"}),
        batch({**EVENT, "timestamp": "yesterday"}),
        batch({**EVENT, "timestamp": "2026-01-02T03:04:05"}),
        batch({**EVENT, "severity": "loud"}),
        batch({**EVENT, "extra": 1}),
        batch(EVENT, batch_id=""),
    ],
)
def test_what_does_not_validate_is_refused_and_counted(body: bytes) -> None:
    sink = Sink()

    with pytest.raises(Refused) as refused:
        sink.receive(body)

    assert refused.value.status == 400
    assert (sink.received().invalid, sink.received().events) == (1, 0)


def test_the_same_event_again_is_a_duplicate_and_another_under_its_id_a_conflict() -> None:
    sink = Sink()

    assert sink.receive(batch(EVENT, EVENT)) == {"events": 1, "duplicates": 1}
    with pytest.raises(Refused) as refused:
        sink.receive(batch({**EVENT, "severity": "error"}))

    assert refused.value.status == 409
    received = sink.received()
    assert (received.events, received.duplicates, received.conflicts) == (1, 1, 1)


def test_a_packed_body_that_unpacks_to_too_much_is_refused() -> None:
    sink = Sink()

    assert sink.receive(gzip.compress(batch(EVENT)), "gzip") == {"events": 1}
    for body, status in ((b"not gzip", 400), (gzip.compress(b" " * (17 << 20)), 413)):
        with pytest.raises(Refused) as refused:
            sink.receive(body, "gzip")
        assert refused.value.status == status


def test_without_its_token_nothing_is_taken() -> None:
    sink = Sink(token=Secret("0123"))

    for authorization in ("", "0123", "Bearer 01234", "Bearer \xff"):
        with pytest.raises(Refused, match="expected the bearer token of this endpoint") as refused:
            sink.receive(batch(EVENT), authorization=authorization)
        assert refused.value.status == 401

    assert sink.receive(batch(EVENT), authorization="Bearer 0123") == {"events": 1}
    assert (sink.received().events, sink.received().unauthorized) == (1, 4)


def test_it_fails_as_often_as_it_is_told_to() -> None:
    sink = Sink(fail=0.7, seed=1)

    statuses = []
    for _ in range(1_000):
        try:
            sink.receive(batch(EVENT))
            statuses.append(202)
        except Refused as refused:
            statuses.append(refused.status)

    assert set(statuses) == {202, 503}
    assert 650 < statuses.count(503) < 750
    assert sink.received().failed_on_purpose == statuses.count(503)


def test_it_ends_with_1_when_something_was_wrong(sink: Running) -> None:
    assert sink.post(b"nonsense") == 400

    assert sink.interrupt()[0] == 1


def test_a_client_that_goes_away_in_the_middle_is_no_fault(sink: Running) -> None:
    host, port = sink.url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nonly this")

    assert sink.post(batch(EVENT)) == 202
    assert sink.received()["invalid"] == 0
    assert sink.interrupt()[0] == 0
