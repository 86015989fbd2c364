"""A spool and its couriers as one thing."""

from __future__ import annotations

from pathlib import Path

import msgspec

from reporters.delivery import Batching, FileTransport, HttpTransport
from reporters.delivery._outbox import Outbox, Route
from reporters.spool import RecordClass
from tests.reporters.delivery.endpoint import endpoint, silence
from tests.runtime.meeting import PATIENCE_S, until


def outbox(tmp_path: Path, *names: str) -> Outbox:
    """An outbox that writes each class to a file of its own."""
    routes = [
        Route(
            record_class=RecordClass(name),
            transport=lambda name=name: FileTransport(tmp_path / name),  # type: ignore[misc]
            encode=lambda records, batch_id: b"".join(one.payload + b"\n" for one in records),
            batching=Batching(max_age_s=0.01),
        )
        for name in names
    ]
    return Outbox("test", tmp_path / "spool", routes)


def test_every_class_goes_its_own_way(tmp_path: Path) -> None:
    one = outbox(tmp_path, "metric", "trace")
    one.open()
    assert one.put(b"1", record_class="metric").wait(PATIENCE_S)
    assert one.put(b"2", record_class="trace").wait(PATIENCE_S)
    assert one.put(b"3", record_class="metric").wait(PATIENCE_S)

    assert one.close(PATIENCE_S)

    assert (tmp_path / "metric").read_bytes() == b"1\n3\n"
    assert (tmp_path / "trace").read_bytes() == b"2\n"


def test_before_it_is_opened_and_after_it_is_closed_it_refuses(tmp_path: Path) -> None:
    one = outbox(tmp_path, "metric")

    before = one.put(b"1")
    told = one.statistics()
    one.open()
    assert one.close(PATIENCE_S)
    after = one.put(b"1")

    assert [(ticket.outcome, ticket.reason) for ticket in (before, after)] == [("refused", "closed")] * 2
    assert (told.spool, told.couriers) == (None, {})
    assert one.close(PATIENCE_S)


def test_opening_what_is_open_goes_on_with_it_and_what_was_closed_starts_anew(tmp_path: Path) -> None:
    one = outbox(tmp_path, "metric")

    first, same = one.open(), one.open()
    assert one.close(PATIENCE_S)
    again = one.open()

    assert first is same
    assert again is not first
    assert one.put(b"1").wait(PATIENCE_S)
    assert one.close(PATIENCE_S)
    assert (tmp_path / "metric").read_bytes() == b"1\n"


def test_closing_keeps_to_its_time_when_every_endpoint_hangs(tmp_path: Path) -> None:
    with endpoint(silence) as there:
        routes = [
            Route(
                record_class=RecordClass(name),
                transport=lambda: HttpTransport(there.url, timeout_s=300),
                encode=lambda records, batch_id: msgspec.json.encode([one.id for one in records]),
                batching=Batching(max_age_s=0.01),
            )
            for name in ("a", "b")
        ]
        one = Outbox("test", tmp_path / "spool", routes)
        one.open()
        for name in ("a", "b"):
            assert one.put(b"x", record_class=name).wait(PATIENCE_S)
        there.wait_for(lambda seen: len(seen.requests) == 2)

        one.close(1.0)
        # Long before the 300 seconds that a request may take.
        until(lambda: {courier.state for courier in one.statistics().couriers.values()} == {"stopped"})
        assert one.close(PATIENCE_S)

    told = one.statistics()
    assert told.spool is not None
    assert told.spool.balanced
    assert [told.spool.classes[name].stored for name in ("a", "b")] == [1, 1]
