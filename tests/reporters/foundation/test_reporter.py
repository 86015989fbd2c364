"""The Foundation reporter in a running application, against a real endpoint and real files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tenacity

import runtime
from actors import whereis
from reporters.delivery import Batching, RetryPolicy
from reporters.foundation import Foundation, MetricBatch, MetricEvent, MetricLine
from reporters.spool import RecordClass
from runtime.clock import FakeClock
from runtime.errors import InvalidValue, NotCommitted
from runtime.testing import capture_events
from supervisors import Application
from tests.reporters.delivery.endpoint import Endpoint, answer, closed_port, endpoint, silence
from tests.runtime.meeting import PATIENCE_S, until

AT_ONCE = {
    "batching": Batching(max_rows=500, max_age_s=0.01),
    "retry": RetryPolicy(wait=tenacity.wait_fixed(0.01)),
}


@pytest.fixture
def foundation(tmp_path: Path) -> Callable[..., Foundation]:
    """Declare a reporter with a spool of its own, which tries again at once and takes the time to stop in order."""
    own = {"spool": tmp_path / "spool", "drain_s": PATIENCE_S, **AT_ONCE}
    return lambda url, **options: Foundation(url, **{**own, **options})


def shop(declared: Foundation, **options: Any) -> Application:
    """An application that gives its reporter the time to stop in order, also where the disk is slow."""
    return Application("shop", children=[declared], **{"drain_s": 2 * PATIENCE_S, **options})


def submit(number: int) -> None:
    metadata = {"assignment_id": f"a{number}", "labeler_id": "l1", "queue_id": "q1", "schema_version_id": "v2"}
    with runtime.span("anvil.label.submit", metadata):
        pass


def batches(there: Endpoint) -> list[MetricBatch]:
    return [msgspec.json.decode(request.unpacked(), type=MetricBatch) for request in list(there.requests)]


def events(there: Endpoint) -> list[MetricEvent]:
    return [event for batch in batches(there) for event in batch.events]


def spool_of(declared: Foundation) -> Any:
    spool = declared.statistics().outbox.spool
    assert spool is not None
    return spool.classes["metric"]


def test_events_arrive_as_valid_batches_and_are_emitted_in_this_process_too(
    foundation: Callable[..., Foundation],
) -> None:
    with endpoint() as there, capture_events("foundation.metric") as captured:
        declared = foundation(there.url, headers={"Authorization": "Bearer 0123"})
        with shop(declared).running():
            for number in range(20):
                submit(number)
            runtime.execute("anvil.agreement.low_score", {"value": 0.38}, {"dimension": "novelty", "sample_id": "s1"})
            until(lambda: len(events(there)) == 21)

    found = events(there)
    assert len({event.id for event in found}) == 21
    assert [event.id for event in found] == sorted(event.id for event in found)
    low = found[-1]
    assert (low.severity, low.metadata) == ("warning", {"event": "anvil.agreement.low_score"})
    assert low.data.measurements.value == 0.38
    assert low.data.metadata.metric_name == "anvil.agreement.low_score.value"
    assert low.data.metadata.tags == {"dimension": "novelty"}
    assert abs(low.timestamp.timestamp() * 1000 - low.data.metadata.timestamp) < 1
    emitted = captured.of("foundation.metric")
    assert len(emitted) == 21
    assert emitted[-1].measurements == {"value": 0.38}
    assert emitted[-1].metadata == msgspec.to_builtins(low.data.metadata)
    assert {batch.source for batch in batches(there)} == {"anvil"}
    assert {request.headers["authorization"] for request in there.requests} == {"Bearer 0123"}


def test_everything_is_accounted_for(foundation: Callable[..., Foundation]) -> None:
    with endpoint() as there:
        declared = foundation(there.url)
        with shop(declared).running():
            for number in range(500):
                submit(number)
            runtime.execute("anvil.agreement.low_score", {"value": "not a number"}, {})

    told = declared.statistics()
    assert (told.mailbox.offered, told.mailbox.handled, told.mailbox.pending) == (501, 501, 0)
    assert told.skipped == {"no_value": 1}
    assert (spool_of(declared).committed, spool_of(declared).delivered) == (500, 500)
    assert told.outbox.spool is not None
    assert told.outbox.spool.balanced
    assert len(events(there)) == 500


def test_what_was_emitted_before_a_stop_is_kept_when_the_endpoint_is_down_and_arrives_next_time(
    foundation: Callable[..., Foundation],
) -> None:
    with closed_port() as port, shop(first := foundation(f"http://127.0.0.1:{port}/")).running():
        for number in range(100):
            submit(number)
    assert spool_of(first).stored == 100

    with endpoint() as there:
        with shop(foundation(there.url)).running():
            until(lambda: len(events(there)) == 100)

    assert len({event.id for event in events(there)}) == 100


def test_stopping_takes_no_longer_than_the_drain_when_the_endpoint_hangs(foundation: Callable[..., Foundation]) -> None:
    with endpoint(silence) as there:
        declared = foundation(there.url, timeout_s=300, drain_s=1.5)
        application = Application("shop", children=[declared]).start()
        submit(1)
        there.wait_for(lambda seen: seen.requests)

        assert application.stop()

    assert spool_of(declared).stored == 1


def test_a_reporter_that_is_killed_goes_on_where_it_was(foundation: Callable[..., Foundation]) -> None:
    with endpoint() as there:
        declared = foundation(there.url)
        with shop(declared).running():
            submit(1)
            first = whereis("foundation")
            first.kill()
            submit(2)
            until(lambda: whereis("foundation") not in (None, first))
            submit(3)
            until(lambda: len(events(there)) == 3)

    assert spool_of(declared).delivered == 3


def test_a_commit_returns_when_the_event_is_on_disk(foundation: Callable[..., Foundation], tmp_path: Path) -> None:
    with closed_port() as port, shop(declared := foundation(f"http://127.0.0.1:{port}/")).running():
        for number in range(10):
            runtime.commit("anvil.agreement.low_score", {"value": 0.1 * number}, {"dimension": "novelty"})

            assert spool_of(declared).stored == number + 1

    assert declared.statistics().mailbox.offered == 0


def test_a_commit_that_cannot_be_kept_is_an_error_with_the_reason(foundation: Callable[..., Foundation]) -> None:
    one_row = RecordClass("any", max_rows=1)
    with closed_port() as port, shop(foundation(f"http://127.0.0.1:{port}/", bounds=one_row)).running():
        runtime.commit("anvil.agreement.low_score", {"value": 0.1}, {})
        with pytest.raises(NotCommitted, match="full_rows"):
            runtime.commit("anvil.agreement.low_score", {"value": 0.2}, {})
        with pytest.raises(NotCommitted, match="nothing of it is to be recorded"):
            runtime.commit("anvil.agreement.low_score", {"value": "text"}, {})
        with pytest.raises(NotCommitted, match="no durable reporter takes it"):
            runtime.commit("anvil.queue.created", {}, {})
    with pytest.raises(NotCommitted, match="no durable reporter takes it"):
        runtime.commit("anvil.agreement.low_score", {"value": 0.3}, {})


def test_commits_from_many_threads_are_all_there(foundation: Callable[..., Foundation]) -> None:
    with endpoint() as there:
        declared = foundation(there.url)
        with shop(declared).running():

            def commit() -> None:
                for _ in range(50):
                    runtime.commit("anvil.agreement.low_score", {"value": 0.5}, {})

            threads = [threading.Thread(target=commit) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert spool_of(declared).committed == 400
            until(lambda: len(events(there)) == 400)


def test_a_refusal_for_good_leaves_dead_letters_that_can_be_revived(foundation: Callable[..., Foundation]) -> None:
    with endpoint(answer(401)) as there:
        declared = foundation(there.url)
        with shop(declared).running():
            submit(1)
            until(lambda: spool_of(declared).dead_lettered == {"rejected": 1})
            there.becomes(answer())
            assert declared.outbox.open().revive("metric") == 1
            until(lambda: spool_of(declared).delivered == 1)


def test_lines_of_a_file_are_those_of_the_public_reader(foundation: Callable[..., Foundation], tmp_path: Path) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    declared = foundation(f"file:{path}", run_id="run-7")
    with shop(declared).running():
        submit(1)
        runtime.execute("anvil.agreement.low_score", {"value": 0.38}, {"dimension": "novelty"})
        until(lambda: spool_of(declared).delivered == 2)

    raw = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    lines = [msgspec.json.decode(line, type=MetricLine) for line in path.read_bytes().splitlines()]
    assert [sorted(line) for line in raw] == [["metadata", "metric", "run_id", "step", "timestamp", "value"]] * 2
    assert {line.run_id for line in lines} == {"run-7"}
    assert (lines[1].metric, lines[1].value, lines[1].step) == ("anvil.agreement.low_score.value", 0.38, None)
    assert lines[1].metadata["tags"] == {"dimension": "novelty"}


def test_misuse_is_an_error_at_the_call(tmp_path: Path) -> None:
    for url in ("foundation", "file:", "file://elsewhere/x", "ftp://h/", 7):
        with pytest.raises(InvalidValue, match="expected"):
            Foundation(url)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="expected source to be a non-empty string, got: ''"):
        Foundation("http://h/", source="")
    with pytest.raises(InvalidValue, match="expected drain_s to be a positive number of seconds, got: 0"):
        Foundation("http://h/", drain_s=0)
    with pytest.raises(InvalidValue, match="expected synchronous to be 'FULL' or 'NORMAL', got: 'OFF'"):
        Foundation("http://h/", synchronous="OFF")  # type: ignore[arg-type]
    assert "0123" not in repr(Foundation("http://h/?token=0123", headers={"Authorization": "0123"}))
    assert not (tmp_path / "var").exists()


def test_a_whole_tree_under_a_fake_clock_reports_by_it(foundation: Callable[..., Foundation]) -> None:
    clock = FakeClock(system_ns=1_000_000_000_000_000_000)
    with endpoint() as there:
        declared = foundation(there.url, batching=Batching(max_age_s=60))
        with shop(declared, clock=clock).running():
            submit(1)
            until(lambda: spool_of(declared).stored == 1)
            clock.advance(59)
            before = len(there.requests)
            until(lambda: (clock.advance(1), len(there.requests))[1] == 1)

    assert before == 0
    assert events(there)[0].timestamp.timestamp() == 1_000_000_000
