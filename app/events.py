"""Every event that a run of the application can emit, by who emits it.

Labelling and training declare theirs; those of the runtime are `runtime.own_events`. Owns the declarations of what the
durable reporters say about their work. The documented table is made of this, and names in the configuration are
looked up here.
"""

from __future__ import annotations

from typing import Any, Literal

from app.labeling.events import CATALOGUE as LABELING
from app.training.catalogue import CATALOGUE as TRAINING
from runtime.catalogue import Catalogue, Declared
from runtime.own_events import OWN

_ARTIFACT = {"artifact_id": str, "export_id": str, "name": str}

REPORTING: tuple[Declared, ...] = (
    Declared(
        name="foundation.metric",
        description="A metric of one event was handed over to be forwarded. `timestamp` in ms since the epoch.",
        measurements={"value": "as the metric's"},
        metadata={"metric_name": str, "tags": dict[str, str], "timestamp": int},
    ),
    Declared(
        name="aitrace.artifact.created",
        description="An export was handed over to be registered, described as ADR-008 does.",
        metadata={
            "type": Literal["dataset"],
            "name": str,
            "version": str,
            "metadata": dict[str, Any],
            "lineage": dict[str, list[dict[str, str]]],
        },
    ),
    Declared(
        name="aitrace.artifact.registered",
        description="The record of an export has arrived.",
        measurements={"attempts": "attempts"},
        metadata=_ARTIFACT,
    ),
    Declared(
        name="aitrace.artifact.failed",
        description="An export is not going to be registered. Without an artifact when its manifest was no good.",
        measurements={"attempts": "attempts"},
        metadata={
            "artifact_id": str | None,
            "export_id": str,
            "name": str | None,
            "kind": str | None,
            "reason": str,
        },
    ),
    Declared(
        name="telemetry.delivery.circuit",
        description="The way to an endpoint opened (it is left alone for a while) or closed (it answers again).",
        measurements={"failures": "failures in a row", "wait_s": "s"},
        metadata={"courier": str, "state": Literal["open", "closed"], "reason": str, "endpoint": str},
    ),
    Declared(
        name="telemetry.delivery.dead_letter",
        description="Records are not going to be delivered; they are kept, with the reason.",
        measurements={"count": "records"},
        metadata={"courier": str, "kind": str, "reason": str},
    ),
    Declared(
        name="telemetry.spool.damaged",
        description="A spool's file was damaged and renamed; what could be read goes on in a new one.",
        measurements={"salvaged": "records"},
        metadata={"path": str, "reason": str, "set_aside": str},
    ),
    Declared(
        name="telemetry.spool.unavailable",
        description="A spool cannot take records, and refuses them until it can: once per reason.",
        metadata={"path": str, "reason": str},
    ),
)

PARTS: tuple[tuple[str, tuple[Declared, ...]], ...] = (
    ("The runtime", OWN),
    ("Labelling", LABELING),
    ("Training", TRAINING),
    ("Reporting", REPORTING),
)
CHECKED = Catalogue([*LABELING, *TRAINING])
"""What is checked while the application runs."""

DECLARED = Catalogue([one for _, declared in PARTS for one in declared])
"""What is documented: all of it."""
