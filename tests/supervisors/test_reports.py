"""Supervisor and progress reports: what is in them, when there is one, and that they are rendered late."""

from __future__ import annotations

from typing import Any

import pytest
from loguru import logger

from runtime.errors import StartError
from supervisors import ChildSpec, DynamicSupervisor, Supervisor, _reports
from tests.supervisors.house import Crash, House, Run, Stubborn, Worker, child


def test_a_supervisor_report_tells_supervisor_context_reason_and_offender(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", restart="transient")], name="shop")
    ref = child(supervisor, "a")

    house.end(ref, "boom")

    assert house.events("supervisors.report") == [
        {
            "supervisor": "shop",
            "context": "child_terminated",
            "reason": "boom",
            "offender": {"id": "a", "ref": ref, "restart": "transient", "shutdown": 5_000, "type": "worker"},
        }
    ]


def test_a_progress_report_tells_supervisor_and_the_child_that_was_started(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], name="shop")

    assert house.events("supervisors.progress") == [
        {
            "supervisor": "shop",
            "started": {
                "id": "a",
                "ref": child(supervisor, "a"),
                "restart": "permanent",
                "shutdown": 5_000,
                "type": "worker",
            },
        }
    ]


def test_every_start_is_a_progress_report_those_of_restarts_and_dynamic_children_too(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])
    run(DynamicSupervisor).start_child(house.spec("b"))

    house.end(child(supervisor, "a"), "boom")

    assert [report["started"]["id"] for report in house.events("supervisors.progress")] == ["a", "b", "a"]


def test_a_supervisor_without_a_name_is_reported_by_its_ref(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    (report,) = house.events("supervisors.progress")

    assert report["supervisor"] == str(supervisor)


def test_every_report_counts_one(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    house.end(child(supervisor, "a"), "boom")

    assert {
        event.name: event.measurements for event in house.captured.events if event.name.startswith("supervisors.")
    } == {
        "supervisors.progress": {"count": 1},
        "supervisors.report": {"count": 1},
    }


def test_a_failed_first_start_is_a_start_error(house: House) -> None:
    house.outcomes["a"] = ["no paper"]

    with pytest.raises(StartError):
        Supervisor.start(children=[house.spec("a")])

    assert house.contexts() == [("start_error", "no paper")]


def test_a_failed_start_is_reported_once_for_each_level_of_the_tree(house: House) -> None:
    house.outcomes["a"] = ["no paper"]

    with pytest.raises(StartError):
        Supervisor.start(children=[Supervisor.child("inner", children=[house.spec("a")])])

    offenders = [report["offender"]["id"] for report in house.events("supervisors.report")]
    assert offenders == ["a", "inner"]
    assert [crash["reason"] for crash in house.events("actors.crash")] == ["no paper"]


@pytest.mark.parametrize("supervisor", [Supervisor, DynamicSupervisor])
def test_a_child_that_had_to_be_killed_is_a_shutdown_error(house: House, run: Run, supervisor: Any) -> None:
    ref = run(supervisor)
    ref.start_child(house.spec("a", Stubborn, shutdown=1_000))

    ref.stop(block=False)
    house.clock.advance(1)

    assert house.contexts() == [("shutdown_error", "killed")]


@pytest.mark.parametrize("supervisor", [Supervisor, DynamicSupervisor])
def test_a_child_whose_on_stop_fails_is_a_shutdown_error(house: House, run: Run, supervisor: Any) -> None:
    crash = Crash("while cleaning up")

    class Clumsy(Worker):
        def on_stop(self, reason: Any = "normal") -> None:
            raise crash

    ref = run(supervisor)
    ref.start_child(house.spec("a", Clumsy, restart="temporary"))

    ref.stop()

    assert house.contexts() == [("shutdown_error", crash)]


def test_a_sibling_found_dead_of_something_else_is_a_shutdown_error(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a"), house.spec("b")], strategy="one_for_all")

    house.end_together(dict.fromkeys([child(supervisor, "a"), child(supervisor, "b")], "boom"))

    assert house.contexts() == [("child_terminated", "boom"), ("shutdown_error", "boom")]


@pytest.mark.parametrize(
    ("restart", "reason", "reported"),
    [
        ("permanent", "normal", True),
        ("permanent", ("shutdown", 1), True),
        ("transient", "normal", False),
        ("temporary", ("shutdown", 1), False),
    ],
)
def test_a_sibling_found_ended_normally_is_only_reported_if_it_was_permanent(
    house: House, run: Run, restart: str, reason: Any, reported: bool
) -> None:
    specs = [house.spec("a"), house.spec("b", restart=restart)]
    supervisor = run(Supervisor, children=specs, strategy="one_for_all")
    house.end_together({child(supervisor, "a"): "boom", child(supervisor, "b"): reason})

    errors = [
        report["reason"] for report in house.events("supervisors.report") if report["context"] == "shutdown_error"
    ]
    assert errors == ([reason] if reported else [])


@pytest.mark.parametrize("shutdown", [5_000, "infinity", "brutal_kill"])
def test_a_clean_stop_is_no_incident(house: House, run: Run, shutdown: Any) -> None:
    supervisor = run(Supervisor, children=[house.spec("a", shutdown=shutdown)])

    supervisor.stop()

    assert house.contexts() == []


def test_each_report_is_one_log_record_with_the_report_in_its_extra(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], name="shop")
    house.logged.clear()

    house.end(child(supervisor, "a"), "boom")

    report, progress = house.logged
    assert (report["level"].name, progress["level"].name) == ("ERROR", "INFO")
    assert report["extra"]["report"].fields["reason"] == "boom"
    assert report["message"].splitlines()[:4] == [
        "supervisor report",
        "    supervisor: shop",
        "    context: child_terminated",
        "    reason: boom",
    ]
    assert progress["message"].startswith("progress report\n    supervisor: shop\n    started: id='a', ref=")


class Counted:
    """Counts how often it is rendered."""

    rendered = 0

    def __repr__(self) -> str:
        self.rendered += 1
        return "counted"


def test_a_report_is_only_rendered_when_a_sink_wants_it(house: House) -> None:
    reason = Counted()
    spec = ChildSpec("a", Worker)
    logger.disable("supervisors")
    _reports.supervisor_report("shop", "child_terminated", reason, spec, None)
    without = reason.rendered
    logger.enable("supervisors")

    _reports.supervisor_report("shop", "child_terminated", reason, spec, None)

    assert (without, reason.rendered > 0) == (0, True)


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise ValueError("no words")


def test_a_reason_that_cannot_be_rendered_does_not_end_the_supervisor(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")])

    child(supervisor, "a").tell(Unspeakable())
    house.quiet()

    assert supervisor.supervision().last_restarts[0].reason == "<Unspeakable, whose repr raised ValueError>"
    assert any("whose repr raised ValueError" in record["message"] for record in house.logged)


def test_the_last_fifty_restarts_are_kept_with_their_reasons(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[house.spec("a")], max_restarts=100)

    for number in range(60):
        house.end(child(supervisor, "a"), f"boom {number}")

    statistics = supervisor.supervision()
    assert statistics.restarts == 60
    assert [record.reason for record in statistics.last_restarts] == [f"'boom {number}'" for number in range(10, 60)]
    assert {record.child_id for record in statistics.last_restarts} == {"a"}
