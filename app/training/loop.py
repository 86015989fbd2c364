"""Train the lexicon's model and report every step: the training telemetry of a real run.

Owns the loop: a batch of tokens, `custom_loss` on it (events, metrics), its JSON into the log, one step of Adam.
`train` blocks its caller until the last step; run it in a thread, or in an actor on the carrier "thread". The same seed
gives the same run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from autograd.misc.optimizers import adam
from loguru import logger

import runtime
from app.labeling import lexicon
from app.training._terms import plain_function, split
from app.training.custom_loss import custom_loss
from app.training.gradients import Array, gradient
from app.training.model import Batch, batch_of, initial_params, predict, squared_error, unsure
from app.training.outputs import CustomLossOutput
from app.training.regularizers import Regularizer, l1, l2
from runtime.errors import expected

__all__ = ["REGULARIZERS", "Training", "train", "train_until_interrupted"]

REGULARIZERS = (Regularizer(l1, 1e-5, "l1"), Regularizer(l2, 1e-5, "l2"), Regularizer(unsure, 0.02, "entropy"))
"""What keeps the model small (l1, l2) and doubtful (entropy)."""

_LEARNING_RATE = 0.1
_HELD_OUT = 10
"""One token in this many is never trained on."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run: its last step, and how well held-out tokens are predicted.

    `steps` counts those that were made, which are fewer than asked for when the run was stopped. `mean_absolute_error`
    is in points of the rating scale (-4 … 4); `untrained_error` is that of predicting 0 for every
    token; `correlation` is Pearson's, 0 where all predictions are equal.
    """

    steps: int
    last: CustomLossOutput
    mean_absolute_error: float
    untrained_error: float
    correlation: float


def train(
    steps: int = 20,
    *,
    batch_size: int = 256,
    seed: int = 0,
    track_grad_norms: bool = True,
    parallel: bool = False,
    regularizers: Iterable[Regularizer] = REGULARIZERS,
    model_id: str = "lexicon-valence",
    on_step: Callable[[int, CustomLossOutput], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Training:
    """Train a new model on the lexicon for some steps, or until `stop()`, which is asked after each, is true.

    Each step runs in the span `tinkex.training.step` {duration} (model_id, step), emits the events of one
    `custom_loss`, logs its output as one line of JSON (loguru, level INFO) and then calls `on_step(step, output)`;
    steps count from 1. Raises InvalidValue for a count below 1, what `custom_loss` raises, and what `on_step` raises.
    """
    for name, count in (("steps", steps), ("batch_size", batch_size)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise expected(f"{name} to be a whole number >= 1", count)
    regularizers = tuple(regularizers)
    tokens = lexicon.load()
    held_out = batch_of(tokens[::_HELD_OUT])
    trained_on = [token for number, token in enumerate(tokens) if number % _HELD_OUT]
    batch_size = min(batch_size, len(trained_on))
    chance = np.random.default_rng(seed)
    outputs: deque[CustomLossOutput] = deque(maxlen=1)

    def slope(params: Array, iteration: int) -> Array:
        with runtime.span("tinkex.training.step", {"model_id": model_id, "step": iteration + 1}):
            chosen = chance.choice(len(trained_on), batch_size, replace=False)
            batch = batch_of([trained_on[each] for each in chosen])
            output = custom_loss(
                batch, params, squared_error, regularizers, track_grad_norms, parallel, model_id=model_id
            )
            descent = gradient(lambda x: _combined(batch, x, regularizers), params)
        logger.bind(model_id=model_id, step=iteration + 1).info(output.to_json().decode())
        outputs.append(output)
        if on_step is not None:
            on_step(iteration + 1, output)
        if stop is not None and stop():
            raise _Stopped(iteration + 1, params)
        return descent

    try:
        params = adam(slope, initial_params(), num_iters=steps, step_size=_LEARNING_RATE)
    except _Stopped as stopped:
        steps, params = stopped.steps, stopped.params
    predicted = predict(held_out.features, params)
    return Training(
        steps=steps,
        last=outputs[-1],
        mean_absolute_error=float(np.mean(np.abs(predicted - held_out.valence))),
        untrained_error=float(np.mean(np.abs(held_out.valence))),
        correlation=float(np.corrcoef(predicted, held_out.valence)[0, 1]) if np.ptp(predicted) else 0.0,
    )


def train_until_interrupted(steps: int, **options: Any) -> Training:
    """Train as `train` does, in a thread of its own: a KeyboardInterrupt of the caller ends it after the step in hand.

    So an interrupt hits no step in its middle, and the run concludes with what it has. A second one is raised.
    """
    told = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            training = pool.submit(train, steps, stop=told.is_set, **options)
            try:
                return training.result()
            except KeyboardInterrupt:
                told.set()
                return training.result()
        finally:
            told.set()  # whatever happens here, the pool waits for one step at most


class _Stopped(Exception):
    """Leave the optimizer, which knows of no end but the last step."""

    def __init__(self, steps: int, params: Array) -> None:
        super().__init__(steps)
        self.steps = steps
        self.params = params


def _combined(batch: Batch, x: Any, regularizers: Sequence[Regularizer]) -> Any:
    """Compute the loss that is minimized."""
    base, _ = squared_error(batch, x)
    return base + sum(each.weight * split(plain_function(each)(batch, x))[0] for each in regularizers)
