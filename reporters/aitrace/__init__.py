"""The AITrace reporter: exports registered with their lineage, and traces in files. Start at `AITrace`."""

from reporters.aitrace._files import Evidence, check_pair
from reporters.aitrace._lineage import (
    Artifact,
    ArtifactEvent,
    Edge,
    EdgeEvent,
    LineageBatch,
    LineageEvent,
    Manifest,
    create_artifact,
)
from reporters.aitrace._trace import Trace, TraceEvent, TraceRule, TraceSpan
from reporters.aitrace.reporter import AITrace

__all__ = [
    "AITrace",
    "Artifact",
    "ArtifactEvent",
    "Edge",
    "EdgeEvent",
    "Evidence",
    "LineageBatch",
    "LineageEvent",
    "Manifest",
    "Trace",
    "TraceEvent",
    "TraceRule",
    "TraceSpan",
    "check_pair",
    "create_artifact",
]
