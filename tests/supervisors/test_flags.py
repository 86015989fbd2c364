"""Supervisor flags: defaults and refusals, before anything starts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runtime.errors import InvalidValue
from supervisors import DynamicSupervisor, Supervisor
from supervisors._flags import Flags
from tests.supervisors.house import House


def test_defaults_are_three_restarts_in_five_seconds_one_for_one() -> None:
    flags = Flags()

    assert (flags.strategy, flags.max_restarts, flags.max_seconds, flags.auto_shutdown, flags.backoff) == (
        "one_for_one",
        3,
        5,
        "never",
        None,
    )


BAD = [
    ("strategy", "all_for_one"),
    ("strategy", None),
    ("max_restarts", -1),
    ("max_restarts", 1.5),
    ("max_restarts", True),
    ("max_seconds", 0),
    ("max_seconds", -1),
    ("max_seconds", math.inf),
    ("max_seconds", math.nan),
    ("max_seconds", "5"),
    ("auto_shutdown", "sometimes"),
    ("backoff", 3),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_flag_is_refused_before_anything_starts(house: House, field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as refusal:
        Supervisor.start(children=[house.spec("a")], **{field: value})

    assert f"expected {field} to be" in str(refusal.value)
    assert f"got: {value!r}" in str(refusal.value)
    assert house.happened() == []


@pytest.mark.parametrize(
    ("field", "value"), [*BAD, ("max_children", -1), ("max_children", 2.0), ("strategy", "one_for_all")]
)
def test_a_dynamic_supervisor_refuses_bad_flags_as_well(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"expected {field}"):
        DynamicSupervisor.start(**{field: value})


def test_an_unknown_flag_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="max_retries"):
        Supervisor.start(max_retries=3)


def test_flags_of_a_subclass_are_its_attributes_and_arguments_win() -> None:
    class Shop(Supervisor):
        strategy = "rest_for_one"
        max_restarts = 7

    assert Shop(max_restarts=8)._flags == Flags(strategy="rest_for_one", max_restarts=8)
