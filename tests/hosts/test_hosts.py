"""The same life in every host: counts add up, nothing hangs, nothing is said on standard error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.checks import EACH, EMITTERS, FORKS_WITH_THREADS
from tests.hosts.served import served
from tests.hosts.suite import ROOT

PATIENCE_S = 120
"""For whole programs."""
HANDLED = 3 * EMITTERS * EACH


def run(
    program: str, *arguments: str, code: int = 0, stderr: str | None = "", patience_s: float = PATIENCE_S
) -> list[dict[str, Any]]:
    """Run a host program and return what it says, a JSON object a line."""
    done = subprocess.run(
        [sys.executable, "-W", FORKS_WITH_THREADS, "-m", f"tests.hosts.programs.{program}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stderr, done.stdout)
    if stderr is not None:
        assert done.stderr == stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_plain_threads() -> None:
    (found,) = run("plain")

    # A thread handler, the hub, and the four emitters themselves for the inline one.
    assert found == {"handled": HANDLED, "threads": 2 + EMITTERS}


def test_an_asyncio_loop() -> None:
    (found,) = run("asyncio_loop")

    assert found["handled"] == HANDLED


def test_a_gevent_host_that_patched_before_and_its_greenlets_go_on_meanwhile() -> None:
    (found,) = run("gevent_before")

    # The host's emitters are greenlets of one thread; ours are threads of their own all the same.
    assert (found["handled"], found["threads"]) == (HANDLED, 3)
    assert found["beats"] > 5


def test_a_gevent_host_that_patches_after_our_import() -> None:
    (found,) = run("gevent_after")

    assert found == {"handled": HANDLED, "threads": 3}


@pytest.mark.parametrize("policy", ["stop", "restart"])
def test_a_forked_child_starts_clean_and_the_parent_goes_on(policy: str) -> None:
    found = run("fork", policy)

    assert [each["child"] for each in found] == [True, False]
    assert [each["handled"] for each in found] == [HANDLED, HANDLED]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    assert [found["handled"] for found in run("multiprocess", method)] == [HANDLED, HANDLED]


@pytest.mark.parametrize("how", ["running", "hung-thread", "hung-green", "actors-without-application"])
def test_the_interpreter_ends_in_every_state(how: str) -> None:
    assert run("exits", how) == [{"done": True}]


def test_an_interrupt_ends_a_service_as_its_user_expects() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hosts.programs.exits", "interrupt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception ignored" not in done.stderr


def test_gunicorn_preloads_and_its_gevent_workers_run_the_application_anew(tmp_path: Path) -> None:
    with served("gunicorn_app:application", tmp_path, "--workers", "2", "--graceful-timeout", "5") as address:
        answers = [json.load(urllib.request.urlopen(address, timeout=PATIENCE_S)) for _ in range(10)]

    for answer in answers:
        assert answer["worker"], answer
        assert answer["echo"] == 7
        assert answer["only_ours"], answer
