"""A full run, in this process, held against the declarations: whatever is emitted is declared and sound."""

import json
from pathlib import Path

import pytest

from app import job
from app.events import CHECKED, DECLARED
from app.options import parse
from app.screen import Screen
from app.summary import Summary
from runtime.testing import Capture, capture_events

# Nothing fails inside a run's own work, its words hold no personal data, and its training asks no server. Each of these
# is made to happen in tests of its own.
NOT_IN_A_RUN = {
    "anvil.export.failed",
    "anvil.export.pii_detected",
    "tinkex.http.request.start",
    "tinkex.http.request.stop",
    "tinkex.queue.state_change",
}


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Capture, Path]:
    """Run the job with every reporter and every mishap that it can make, and keep all that was emitted."""
    directory = tmp_path_factory.mktemp("run")
    config = directory / "config.toml"
    config.write_text(
        f'[prometheus]\nenabled = true\nport = 0\n[foundation]\nurl = "file:{directory}/forwarded.jsonl"\n'
        f'spool = "{directory}/f"\n[aitrace]\ndirectory = "{directory}/aitrace"\nspool = "{directory}/a"\n'
    )
    options = parse(f"--samples 30 --rate max --abandon 0.02 --train 2 --chaos --config {config}".split())
    with capture_events("*") as emitted:
        summary = job.run(options, Screen(quiet=True))
    return summary, emitted, directory


def test_everything_that_a_run_emits_is_declared(full_run: tuple[Summary, Capture, Path]) -> None:
    _, emitted, _ = full_run

    assert {event.name for event in emitted.events} - set(DECLARED.names) == set()


def test_everything_that_a_run_emits_is_as_declared(full_run: tuple[Summary, Capture, Path]) -> None:
    _, emitted, _ = full_run

    problems = {event.name: found for event in emitted.events if (found := DECLARED.check(event))}
    assert problems == {}


def test_a_run_emits_what_is_declared_but_for_what_did_not_happen(full_run: tuple[Summary, Capture, Path]) -> None:
    _, emitted, _ = full_run

    missing = {name for name in CHECKED.names if not emitted.count(name)}
    assert {name for name in missing if not name.endswith(".exception")} == NOT_IN_A_RUN


def test_a_run_with_every_reporter_adds_up(full_run: tuple[Summary, Capture, Path]) -> None:
    summary, emitted, directory = full_run

    forwarded = {one.reporter: one for one in summary.forwarded}
    lines = [json.loads(line) for line in (directory / "forwarded.jsonl").read_text().splitlines()]
    waiting = {account.listener: account.waiting for account in summary.listeners}
    assert summary.adds_up
    # A slow machine may run out of time to stop in: what is not delivered by then is in the spool.
    foundation, aitrace = forwarded["foundation"], forwarded["aitrace"]
    assert foundation.delivered + foundation.waiting == emitted.count("foundation.metric") > 300
    assert len(lines) >= foundation.delivered > 0
    assert aitrace.delivered + aitrace.waiting == 2 * len(summary.exports)
    assert emitted.count("aitrace.artifact.created") == len(summary.exports) == 2
    assert [one.problem for one in summary.forwarded] == [None, None]
    assert waiting["telemetry.validator"] == waiting["telemetry.aggregator"] == waiting["ledger"] == 0
