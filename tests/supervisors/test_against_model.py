"""The real supervisors against the pure model of OTP's rules, over random scripts and random trees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from runtime import _scheduler
from runtime.clock import FakeClock
from tests.supervisors import model, script, strategies


@pytest.fixture(scope="module", autouse=True, params=[None, 1], ids=["in order", "shuffled"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    """A scheduler whose time stands still; once it serves actors in order, once in a random order."""
    _scheduler.stop()
    _scheduler.start(clock=FakeClock(), seed=request.param)
    yield
    _scheduler.stop()


def real(lines: Any) -> Any:
    """What the lines are once they have been through JSON."""
    return json.loads(json.dumps(lines))


@given(strategies.scripts())
@settings(max_examples=300)
def test_scripts_come_out_as_the_model_says(a_script: dict[str, Any]) -> None:
    assert real(list(script.replay(a_script))) == list(model.replay(a_script))


@given(strategies.scripts(strategies.trees()))
@settings(max_examples=300)
def test_scripts_over_trees_come_out_as_the_model_says(a_script: dict[str, Any]) -> None:
    assert real(list(script.replay(a_script))) == list(model.replay(a_script))


class Tree(RuleBasedStateMachine):
    """One tree, lived through step by step in both worlds."""

    playing: script.Replay | None = None

    @initialize(tree=strategies.trees())
    def start(self, tree: dict[str, Any]) -> None:
        self.tree = tree
        self.number = 0
        self.playing = script.Replay(tree)
        self.state, line = model.begin(tree)
        assert real(self.playing.first) == line

    @precondition(lambda self: self.state.root.alive)
    @rule(data=st.data())
    def operate(self, data: st.DataObject) -> None:
        self.step(data.draw(strategies.operations_on(self.tree)))

    @precondition(lambda self: self.state.root.alive)
    @rule(reason=strategies.reasons)
    def end_parent(self, reason: Any) -> None:
        self.step(["parent_exit", reason])

    def step(self, op: list[Any]) -> None:
        assert self.playing is not None
        self.number += 1
        line = self.playing.apply(self.number, op)
        self.state, expected = model.step(self.state, self.tree["name"], self.number, op)
        assert real(line) == expected

    def teardown(self) -> None:
        if self.playing is not None:
            self.playing.close()


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30)
