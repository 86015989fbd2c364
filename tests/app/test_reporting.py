"""The durable reporters inside the application, as its configuration declares them, against a real endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import runtime
from app.application import Anvil
from app.config import AITraceConfig, Config, FoundationConfig
from app.events import DECLARED
from app.labeling.storage import Storage
from app.listener import StatsdListener
from app.replay import open_platform
from reporters.aitrace import AITrace, LineageBatch
from reporters.foundation import Foundation, MetricBatch
from reporters.spool import ClassStatistics
from runtime.testing import capture_events
from supervisors import SupervisorRef
from tests.reporters.aitrace.test_lineage import MANIFEST
from tests.reporters.delivery.endpoint import Endpoint, answer, endpoint, silence
from tests.runtime.meeting import until

EVENTS = 20
BUSY = answer(503, b"", "Retry-After: 1")


@pytest.fixture
def anvil(storage: Storage, tmp_path: Path) -> Iterator[Callable[[str], Anvil]]:
    """Make an application that reports to a URL; each finds what the one before it has left in its spools."""

    def make(url: str) -> Anvil:
        config = Config(
            foundation=FoundationConfig(url=url, spool=str(tmp_path / "foundation")),
            aitrace=AITraceConfig(url=url, directory=str(tmp_path / "aitrace"), spool=str(tmp_path / "lineage")),
        )
        return Anvil(open_platform(storage)[0], statsd.address, config)

    with StatsdListener() as statsd:
        yield make


def emit(first: int = 0) -> None:
    """Emit as many low scores, and as many exports, each of which is a metric and a lineage of three records."""
    for number in range(first, first + EVENTS):
        runtime.execute("anvil.agreement.low_score", {"value": 0.3}, {"dimension": f"d{number}"})
        manifest = {**MANIFEST, "export_id": f"e{number}"}
        about = {"export_id": f"e{number}", "manifest": manifest}
        runtime.execute("anvil.export.generate.stop", {"duration": 1_000_000}, about)


def arrived(there: Endpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics and the lineage records that have come, by id; what comes again must be the same."""
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for request in list(there.requests):
        content = request.unpacked()
        is_lineage = b'"payload"' in content
        batch = msgspec.json.decode(content, type=LineageBatch if is_lineage else MetricBatch)
        for event in batch.events:
            assert found[is_lineage].setdefault(str(event.id), event) == event
    return found


def records(reporter: Foundation | AITrace | None, record_class: str) -> ClassStatistics:
    assert reporter is not None
    spool = reporter.statistics().outbox.spool
    assert spool is not None
    assert spool.balanced
    return spool.classes[record_class]


def both(application: Anvil) -> tuple[ClassStatistics, ClassStatistics]:
    made = application.reporters
    return records(made.foundation, "metric"), records(made.aitrace, "lineage")


def delivered(application: Anvil) -> tuple[int, int]:
    metrics, lineage = both(application)
    return metrics.delivered, lineage.delivered


def test_the_reporters_are_children_and_what_they_send_is_valid_and_whole(anvil: Callable[[str], Anvil]) -> None:
    with endpoint() as there, anvil(there.url).running() as application:
        assert isinstance(application, Anvil)
        (reporters,) = (one.child for one in application.supervisor.which_children() if one.id == "reporters")
        assert isinstance(reporters, SupervisorRef)
        assert [one.id for one in reporters.which_children()] == ["aitrace", "foundation", application.statsd.name]
        emit()
        until(lambda: delivered(application) == (2 * EVENTS, EVENTS))

    metrics, lineage = arrived(there)
    assert len(metrics) == 2 * EVENTS
    assert {one.data.metadata.tags.get("dimension") for one in metrics.values()} >= {f"d{n}" for n in range(EVENTS)}
    assert len(lineage) == 3 * EVENTS
    assert {one.source_ref for one in lineage.values()} == {f"e{n}" for n in range(EVENTS)}


def test_an_endpoint_that_is_down_costs_nothing_but_time(anvil: Callable[[str], Anvil]) -> None:
    with endpoint(BUSY) as there, anvil(there.url).running() as application:
        assert isinstance(application, Anvil)
        emit()
        there.wait_for(lambda seen: all(len(found) > 0 for found in arrived(seen)))
        during = both(application)
        there.becomes(answer())
        until(lambda: delivered(application) == (2 * EVENTS, EVENTS))

    assert [one.delivered for one in during] == [0, 0]
    assert [len(found) for found in arrived(there)] == [2 * EVENTS, 3 * EVENTS]


def test_what_is_refused_for_good_is_told_and_kept(anvil: Callable[[str], Anvil]) -> None:
    with endpoint(answer(404, b"no such tenant")) as there, capture_events("telemetry.delivery.*") as captured:
        with anvil(there.url).running() as application:
            assert isinstance(application, Anvil)
            runtime.execute("anvil.agreement.low_score", {"value": 0.3}, {"dimension": "novelty"})
            (told,) = captured.wait_for("telemetry.delivery.dead_letter", 1, 30)

    assert told.measurements == {"count": 1}
    assert told.metadata == {
        "courier": "foundation metric",
        "kind": "rejected",
        "reason": "404 Said: no such tenant",
    }
    assert DECLARED.check(told) == []
    assert both(application)[0].dead_lettered == {"rejected": 1}


def test_a_hanging_endpoint_does_not_hold_up_the_end_and_the_next_run_delivers_the_rest(
    anvil: Callable[[str], Anvil],
) -> None:
    with endpoint(silence) as there:
        first = anvil(there.url).start()
        assert isinstance(first, Anvil)
        emit()
        there.wait_for(lambda seen: all(len(found) > 0 for found in arrived(seen)))

        in_time = first.stop()

        assert in_time
        # Whether a lease is still given back within the time is up to the disk; it ends with its spool in any case.
        assert [(one.stored, one.delivered) for one in both(first)] == [(2 * EVENTS, 0), (EVENTS, 0)]
        there.becomes(answer())
        with anvil(there.url).running() as second:
            assert isinstance(second, Anvil)
            emit(first=EVENTS)
            until(lambda: delivered(second) == (4 * EVENTS, 2 * EVENTS))
        assert [one.recovered for one in both(second)] == [2 * EVENTS, EVENTS]

    assert [len(found) for found in arrived(there)] == [4 * EVENTS, 6 * EVENTS]
