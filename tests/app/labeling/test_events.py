"""Hold the platform to its catalogue: every event of it is emitted, and carries what is declared."""

from collections import defaultdict
from pathlib import Path

import pytest

from app.labeling import policies
from app.labeling.assignments import Assignment
from app.labeling.auth import AccessDenied, Gate, Identity, Issuer
from app.labeling.events import CATALOGUE
from app.labeling.export import ExportFailed
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.service import Platform
from app.labeling.storage import Storage
from runtime.catalogue import Catalogue
from runtime.clock import FakeClock
from runtime.errors import AlreadyExists, NotFound
from runtime.testing import Capture

KEY = b"k" * 32
NARROW = Schema("v1", (Field(name="valence", type="range", min=-3, max=3), Field(name="notes", type="text")))
WIDE = Schema("v2", (Field(name="valence", type="range", min=-4, max=4), Field(name="notes", type="text")))

NOT_BY_THE_PLATFORM = {"anvil.queue.active_labelers"}
"""Emitted by a poller of the application, out of what `Queue.active_labelers` counts."""

CANNOT_FAIL = {
    "anvil.agreement.batch_recompute.exception",
    "anvil.agreement.compute.exception",
    "anvil.assignment.dispatch.exception",
    "anvil.policy.select_assignment.exception",
}
"""Declared, because every span has one; nothing that a caller does makes the work inside raise."""


def started(platform: Platform, identity: Identity) -> str:
    assignment = platform.request_assignment(identity, "q1")
    assert isinstance(assignment, Assignment)
    return assignment.id


@pytest.fixture
def scenario(storage: Storage, clock: FakeClock, tmp_path: Path, emitted: Capture) -> Capture:
    """A day on the platform on which everything happens once."""
    issuer = Issuer("me", KEY, clock)
    gate = Gate(KEY, "me", clock)
    platform = Platform(storage, gate, clock=clock)
    owner, ada, bob = (gate.login(issuer.issue(name, "t1")) for name in ("owner", "ada", "bob"))
    assert isinstance(owner, Identity)
    assert isinstance(ada, Identity)
    assert isinstance(bob, Identity)
    gate.login("forged")

    settings = QueueSettings(
        queue_id="q1", tenant_id="t1", policy_type="redundancy", labels_per_sample=2, assignment_timeout_s=10
    )
    queue = platform.create_queue(owner, settings, NARROW, policies.build("redundancy"))
    with pytest.raises(AlreadyExists):
        platform.create_queue(owner, settings, NARROW, policies.build("redundancy"))
    for labeler in ("ada", "bob"):
        platform.enroll(owner, "q1", labeler)
    queue.add_samples([Sample("s1", "mail me: cyd@example.org")])

    started(platform, ada)
    clock.advance(11)
    queue.sweep()
    again = started(platform, ada)
    platform.submit(ada, "q1", again, {"valence": 4, "notes": "great"})  # does not fit yet
    platform.migrate_schema(owner, "q1", WIDE)
    platform.submit(ada, "q1", again, {"valence": 4, "notes": "great"})
    platform.submit(bob, "q1", started(platform, bob), {"valence": -4, "notes": "awful"})
    with pytest.raises(NotFound):
        platform.submit(ada, "q1", again, {"valence": 4, "notes": "great"})
    platform.request_assignment(ada, "q1")  # nothing left
    platform.agreement(owner, "q1")
    platform.export(owner, "q1", tmp_path / "labels.csv", "csv")
    with pytest.raises(ExportFailed):
        platform.export(owner, "q1", tmp_path / "nowhere" / "labels.csv", "csv")
    with pytest.raises(AccessDenied):
        platform.export(ada, "q1", tmp_path / "labels.csv", "csv")
    platform.change_status(owner, "q1", "archived")
    return emitted


def test_the_scenario_emits_the_whole_catalogue(scenario: Capture) -> None:
    declared = set(Catalogue(CATALOGUE).names) - NOT_BY_THE_PLATFORM

    assert {event.name for event in scenario.events} == declared - CANNOT_FAIL


def test_every_event_carries_what_is_declared(scenario: Capture) -> None:
    catalogue = Catalogue(CATALOGUE)

    assert [(event.name, problems) for event in scenario.events if (problems := catalogue.check(event))] == []


def test_every_declared_field_is_told_by_some_event(scenario: Capture) -> None:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for event in scenario.events:
        told[event.name].update(event.metadata)

    for one in CATALOGUE:
        for name in one.names():
            if name in told and not name.endswith(".exception"):  # which tells as much as was known by then
                assert set(one.shape(name)[1]) <= told[name], name


def test_metadata_of_the_hot_path_are_plain_values(scenario: Capture) -> None:
    # The kernel copies containers value by value; strings and numbers it copies in one go.
    hot = ("anvil.label.submit.stop", "anvil.assignment.dispatch.stop", "anvil.assignment.completed")

    for event in scenario.events:
        if event.name in hot:
            assert all(isinstance(value, str | int | float) for value in event.metadata.values())


def test_names_are_below_anvil() -> None:
    assert all(name.startswith("anvil.") for name in Catalogue(CATALOGUE).names)
