import datetime
from typing import Any

import msgspec
import pytest

from app import summary
from app.accounts import Account, total
from app.labeling.export import Manifest, Parameters

LABELS = summary.Labels(
    submitted=1000,
    heard=1000,
    exported=1000,
    samples=100,
    seconds=2.0,
    per_second=500.0,
    rejected=1,
    abandoned=5,
    requeued=5,
    escalated=0,
)
LEDGER = Account(listener="ledger", emitted=1005, handled=1005, failed=0, dropped=0, discarded=0, waiting=0)
RAISER = Account(listener="raiser", emitted=10, handled=2, failed=1, dropped=3, discarded=0, waiting=4, gave_up=True)
STATSD = summary.Statsd(
    address="127.0.0.1:8125",
    lines=20,
    packets=2,
    failed_sends=0,
    problem=None,
    lines_received=20,
    packets_received=2,
    labels_received=1000,
)
MANIFEST = Manifest(
    export_id="e1",
    queue_id="q1",
    schema_version_id="v2",
    sample_version=None,
    format="csv",
    output_path="/there/labels.csv",
    row_count=1000,
    sha256_hash="0123456789abcdef" * 4,
    exported_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    parameters=Parameters(None, 0, {}),
    schema_definition_hash="x",
)


def summarised(**changes: Any) -> summary.Summary:
    whole = summary.Summary(
        labels=LABELS,
        agreement=summary.Agreement({"valence": 0.7184}, 100, 21),
        emit=summary.Emit(1000, 2.5, 8.0),
        listeners=[LEDGER, RAISER],
        events=total([LEDGER, RAISER]),
        statsd=STATSD,
        restarts=1,
        exports=[MANIFEST],
        exports_kept=True,
        training=summary.Training(3, 3.14, 2.7),
        interrupted=False,
    )
    return msgspec.structs.replace(whole, **changes)


def test_the_summary_for_people_says_everything_in_words() -> None:
    assert list(summarised().lines()) == [
        "labels     1,000 submitted for 100 samples in 2.0 s, 500 labels/s",
        "           1 refused by the draft schema; 5 abandoned, 5 requeued, 0 escalated",
        "agreement  alpha 0.718 for valence; 21 low scores among 100 samples",
        "emit       p50 2.5 µs, p99 8.0 µs, of 1,000 measured",
        "events     1,015 emitted = 1,007 handled + 3 dropped + 1 failed + 4 still waiting",
        "           ledger: 1,005 emitted = 1,005 handled + 0 dropped",
        "           raiser: 10 emitted = 2 handled + 3 dropped + 1 failed + 4 still waiting; it gave up",
        "sums       1,000 submitted, 1,000 heard by the ledger, 1,000 exported: it all adds up",
        "statsd     20 lines in 2 packets to 127.0.0.1:8125",
        "           received 20 lines in 2 packets, 1,000 labels among them",
        "restarts   1",
        "export     1,000 rows, sha256 0123456789ab…, /there/labels.csv",
        "training   3 steps, loss 3.1400 to 2.7000",
    ]


def test_a_foreign_server_a_problem_and_an_interruption_are_told() -> None:
    statsd = summary.Statsd(address="h:1", lines=0, packets=0, failed_sends=7, problem="Connection refused")

    lines = list(summarised(statsd=statsd, interrupted=True, training=None, exports_kept=False).lines())

    assert lines[0].endswith(", interrupted")
    assert lines[8:] == [
        "statsd     0 lines in 0 packets to h:1",
        "           7 sends failed: Connection refused",
        "restarts   1",
        "export     1,000 rows, sha256 0123456789ab…, as csv, not kept (--export DIR does)",
    ]


def test_an_interrupted_training_is_told_where_it_happened() -> None:
    lines = list(summarised(interrupted=True).lines())

    assert [line for line in lines if "interrupted" in line] == [
        "training   3 steps, loss 3.1400 to 2.7000, interrupted"
    ]


def test_what_was_forwarded_and_what_was_not_is_told() -> None:
    well = summary.Forwarded(
        reporter="aitrace", endpoint="there", delivered=4, waiting=0, dead=0, refused=0, problem=None
    )
    badly = summary.Forwarded(
        reporter="foundation", endpoint="http://h/", delivered=1_000, waiting=2, dead=3, refused=4, problem="refused"
    )

    lines = list(summarised(forwarded=[well, badly]).lines())

    assert lines[10:13] == [
        "aitrace    4 records delivered, to there",
        "foundation 1,000 records delivered, 2 in the spool, 3 given up, 4 refused, to http://h/",
        "           refused",
    ]


def test_of_sampled_events_the_ledger_need_not_hear_all() -> None:
    sampled = msgspec.structs.replace(LABELS, heard=99, sampled=True)
    more = msgspec.structs.replace(LABELS, heard=1001, sampled=True)

    assert summarised(labels=sampled).adds_up
    assert not summarised(labels=more).adds_up
    assert any("99 heard by the ledger (events are sampled), " in line for line in summarised(labels=sampled).lines())


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": msgspec.structs.replace(LABELS, heard=999)},
        {"labels": msgspec.structs.replace(LABELS, exported=1001)},
        {"listeners": [LEDGER, msgspec.structs.replace(RAISER, handled=3)]},
    ],
    ids=["a label unheard", "a label too many exported", "an event unaccounted for"],
)
def test_what_does_not_add_up_is_told(changes: dict[str, Any]) -> None:
    wrong = summarised(**changes)

    assert summarised().adds_up
    assert not wrong.adds_up
    assert any(line.endswith("IT DOES NOT ADD UP") for line in wrong.lines())
    assert msgspec.json.decode(wrong.to_json())["adds_up"] is False


def test_the_summary_for_programs_is_one_json_object() -> None:
    decoded = msgspec.json.decode(summarised().to_json())

    assert decoded["adds_up"] is True
    assert decoded["labels"]["submitted"] == 1000
    assert decoded["listeners"][1] == {
        "listener": "raiser",
        "emitted": 10,
        "handled": 2,
        "failed": 1,
        "dropped": 3,
        "discarded": 0,
        "waiting": 4,
        "gave_up": True,
    }
