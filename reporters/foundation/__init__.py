"""The Foundation reporter: metrics forwarded durably, by HTTP or to a file. Start at `Foundation`."""

from reporters.foundation._forward import DEFAULT_METRICS
from reporters.foundation._model import MetricBatch, MetricEvent, MetricLine
from reporters.foundation.reporter import Foundation

__all__ = ["DEFAULT_METRICS", "Foundation", "MetricBatch", "MetricEvent", "MetricLine"]
