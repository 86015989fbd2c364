"""Agreement of a queue's samples while they are labelled, and of the whole queue afterwards.

`Scoring` belongs to one queue: it counts every accepted value, scores a sample as soon as it has all its labels, and
reports low scores as events. Chance is judged by all labels so far, so an early score is provisional; `recompute`
scores everything again against the final counts. Any thread may call.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import Any

import msgspec

import runtime
from app.labeling import agreement
from app.labeling.queues import Queue
from app.labeling.records import Label

LOW_SCORE = 0.6
"""Below this a sample's agreement on a dimension is reported."""

SAMPLE_METRIC: agreement.Metric = "krippendorff_alpha"


class Report(msgspec.Struct, frozen=True):
    """The agreement of a queue: samples scored, alpha by dimension, each low (sample_id, dimension, score)."""

    samples_processed: int
    alpha: dict[str, float]
    low: list[tuple[str, str, float]]


class Scoring:
    """Keeps the scores of one queue. Made for a queue that has labels, it counts those first."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._totals: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        for label in queue.storage.labels(queue.id):
            self.count(label)

    def count(self, label: Label) -> None:
        """Take a label's values into account."""
        with self._lock:
            for dimension, value in _ratings(label).items():
                self._totals[dimension][value] += 1

    def score(self, sample_id: str) -> dict[str, float]:
        """Score one sample on every dimension that two raters or more rated, and keep the scores.

        In the span `anvil.agreement.compute`; emits `anvil.agreement.low_score` for each below `LOW_SCORE`.
        """
        queue = self._queue
        with runtime.span("anvil.agreement.compute", {"sample_id": sample_id, "queue_id": queue.id}) as span:
            labels = queue.storage.labels(queue.id, sample_id)
            with self._lock:
                scores = self._scores(labels)
            span.metadata.update(
                metric=SAMPLE_METRIC, n_raters=len({label.labeler_id for label in labels}), dimensions=len(scores)
            )
            queue.storage.upsert_scores(queue.id, [(sample_id, *score) for score in scores.items()])
        for dimension, value in scores.items():
            if value < LOW_SCORE:
                queue.emit(
                    "anvil.agreement.low_score",
                    {"value": value},
                    {
                        "sample_id": sample_id,
                        "queue_id": queue.id,
                        "dimension": dimension,
                        "threshold": LOW_SCORE,
                        "metric": SAMPLE_METRIC,
                    },
                )
        return scores

    def recompute(self) -> Report:
        """Score every sample again by the counts of now, and the queue as a whole.

        In the span `anvil.agreement.batch_recompute`. Emits no low scores: they were reported when they came up.
        """
        queue = self._queue
        with runtime.span("anvil.agreement.batch_recompute", {"queue_id": queue.id}) as span:
            by_sample: defaultdict[str, list[Label]] = defaultdict(list)
            for label in queue.storage.labels(queue.id):
                by_sample[label.sample_id].append(label)
            with self._lock:
                scores = [
                    (sample_id, dimension, value)
                    for sample_id, labels in by_sample.items()
                    for dimension, value in self._scores(labels).items()
                ]
            queue.storage.upsert_scores(queue.id, scores)
            alpha = {}
            for field in queue.schema.fields:
                units = [[_ratings(label).get(field.name) for label in labels] for labels in by_sample.values()]
                if any(sum(rating is not None for rating in unit) >= 2 for unit in units):
                    alpha[field.name] = agreement.krippendorff_alpha(units, field.distance)
            processed = len({sample_id for sample_id, _, _ in scores})
            span.metadata["samples_processed"] = processed
        return Report(processed, alpha, [score for score in scores if score[2] < LOW_SCORE])

    def _scores(self, labels: list[Label]) -> dict[str, float]:
        ratings = [_ratings(label) for label in labels]
        scores = {}
        for field in self._queue.schema.fields:
            unit = [rating[field.name] for rating in ratings if field.name in rating]
            if len(unit) >= 2:
                scores[field.name] = agreement.unit_alpha(unit, self._totals[field.name], field.distance)
        return scores


def _ratings(label: Label) -> dict[str, Any]:
    """A label's values as agreement compares them: what is missing left out, several choices as one set."""
    return {
        name: frozenset(value) if isinstance(value, list | tuple) else value
        for name, value in label.values.items()
        if value is not None
    }
