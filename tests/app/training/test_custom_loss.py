"""A composed loss: its numbers, its events, what it costs, and how it ends when something fails."""

from __future__ import annotations

import asyncio
import gc
import math
from typing import Any

import autograd.numpy as np
import gevent
import pytest
from autograd.tracer import isbox
from greenlet import GreenletExit
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loguru import logger

import runtime
from app.training.custom_loss import custom_loss
from app.training.outputs import CustomLossOutput
from app.training.regularizers import Regularizer, RegularizerError, l1, l2, l2_centred, sparsity
from runtime.errors import InvalidValue
from tests.app.training.conftest import Captured

points = hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-100, 100))
weights = st.floats(0, 10)

LOGPROBS = [-0.5, -1.2, -0.8, -2.1, -0.3, -1.5, -0.9, -1.8, -0.6, -1.1]


def total(data: object, x: Any) -> Any:
    return np.sum(x)


def mean_nll(data: object, x: Any) -> Any:
    return -np.mean(x), {"n": x.size}


def constant(data: object, x: Any) -> Any:
    return 4.0


class Counted:
    """A term that knows how often it was called, and how often to be differentiated."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        self.values = 0
        self.gradients = 0

    def __call__(self, data: object, x: Any) -> Any:
        if isbox(x):
            self.gradients += 1
        else:
            self.values += 1
        return self.fn(data, x)


def test_base_loss_alone() -> None:
    output = custom_loss([1], [0.5, 2.0], lambda data, x: (np.sum(x), {"perplexity": np.exp(np.sum(x))}))

    assert output.loss_total == 2.5
    assert output.regularizer_total == 0
    assert output.total_grad_norm is None
    assert output.base_loss is not None
    assert output.base_loss.custom["perplexity"] == pytest.approx(12.18, abs=0.01)


def test_vector_of_log_probabilities() -> None:
    regularizers = [Regularizer(l1, 0.1, "l1"), Regularizer(l2_centred, 0.5, "l2")]

    output = custom_loss([], LOGPROBS, mean_nll, regularizers, track_grad_norms=True)

    assert output.base_loss is not None
    assert output.base_loss.value == pytest.approx(1.08, abs=1e-5)
    assert output.base_loss.grad_norm == pytest.approx(0.31623, abs=1e-5)
    assert output.regularizers["l1"].value == pytest.approx(10.8, abs=1e-5)
    assert output.regularizers["l1"].grad_norm == pytest.approx(3.16228, abs=1e-5)
    assert output.regularizers["l2"].value == pytest.approx(3.036, abs=1e-5)
    assert output.regularizers["l2"].grad_norm == pytest.approx(3.48482, abs=1e-5)
    assert output.regularizers["l2"].grad_norm_weighted == pytest.approx(0.5 * 3.48482, abs=1e-5)


def test_total_gradient_norm_is_that_of_the_combined_loss() -> None:
    output = custom_loss([], [1.0, 2.0, 3.0], total, [Regularizer(l2, 0.5, "l2")], track_grad_norms=True)

    assert output.total_grad_norm == pytest.approx(math.sqrt(29))
    assert output.base_loss is not None
    assert output.base_loss.grad_norm == pytest.approx(math.sqrt(3))
    assert output.regularizers["l2"].grad_norm == pytest.approx(math.sqrt(56))


def test_without_regularizers_the_total_gradient_norm_is_the_base_norm() -> None:
    output = custom_loss([], [1.0, 2.0, 3.0], total, track_grad_norms=True)

    assert output.base_loss is not None
    assert output.total_grad_norm == output.base_loss.grad_norm == pytest.approx(math.sqrt(3))


def test_constant_term_has_gradient_norm_zero() -> None:
    output = custom_loss([], [1.0, 2.0], constant, [Regularizer(constant, 1.0, "constant")], track_grad_norms=True)

    assert output.total_grad_norm == 0.0
    assert output.regularizers["constant"].grad_norm == 0.0


def test_regularizers_without_a_base_loss() -> None:
    output = custom_loss([], [1.0, -2.0], None, [Regularizer(l1, 0.5, "l1")], track_grad_norms=True)

    assert output.base_loss is None
    assert output.loss_total == 1.5
    assert output.total_grad_norm == pytest.approx(0.5 * math.sqrt(2))


@given(points, weights, weights)
def test_total_is_the_sum_of_its_terms(at: Any, first: float, second: float) -> None:
    output = custom_loss([], at, total, [Regularizer(l1, first, "l1"), Regularizer(l2, second, "l2")])

    assert output.loss_total == pytest.approx(at.sum() + first * np.abs(at).sum() + second * (at**2).sum(), abs=1e-6)


@given(points, weights, weights)
def test_total_gradient_norm_is_at_most_the_sum_of_norms(at: Any, first: float, second: float) -> None:
    regularizers = [Regularizer(l1, first, "l1"), Regularizer(l2, second, "l2")]

    output = custom_loss([], at, total, regularizers, track_grad_norms=True)

    norms = [output.base_loss.grad_norm] if output.base_loss else []
    norms += [each.grad_norm_weighted for each in output.regularizers.values()]
    assert output.total_grad_norm is not None
    assert output.total_grad_norm <= sum(norms) + 1e-6  # type: ignore[arg-type]
    assert output.total_grad_norm == pytest.approx(np.linalg.norm(1 + first * np.sign(at) + 2 * second * at), abs=1e-6)


def test_norm_of_the_sum_is_not_the_sum_of_norms() -> None:
    output = custom_loss([], [-1.0, -2.0], total, [Regularizer(l1, 1.0, "l1")], track_grad_norms=True)

    assert output.regularizers["l1"].grad_norm == pytest.approx(math.sqrt(2))
    assert output.total_grad_norm == 0.0


def test_without_tracking_nothing_is_differentiated() -> None:
    base, term = Counted(total), Counted(l2)

    custom_loss([], [1.0, 2.0], base, [Regularizer(term, 0.5, "l2")])

    assert (base.gradients, term.gradients) == (0, 0)
    assert (base.values, term.values) == (1, 1)


@pytest.mark.parametrize("parallel", [False, True])
def test_tracking_costs_one_gradient_per_term(parallel: bool) -> None:
    terms = [Counted(total), Counted(l1), Counted(l2)]
    base, *others = terms
    regularizers = [Regularizer(term, 0.5, f"term {number}") for number, term in enumerate(others)]

    output = custom_loss([], [1.0, 2.0], base, regularizers, track_grad_norms=True, parallel=parallel)

    assert output.total_grad_norm is not None
    assert [term.gradients for term in terms] == [1, 1, 1]
    assert [term.values for term in terms] == [1, 1, 1]


@given(points, weights)
def test_parallel_gives_what_sequential_gives(at: Any, weight: float) -> None:
    regularizers = [Regularizer(fn, weight, fn.__name__) for fn in (l1, l2, l2_centred, sparsity)]

    sequential = custom_loss([], at, total, regularizers, track_grad_norms=True)
    parallel = custom_loss([], at, total, regularizers, track_grad_norms=True, parallel=True)

    assert parallel.to_json() == sequential.to_json()


@pytest.mark.parametrize("parallel", [False, True])
def test_async_regularizer_is_awaited(parallel: bool) -> None:
    async def slow_l2(data: object, x: Any) -> Any:
        await asyncio.sleep(0)
        return np.sum(x**2)

    regularizers = [Regularizer(slow_l2, 0.5, "l2", async_=True)]

    output = custom_loss([], [1.0, 2.0, 3.0], total, regularizers, track_grad_norms=True, parallel=parallel)

    assert output.regularizers["l2"].contribution == 7.0
    assert output.total_grad_norm == pytest.approx(math.sqrt(29))


# -- gradients that fail --


@pytest.fixture
def warnings() -> Any:
    lines: list[str] = []
    logger.enable("app.training")
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)
    logger.disable("app.training")


def undifferentiable(data: object, x: Any) -> Any:
    return float(x[0])


def root(data: object, x: Any) -> Any:
    return np.sqrt(np.sum(x**2))


def test_gradient_that_fails_is_a_warning_and_none(warnings: list[str], captured: Captured) -> None:
    output = custom_loss([], [1.0, 2.0], total, [Regularizer(undifferentiable, 2.0, "odd")], track_grad_norms=True)

    assert output.loss_total == 5.0
    assert output.regularizers["odd"].grad_norm is None
    assert output.regularizers["odd"].grad_norm_weighted is None
    assert output.total_grad_norm is None
    assert output.base_loss is not None
    assert output.base_loss.grad_norm == pytest.approx(math.sqrt(2))
    assert "regularizer 'odd' to have a gradient" in warnings[0]
    assert captured.one("tinkex.regularizer.compute.stop").measurements["grad_norm"] is None


def test_gradient_that_fails_with_what_cannot_be_shown_is_a_warning_all_the_same(warnings: list[str]) -> None:
    class Unspeakable(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    def fail(data: object, x: Any) -> Any:
        if isbox(x):
            raise Unspeakable
        return np.sum(x)

    assert custom_loss([], [1.0], fail, track_grad_norms=True).total_grad_norm is None
    assert "expected the base loss to have a gradient, got: <Unspeakable, whose repr raised" in warnings[0]


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")
def test_gradient_that_is_not_finite_is_a_warning_and_none(warnings: list[str]) -> None:
    output = custom_loss([], [0.0, 0.0], root, track_grad_norms=True)

    assert output.loss_total == 0.0
    assert output.total_grad_norm is None
    assert output.base_loss is not None
    assert output.base_loss.grad_norm is None
    assert "expected the gradient of the base loss to be finite" in warnings[0]


def test_gradient_that_its_weight_makes_infinite_is_a_warning_and_none(warnings: list[str]) -> None:
    def steep(data: object, x: Any) -> Any:
        return np.sum(x) * 1e300

    output = custom_loss([], [1e-300, 1e-300], steep, [Regularizer(steep, 1e10, "steep")], track_grad_norms=True)

    assert output.loss_total == pytest.approx(2e10)
    assert output.base_loss is not None
    assert output.base_loss.grad_norm == pytest.approx(math.sqrt(2) * 1e300)
    assert output.regularizers["steep"].grad_norm is None
    assert output.total_grad_norm is None
    assert "expected the gradient of weighted regularizer 'steep' to be finite" in warnings[0]


def test_combined_gradient_that_is_infinite_is_a_warning_and_none(warnings: list[str]) -> None:
    def steep(data: object, x: Any) -> Any:
        return np.sum(x) * 1e308

    output = custom_loss([], [0.0, 0.0], steep, [Regularizer(steep, 1.0, "steep")], track_grad_norms=True)

    assert output.regularizers["steep"].grad_norm == pytest.approx(math.sqrt(2) * 1e308)
    assert output.total_grad_norm is None
    assert "expected the gradient of the combined loss to be finite" in warnings[0]


# -- events --


def test_events_of_a_tracked_loss(captured: Captured) -> None:
    regularizers = [Regularizer(l1, 0.1, "l1"), Regularizer(l2, 0.5, "l2")]

    output = custom_loss([7, 8], [1.0, 2.0, 3.0], total, regularizers, track_grad_norms=True, model_id="m1")

    assert captured.names() == [
        "tinkex.custom_loss.start",
        "tinkex.regularizer.compute.start",
        "tinkex.regularizer.compute.stop",
        "tinkex.regularizer.compute.start",
        "tinkex.regularizer.compute.stop",
        "tinkex.custom_loss.stop",
    ]
    start, stop = captured.one("tinkex.custom_loss.start"), captured.one("tinkex.custom_loss.stop")
    told = {"model_id": "m1", "data_count": 2, "regularizer_count": 2, "track_grad_norms": True}
    assert told.items() <= start.metadata.items()
    assert told.items() <= stop.metadata.items()
    assert start.measurements.keys() == {"monotonic_time", "system_time"}
    assert stop.measurements.keys() == {
        "duration",
        "monotonic_time",
        "loss_total",
        "regularizer_total",
        "total_grad_norm",
    }
    assert stop.measurements["loss_total"] == output.loss_total == pytest.approx(13.6)
    assert stop.measurements["regularizer_total"] == output.regularizer_total
    assert stop.measurements["total_grad_norm"] == output.total_grad_norm

    term = captured.one("tinkex.regularizer.compute.stop", regularizer_name="l2")
    assert {"regularizer_name": "l2", "weight": 0.5, "async": False}.items() <= term.metadata.items()
    assert term.measurements.keys() == {"duration", "monotonic_time", "value", "contribution", "grad_norm"}
    assert (term.measurements["value"], term.measurements["contribution"]) == (14.0, 7.0)
    assert term.measurements["grad_norm"] == pytest.approx(math.sqrt(56))


def test_untracked_gradients_are_none_in_the_events(captured: Captured) -> None:
    custom_loss([], [1.0], total, [Regularizer(l1, 0.1, "l1")])

    assert captured.one("tinkex.custom_loss.stop").measurements["total_grad_norm"] is None
    assert captured.one("tinkex.regularizer.compute.stop").measurements["grad_norm"] is None


@pytest.mark.parametrize("parallel", [False, True])
def test_duration_of_compute_includes_the_gradient(parallel: bool, captured: Captured) -> None:
    def marked(data: object, x: Any) -> Any:
        runtime.execute("tinkex.queue.state_change", {}, {"traced": isbox(x)})
        return np.sum(x)

    custom_loss([], [1.0], None, [Regularizer(marked, 1.0, "marked")], track_grad_norms=True, parallel=parallel)

    value, gradient = captured.of("tinkex.queue.state_change")
    stop = captured.one("tinkex.regularizer.compute.stop")
    assert gradient.metadata["traced"]
    assert stop.measurements["monotonic_time"] >= gradient.time_ns
    assert stop.measurements["duration"] >= gradient.time_ns - value.time_ns


def test_parallel_emits_all_starts_before_the_first_regularizer_runs(captured: Captured) -> None:
    def first(data: object, x: Any) -> Any:
        runtime.execute("tinkex.queue.state_change")
        return np.sum(x)

    regularizers = [Regularizer(first, 1.0, name) for name in ("a", "b", "c")]

    custom_loss([], [1.0], total, regularizers, parallel=True)

    names = captured.names()
    assert names[:4] == ["tinkex.custom_loss.start"] + ["tinkex.regularizer.compute.start"] * 3
    assert names[-1] == "tinkex.custom_loss.stop"
    assert names.count("tinkex.regularizer.compute.stop") == 3
    starts = captured.of("tinkex.regularizer.compute.start")
    assert [start.metadata["regularizer_name"] for start in starts] == ["a", "b", "c"]


# -- failures --


def boom(data: object, x: Any) -> Any:
    raise OSError("boom")


@pytest.mark.parametrize("parallel", [False, True])
def test_regularizer_that_raises_is_named_and_everything_is_closed(parallel: bool, captured: Captured) -> None:
    regularizers = [Regularizer(l1, 1.0, "l1"), Regularizer(boom, 1.0, "broken"), Regularizer(l2, 1.0, "l2")]

    with pytest.raises(RegularizerError, match="expected regularizer 'broken' to compute, got: OSError") as caught:
        custom_loss([], [1.0], total, regularizers, parallel=parallel)

    assert caught.value.regularizer_name == "broken"
    assert isinstance(caught.value.reason, OSError)
    assert caught.value.__cause__ is caught.value.reason
    failed = captured.one("tinkex.regularizer.compute.exception")
    assert failed.metadata["regularizer_name"] == "broken"
    assert failed.metadata["kind"] == "error"
    assert failed.metadata["reason"] is caught.value.reason
    assert "in boom" in str(failed.metadata["stacktrace"])
    assert captured.one("tinkex.custom_loss.exception").metadata["reason"] is caught.value
    assert captured.is_balanced()


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("number", [math.nan, math.inf, np.float32(math.inf), 10**400])
def test_regularizer_that_gives_no_finite_number_is_named(number: float, parallel: bool, captured: Captured) -> None:
    regularizers = [Regularizer(lambda data, x: number, 1.0, "odd")]

    with pytest.raises(RegularizerError, match=r"regularizer 'odd' to return a finite value, got: (nan|inf|1000)"):
        custom_loss([], [1.0], total, regularizers, parallel=parallel)

    assert len(captured.of("tinkex.regularizer.compute.exception", regularizer_name="odd")) == 1
    assert len(captured.of("tinkex.custom_loss.exception")) == 1
    assert captured.is_balanced()


def test_metric_that_is_no_finite_number_fails_the_loss_before_a_regularizer_runs(captured: Captured) -> None:
    with pytest.raises(
        InvalidValue, match=r"expected custom\['nll'\] of the base loss to be a finite number, got: nan"
    ):
        custom_loss([], [1.0], lambda data, x: (1.0, {"nll": math.nan}), [Regularizer(l1, 1.0, "l1")])

    assert captured.names() == ["tinkex.custom_loss.start", "tinkex.custom_loss.exception"]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"a": math.nan}, "custom['a'] of regularizer 'odd' to be a finite number"),
        ({"a": {"b": 1}}, "custom['a'] of regularizer 'odd' to be a JSON scalar"),
        ({"a": np.ones(1)}, "custom['a'] of regularizer 'odd' to be a JSON scalar"),
        ({"a": "\ud800"}, "custom['a'] of regularizer 'odd' to be text that UTF-8 can hold"),
        ({"\ud800": 1}, "a key of custom of regularizer 'odd' to be text that UTF-8 can hold"),
        ({1: 1}, "a key of custom of regularizer 'odd' to be a string"),
        ({"a": 10**5000}, "custom['a'] of regularizer 'odd' to be an integer of at most 4300 digits"),
        ([1], "the metrics of regularizer 'odd' to be a mapping"),
    ],
)
def test_metrics_that_have_no_json_are_an_exception_of_their_regularizer(
    metrics: object, message: str, parallel: bool, captured: Captured
) -> None:
    with pytest.raises(RegularizerError) as caught:
        custom_loss([], [1.0], total, [Regularizer(lambda data, x: (1.0, metrics), 1.0, "odd")], parallel=parallel)

    assert f"expected {message}, got: " in str(caught.value.reason)
    assert captured.one("tinkex.regularizer.compute.exception").metadata["regularizer_name"] == "odd"
    assert len(captured.of("tinkex.custom_loss.exception")) == 1
    assert captured.is_balanced()


@pytest.mark.parametrize("parallel", [False, True])
def test_numpy_scalars_and_zero_dimensional_arrays_become_json(parallel: bool) -> None:
    metrics = {
        "float32": np.float32(1.5),
        "int64": np.int64(7),
        "bool": np.bool_(True),
        np.str_("str"): np.str_("text"),
        "array": np.array(3.0),
        "none": None,
    }

    output = custom_loss(
        [],
        [1.0],
        lambda data, x: (np.longdouble(0.5), metrics),
        [Regularizer(l1, np.float32(0.5), "l1")],
        parallel=parallel,
    )

    assert output.base_loss is not None
    assert CustomLossOutput.from_json(output.to_json()) == output
    assert output.base_loss.custom == {
        "float32": 1.5,
        "int64": 7,
        "bool": True,
        "str": "text",
        "array": 3.0,
        "none": None,
    }
    assert output.loss_total == 1.0


@pytest.mark.parametrize("parallel", [False, True])
def test_reason_that_cannot_be_shown_is_still_named(parallel: bool, captured: Captured) -> None:
    class Unspeakable(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    def fail(data: object, x: Any) -> Any:
        raise Unspeakable

    with pytest.raises(RegularizerError, match="expected regularizer 'odd' to compute, got: <Unspeakable, whose repr"):
        custom_loss([], [1.0], total, [Regularizer(fail, 1.0, "odd")], parallel=parallel)

    assert captured.is_balanced()


def test_total_that_overflows_fails_the_loss(captured: Captured) -> None:
    regularizers = [Regularizer(lambda data, x: 1e308, 1.0, name) for name in ("a", "b")]

    with pytest.raises(InvalidValue, match="expected loss_total to be a finite number"):
        custom_loss([], [1.0], None, regularizers)

    assert len(captured.of("tinkex.custom_loss.exception")) == 1
    assert captured.is_balanced()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_base_loss_that_is_no_finite_number_fails_the_loss(number: float, captured: Captured) -> None:
    with pytest.raises(InvalidValue, match="expected the base loss to return a finite value"):
        custom_loss([], [1.0], lambda data, x: number)

    assert captured.names() == ["tinkex.custom_loss.start", "tinkex.custom_loss.exception"]


def test_base_loss_that_raises_is_raised_unchanged(captured: Captured) -> None:
    with pytest.raises(OSError, match="boom"):
        custom_loss([], [1.0], boom, [Regularizer(l1, 1.0, "l1")])

    assert captured.names() == ["tinkex.custom_loss.start", "tinkex.custom_loss.exception"]


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit, GreenletExit, gevent.Timeout]
)
def test_interrupted_regularizer_closes_everything_and_goes_on_unchanged(
    end: type[BaseException], captured: Captured
) -> None:
    def interrupted(data: object, x: Any) -> Any:
        raise end

    with pytest.raises(end):
        custom_loss([], [1.0], total, [Regularizer(interrupted, 1.0, "interrupted")])

    assert captured.names() == [
        "tinkex.custom_loss.start",
        "tinkex.regularizer.compute.start",
        "tinkex.regularizer.compute.exception",
        "tinkex.custom_loss.exception",
    ]
    assert captured.is_balanced()


@pytest.mark.parametrize("result", [None, "1", True, 1j, [1.0], np.ones(1), np.ones((1, 1)), (1.0, {}, {})])
def test_regularizer_that_returns_no_scalar_is_an_error(result: object) -> None:
    with pytest.raises(RegularizerError, match="regularizer 'odd' to return a scalar"):
        custom_loss([], [1.0], total, [Regularizer(lambda data, x: result, 1.0, "odd")])


def test_async_declaration_of_a_plain_function_is_an_error() -> None:
    with pytest.raises(RegularizerError, match="to return a coroutine"):
        custom_loss([], [1.0], total, [Regularizer(l1, 1.0, "l1", async_=True)])


@pytest.mark.parametrize("parallel", [False, True])
def test_coroutine_function_that_is_not_declared_is_an_error_and_nothing_else(parallel: bool) -> None:
    """Python would warn, on stderr, of a coroutine that nobody awaits; here such a warning fails the test."""

    async def awaited(data: object, x: Any) -> Any:
        return np.sum(x)

    with pytest.raises(RegularizerError, match="regularizer 'l1' to be a plain function, got: .* async_=True"):
        custom_loss([], [1.0], total, [Regularizer(awaited, 1.0, "l1")], parallel=parallel)
    with pytest.raises(InvalidValue, match="expected the base loss to be a plain function, got: "):
        custom_loss([], [1.0], awaited)

    gc.collect()


def test_regularizer_cannot_change_what_the_others_see() -> None:
    def vandal(data: object, x: Any) -> Any:
        x[0] = 99.0
        return np.sum(x)

    mine = np.array([1.0, 2.0])

    with pytest.raises(RegularizerError, match="read-only"):
        custom_loss([], mine, total, [Regularizer(vandal, 1.0, "vandal")])

    assert mine.tolist() == [1.0, 2.0]


# -- misuse: an error at the call, and no event --


def test_names_given_twice_are_an_error_that_names_them(captured: Captured) -> None:
    regularizers = [Regularizer(l1, 1.0, name) for name in ("l1", "l2", "l1")]

    with pytest.raises(InvalidValue, match=r"expected regularizer names to be unique, got: \['l1'\]"):
        custom_loss([], [1.0], total, regularizers)

    assert captured.names() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": 3}, "expected data to have a length, got: 3"),
        ({"data": np.array(3)}, r"expected data to have a length, got: array\(3\)"),
        ({"logprobs_or_params": "x"}, "expected logprobs_or_params to be an array of real numbers, got: 'x'"),
        ({"base_loss": 1.0}, "expected base_loss to be callable, got: 1.0"),
        ({"regularizers": [l1]}, r"expected regularizers to be Regularizer values, got: .*Regularizer\(fn, weight"),
        ({"timeout_s": 0}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: 0"),
        ({"timeout_s": -1}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: -1"),
        ({"timeout_s": None}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: None"),
        ({"timeout_s": math.nan}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: nan"),
        ({"timeout_s": 1e10}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: 1000"),
        ({"timeout_s": 10**400}, "expected timeout_s to be a positive number of seconds, at most [0-9]+, got: 1000"),
        ({"track_grad_norms": "no"}, "expected track_grad_norms to be True or False, got: 'no'"),
        ({"parallel": 30.0}, "expected parallel to be True or False, got: 30.0"),
        ({"model_id": None}, "expected model_id to be a string, got: None"),
        ({"regularizers": 3}, "expected regularizers to be a list of Regularizer values, got: 3"),
        ({"logprobs_or_params": None}, "expected logprobs_or_params to be an array of real numbers, got: None"),
        (
            {"logprobs_or_params": ["1.5"]},
            r"expected logprobs_or_params to be an array of real numbers, got: \['1.5'\]",
        ),
        ({"logprobs_or_params": [1j]}, r"expected logprobs_or_params to be an array of real numbers, got: \[1j\]"),
        ({"logprobs_or_params": [10**400]}, "expected logprobs_or_params to be an array of real numbers, got: "),
        ({"logprobs_or_params": [[1], [2, 3]]}, "expected logprobs_or_params to be an array of numbers, got: "),
    ],
)
def test_arguments_that_make_no_loss_are_refused(arguments: Any, message: str, captured: Captured) -> None:
    good: dict[str, Any] = {"data": [], "logprobs_or_params": [1.0], "base_loss": total, "regularizers": []}

    with pytest.raises(InvalidValue, match=message):
        custom_loss(**good | arguments)

    assert captured.names() == []
