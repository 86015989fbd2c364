"""Forks at bad moments and in bad places: the child starts clean and the parent goes on."""

from __future__ import annotations

from functools import partial

import pytest

from tests.hosts import test_hosts

CHILDREN = 25
run = partial(test_hosts.run, patience_s=300)


@pytest.mark.parametrize("policy", ["stop", "restart"])
def test_children_forked_while_others_emit_attach_and_start_actors_all_live_well(policy: str) -> None:
    assert run("fork_storm", policy, str(CHILDREN)) == [{"codes": [0], "children": CHILDREN}]


@pytest.mark.parametrize("policy", ["stop", "restart"])
@pytest.mark.parametrize("carrier", ["thread", "green", "inline"])
def test_a_handler_may_fork(policy: str, carrier: str) -> None:
    assert run("fork_inside", policy, carrier) == [{"code": 0}]
