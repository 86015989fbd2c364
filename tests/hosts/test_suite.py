"""The kernel suite passes in every host, to the test, as it does in a plain process."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.checks import FORKS_WITH_THREADS
from tests.hosts.served import ENVIRONMENT, served
from tests.hosts.suite import CANNOT, COMPLETE, CORE, HOSTS, ROOT

PATIENCE_S = 1_800
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
    query = urllib.parse.urlencode({"path": paths}, doseq=True)
    # Without a time limit, because a worker that computes does not answer its master meanwhile.
    with served("gunicorn_suite", tmp_path, "--timeout", "0") as address:
        return dict(json.load(urllib.request.urlopen(f"{address}/?{query}", timeout=PATIENCE_S)))


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
