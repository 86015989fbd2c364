import runtime
from app.latency import TimedEmit
from runtime.testing import Capture
from supervisors import Application


def test_an_emission_passes_through(emitted: Capture) -> None:
    emit = TimedEmit()

    emit("anvil.queue.created", {}, {"queue_id": "q1"})

    assert [event.metadata for event in emitted.events] == [{"queue_id": "q1"}]


def test_only_emissions_that_somebody_listens_to_are_measured() -> None:
    emit = TimedEmit()
    with Application("timed").running():
        runtime.attach("listener", "anvil.queue.created", lambda *event: None)
        emit("anvil.queue.created", {}, {"queue_id": "q1"})
        emit("anvil.queue.status_changed", {}, {"queue_id": "q1"})
        runtime.detach("listener")

    assert emit.count == 1
    assert emit.percentile_us(0.5) > 0


def test_percentiles_are_those_of_the_sorted_durations() -> None:
    emit = TimedEmit()
    emit._durations_ns.extend(range(100_000, 0, -1000))

    assert [emit.percentile_us(quantile) for quantile in (0.0, 0.5, 0.99, 1.0)] == [1.0, 51.0, 100.0, 100.0]


def test_without_emissions_every_percentile_is_nothing() -> None:
    assert TimedEmit().percentile_us(0.99) == 0.0
