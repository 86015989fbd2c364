"""The pytest plugin, as users have it: in a pytest of its own, on tests of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def outcomes(directory: Path, config: pytest.Config, program: str) -> tuple[dict[str, str], str]:
    """Run tests; answer {test: outcome}, and all that was said."""
    (directory / "test_theirs.py").write_text(program)
    is_installed = config.pluginmanager.has_plugin("beamstalk")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers"]
        + ([] if is_installed else ["-p", "pytest_beamstalk"]),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = {}
    for line in done.stdout.splitlines():
        outcome, _, rest = line.partition(" test_theirs.py::")
        if rest and outcome in ("PASSED", "FAILED", "ERROR"):
            name = rest.split(" ")[0]
            found[name] = "error at the end" if outcome == "ERROR" else found.get(name, outcome.lower())
    return found, done.stdout + done.stderr


def test_telemetry_captures_what_a_test_emits_and_nothing_of_another(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    found, said = outcomes(
        tmp_path,
        pytestconfig,
        """
import pytest
import runtime

def test_hit(telemetry):
    runtime.execute("shop.order", {"amount": 3})
    assert telemetry.assert_event("shop.order", {"amount": 3}).name == "shop.order"
    assert [event.name for event in telemetry.events] == ["shop.order"]

def test_miss(telemetry):
    runtime.execute("shop.cart", {"amount": 3})
    assert telemetry.count("shop.order") == 0
    telemetry.assert_event("shop.order")
""",
    )

    assert found == {"test_hit": "passed", "test_miss": "failed"}
    assert "expected an event shop.order with measurements {}" in said
    assert "shop.cart {'amount': 3} {}" in said


def test_telemetry_fails_a_test_whose_handlers_fail_unless_it_is_marked(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    found, said = outcomes(
        tmp_path,
        pytestconfig,
        """
import threading
import pytest
import runtime
from supervisors import Application

@pytest.fixture
def go_on():
    return threading.Event()

@pytest.fixture
def shop(go_on):
    def fail(*event):
        go_on.wait(10)
        raise LookupError("no such order")

    def work(*event):
        pass

    runtime.attach("fails", "shop.order", fail)
    runtime.attach("works", "shop.cart", work)
    with Application("shop").running():
        yield
    runtime.detach("fails")
    runtime.detach("works")

def test_that_ends_before_its_handler_fails(shop, go_on, telemetry):
    runtime.execute("shop.order")
    threading.Timer(0.05, go_on.set).start()

@pytest.mark.handler_failures
def test_that_expects_it(shop, go_on, telemetry):
    go_on.set()
    runtime.execute("shop.order")
    assert telemetry.wait_for("telemetry.handler.failure", timeout_s=60)[0].metadata["handler_id"] == "fails"
    assert len(telemetry.failures) == 1

def test_whose_handlers_work(shop, telemetry):
    runtime.execute("shop.cart")

def test_that_has_seen_and_forgotten_it(shop, go_on, telemetry):
    go_on.set()
    runtime.execute("shop.order")
    telemetry.wait_for("telemetry.handler.failure", timeout_s=60)
    telemetry.clear()
    assert telemetry.failures == []
""",
    )

    assert found == {
        "test_that_ends_before_its_handler_fails": "error at the end",
        "test_that_expects_it": "passed",
        "test_whose_handlers_work": "passed",
        "test_that_has_seen_and_forgotten_it": "passed",
    }
    assert "handler fails failed on shop.order: LookupError('no such order')" in said


def test_actor_system_ends_what_a_test_leaves_behind_and_fake_clock_moves_when_told(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    found, _ = outcomes(
        tmp_path,
        pytestconfig,
        """
from actors import Actor, processes

def test_leaves(actor_system):
    Actor.start()
    assert len(processes()) == 1

def test_finds_nothing():
    assert processes() == []

def test_clock(fake_clock):
    class Alarm(Actor):
        rung = False
        def on_start(self):
            self.send_after(60, "ring")
        def on_receive(self, message):
            if message == "ring":
                Alarm.rung = True
    Alarm.start()
    fake_clock.advance(59)
    assert not Alarm.rung
    fake_clock.advance(1)
    assert Alarm.rung

def test_finds_nothing_either():
    assert processes() == []
""",
    )

    assert list(found.values()) == ["passed"] * 4


def test_the_plugin_costs_a_run_that_does_not_use_it_no_import(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    found, _ = outcomes(tmp_path, pytestconfig, "import sys\ndef test_it():\n    assert 'runtime' not in sys.modules\n")

    assert found == {"test_it": "passed"}
