"""Regularizers: penalty terms that a custom loss adds to its base loss, and a few ready ones.

Owns the checked declaration (`Regularizer`) and the penalty functions. A penalty function takes `(data, x)` and returns
a scalar, or a scalar and a dict of its own metrics. It must be pure: with gradient norms tracked it is called a second
time, with a traced array, and in parallel mode on another thread. So it is written with `autograd.numpy`, never changes
`x`, and leaves its metrics as array scalars (a `float()` around a traced one fails).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, TypeAlias

import autograd.numpy as np
import msgspec

from app.training.outputs import check_text, is_finite
from runtime.errors import BeamstalkError, expected, shown

__all__ = [
    "Regularizer",
    "RegularizerError",
    "TermFunction",
    "entropy",
    "l1",
    "l2",
    "l2_centred",
    "log_softmax",
    "sparsity",
]

TermResult: TypeAlias = Any
"""A scalar, or (scalar, metrics): float or 0-d array; metrics hold JSON scalars or 0-d arrays."""

TermFunction: TypeAlias = Callable[[Any, Any], TermResult]
"""`fn(data, x) -> scalar | (scalar, metrics)`; of an async regularizer, a coroutine function of the same."""


class Regularizer(msgspec.Struct, frozen=True):
    """Declare one term of a loss: its function, its weight (≥ 0) and its name, unique within the loss.

    `async_` says that `fn` is a coroutine function; it then runs in an event loop of its own, on its own thread.
    Raises InvalidValue for a weight that is negative or not finite, a name that is empty or has no UTF-8, an `fn` that
    cannot be called, or an `async_` that is no bool.

    >>> Regularizer(l1, -0.1, "l1")
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected the weight of regularizer 'l1' to be a finite number >= 0, got: -0.1
    """

    fn: TermFunction
    weight: float
    name: str
    async_: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise expected("the name of a regularizer to be a non-empty string", self.name)
        # Not str(self.name), which of an enum's member is not its value.
        msgspec.structs.force_setattr(self, "name", str.__str__(self.name))
        check_text("the name of a regularizer", self.name)
        if not callable(self.fn):
            raise expected(f"the fn of regularizer {self.name!r} to be callable", self.fn)
        weight: Any = self.weight
        # numpy's numbers are registered as Real, its bool is not.
        if isinstance(weight, bool) or not isinstance(weight, Real) or not is_finite(weight) or weight < 0:
            raise expected(f"the weight of regularizer {self.name!r} to be a finite number >= 0", weight)
        msgspec.structs.force_setattr(self, "weight", float(weight))
        if not isinstance(self.async_, bool):
            raise expected(f"async_ of regularizer {self.name!r} to be True or False", self.async_)


class RegularizerError(BeamstalkError):
    """Name the regularizer that ended a loss, in `.regularizer_name`; `.reason` is what it failed with.

    >>> RegularizerError("l1", ValueError("boom"))
    RegularizerError("expected regularizer 'l1' to compute, got: ValueError('boom')")
    """

    def __init__(self, regularizer_name: str, reason: BaseException) -> None:
        super().__init__(f"expected regularizer {regularizer_name!r} to compute, got: {shown(reason)}")
        self.regularizer_name = regularizer_name
        self.reason = reason


def l1(data: object, x: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize Σ|x|.

    >>> l1(None, np.array([1.0, -2.0, 3.0]))[0]
    np.float64(6.0)
    """
    total = np.sum(np.abs(x))
    return total, {"sum": total}


def l2(data: object, x: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize Σx².

    >>> l2(None, np.array([1.0, -2.0, 3.0]))[0]
    np.float64(14.0)
    """
    total = np.sum(x**2)
    return total, {"sum_of_squares": total}


def l2_centred(data: object, x: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize Σ(x − mean x)², the spread around the mean.

    >>> l2_centred(None, np.array([1.0, 2.0, 3.0]))[0]
    np.float64(2.0)
    """
    mean = np.mean(x)
    return np.sum((x - mean) ** 2), {"mean": mean}


def sparsity(data: object, x: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize mean |x|: L1, independent of how many there are.

    >>> sparsity(None, np.array([1.0, -2.0, 3.0]))[0]
    np.float64(2.0)
    """
    mean = np.mean(np.abs(x))
    return mean, {"l1_mean": mean}


def entropy(data: object, logprobs: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize distributions that are too sure: log K − H, the mean over all rows of K log-probabilities (in nats).

    0 for the uniform distribution, towards log K for an ever surer one. Rows (the last axis, finite numbers) are
    normalized first, so logits serve as well.

    >>> entropy(None, np.log(np.array([0.25, 0.25, 0.25, 0.25])))[0].round(12)
    np.float64(0.0)
    """
    rows = log_softmax(logprobs)
    mean_entropy = -np.mean(np.sum(np.exp(rows) * rows, axis=-1))
    return math.log(rows.shape[-1]) - mean_entropy, {"entropy": mean_entropy}


def log_softmax(logits: Any) -> Any:
    """Turn rows (the last axis) of logits into log-probabilities.

    >>> np.exp(log_softmax(np.array([1000.0, 1000.0]))).tolist()
    [0.5, 0.5]
    """
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
