"""The real supervisors against the pure model of OTP's rules, over random scripts and random trees."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from runtime.testing import fake_clock
from tests.supervisors import model, script, strategies


def real(lines: Any) -> Any:
    """What the lines are once they have been through JSON."""
    return json.loads(json.dumps(lines))


def compare(a_script: dict[str, Any], seed: int | None = None) -> None:
    with fake_clock(seed):
        assert real(list(script.replay(a_script))) == list(model.replay(a_script))


@given(strategies.scripts())
@settings(max_examples=150)
def test_scripts_come_out_as_the_model_says(a_script: dict[str, Any]) -> None:
    compare(a_script)


@given(strategies.scripts(strategies.trees()))
@settings(max_examples=150)
def test_scripts_over_trees_come_out_as_the_model_says(a_script: dict[str, Any]) -> None:
    compare(a_script)


@given(strategies.scripts(strategies.trees()), st.integers(0, 100))
@settings(max_examples=150)
def test_the_order_in_which_actors_are_served_does_not_matter(a_script: dict[str, Any], seed: int) -> None:
    compare(a_script, seed)


class Trees(RuleBasedStateMachine):
    """One tree after the other, lived through step by step in both worlds."""

    playing: script.Replay | None = None
    alive = False

    def __init__(self) -> None:
        super().__init__()
        self.resources = contextlib.ExitStack()
        self.resources.enter_context(fake_clock())

    @precondition(lambda self: not self.alive)
    @rule(tree=strategies.trees())
    def start(self, tree: dict[str, Any]) -> None:
        self.end()
        self.tree = tree
        self.number = 0
        self.playing = script.Replay(tree)
        self.state, line = model.begin(tree)
        self.compare(self.playing.first, line)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def operate(self, data: st.DataObject) -> None:
        self.step(data.draw(strategies.operations_on(self.tree)))

    @precondition(lambda self: self.alive)
    @rule(reason=strategies.reasons)
    def end_parent(self, reason: Any) -> None:
        self.step(["parent_exit", reason])

    def step(self, op: list[Any]) -> None:
        assert self.playing is not None
        self.number += 1
        line = self.playing.apply(self.number, op)
        self.state, expected = model.step(self.state, self.tree["name"], self.number, op)
        self.compare(line, expected)

    def compare(self, line: dict[str, Any], expected: dict[str, Any]) -> None:
        assert real(line) == expected
        self.alive = line["alive"]

    def end(self) -> None:
        if self.playing is not None:
            self.playing.close()

    def teardown(self) -> None:
        self.end()
        self.resources.close()


TestTrees = Trees.TestCase
TestTrees.settings = settings(max_examples=30, stateful_step_count=40)
