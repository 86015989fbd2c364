from collections.abc import Callable
from pathlib import Path

import pytest

from app.labeling import policies
from app.labeling.assignments import Assignment
from app.labeling.auth import AccessDenied, Gate, Identity
from app.labeling.labels import Accepted, Rejected
from app.labeling.queues import Refused
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.service import Platform
from app.labeling.storage import Storage
from runtime.clock import FakeClock
from runtime.errors import NotFound
from runtime.testing import Capture
from tests.app.conftest import SCHEMA

OWNER, ADA, BOB, EVE = (Identity(name, "t1") for name in ("owner", "ada", "bob", "eve"))
SETTINGS = QueueSettings(queue_id="q1", tenant_id="t1", policy_type="redundancy", labels_per_sample=2)


@pytest.fixture
def platform(storage: Storage, clock: FakeClock) -> Platform:
    """A platform with one queue of two samples, owned by owner, for ada and bob."""
    platform = Platform(storage, Gate(b"k" * 32, "me", clock), clock=clock)
    queue = platform.create_queue(OWNER, SETTINGS, SCHEMA, policies.build("redundancy"))
    for identity in (ADA, BOB):
        platform.enroll(OWNER, "q1", identity.labeler_id)
    queue.add_samples([Sample("s1", "one"), Sample("s2", "two")])
    return platform


def work(platform: Platform, identity: Identity, **valence: int) -> Accepted | Rejected:
    """Let somebody label their next sample with the valence given for it (default 0)."""
    assignment = platform.request_assignment(identity, "q1")
    assert isinstance(assignment, Assignment)
    return platform.submit(identity, "q1", assignment.id, {"valence": valence.get(assignment.sample_id, 0)})


def test_a_label_goes_all_the_way_from_request_to_export(platform: Platform, tmp_path: Path, emitted: Capture) -> None:
    for _ in range(2):
        assert isinstance(work(platform, ADA, s1=1, s2=4), Accepted)
        assert isinstance(work(platform, BOB, s1=1, s2=-4), Accepted)

    assert platform.request_assignment(ADA, "q1") == Refused("no_samples_available")
    report = platform.agreement(OWNER, "q1")
    manifest = platform.export(OWNER, "q1", tmp_path / "labels.csv", "csv", sample_version="x")

    assert report.samples_processed == 2
    assert [sample_id for sample_id, _, _ in report.low] == ["s2"]
    assert (manifest.row_count, manifest.sample_version) == (4, "x")
    assert len(emitted.of("anvil.agreement.compute.stop")) == 2


def test_a_request_hands_out_work_that_has_begun(platform: Platform) -> None:
    assignment = platform.request_assignment(ADA, "q1")

    assert isinstance(assignment, Assignment)
    assert (assignment.status, assignment.attempts) == ("in_progress", 1)


def test_every_request_of_a_stranger_is_denied(platform: Platform, tmp_path: Path, emitted: Capture) -> None:
    requests: list[Callable[[], object]] = [
        lambda: platform.request_assignment(EVE, "q1"),
        lambda: platform.submit(EVE, "q1", "a1", {"valence": 0}),
        lambda: platform.agreement(EVE, "q1"),
        lambda: platform.export(EVE, "q1", tmp_path / "labels.csv", "csv"),
        lambda: platform.change_status(EVE, "q1", "paused"),
        lambda: platform.migrate_schema(EVE, "q1", SCHEMA),
        lambda: platform.enroll(EVE, "q1", "eve", "admin"),
    ]

    for request in requests:
        with pytest.raises(AccessDenied, match="got: not_member"):
            request()

    assert len(emitted.of("anvil.auth.access_denied")) == len(requests)
    assert not (tmp_path / "labels.csv").exists()


def test_a_labeler_may_work_but_not_administer(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="got: insufficient_permissions"):
        platform.export(ADA, "q1", tmp_path / "labels.csv", "csv")
    with pytest.raises(AccessDenied, match="got: insufficient_permissions"):
        platform.change_status(ADA, "q1", "paused")


def test_the_owner_pauses_and_migrates(platform: Platform) -> None:
    work(platform, ADA)
    platform.change_status(OWNER, "q1", "paused")
    assert platform.request_assignment(ADA, "q1") == Refused("queue_paused")

    wider = Schema("v2", (Field(name="valence", type="range", min=-9, max=9),))

    assert platform.migrate_schema(OWNER, "q1", wider) == 1
    assert platform.queue("q1").schema == wider


def test_a_queue_that_does_not_exist_is_told_to_nobody_but_those_it_would_admit(platform: Platform) -> None:
    with pytest.raises(AccessDenied, match="got: not_member"):
        platform.request_assignment(ADA, "q9")
    with pytest.raises(NotFound, match="got: 'q9'"):
        platform.queue("q9")
    assert [queue.id for queue in platform.queues()] == ["q1"]
