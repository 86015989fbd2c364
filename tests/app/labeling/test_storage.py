import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.labeling.assignments import Assignment
from app.labeling.labels import submit
from app.labeling.queues import Queue, Refused
from app.labeling.records import Label, QueueSettings, Sample
from app.labeling.storage import Storage
from runtime.errors import AlreadyExists, InvalidValue, NotFound
from runtime.testing import Capture
from tests.app.conftest import SCHEMA

SETTINGS = QueueSettings(queue_id="q1", tenant_id="t1", policy_type="round_robin", labels_per_sample=2)
ASSIGNMENT = Assignment(id="a1", queue_id="q1", sample_id="s1", labeler_id="ada", created_at_ns=5)
LABEL = Label("l1", "a1", "q1", "s1", "ada", "v1", {"valence": 3, "notes": "ä|\n"}, 1.5, 9)


@pytest.fixture
def filled(storage: Storage) -> Storage:
    """A storage with a queue of two samples and one pending assignment."""
    storage.insert_queue(SETTINGS, "active", SCHEMA)
    storage.insert_samples("q1", [Sample("s2", "two", 0.25), Sample("s1", "one")], 0)
    storage.insert_assignment(ASSIGNMENT)
    return storage


def label_everything(queue: Queue) -> None:
    for labeler in ("ada", "bob", "cyd"):
        while not isinstance(assignment := queue.dispatch(labeler), Refused):
            queue.start(assignment.id)
            submit(queue, assignment.id, labeler, {"valence": 1})


def test_what_was_written_is_there_when_the_file_is_opened_again(filled: Storage) -> None:
    started = ASSIGNMENT.start(6, 10)
    filled.update_assignments([started])
    filled.insert_label(LABEL, started.complete(8))
    filled.insert_labelers("q1", ["bob", "ada", "ada"])
    filled.upsert_scores("q1", [("s1", "valence", 0.5), ("s1", "valence", 0.75)])
    filled.close()

    again = Storage(filled.path)

    assert again.queue("q1") == (SETTINGS, "active", SCHEMA)
    assert again.samples("q1") == [Sample("s2", "two", 0.25), Sample("s1", "one")]
    assert again.assignments("q1") == [started.complete(8)]
    assert again.labels("q1") == again.labels("q1", "s1") == [LABEL]
    assert again.labels("q1", "s2") == []
    assert sorted(again.labelers("q1")) == ["ada", "bob"]
    assert again.scores("q1") == {("s1", "valence"): 0.75}
    again.close()


def test_the_database_itself_refuses_a_sample_twice_for_a_labeler(filled: Storage) -> None:
    twin = Assignment(id="a2", queue_id="q1", sample_id="s1", labeler_id="ada", created_at_ns=5)

    with pytest.raises(sqlite3.IntegrityError):
        filled.insert_assignment(twin)

    assert filled.assignments("q1") == [ASSIGNMENT]


def test_a_label_and_its_completion_are_kept_both_or_neither(filled: Storage) -> None:
    completed = ASSIGNMENT.start(6, 10).complete(8)
    filled.insert_label(LABEL, completed)
    filled.update_assignments([ASSIGNMENT])

    with pytest.raises(sqlite3.IntegrityError):
        filled.insert_label(LABEL, completed)

    assert filled.assignments("q1") == [ASSIGNMENT]


def test_a_queue_id_is_taken_once_and_an_unknown_one_is_told(filled: Storage) -> None:
    with pytest.raises(AlreadyExists, match="got: 'q1'"):
        filled.insert_queue(SETTINGS, "active", SCHEMA)
    with pytest.raises(NotFound, match="got: 'q9'"):
        filled.queue("q9")


def test_every_call_is_a_span_with_its_operation_and_a_failing_one_ends_in_an_exception(
    filled: Storage, emitted: Capture
) -> None:
    filled.queue("q1")
    with pytest.raises(sqlite3.IntegrityError):
        filled.insert_assignment(ASSIGNMENT)

    ends = [
        (event.name, event.metadata["operation"])
        for event in emitted.events
        if event.name in ("anvil.storage.query.stop", "anvil.storage.query.exception")
    ]
    assert ends == [
        ("anvil.storage.query.stop", "queue.get"),
        ("anvil.storage.query.exception", "assignment.insert"),
    ]


def test_an_export_reads_one_moment_while_others_go_on_writing(
    new_queue: Callable[..., Queue], storage: Storage
) -> None:
    queue = new_queue(samples=4, labels_per_sample=3)
    label_everything(queue)

    with storage.export("q1", limit=None, offset=0, filter={}) as (total, batches):
        queue.add_samples([Sample("s0", "late")])
        label_everything(queue)
        rows = [row for batch in batches for row in batch]

    assert total == len(rows) == 12
    assert [(label.sample_id, label.labeler_id) for label, _ in rows] == [
        (f"s{number}", labeler) for number in (1, 2, 3, 4) for labeler in ("ada", "bob", "cyd")
    ]
    assert {text for _, text in rows} == {"text 1", "text 2", "text 3", "text 4"}
    assert len(storage.labels("q1")) == 15


@pytest.mark.parametrize(
    ("limit", "offset", "filter", "rows"),
    [
        (None, 0, {"labeler_id": "bob"}, 4),
        (None, 0, {"labeler_id": "bob", "sample_id": "s2"}, 1),
        (5, 0, {}, 5),
        (5, 10, {}, 2),
        (0, 0, {}, 0),
        (None, 99, {}, 0),
    ],
)
def test_an_export_counts_and_gives_the_rows_of_its_window(
    new_queue: Callable[..., Queue], storage: Storage, limit: int | None, offset: int, filter: dict[str, str], rows: int
) -> None:
    label_everything(new_queue(samples=4, labels_per_sample=3))

    with storage.export("q1", limit=limit, offset=offset, filter=filter) as (total, batches):
        assert total == sum(len(batch) for batch in batches) == rows


def test_an_export_by_another_field_is_refused(filled: Storage) -> None:
    with (
        pytest.raises(InvalidValue, match=r"an export filter by sample_id or labeler_id, got: \['1=1; --'\]"),
        filled.export("q1", limit=None, offset=0, filter={"1=1; --": "x"}),
    ):
        raise AssertionError("never reached")


def test_threads_take_turns_and_lose_nothing(filled: Storage) -> None:
    def insert(thread: int) -> None:
        for number in range(20):
            filled.insert_samples("q1", [Sample(f"t{thread}-{number}", "x")], 10)

    threads = [threading.Thread(target=insert, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(filled.samples("q1")) == 2 + 4 * 20


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    program = f"""
import itertools
from app.labeling.records import QueueSettings, Sample
from app.labeling.storage import Storage
from tests.app.conftest import SCHEMA
from runtime.testing import Capture
storage = Storage({str(path)!r})
storage.insert_queue(QueueSettings(queue_id="q1", tenant_id="t1", policy_type="random"), "active", SCHEMA)
for number in itertools.count():
    storage.insert_samples("q1", [Sample(f"s{{number}}", "x")], number)
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()

    storage = Storage(path)
    kept = {sample.id for sample in storage.samples("q1")}
    storage.close()
    assert {f"s{number}" for number in acknowledged} <= kept


def test_a_file_that_is_no_database_is_an_error_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)

    with pytest.raises(sqlite3.DatabaseError):
        Storage(path)
