"""Compute a composed loss, loss_total = base loss + Σ weight × regularizer, and report on it.

Owns `custom_loss` and its two kinds of spans: `tinkex.custom_loss` around the whole, `tinkex.regularizer.compute`
around each regularizer. Every start gets its one end, whatever happens in between. Any thread may call; it waits for
the functions it is given, so a green actor should not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from threading import TIMEOUT_MAX
from typing import Any

import numpy as np

import runtime
from app.training._parallel import compute_in_actors
from app.training._terms import Computed, combined_norm, compute, evaluate, regularizer_span
from app.training.gradients import Array
from app.training.outputs import BaseLossOutput, CustomLossOutput, check_unique_names
from app.training.regularizers import Regularizer, RegularizerError, TermFunction
from runtime.errors import expected

__all__ = ["custom_loss"]


def custom_loss(
    data: Sized,
    logprobs_or_params: Any,
    base_loss: TermFunction | None,
    regularizers: Iterable[Regularizer] = (),
    track_grad_norms: bool = False,
    parallel: bool = False,
    timeout_s: float = 30.0,
    *,
    model_id: str = "model",
) -> CustomLossOutput:
    """Return a base loss, its regularizers and their total at one point.

    Each term is called as `fn(data, x)` with `x` a read-only float64 copy of `logprobs_or_params`, and returns a scalar
    or (scalar, metrics). The base loss runs in the caller's thread. So do the regularizers, one after the other, unless
    `parallel` is set: then each is an actor on its own thread, and all start before the first is waited for. A
    regularizer declared async is always an actor.

    Options:
    - `track_grad_norms` (False): report L2 norms of gradients; one gradient per term. The combined loss's gradient is
      their weighted sum, so it costs none of its own. Off, no gradient is computed at all. A gradient that fails or
      is not finite is a warning in the log and None, and so is then the total's.
    - `timeout_s` (30): how long actors may take, together if parallel, else each. A coroutine that takes longer is
      cancelled; a function goes on in its thread, unheard, until it returns. What runs in the caller's
      thread cannot be interrupted.
    - `model_id`: goes into the events.

    Errors: InvalidValue, before any event, for arguments that make no loss; RegularizerError naming the regularizer
    that failed, ran out of time, or gave a NaN or infinity; what the base loss raises, unchanged; InvalidValue when
    the base loss or the total is no finite number. What is no Exception (KeyboardInterrupt, SystemExit) and is raised
    in the caller's thread goes on unchanged. Events are closed before the error is raised. In parallel mode all
    regularizers are waited for; the first of them in order is the error, the others are notes on it.

    >>> import autograd.numpy as np
    >>> from app.training.regularizers import l2
    >>> output = custom_loss([], [1.0, 2.0, 3.0], lambda data, x: np.sum(x), [Regularizer(l2, 0.5, "l2")], True)
    >>> output.loss_total, output.regularizers["l2"].contribution, output.total_grad_norm
    (13.0, 7.0, 5.385164807134504)
    """
    try:
        data_count = len(data)
    except TypeError as error:  # numpy's 0-d arrays are Sized, and have none
        raise expected("data to have a length", data) from error
    if base_loss is not None and not callable(base_loss):
        raise expected("base_loss to be callable", base_loss)
    if not isinstance(regularizers, Iterable):
        raise expected("regularizers to be a list of Regularizer values", regularizers)
    regularizers = tuple(regularizers)
    for regularizer in regularizers:
        if not isinstance(regularizer, Regularizer):
            raise expected("regularizers to be Regularizer values", regularizer, "Write Regularizer(fn, weight, name).")
    check_unique_names(regularizer.name for regularizer in regularizers)
    for name, flag in (("track_grad_norms", track_grad_norms), ("parallel", parallel)):
        if not isinstance(flag, bool):
            raise expected(f"{name} to be True or False", flag)
    if not isinstance(model_id, str):
        raise expected("model_id to be a string", model_id)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_MAX:
        raise expected(f"timeout_s to be a positive number of seconds, at most {TIMEOUT_MAX:.0f}", timeout_s)
    at = _point(logprobs_or_params)

    metadata = {
        "model_id": model_id,
        "data_count": data_count,
        "regularizer_count": len(regularizers),
        "track_grad_norms": track_grad_norms,
    }
    with runtime.span("tinkex.custom_loss", metadata) as span:
        base = None if base_loss is None else evaluate("the base loss", base_loss, data, at, track_grad_norms)
        if parallel:
            computed = compute_in_actors(regularizers, data, at, track_grad_norms, timeout_s)
        else:
            computed = [_compute(regularizer, data, at, track_grad_norms, timeout_s) for regularizer in regularizers]
        gradients = ([] if base is None else [base.gradient]) + [each.gradient for each in computed]
        output = CustomLossOutput.compose(
            None if base is None else BaseLossOutput(value=base.value, grad_norm=base.grad_norm, custom=base.custom),
            [each.output for each in computed],
            combined_norm(gradients) if track_grad_norms else None,
        )
        span.measurements |= {
            "loss_total": output.loss_total,
            "regularizer_total": output.regularizer_total,
            "total_grad_norm": output.total_grad_norm,
        }
    return output


def _compute(regularizer: Regularizer, data: object, at: Array, track_grad_norms: bool, timeout_s: float) -> Computed:
    if regularizer.async_:
        return compute_in_actors([regularizer], data, at, track_grad_norms, timeout_s)[0]
    try:
        with regularizer_span(regularizer) as span:
            computed = compute(regularizer, data, at, track_grad_norms)
            span.measurements |= computed.measurements()
    except Exception as reason:
        raise RegularizerError(regularizer.name, reason) from reason
    return computed


def _point(logprobs_or_params: Any) -> Array:
    try:
        given = np.asarray(logprobs_or_params)
    except (TypeError, ValueError) as error:
        raise expected("logprobs_or_params to be an array of numbers", logprobs_or_params) from error
    if given.dtype.kind not in "fiub":  # numpy would make numbers of text, NaN of None, and drop imaginary parts
        raise expected("logprobs_or_params to be an array of real numbers", logprobs_or_params)
    at = np.array(given, dtype=np.float64)
    # All terms get this one array, some of them on other threads: none may change what the others see.
    at.setflags(write=False)
    return at
