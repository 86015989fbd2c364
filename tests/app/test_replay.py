import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app import replay
from app.labeling import agreement, lexicon
from app.labeling.export import read_manifest
from app.labeling.lexicon import Token
from app.labeling.storage import Storage
from app.replay import TIMEOUT_S, End, Pace, Replay, open_platform
from runtime.testing import Capture
from tests.runtime.meeting import PATIENCE_S

NewReplay = Callable[..., Replay]


@pytest.fixture
def new_replay(storage: Storage) -> Iterator[NewReplay]:
    """Make replays. What is abandoned, or late on a slow machine, is swept up as by the application's poller."""
    replays: list[Replay] = []
    done = threading.Event()

    def make(tokens: list[Token], **options: Any) -> Replay:
        platform, issuer = open_platform(storage)
        replays.append(Replay(platform, issuer, tokens, **options))
        return replays[-1]

    def sweep() -> None:
        while not done.wait(0.02):
            for one in replays:
                one.queue.sweep()

    thread = threading.Thread(target=sweep)
    thread.start()
    yield make
    done.set()
    thread.join()


def test_every_rating_becomes_a_label_of_its_rater(storage: Storage, emitted: Capture, new_replay: NewReplay) -> None:
    tokens = lexicon.load(30)

    run = new_replay(tokens)
    run.run()

    labels = storage.labels(replay.QUEUE_ID)
    assert run.counts.submitted == len(labels) == 300
    assert {(label.sample_id, label.labeler_id): label.values["valence"] for label in labels} == {
        (f"token-{token.line:04}", f"rater-{column:02}"): rating
        for token in tokens
        for column, rating in enumerate(token.ratings, start=1)
    }
    accepted = [stop for stop in emitted.of("anvil.label.submit.stop") if stop.metadata["validation_errors"] == 0]
    assert len(accepted) == 300


def test_the_first_extreme_rating_is_refused_and_widens_the_schema_once(
    storage: Storage, emitted: Capture, new_replay: NewReplay
) -> None:
    run = new_replay(lexicon.load(60))
    run.run()

    assert run.counts.rejected == len(emitted.of("anvil.label.validation_failed")) == 1
    (migration,) = emitted.of("anvil.schema.migration")
    assert migration.metadata["to_version"] == run.queue.schema.version_id == "v2"
    assert {label.schema_version_id for label in storage.labels(replay.QUEUE_ID)} == {"v2"}


def test_whoever_walks_away_finishes_at_the_second_attempt(emitted: Capture, new_replay: NewReplay) -> None:
    run = new_replay(lexicon.load(10), abandon=0.2)

    run.run()

    assert run.counts.submitted == 100
    assert run.counts.abandoned > 0
    timed_out = emitted.of("anvil.assignment.timed_out")
    assert sum(event.measurements["count"] for event in timed_out) == run.counts.abandoned + run.counts.too_late
    assert {event.metadata["attempt"] for event in emitted.of("anvil.policy.requeue")} == {2}
    retries = [stop.metadata.get("retry_count") for stop in emitted.of("anvil.assignment.dispatch.stop")]
    assert retries.count(1) == run.counts.abandoned + run.counts.too_late


def test_the_conclusion_is_the_agreement_two_exports_and_an_archive(
    emitted: Capture, new_replay: NewReplay, tmp_path: Path
) -> None:
    tokens = lexicon.load(50)
    run = new_replay(tokens)
    run.run()

    report, manifests = run.conclude(tmp_path)

    alpha = agreement.krippendorff_alpha([token.ratings for token in tokens], "interval")
    assert report.alpha == {"valence": pytest.approx(alpha)}
    assert [(manifest.format, manifest.row_count) for manifest in manifests] == [("csv", 500), ("jsonl", 500)]
    assert read_manifest(tmp_path / "labels.csv.manifest.json") == manifests[0]
    assert manifests[0].sample_version == lexicon.version()
    assert run.queue.status == "archived"
    assert len(emitted.of("anvil.agreement.low_score")) > 0


def test_the_gate_is_tried_before_anybody_works(emitted: Capture, new_replay: NewReplay) -> None:
    new_replay(lexicon.load(1))

    assert [event.metadata["reason"] for event in emitted.of("anvil.auth.login_failed")] == ["invalid_token"]
    (denied,) = emitted.of("anvil.auth.access_denied")
    assert (denied.metadata["labeler_id"], denied.metadata["action"]) == ("rater-01", "export_data")
    assert len(emitted.of("anvil.auth.login_success")) == 11


class AfterAsking(End):
    """Comes when it has been asked for so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def has_come(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_run_ends_early_when_its_end_has_come(new_replay: NewReplay) -> None:
    # It is asked for before the only batch of samples, and before each of 42 assignments.
    run = new_replay(lexicon.load(50), end=AfterAsking(43))

    run.run()

    assert run.counts.submitted == 42


def test_a_slow_pace_makes_nobody_too_late(emitted: Capture, new_replay: NewReplay) -> None:
    run = new_replay(lexicon.load(1), rate=0.1 / TIMEOUT_S)  # ten timeouts between two labels
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(run.run)
        emitted.wait_for("anvil.label.submit.stop", timeout_s=PATIENCE_S)
        run.end.tell()
        running.result(timeout=60)

    assert run.counts.too_late == 0
    assert run.counts.submitted == len(emitted.of("anvil.assignment.created")) == 1


def test_an_end_comes_after_its_duration() -> None:
    end = End(duration_s=0.01)

    end.sleep(60)

    assert end.has_come()


def test_a_duration_is_that_of_the_labelling_and_not_of_what_came_before(new_replay: NewReplay) -> None:
    end = End(duration_s=3600)
    run = new_replay(lexicon.load(1), end=end)
    end._deadline_s = 0.0  # an hour has passed until everything was ready

    run.run()

    assert run.counts.submitted == 10


class Time:
    """A clock for a pace: sleeping moves it, and so does `work`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def work(self, seconds: float) -> None:
        self.now_s += seconds


def label(pace: Pace, times: int, work: Callable[[float], None], seconds: float) -> None:
    for _ in range(times):
        pace.wait()
        work(seconds)
        pace.advance()


def test_a_pace_makes_labels_take_as_long_as_the_rate_says() -> None:
    time = Time()
    pace = Pace(100, time.work, lambda: time.now_s)

    label(pace, 50, time.work, 0.004)
    pace.wait()

    assert time.now_s == pytest.approx(100.5)


def test_a_pace_catches_up_with_a_short_delay_and_not_with_a_long_one() -> None:
    time = Time()
    pace = Pace(100, time.work, lambda: time.now_s)

    time.work(0.05)
    label(pace, 10, time.work, 0.0)
    pace.wait()
    short = time.now_s
    time.work(5.0)
    label(pace, 10, time.work, 0.0)
    pace.wait()

    assert short == pytest.approx(100.1)
    assert time.now_s == pytest.approx(short + 5.0)


def test_a_pace_without_a_rate_never_sleeps() -> None:
    pace = Pace(None, sleep=lambda seconds: pytest.fail("slept"))

    label(pace, 10, lambda seconds: None, 0.0)
