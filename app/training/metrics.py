"""The metrics of the training telemetry: loss, contributions, gradient norms, times, requests.

Declarations only; the application hands them to its aggregator, from which StatsD and Prometheus take them. Tags are
the model and the names that its author gave to regularizers: few, and known.
"""

from __future__ import annotations

from runtime.metrics import Metric, counter, distribution, from_metadata, last_value, sum

__all__ = ["METRICS"]

_MODEL = ["model_id"]
_REGULARIZER = ["regularizer_name"]
_REQUEST = ["method", "pool_type", "result"]
_LOSS = "tinkex.custom_loss.stop"
_COMPUTE = "tinkex.regularizer.compute.stop"
_HTTP = "tinkex.http.request.stop"

METRICS: tuple[Metric, ...] = (
    last_value(
        "tinkex.custom_loss.loss_total", event_name=_LOSS, tags=_MODEL, description="total loss of the last step"
    ),
    last_value(
        "tinkex.custom_loss.regularizer_total", event_name=_LOSS, tags=_MODEL, description="sum of contributions"
    ),
    last_value(
        "tinkex.custom_loss.total_grad_norm",
        event_name=_LOSS,
        tags=_MODEL,
        description="L2 norm of the combined loss's gradient; nothing while untracked",
    ),
    distribution(
        "tinkex.custom_loss.duration",
        event_name=_LOSS,
        tags=_MODEL,
        unit=("native", "millisecond"),
        description="time of one custom loss",
    ),
    counter(
        "tinkex.custom_loss.exceptions",
        event_name="tinkex.custom_loss.exception",
        tags=_MODEL,
        description="custom losses that failed",
    ),
    last_value(
        "tinkex.regularizer.contribution",
        event_name=_COMPUTE,
        tags=_REGULARIZER,
        description="weight * value of the last step",
    ),
    last_value(
        "tinkex.regularizer.grad_norm",
        event_name=_COMPUTE,
        tags=_REGULARIZER,
        description="L2 norm of the term's gradient before weighting; nothing while untracked",
    ),
    distribution(
        "tinkex.regularizer.duration",
        event_name=_COMPUTE,
        tags=_REGULARIZER,
        unit=("native", "millisecond"),
        description="time of one regularizer, its gradient included",
    ),
    counter(
        "tinkex.regularizer.exceptions",
        event_name="tinkex.regularizer.compute.exception",
        tags=_REGULARIZER,
        description="regularizers that failed or ran out of time",
    ),
    distribution(
        "tinkex.training.step.duration",
        event_name="tinkex.training.step.stop",
        tags=_MODEL,
        unit=("native", "millisecond"),
        description="time of one training step",
    ),
    distribution(
        "tinkex.http.request.duration",
        event_name=_HTTP,
        tags=_REQUEST,
        unit=("native", "millisecond"),
        description="time of one request, its retries included",
    ),
    sum(
        "tinkex.http.request.retries",
        event_name=_HTTP,
        measurement=from_metadata("retry_count"),
        tags=_REQUEST,
        description="attempts after the first",
    ),
    counter(
        "tinkex.http.request.exceptions",
        event_name="tinkex.http.request.exception",
        tags=["method", "pool_type"],
        description="requests that got no answer",
    ),
    counter(
        "tinkex.queue.state_changes",
        event_name="tinkex.queue.state_change",
        tags=["queue_state"],
        description="changes of the service's queue",
    ),
)
"""What to hand to `Application(metrics=…)`."""
