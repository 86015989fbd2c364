from collections.abc import Iterator
from typing import Any

import pytest

from actors import whereis
from app.application import Anvil
from app.labeling import policies
from app.labeling.auth import Identity
from app.labeling.labels import Accepted
from app.labeling.queues import Queue, Refused
from app.labeling.records import QueueSettings, Sample
from app.labeling.storage import Storage
from app.listener import StatsdListener
from app.replay import open_platform
from runtime.testing import Capture
from supervisors import SupervisorRef
from tests.app.conftest import SCHEMA
from tests.runtime.meeting import PATIENCE_S

OWNER = Identity("owner", "t1")
ADA = Identity("ada", "t1")


@pytest.fixture
def listener() -> Iterator[StatsdListener]:
    with StatsdListener() as listener:
        yield listener


@pytest.fixture
def anvil(storage: Storage, listener: StatsdListener) -> Iterator[Anvil]:
    platform, _ = open_platform(storage)
    with Anvil(platform, listener.address).running() as application:
        assert isinstance(application, Anvil)
        yield application


def new_queue(anvil: Anvil, **settings: Any) -> Queue:
    queue = anvil.platform.create_queue(
        OWNER,
        QueueSettings(**{"queue_id": "q1", "tenant_id": "t1", "policy_type": "round_robin"} | settings),
        SCHEMA,
        policies.build("round_robin"),
    )
    anvil.platform.enroll(OWNER, "q1", "ada")
    queue.add_samples([Sample("s1", "one")])
    return queue


def names(supervisor: SupervisorRef) -> list[object]:
    return [entry.id for entry in supervisor.which_children()]


def test_the_tree_is_the_one_that_the_module_draws(anvil: Anvil) -> None:
    children = {entry.id: entry.child for entry in anvil.supervisor.which_children()}

    telemetry, reporters = children["telemetry"], children["reporters"]
    assert list(children) == ["telemetry", "introspector", "reporters"]
    assert isinstance(telemetry, SupervisorRef)
    assert names(telemetry) == ["registry", "handlers", "aggregator", "validator", "pollers"]
    assert isinstance(reporters, SupervisorRef)
    assert names(reporters) == [anvil.statsd.name]


def test_the_pollers_sweep_and_count(anvil: Anvil, emitted: Capture) -> None:
    queue = new_queue(anvil, assignment_timeout_s=0.001)
    assert not isinstance(queue.dispatch("ada", start=True), Refused)

    timed_out, *_ = emitted.wait_for("anvil.assignment.timed_out", timeout_s=PATIENCE_S)
    active, *_ = emitted.wait_for("anvil.queue.active_labelers", timeout_s=PATIENCE_S)

    assert timed_out.measurements == {"count": 1}
    assert active.metadata == {"queue_id": "q1"}
    assert active.measurements["count"] in (0, 1)


def test_after_it_has_stopped_measuring_no_poller_runs(anvil: Anvil) -> None:
    anvil.stop_measuring()

    telemetry = whereis("telemetry")
    assert isinstance(telemetry, SupervisorRef)
    assert {entry.id: entry.child for entry in telemetry.which_children()}["pollers"] is None


def test_a_shell_can_look_in(anvil: Anvil) -> None:
    assert anvil.socket_path is not None
    assert anvil.socket_path.is_socket()


def test_what_happens_on_the_platform_reaches_statsd(anvil: Anvil, listener: StatsdListener, emitted: Capture) -> None:
    queue = new_queue(anvil)
    assignment = queue.dispatch("ada", start=True)
    assert not isinstance(assignment, Refused)

    outcome = anvil.platform.submit(ADA, "q1", assignment.id, {"valence": 2})
    anvil.stop()

    assert isinstance(outcome, Accepted)
    received = listener.wait_for_packets(anvil.statsd.statistics().datagrams, PATIENCE_S)
    assert received.bad_lines == 0
    assert received.counters == {"anvil.queue.created.count": 1.0, "anvil.label.submit.count": 1.0}


def test_every_metric_is_found_under_its_published_name(anvil: Anvil) -> None:
    published = [metric.name for metric in anvil.metrics()]

    assert len(set(published)) == len(published)
    assert {name.split(".")[0] for name in published} == {"anvil", "tinkex"}
