"""The command line of the training loop: `python -m app train`, and the training part of the main job.

Owns the options and what a person reads on stdout. It starts no runtime and attaches nothing: whoever calls `run` has
done so, or wants no events.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.training.loop import train
from app.training.outputs import CustomLossOutput

__all__ = ["add_arguments", "run"]

_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `run` reads."""
    parser.add_argument("--steps", type=_positive, default=20, metavar="N", help="training steps (default: 20)")
    parser.add_argument("--batch-size", type=_positive, default=256, metavar="N", help="tokens a step (default: 256)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="which tokens make which batch (default: 0)")
    parser.add_argument("--no-grad-norms", action="store_true", help="report no gradient norms")
    parser.add_argument("--parallel", action="store_true", help="compute each regularizer in an actor of its own")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write each step's output to FILE, one JSON a line")


def run(args: argparse.Namespace) -> int:
    """Train as the options say, and print what happens; returns the exit code. Blocks until the last step.

    >>> parser = argparse.ArgumentParser()
    >>> add_arguments(parser)
    >>> run(parser.parse_args(["--steps", "1"]))
    step 1: loss 3.1413, base 3.1413, regularizers 0.0000, gradient 0.3570
    held-out tokens: mean absolute error 1.447 (untrained 1.513), correlation 0.233
    0
    """
    every = -(-args.steps // _LINES)
    with _lines(args.jsonl) as lines:

        def on_step(step: int, output: CustomLossOutput) -> None:
            if lines is not None:
                lines.write(output.to_json() + b"\n")
            if step % every == 0 or step == args.steps:
                print(_line(step, output))

        training = train(
            args.steps,
            batch_size=args.batch_size,
            seed=args.seed,
            track_grad_norms=not args.no_grad_norms,
            parallel=args.parallel,
            on_step=on_step,
        )
    print(
        f"held-out tokens: mean absolute error {training.mean_absolute_error:.3f} "
        f"(untrained {training.untrained_error:.3f}), correlation {training.correlation:.3f}"
    )
    return 0


def _line(step: int, output: CustomLossOutput) -> str:
    base = 0.0 if output.base_loss is None else output.base_loss.value
    gradient = "untracked" if output.total_grad_norm is None else f"{output.total_grad_norm:.4f}"
    return (
        f"step {step}: loss {output.loss_total:.4f}, base {base:.4f}, "
        f"regularizers {output.regularizer_total:.4f}, gradient {gradient}"
    )


@contextmanager
def _lines(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
    else:
        with path.open("wb") as file:
            yield file


def _positive(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got: {text!r}")
    return int(text)
