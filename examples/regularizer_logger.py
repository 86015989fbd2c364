"""Log composed losses and their regularizers: one handler for two events, beside the training and never in its way."""

import sys
from typing import Any

import autograd.numpy as np
from loguru import logger

import runtime
from app.training import Regularizer, custom_loss
from app.training.regularizers import l1, l2
from supervisors import Application

Values = dict[str, Any]


class RegularizerLogger:
    """Writes a line for each regularizer (level DEBUG) and one for the whole loss (INFO, WARNING when it was slow)."""

    def attach(self, slow_ms: float) -> None:
        events = ["tinkex.custom_loss.stop", "tinkex.regularizer.compute.stop"]
        runtime.attach_many("regularizer-logger", events, self.handle_event, {"slow_ms": slow_ms})

    def handle_event(self, event: str, measurements: Values, metadata: Values, config: Values) -> None:
        if event == "tinkex.regularizer.compute.stop":
            name, value = metadata["regularizer_name"], measurements["value"]
            logger.debug(f"Regularizer {name}: value={value:.3f} contribution={measurements['contribution']:.3f}")
            return
        total, regs = measurements["loss_total"], metadata["regularizer_count"]
        duration_ms = measurements["duration"] / 1_000_000
        level = "WARNING" if duration_ms > config["slow_ms"] else "INFO"
        logger.log(level, f"Custom loss: total={total:.3f} regs={regs} duration={duration_ms:.0f}ms")


def nll(data: list[str], logprobs: Any) -> Any:
    return -np.mean(logprobs), {"tokens": len(logprobs)}


def main() -> None:
    logger.remove()
    logger.add(sys.stdout, level="DEBUG", format="{level: <7} {message}")
    logprobs = [-0.5, -1.0, -0.5, -2.0]
    regularizers = [Regularizer(l1, 0.125, "l1"), Regularizer(l2, 0.0625, "l2")]

    with Application("training").running():
        RegularizerLogger().attach(slow_ms=10_000)
        custom_loss(["a datum"], logprobs, nll, regularizers)


if __name__ == "__main__":
    main()
