"""The declaration of a regularizer, and the ready ones."""

from __future__ import annotations

import enum
import math
from fractions import Fraction
from typing import Any

import autograd.numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.training.custom_loss import custom_loss
from app.training.outputs import CustomLossOutput
from app.training.regularizers import Regularizer, entropy, l1, l2, l2_centred, sparsity
from runtime.errors import InvalidValue

rows = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-50, 50))


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, 10**400, True, np.bool_(True), 1j, "1", None])
def test_weight_must_be_a_finite_number_from_zero_up(weight: Any) -> None:
    with pytest.raises(InvalidValue, match="expected the weight of regularizer 'l1' to be a finite number >= 0, got: "):
        Regularizer(l1, weight, "l1")


@pytest.mark.parametrize("weight", [0, 0.0, 1, 2.5, np.float64(0.5), np.float32(0.5), np.int64(2), Fraction(1, 2)])
def test_weight_may_be_zero_and_becomes_a_float(weight: float) -> None:
    assert Regularizer(l1, weight, "l1").weight == weight
    assert type(Regularizer(l1, weight, "l1").weight) is float


@pytest.mark.parametrize("name", ["", None, 7])
def test_name_must_be_a_non_empty_string(name: Any) -> None:
    with pytest.raises(InvalidValue, match="expected the name of a regularizer to be a non-empty string, got: "):
        Regularizer(l1, 1.0, name)


def test_name_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected the name of a regularizer to be text that UTF-8 can hold, got: "):
        Regularizer(l1, 1.0, "\ud800")


@pytest.mark.parametrize("name", ["a.b", "a\nb\x00", " ", np.str_("numpy's"), "ä" * 10_000])
def test_any_other_name_comes_back_from_json(name: str) -> None:
    output = custom_loss([], [1.0], None, [Regularizer(l1, 1.0, name)])

    assert CustomLossOutput.from_json(output.to_json()).regularizers.keys() == {name}


def test_name_of_an_enum_is_its_value() -> None:
    class Name(str, enum.Enum):  # noqa: UP042 - the str() of a StrEnum is its value already
        L1 = "l1"

    assert Regularizer(l1, 1.0, Name.L1).name == "l1"


@pytest.mark.parametrize("async_", ["no", 0, None, np.bool_(True)])
def test_async_must_be_true_or_false(async_: Any) -> None:
    with pytest.raises(InvalidValue, match="expected async_ of regularizer 'l1' to be True or False, got: "):
        Regularizer(l1, 1.0, "l1", async_)


def test_fn_must_be_callable() -> None:
    with pytest.raises(InvalidValue, match=r"expected the fn of regularizer 'l1' to be callable, got: 1.0"):
        Regularizer(1.0, 1.0, "l1")  # type: ignore[arg-type]


def test_ready_regularizers_at_a_known_point() -> None:
    x = np.array([1.0, -2.0, 3.0])

    assert l1(None, x)[0] == 6.0
    assert l2(None, x)[0] == 14.0
    assert sparsity(None, x)[0] == 2.0
    assert l2_centred(None, x)[0] == pytest.approx(14.0 - 3 * (2 / 3) ** 2)


@given(rows)
def test_entropy_penalty_is_between_zero_and_the_logarithm_of_the_choices(logits: Any) -> None:
    penalty, metrics = entropy(None, logits)

    assert -1e-9 <= penalty <= math.log(logits.shape[1]) + 1e-9
    assert penalty + metrics["entropy"] == pytest.approx(math.log(logits.shape[1]))


def test_entropy_penalty_of_even_and_of_sure_choices() -> None:
    assert entropy(None, np.zeros((3, 4)))[0] == pytest.approx(0.0)
    assert entropy(None, np.array([[0.0, -500.0]]))[0] == pytest.approx(math.log(2))
