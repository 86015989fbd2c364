"""The event catalogue of the training telemetry, and the version of its structures.

Events are an API: whoever attaches a handler reads this page; the test suite holds the code to it. In a span,
`measurements` are what its stop adds to the duration, and None where there is no number; a changed event gets a new
`version`. Owns `SCHEMA_VERSION`: one number for the published JSON Schema of `app.training.outputs`, bumped on every
change of a structure.
"""

from __future__ import annotations

from typing import Literal

from runtime.catalogue import Declared

__all__ = ["CATALOGUE", "SCHEMA_VERSION"]

SCHEMA_VERSION = 1

CATALOGUE: tuple[Declared, ...] = (
    Declared(
        name="tinkex.custom_loss",
        description="A base loss and its regularizers were computed and added up.",
        is_span=True,
        measurements={"loss_total": "loss", "regularizer_total": "loss", "total_grad_norm": "norm"},
        metadata={"model_id": str, "data_count": int, "regularizer_count": int, "track_grad_norms": bool},
    ),
    Declared(
        name="tinkex.regularizer.compute",
        description="One regularizer was computed; the duration includes its gradient.",
        is_span=True,
        measurements={"value": "loss", "contribution": "loss", "grad_norm": "norm"},
        metadata={"regularizer_name": str, "weight": float, "async": bool},
    ),
    Declared(
        name="tinkex.training.step",
        description="One step of training: a batch, its custom loss, and the gradient to descend along.",
        is_span=True,
        metadata={"model_id": str, "step": int},
    ),
    Declared(
        name="tinkex.http.request",
        description="One request to the training service, retries included. No answer to be read is an exception.",
        is_span=True,
        metadata={"method": str, "path": str, "pool_type": str, "base_url": str},
        stop={"result": Literal["ok", "error"], "retry_count": int},
    ),
    Declared(
        name="tinkex.queue.state_change",
        description="The service's queue is in another state than before, or for another reason.",
        metadata={
            "request_id": str,
            "queue_state": Literal["active", "paused_rate_limit", "paused_capacity", "unknown"],
            "reason": str | None,
        },
    ),
)
