"""Gradients and their norms, in one thread and in several."""

from __future__ import annotations

import threading
from typing import Any

import autograd
import autograd.numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.training.gradients import gradient, norm
from runtime.errors import InvalidValue

numbers = st.floats(-1e3, 1e3)
points = hnp.arrays(np.float64, st.integers(1, 8), elements=numbers)


@pytest.mark.parametrize(
    ("loss", "at", "length"),
    [
        (lambda x: np.sum(x), [1.0, 2.0, 3.0], 3**0.5),
        (lambda x: np.sum(x**2), [1.0, 2.0, 3.0], 56**0.5),
        (lambda x: np.mean(x), [1.0, 2.0, 3.0], (1 / 3) ** 0.5),
        (lambda x: np.sum(np.abs(x)), [1.0, -2.0, 3.0], 3**0.5),
        (lambda x: 4.0, [1.0, 2.0, 3.0], 0.0),
        (lambda x: np.sum(x) + 0.5 * np.sum(x**2), [1.0, 2.0, 3.0], 29**0.5),
    ],
    ids=["sum", "sum of squares", "mean", "l1", "constant", "base plus half the squares"],
)
def test_norms_at_known_points(loss: Any, at: list[float], length: float) -> None:
    assert norm(gradient(loss, np.array(at))) == pytest.approx(length)


@given(points)
def test_gradient_agrees_with_the_analytic_one(at: Any) -> None:
    assert gradient(lambda x: np.sum(x**3), at) == pytest.approx(3 * at**2)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1.0, 1e200, 1e300])
def test_norm_is_exact_where_squares_are_no_floats(scale: float) -> None:
    assert norm(np.array([3.0, 4.0]) * scale) == pytest.approx(5.0 * scale, abs=0)


def test_gradient_has_the_shape_of_the_point() -> None:
    at = np.arange(6.0).reshape(2, 3)

    assert gradient(lambda x: np.sum(x * x), at).tolist() == (2 * at).tolist()


def test_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected a loss to return a scalar"):
        gradient(lambda x: x * 2, np.ones(3))


def test_error_of_the_loss_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        gradient(lambda x: 1 / 0, np.ones(3))


def test_derivative_inside_a_loss_is_exact() -> None:
    at = np.array([1.0, 2.0])

    assert gradient(penalty, at).tolist() == (16 * at**3).tolist()


def test_derivatives_inside_losses_of_two_threads_stay_exact() -> None:
    """One gradient ends while another, begun later, is about to differentiate inside itself."""
    at = np.array([1.0, 2.0])
    first_is_inside, second_is_inside, first_is_over = threading.Event(), threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    def first(x: Any) -> Any:
        first_is_inside.set()
        assert second_is_inside.wait(30)
        return np.sum(x)

    def second(x: Any) -> Any:
        second_is_inside.set()
        assert first_is_over.wait(30)
        return penalty(x)

    def run_first() -> None:
        found["first"] = gradient(first, at)
        first_is_over.set()

    def run_second() -> None:
        assert first_is_inside.wait(30)
        found["second"] = gradient(second, at)

    threads = [threading.Thread(target=run_first), threading.Thread(target=run_second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert found["first"].tolist() == [1.0, 1.0]
    assert found["second"].tolist() == (16 * at**3).tolist()


def penalty(x: Any) -> Any:
    """Σ(2x²)², where 2x² is a derivative by y at y = x, with x held fast; its own gradient is 16x³."""
    return np.sum(autograd.grad(lambda y: np.sum(y**2 * x))(x) ** 2)
