"""The kernel suite passes in every host, to the test, as it does in a plain process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.checks import FORKS_WITH_THREADS
from tests.hosts.suite import CANNOT, COMPLETE, CORE, HOSTS, ROOT
from tests.hosts.test_hosts import fetch

PATIENCE_S = 1_800
# Of this run of pytest, the suite that runs in a host must not know.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
Found = dict[str, Any]
Expect = Callable[[Sequence[str]], Found]


def run_in(host: str, paths: Sequence[str], tmp_path: Path) -> Found:
    """Run the suite inside a host, in a process of its own, which ends well and says nothing on standard error."""
    if host == "gunicorn":
        return run_in_gunicorn(paths, tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", FORKS_WITH_THREADS, "-m", "tests.hosts.programs.suite_in", host, *paths],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_in_gunicorn(paths: Sequence[str], tmp_path: Path) -> Found:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    # Without a time limit, because a worker that computes does not answer its master meanwhile.
    command = [sys.executable, "-m", "gunicorn", "--preload", "--worker-class", "gevent", "--timeout", "0"]
    command += ["--bind", f"127.0.0.1:{port}", "--log-file", str(log), "tests.hosts.programs.gunicorn_suite"]
    query = urllib.parse.urlencode({"path": paths}, doseq=True)
    with open(tmp_path / "output", "w") as output:
        service = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=output)
    try:
        answer = fetch(f"http://127.0.0.1:{port}/?{query}", log, PATIENCE_S)
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(60)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    return dict(json.loads(answer))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Expect:
    """Run the suite in a plain process, once for all the hosts, also where several processes of pytest share them."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def expected(paths: Sequence[str]) -> Found:
        kept = shared / f"suite-of-{len(paths)}.json"
        with open(shared / "suite.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(run_in("plain", paths, shared)))
        found = dict(json.loads(kept.read_text()))
        assert found["failed"] == {}
        assert found["left_out"] == {}
        return found

    return expected


def assert_passes_as_expected(host: str, paths: Sequence[str], found: Found, expected: Found) -> None:
    left_out = [test for tests in found["left_out"].values() for test in tests]
    assert found["failed"] == {}
    assert found["skipped"] == expected["skipped"]
    assert sorted(found["passed"] + left_out) == expected["passed"]
    assert found["numbers"] == {
        "passed": len(expected["passed"]) - len(left_out),
        "failed": 0,
        "skipped": len(expected["skipped"]),
        "left out": len(left_out),
    }
    # An entry that no test answers to any more has to go.
    assert set(found["left_out"]) == {test for test in CANNOT.get(host, {}) if test.split("::")[0] in paths}
    assert found["code"] == 0
    print(f"{host}: {found['numbers']}")


@pytest.mark.parametrize("host", HOSTS)
def test_the_core_of_the_suite_passes(host: str, plain: Expect, tmp_path: Path) -> None:
    assert_passes_as_expected(host, CORE, run_in(host, CORE, tmp_path), plain(CORE))


@pytest.mark.soak
@pytest.mark.parametrize("host", HOSTS)
def test_the_complete_suite_passes(host: str, plain: Expect, tmp_path: Path) -> None:
    assert_passes_as_expected(host, COMPLETE, run_in(host, COMPLETE, tmp_path), plain(COMPLETE))
