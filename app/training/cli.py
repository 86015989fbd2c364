"""The command line of the training loop: `python -m app train`.

Owns the options and what a person reads. The lines about steps are written by a handler from the events alone, as any
service's own dashboard would; the training knows nothing of it. Starts an application of its own, and stops it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

import runtime
from app.accounts import Account, accounts
from app.options import address, whole
from app.screen import Screen
from app.training.loop import Training, train_until_interrupted
from app.training.metrics import METRICS
from app.training.outputs import CustomLossOutput
from reporters import Statsd, StatsdStatistics
from supervisors import Application

__all__ = ["add_arguments", "run"]

_LINES = 20
_HANDLER_ID = "step-lines"
_REGULARIZER, _LOSS, _STEP = "tinkex.regularizer.compute.stop", "tinkex.custom_loss.stop", "tinkex.training.step.stop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `run` reads."""
    add = parser.add_argument
    add("--steps", type=_positive, default=20, metavar="N", help="training steps (default: 20)")
    add("--batch-size", type=_positive, default=256, metavar="N", help="tokens a step (default: 256)")
    add("--seed", type=_seed, default=0, metavar="N", help="which tokens make which batch (default: 0)")
    add("--no-grad-norms", action="store_true", help="report no gradient norms")
    add("--parallel", action="store_true", help="compute each regularizer in an actor of its own")
    add("--statsd", type=address, metavar="HOST:PORT", help="where to send metrics (default: nowhere)")
    add("--jsonl", type=Path, metavar="FILE", help="write each step's output to FILE, one JSON a line")
    add("--json", action="store_true", help="print the result as one JSON object, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Train as the options say, and print what is heard of it. Blocks until the last step, or an interrupt.

    Returns the exit code: 0, or 130 when interrupted; what there is by then is told all the same.

    >>> parser = argparse.ArgumentParser()
    >>> add_arguments(parser)
    >>> run(parser.parse_args(["--steps", "1"]))  # doctest: +ELLIPSIS
    step 1: loss 3.1413 = base 3.1413 + entropy 0.0000 + l1 0.0000 + l2 0.0000, gradient 0.3570, ... ms
    held-out tokens: mean absolute error 1.447 (untrained 1.513), correlation 0.233
    events: 5 emitted = 5 handled + 0 dropped
    0
    """
    screen = Screen(quiet=args.json)
    lines = _StepLines(screen, args.steps)
    statsd = None if args.statsd is None else Statsd(host=args.statsd[0], port=args.statsd[1])
    done = 0
    with _file(args.jsonl) as file, lines.attached():
        with (
            Application("training", metrics=METRICS, children=[] if statsd is None else [statsd]).running(),
            screen.progress(lambda: done, args.steps, "steps"),
        ):

            def on_step(step: int, output: CustomLossOutput) -> None:
                nonlocal done
                done = step
                if file is not None:
                    file.write(output.to_json() + b"\n")
                if screen.is_deserted:
                    raise BrokenPipeError

            training = train_until_interrupted(
                args.steps,
                batch_size=args.batch_size,
                seed=args.seed,
                track_grad_norms=not args.no_grad_norms,
                parallel=args.parallel,
                on_step=on_step,
            )
        (account,) = (one for one in accounts([], ()) if one.listener == _HANDLER_ID)
    is_interrupted = training.steps < args.steps
    if args.json:
        result = msgspec.structs.asdict(training) | {"interrupted": is_interrupted, "events": account}
        print(msgspec.json.encode(result).decode())
    else:
        print("\n".join(_summary(args.steps, training, account, None if statsd is None else statsd.statistics())))
    return 130 if is_interrupted else 0


class _StepLines:
    """A handler that makes a line of each step's events; of some twenty steps when there are more."""

    def __init__(self, screen: Screen, steps: int) -> None:
        self._screen = screen
        self._steps = steps
        self._every = -(-steps // _LINES)
        self._terms: list[str] = []
        self._loss = ""

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Listen while the block lasts."""
        runtime.attach_many(_HANDLER_ID, [_REGULARIZER, _LOSS, _STEP], self.handle, capacity=200_000)
        try:
            yield
        finally:
            runtime.detach(_HANDLER_ID)

    def handle(self, event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: object) -> None:
        """Take one event: of a regularizer, then of the loss it is part of, then of the step."""
        if event == _REGULARIZER:
            self._terms.append(f" + {metadata['regularizer_name']} {measurements['contribution']:.4f}")
        elif event == _LOSS:
            total, gradient = measurements["loss_total"], measurements["total_grad_norm"]
            base = total - measurements["regularizer_total"]
            self._loss = f"loss {total:.4f} = base {base:.4f}{''.join(sorted(self._terms))}"
            self._loss += "" if gradient is None else f", gradient {gradient:.4f}"
            self._terms.clear()
        else:
            step = metadata["step"]
            if step == 1 or step % self._every == 0 or step == self._steps:
                self._screen.line(f"step {step}: {self._loss}, {measurements['duration'] / 1e6:.0f} ms")


def _summary(steps: int, training: Training, account: Account, sent: StatsdStatistics | None) -> Iterator[str]:
    if training.steps < steps:
        yield f"interrupted after {training.steps:,} of {steps:,} steps"
    yield (
        f"held-out tokens: mean absolute error {training.mean_absolute_error:.3f} "
        f"(untrained {training.untrained_error:.3f}), correlation {training.correlation:.3f}"
    )
    yield f"events: {account.in_words()}"
    if sent is not None:
        failed = f"; {sent.send_errors:,} sends failed: {sent.flush.last_error}" if sent.flush.last_error else ""
        yield f"statsd: {sent.lines:,} lines in {sent.datagrams:,} packets to {sent.endpoint}{failed}"


@contextmanager
def _file(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
    else:
        with path.open("wb") as file:
            yield file


def _positive(text: str) -> int:
    return whole(text, 1, "a whole number from 1")


def _seed(text: str) -> int:
    return whole(text, 0, "a whole number from 0")
