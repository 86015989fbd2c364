"""Gradients of a loss by automatic differentiation (the `autograd` package), and their norms.

Owns the one place that differentiates. `custom_loss` calls it once per term when gradient norms are tracked and
never otherwise; the training loop calls it once per step. Any thread may call, several at once: see `gradient`.
A loss is a function of one array, written with `autograd.numpy` in place of `numpy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from autograd.core import VJPNode, backward_pass
from autograd.tracer import isbox, new_box
from numpy.typing import NDArray

from runtime.errors import expected

__all__ = ["Array", "gradient", "norm"]

Array = NDArray[np.float64]

# autograd tells nested derivatives apart by their depth, counted from 0 in one process-wide integer. Two threads that
# differentiate at once share that count, so a derivative inside a loss (a gradient penalty) may be given the depth of
# the one around it, and its result be silently wrong. Ours are the outermost of their thread: one depth below all that
# autograd hands out, yet above its "no trace" (-1). Boxes of different threads never meet, so the depth may be shared.
_OUTERMOST = -0.5


def gradient(loss: Callable[[Any], Any], at: Array) -> Array:
    """Return the gradient of a scalar loss at a point, of the point's shape.

    Calls the loss once, with a traced array. A loss that does not depend on its argument has the gradient 0. Raises
    InvalidValue when the loss is no scalar, and whatever the loss raises (NotImplementedError where `autograd` has no
    derivative).

    >>> import autograd.numpy as np
    >>> gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0, 3.0])).tolist()
    [2.0, 4.0, 6.0]
    """
    start = new_box(at, _OUTERMOST, VJPNode.new_root())
    end = loss(start)
    if not (isbox(end) and end._trace == _OUTERMOST):
        return np.zeros_like(at)
    if np.shape(end._value) != ():
        raise expected("a loss to return a scalar", end._value)
    return np.asarray(backward_pass(np.ones_like(end._value), end._node), dtype=np.float64)


def norm(vector: Array) -> float:
    """Return the L2 norm of an array of any shape, also where the squares are too large or too small for a float.

    >>> import numpy as np
    >>> norm(np.array([[3.0], [4.0]])), norm(np.array([-1e200])), norm(np.array([1e-200]))
    (5.0, 1e+200, 1e-200)
    """
    entries = vector.ravel()
    largest = float(np.max(np.abs(entries), initial=0.0))
    if 0 < largest < 1e-150 or 1e150 < largest < math.inf:
        return largest * float(np.linalg.norm(entries / largest))
    return float(np.linalg.norm(entries))
