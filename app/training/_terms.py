"""One term of a loss, computed: its value, its own metrics and, if asked for, its gradient.

Owns what `custom_loss` and the regularizers' actors both do with a term's function, wherever it runs. Keeps nothing. A
value that is no finite number is an error; a gradient that fails is only a warning, since watching a training run must
not end it.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from loguru import logger

import runtime
from app.training.gradients import Array, gradient, norm
from app.training.outputs import RegularizerOutput, Scalar, check_custom, is_finite
from app.training.regularizers import Regularizer, TermFunction
from runtime.errors import expected, shown

__all__ = [
    "Computed",
    "Term",
    "combined_norm",
    "compute",
    "evaluate",
    "plain_function",
    "regularizer_span",
    "split",
]


_GIVEN_UP_S = 0.5
"""How long after its caller has given up a coroutine is cancelled: the caller's word on that comes first."""


class Term(NamedTuple):
    """A term before weighting. The last two are None when no gradient was asked for, or when it failed."""

    value: float
    custom: dict[str, Scalar]
    gradient: Array | None = None
    grad_norm: float | None = None


class Computed(NamedTuple):
    """A regularizer's output, and the weighted gradient that it adds to the combined loss's."""

    output: RegularizerOutput
    gradient: Array | None

    def measurements(self) -> dict[str, float | None]:
        """Return what the stop event says besides the duration."""
        output = self.output
        return {"value": output.value, "contribution": output.contribution, "grad_norm": output.grad_norm}


def regularizer_span(regularizer: Regularizer) -> runtime.Span:
    """Make the span, not yet entered, of one computation of a regularizer."""
    return runtime.span(
        "tinkex.regularizer.compute",
        {"regularizer_name": regularizer.name, "weight": regularizer.weight, "async": regularizer.async_},
    )


def compute(
    regularizer: Regularizer, data: object, at: Array, track_grad_norms: bool, timeout_s: float | None = None
) -> Computed:
    """Compute one regularizer in this thread. Raises what its function raises, and InvalidValue for a bad result."""
    what = f"regularizer {regularizer.name!r}"
    term = evaluate(what, plain_function(regularizer, timeout_s), data, at, track_grad_norms)
    if term.grad_norm is not None and _if_finite(f"weighted {what}", regularizer.weight * term.grad_norm) is None:
        term = term._replace(gradient=None, grad_norm=None)
    output = RegularizerOutput.compute(regularizer.name, term.value, regularizer.weight, term.custom, term.grad_norm)
    return Computed(output, None if term.gradient is None else regularizer.weight * term.gradient)


def evaluate(what: str, fn: TermFunction, data: object, at: Array, track_grad_norms: bool) -> Term:
    """Call a term's function at a point, and once more for its gradient if asked for.

    >>> evaluate("base loss", lambda data, x: (x.sum(), {"n": x.size}), None, np.array([1.0, 2.0]), False)
    Term(value=3.0, custom={'n': 2}, gradient=None, grad_norm=None)
    """
    value, custom = split(fn(data, at))
    if inspect.iscoroutine(value):
        value.close()  # or Python complains on stderr that nobody awaited it
        raise expected(f"{what} to be a plain function", value, "Only a Regularizer with async_=True is awaited.")
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise expected(f"{what} to return a scalar or (scalar, metrics)", value)
    if not is_finite(number):
        raise expected(f"{what} to return a finite value", number, "JSON has neither NaN nor infinity.")
    if not isinstance(custom, Mapping):
        raise expected(f"the metrics of {what} to be a mapping", custom)
    term = Term(float(number), {_plain(key): _plain(scalar) for key, scalar in custom.items()})
    check_custom(term.custom, of=f" of {what}")
    if not track_grad_norms:
        return term
    try:
        slope = gradient(lambda x: split(fn(data, x))[0], at)
    except Exception as reason:  # noqa: BLE001 - the term's own code, and whatever autograd makes of it
        logger.opt(exception=reason).warning("expected {} to have a gradient, got: {}", what, shown(reason))
        return term
    grad_norm = _if_finite(what, norm(slope))
    return term if grad_norm is None else term._replace(gradient=slope, grad_norm=grad_norm)


def plain_function(regularizer: Regularizer, timeout_s: float | None = None) -> TermFunction:
    """Return the regularizer's function; of an async one, a function that runs it to its end in a new event loop.

    `timeout_s` is when the caller gives up: one that waits for longer than that is cancelled, so that no thread stays.
    """
    fn = regularizer.fn
    if not regularizer.async_:
        return fn
    patience_s = None if timeout_s is None else timeout_s + _GIVEN_UP_S

    def run(data: object, x: Any) -> Any:
        result = fn(data, x)
        if not inspect.iscoroutine(result):
            what = f"regularizer {regularizer.name!r} to return a coroutine"
            raise expected(what, result, "Write it with async def, or drop async_=True.")
        return asyncio.run(asyncio.wait_for(result, patience_s))

    return run


def split(result: Any) -> tuple[Any, Any]:
    """Tell what a term's function returned apart: its value, and its metrics.

    >>> split(1.5), split((1.5, {"n": 2}))
    ((1.5, {}), (1.5, {'n': 2}))
    """
    return result if isinstance(result, tuple) and len(result) == 2 else (result, {})


def combined_norm(gradients: list[Array | None]) -> float | None:
    """Return the norm of the sum of the terms' weighted gradients; None when one of them is unknown.

    Differentiation is linear, so this is the norm of the gradient of the combined loss, without another gradient.

    >>> combined_norm([np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])])
    5.385164807134504
    """
    known = [each for each in gradients if each is not None]
    if len(known) < len(gradients):
        return None
    with np.errstate(over="ignore"):  # it is said below
        return _if_finite("the combined loss", norm(np.sum(known, axis=0)))


def _if_finite(what: str, length: float) -> float | None:
    if math.isfinite(length):
        return length
    logger.warning("expected the gradient of {} to be finite, got norm {}; it is left out", what, length)
    return None


def _plain(scalar: Any) -> Any:
    """Turn a numpy scalar or 0-d array into Python's number."""
    return scalar.item() if isinstance(scalar, np.generic | np.ndarray) and scalar.ndim == 0 else scalar
