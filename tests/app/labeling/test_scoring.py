from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from app.labeling import agreement, policies
from app.labeling.labels import Accepted, submit
from app.labeling.queues import Queue, Refused
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.scoring import LOW_SCORE, Scoring
from app.labeling.storage import Storage
from runtime.testing import Capture

NewQueue = Callable[..., Queue]
RATINGS = {"s1": (4, 4, 4), "s2": (-4, -4, -3), "s3": (3, -3, 0)}


def rate(queue: Queue, ratings: Mapping[str, Sequence[int] | Sequence[Mapping[str, Any]]]) -> Scoring:
    """Let ada, bob and cyd give these ratings; score each sample when it is complete, as the platform does."""
    scoring = Scoring(queue)
    for number, labeler in enumerate(("ada", "bob", "cyd")):
        while not isinstance(assignment := queue.dispatch(labeler), Refused):
            rating = ratings[assignment.sample_id][number]
            values = rating if isinstance(rating, Mapping) else {"valence": rating}
            outcome = submit(queue, queue.start(assignment.id).id, labeler, values)
            assert isinstance(outcome, Accepted)
            scoring.count(outcome.label)
            if outcome.sample_is_complete:
                scoring.score(assignment.sample_id)
    return scoring


def test_a_finished_sample_is_scored_and_a_low_score_reported(
    new_queue: NewQueue, storage: Storage, emitted: Capture
) -> None:
    rate(new_queue(labels_per_sample=3), RATINGS)

    scores = storage.scores("q1")
    assert scores["s1", "valence"] == 1.0
    assert scores["s2", "valence"] > 0.9
    assert scores["s3", "valence"] < LOW_SCORE
    computed = emitted.of("anvil.agreement.compute.stop")
    assert [stop.metadata["sample_id"] for stop in computed] == ["s1", "s2", "s3"]
    assert {(stop.metadata["metric"], stop.metadata["n_raters"], stop.metadata["dimensions"]) for stop in computed} == {
        ("krippendorff_alpha", 3, 1)
    }
    (low,) = emitted.of("anvil.agreement.low_score")
    assert low.measurements == {"value": scores["s3", "valence"]}
    assert low.metadata == {
        "sample_id": "s3",
        "queue_id": "q1",
        "dimension": "valence",
        "threshold": 0.6,
        "metric": "krippendorff_alpha",
    }


def test_the_batch_scores_every_sample_against_the_final_counts(
    new_queue: NewQueue, storage: Storage, emitted: Capture
) -> None:
    scoring = rate(new_queue(labels_per_sample=3), RATINGS)
    reported = len(emitted.of("anvil.agreement.low_score"))

    report = scoring.recompute()

    assert report.samples_processed == 3
    assert report.alpha == {"valence": agreement.krippendorff_alpha(list(RATINGS.values()), "interval")}
    scores = storage.scores("q1")
    assert report.alpha["valence"] == pytest.approx(sum(scores.values()) / 3)
    assert report.low == [("s3", "valence", scores["s3", "valence"])]
    (stop,) = emitted.of("anvil.agreement.batch_recompute.stop")
    assert (stop.metadata["queue_id"], stop.metadata["samples_processed"]) == ("q1", 3)
    assert len(emitted.of("anvil.agreement.low_score")) == reported


def test_scoring_taken_up_again_counts_what_was_there(new_queue: NewQueue) -> None:
    queue = new_queue(labels_per_sample=3)
    scoring = rate(queue, RATINGS)

    assert Scoring(queue).recompute() == scoring.recompute()


def test_each_dimension_is_scored_by_its_own_scale_and_optional_ones_by_those_who_answered(
    storage: Storage, emitted: Capture
) -> None:
    schema = Schema(
        "v1",
        (
            Field(name="topic", type="select", options=("a", "b")),
            Field(name="tags", type="multiselect", options=("x", "y"), required=False),
            Field(name="stars", type="range", scale="ordinal", required=False),
        ),
    )
    queue = Queue.create(
        storage,
        QueueSettings(queue_id="q1", tenant_id="t1", policy_type="round_robin", labels_per_sample=3),
        schema,
        policies.build("round_robin"),
    )
    queue.add_labelers("ada", "bob", "cyd")
    queue.add_samples([Sample("s1", "one"), Sample("s2", "two")])
    ratings: dict[str, list[Mapping[str, Any]]] = {
        "s1": [{"topic": "a", "tags": ["x", "y"]}, {"topic": "a", "tags": ["y", "x"]}, {"topic": "b", "stars": 1}],
        "s2": [{"topic": "b", "tags": ["x"], "stars": 1}, {"topic": "b", "tags": None, "stars": 2}, {"topic": "b"}],
    }

    report = rate(queue, ratings).recompute()

    assert report.alpha["topic"] == agreement.krippendorff_alpha(["aab", "bbb"])
    assert report.alpha["tags"] == 1.0  # only s1 has two answers, and their order does not matter
    assert storage.scores("q1").keys() == {("s1", "topic"), ("s1", "tags"), ("s2", "topic"), ("s2", "stars")}
    assert [stop.metadata["dimensions"] for stop in emitted.of("anvil.agreement.compute.stop")] == [2, 2]


def test_a_queue_without_labels_has_no_agreement(new_queue: NewQueue) -> None:
    report = Scoring(new_queue()).recompute()

    assert (report.samples_processed, report.alpha, report.low) == (0, {}, [])
