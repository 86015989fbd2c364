"""Forks at bad moments and in bad places: the child starts clean and the parent goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.checks import FORKS_WITH_THREADS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
CHILDREN = 25


def run(program: str, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", FORKS_WITH_THREADS, "-m", f"tests.hosts.programs.{program}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("policy", ["stop", "restart"])
def test_children_forked_while_others_emit_attach_and_start_actors_all_live_well(policy: str) -> None:
    assert run("fork_storm", policy, str(CHILDREN)) == [{"codes": [0], "children": CHILDREN}]


@pytest.mark.parametrize("policy", ["stop", "restart"])
@pytest.mark.parametrize("carrier", ["thread", "green", "inline"])
def test_a_handler_may_fork(policy: str, carrier: str) -> None:
    assert run("fork_inside", policy, carrier) == [{"code": 0}]
