"""The kernel suite: which test files have to pass inside every host, and how a host runs them in its own process.

`CORE` runs in every host at each `make test`, `COMPLETE` at each `make soak`. `CANNOT` names every test that has no
meaning in a host, with the reason; whatever else does not pass there is a failure. This module imports nothing of ours,
so that a host decides for itself when we are imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

HOSTS = (
    "thread",
    "asyncio_beside",
    "asyncio_inside",
    "gevent_before",
    "gevent_after",
    "fork",
    "multiprocessing_fork",
    "multiprocessing_spawn",
    "gunicorn",
)
"""A thread that is not the main one; beside and inside a running asyncio loop; gevent-patched before and after our
import; children of a process with a running application; a gevent worker of gunicorn that preloads."""

CORE = (
    "tests/runtime/test_inline.py",
    "tests/runtime/test_spans.py",
    "tests/runtime/test_waiting.py",
    "tests/actors/test_control.py",
    "tests/actors/test_deadline.py",
    "tests/actors/test_future.py",
    "tests/actors/test_handler.py",
    "tests/supervisors/test_restart.py",
    "tests/supervisors/test_supervisor.py",
)
"""The rules of the kernel, the actors and the supervisors, as far as they are told in a few seconds."""

COMPLETE = (
    *CORE,
    "tests/runtime/test_accounting.py",
    "tests/runtime/test_dispatch.py",
    "tests/runtime/test_handlers.py",
    "tests/runtime/test_mailbox.py",
    "tests/runtime/test_overload.py",
    "tests/runtime/test_own_events.py",
    "tests/runtime/test_sampling.py",
    "tests/runtime/test_scheduler.py",
    "tests/runtime/test_taps.py",
    "tests/runtime/test_testing.py",
    "tests/actors/test_actor.py",
    "tests/actors/test_aggregator.py",
    "tests/actors/test_links.py",
    "tests/actors/test_poller.py",
    "tests/actors/test_process.py",
    "tests/actors/test_registry.py",
    "tests/actors/test_trace.py",
    "tests/supervisors/test_against_model.py",
    "tests/supervisors/test_application.py",
    "tests/supervisors/test_carriers.py",
    "tests/supervisors/test_dynamic.py",
    "tests/supervisors/test_flags.py",
    "tests/supervisors/test_partition.py",
    "tests/supervisors/test_reports.py",
    "tests/supervisors/test_supervisor_backoff.py",
    "tests/supervisors/test_supervisor_calls.py",
    "tests/supervisors/test_supervisor_intensity.py",
    "tests/supervisors/test_supervisor_restarts.py",
    "tests/supervisors/test_telemetry.py",
)
"""Every file of the three floors whose outcome could depend on the host: all but pure data, such as child specs."""

_LOOP = "it calls asyncio.run, which a thread with a running loop refuses"

CANNOT: dict[str, dict[str, str]] = {
    "asyncio_inside": dict.fromkeys(
        (
            "tests/runtime/test_dispatch.py::test_asyncio_tasks_emit_each_in_its_own_context",
            "tests/runtime/test_spans.py::test_a_coroutine_is_spanned_until_it_ends",
            "tests/runtime/test_spans.py::test_a_cancelled_coroutine_is_an_exception_event",
            "tests/runtime/test_spans.py::test_an_async_with_block_is_spanned",
            "tests/runtime/test_spans.py::test_an_asynchronous_generator_is_spanned_and_gets_what_is_sent_and_thrown",
            "tests/runtime/test_spans.py::test_an_asynchronous_context_manager_of_a_spanned_generator_sees_the_exception_of_its_block",
            "tests/runtime/test_spans.py::test_an_asynchronous_generator_that_is_closed_early_is_closed_inside_as_well",
            "tests/actors/test_future.py::test_a_future_can_be_awaited",
        ),
        _LOOP,
    ),
}
"""For each host, the tests that it cannot run: the beginning of their ids, and why. All run in the other hosts."""

OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "--tb=short", "-o", "faulthandler_exit_on_timeout=true"),
    # A host has imported us before pytest comes, which our plugin makes it complain about where it is installed.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
"""On top of the project's own, of which all hold: warnings as errors, strictness, the leak checks of `conftest.py`."""


class Tally:
    """Counts what became of each test, and takes out those that the host cannot run."""

    def __init__(self, cannot: dict[str, str]) -> None:
        self.cannot = cannot
        self.passed: list[str] = []
        self.failed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.left_out: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in list(items):
            for beginning in self.cannot:
                if item.nodeid.startswith(beginning):
                    self.left_out.setdefault(beginning, []).append(item.nodeid)
                    items.remove(item)
                    config.hook.pytest_deselected(items=[item])
                    break

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)

    def _note(self, report: Any) -> None:
        if report.failed:
            self.failed[report.nodeid] = self.failed.get(report.nodeid, "") + report.longreprtext
        elif report.skipped:
            self.skipped[report.nodeid] = report.longreprtext


def run(host: str, paths: Sequence[str]) -> dict[str, Any]:
    """Run the suite here and now, in the calling thread, and return what became of each test."""
    tally = Tally(CANNOT.get(host, {}))
    os.chdir(ROOT)
    code = pytest.main([*OPTIONS, *paths], plugins=[tally])
    passed = sorted(set(tally.passed) - set(tally.failed))
    return {
        "code": int(code),
        "numbers": {
            "passed": len(passed),
            "failed": len(tally.failed),
            "skipped": len(tally.skipped),
            "left out": sum(len(tests) for tests in tally.left_out.values()),
        },
        "passed": passed,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "left_out": tally.left_out,
    }
