"""The JSON that leaves the process, to the letter, and what is refused on its way in and out."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.outputs import BaseLossOutput, CustomLossOutput, RegularizerMetrics, RegularizerOutput
from runtime.errors import InvalidValue

finite = st.floats(-1e100, 1e100)
scalars = st.none() | st.booleans() | st.integers() | finite | st.text()
customs = st.dictionaries(st.text(), scalars, max_size=4)
regularizers = st.builds(
    RegularizerOutput.compute,
    name=st.text(min_size=1),
    value=finite,
    weight=st.floats(0, 1e100),
    custom=customs,
    grad_norm=st.none() | st.floats(0, 1e100),
)
base_losses = st.none() | st.builds(
    BaseLossOutput, value=finite, grad_norm=st.none() | st.floats(0, 1e100), custom=customs
)


def read(text: bytes) -> Any:
    return json.loads(text)


def test_base_loss_without_regularizers_has_no_total_gradient_key() -> None:
    output = CustomLossOutput.compose(BaseLossOutput(value=2.5, custom={"perplexity": 12.18}))

    assert read(output.to_json()) == {
        "loss_total": 2.5,
        "base_loss": {"value": 2.5, "grad_norm": None, "custom": {"perplexity": 12.18}},
        "regularizers": {},
        "regularizer_total": 0.0,
    }


def test_tracked_gradients_are_written_everywhere() -> None:
    l1 = RegularizerOutput.compute("l1", 10.0, 0.1, {"sum": 100.0}, grad_norm=5.0)
    base = BaseLossOutput(value=1.0, grad_norm=3.14, custom={"nll": 1.0})

    output = CustomLossOutput.compose(base, [l1], total_grad_norm=5.67)

    assert read(output.to_json()) == {
        "loss_total": 2.0,
        "base_loss": {"value": 1.0, "grad_norm": 3.14, "custom": {"nll": 1.0}},
        "regularizers": {
            "l1": {
                "value": 10.0,
                "weight": 0.1,
                "contribution": 1.0,
                "grad_norm": 5.0,
                "grad_norm_weighted": 0.5,
                "custom": {"sum": 100.0},
            }
        },
        "regularizer_total": 1.0,
        "total_grad_norm": 5.67,
    }


def test_contributions_of_all_regularizers_are_added_up() -> None:
    terms = [RegularizerOutput.compute("sparsity", 22.4, 0.01), RegularizerOutput.compute("topology", 1.23, 0.1)]

    output = CustomLossOutput.compose(BaseLossOutput(value=2.5, custom={}), terms)

    assert output.regularizer_total == pytest.approx(0.347)
    assert output.loss_total == pytest.approx(2.847)
    assert set(output.regularizers) == {"sparsity", "topology"}


def test_nested_regularizer_has_no_name_and_null_gradients_when_untracked() -> None:
    output = CustomLossOutput.compose(None, [RegularizerOutput.compute("l1", 2.0, 0.5)])

    assert read(output.to_json()) == {
        "loss_total": 1.0,
        "regularizers": {
            "l1": {
                "value": 2.0,
                "weight": 0.5,
                "contribution": 1.0,
                "grad_norm": None,
                "grad_norm_weighted": None,
                "custom": {},
            }
        },
        "regularizer_total": 1.0,
    }


def test_regularizer_alone_has_its_name_and_no_gradient_keys_when_untracked() -> None:
    output = RegularizerOutput.compute("l1", 2.0, 0.5)

    assert read(output.to_json()) == {"name": "l1", "value": 2.0, "weight": 0.5, "contribution": 1.0, "custom": {}}


def test_gradient_of_zero_is_kept() -> None:
    alone = RegularizerOutput.compute("l1", 2.0, 0.5, grad_norm=0.0)
    whole = CustomLossOutput.compose(BaseLossOutput(value=1.0, grad_norm=0.0, custom={}), [alone], total_grad_norm=0.0)

    assert read(alone.to_json())["grad_norm"] == 0.0
    assert read(alone.to_json())["grad_norm_weighted"] == 0.0
    assert read(whole.to_json())["regularizers"]["l1"]["grad_norm"] == 0.0
    assert read(whole.to_json())["base_loss"]["grad_norm"] == 0.0
    assert read(whole.to_json())["total_grad_norm"] == 0.0


def test_encoding_with_msgspec_directly_is_the_same_contract() -> None:
    output = CustomLossOutput.compose(BaseLossOutput(value=1.0, custom={}), [RegularizerOutput.compute("l1", 2.0, 0.5)])

    assert msgspec.json.encode(output) == output.to_json()


@pytest.mark.parametrize("scalar", ["text", 7, 2**80, 1.5, True, None])
def test_custom_holds_any_json_scalar(scalar: object) -> None:
    output = RegularizerOutput.compute("l1", 2.0, 0.5, {"it": scalar})  # type: ignore[dict-item]

    assert read(output.to_json())["custom"] == {"it": scalar}
    assert RegularizerOutput.from_json(output.to_json()).custom == {"it": scalar}


@given(regularizers)
def test_regularizer_reads_what_it_wrote(output: RegularizerOutput) -> None:
    assert RegularizerOutput.from_json(output.to_json()) == output


@given(base_losses, st.lists(regularizers, max_size=4, unique_by=lambda output: output.name), st.none() | st.floats(0))
def test_custom_loss_reads_what_it_wrote(
    base: BaseLossOutput | None, terms: list[RegularizerOutput], total_grad_norm: float | None
) -> None:
    if total_grad_norm is not None and not math.isfinite(total_grad_norm):
        total_grad_norm = None

    output = CustomLossOutput.compose(base, terms, total_grad_norm)

    assert CustomLossOutput.from_json(output.to_json()) == output


@given(base_losses, st.lists(regularizers, max_size=4, unique_by=lambda output: output.name))
def test_total_is_base_loss_plus_contributions(base: BaseLossOutput | None, terms: list[RegularizerOutput]) -> None:
    output = CustomLossOutput.compose(base, terms)

    assert output.regularizer_total == sum(term.weight * term.value for term in terms)
    assert output.loss_total == (base.value if base else 0.0) + output.regularizer_total


@given(base_losses, st.lists(regularizers, max_size=4, unique_by=lambda output: output.name))
def test_reader_takes_nulls_and_absent_keys_for_the_same(
    base: BaseLossOutput | None, terms: list[RegularizerOutput]
) -> None:
    output = CustomLossOutput.compose(base, terms)
    written = read(output.to_json())

    kept = json.dumps({"base_loss": None, "total_grad_norm": None} | written)
    omitted = json.dumps(without_nulls(written))

    assert CustomLossOutput.from_json(kept) == CustomLossOutput.from_json(omitted) == output


def without_nulls(content: Any, key: str = "") -> Any:
    if not isinstance(content, dict) or key == "custom":
        return content
    return {k: without_nulls(v, k) for k, v in content.items() if v is not None}


def test_regularizer_reader_takes_both_forms() -> None:
    kept = (
        b'{"name":"l1","value":2,"weight":0.5,"contribution":1,"grad_norm":null,"grad_norm_weighted":null,"custom":{}}'
    )
    omitted = b'{"name":"l1","value":2,"weight":0.5,"contribution":1,"custom":{}}'

    assert RegularizerOutput.from_json(kept) == RegularizerOutput.from_json(omitted)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(InvalidValue, match=r"expected value to be a finite number, got: -?(nan|inf)"):
        RegularizerOutput.compute("l1", number, 1.0)
    with pytest.raises(InvalidValue, match="expected grad_norm to be a finite number"):
        BaseLossOutput(value=1.0, grad_norm=number, custom={})
    with pytest.raises(InvalidValue, match=r"expected custom\['nll'\] to be a finite number"):
        BaseLossOutput(value=1.0, custom={"nll": number})
    with pytest.raises(InvalidValue, match="expected total_grad_norm to be a finite number"):
        CustomLossOutput.compose(None, total_grad_norm=number)


def test_sum_that_overflows_is_refused() -> None:
    terms = [RegularizerOutput.compute(name, 1e308, 1.0) for name in ("a", "b")]

    with pytest.raises(InvalidValue, match="expected loss_total to be a finite number, got: inf"):
        CustomLossOutput.compose(None, terms)


def test_nan_put_into_custom_later_does_not_reach_json() -> None:
    output = CustomLossOutput.compose(BaseLossOutput(value=1.0, custom={}))
    assert output.base_loss is not None
    output.base_loss.custom["nll"] = math.nan

    with pytest.raises(InvalidValue, match=r"custom\['nll'\]"):
        output.to_json()


@pytest.mark.parametrize("content", [np.float64(1.0), [1], {"a": 1}, object()])
def test_custom_refuses_what_is_no_json_scalar(content: Any) -> None:
    with pytest.raises(InvalidValue, match=r"expected custom\['it'\] to be a JSON scalar"):
        BaseLossOutput(value=1.0, custom={"it": content})


@pytest.mark.parametrize("content", [True, "1", np.float64(1.0), None])
def test_numbers_refuse_what_is_no_json_number(content: Any) -> None:
    with pytest.raises(InvalidValue, match="expected value to be a number, got: "):
        BaseLossOutput(value=content, custom={})
    with pytest.raises(InvalidValue, match="expected loss_total to be a number, got: "):
        CustomLossOutput(loss_total=content, regularizers={}, regularizer_total=0.0)


def test_number_that_no_reader_takes_for_a_float_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected value to be a finite number, got: 1000"):
        BaseLossOutput(value=10**400, custom={})


def test_longest_integer_comes_back() -> None:
    output = BaseLossOutput(value=1.0, custom={"it": 10**4299})

    assert BaseLossOutput.from_json(output.to_json()) == output


def test_text_that_utf8_cannot_hold_is_refused_wherever_it_stands() -> None:
    half = "\ud83d"

    with pytest.raises(InvalidValue, match=r"expected custom\['it'\] to be text that UTF-8 can hold"):
        BaseLossOutput(value=1.0, custom={"it": half})
    with pytest.raises(InvalidValue, match="expected a key of custom to be text that UTF-8 can hold"):
        BaseLossOutput(value=1.0, custom={half: 1.0})
    with pytest.raises(InvalidValue, match="expected the name of a regularizer to be text that UTF-8 can hold"):
        RegularizerOutput.compute(half, 1.0, 1.0)
    with pytest.raises(InvalidValue, match="expected the name of a regularizer to be text that UTF-8 can hold"):
        nested = RegularizerOutput.compute("l1", 1.0, 1.0).metrics()
        CustomLossOutput(loss_total=1.0, regularizers={half: nested}, regularizer_total=1.0)


def test_custom_refuses_keys_that_are_no_strings() -> None:
    with pytest.raises(InvalidValue, match="expected a key of custom to be a string, got: 1"):
        BaseLossOutput(value=1.0, custom={1: 1.0})  # type: ignore[dict-item]


@pytest.mark.parametrize("norms", [{"grad_norm": 1.0}, {"grad_norm_weighted": 1.0}])
def test_one_gradient_norm_without_the_other_is_refused(norms: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match="expected grad_norm and grad_norm_weighted to be given together"):
        RegularizerMetrics(value=1.0, weight=1.0, contribution=1.0, custom={}, **norms)


def test_a_name_given_twice_is_an_error_that_names_it() -> None:
    terms = [RegularizerOutput.compute(name, 1.0, 1.0) for name in ("l1", "l2", "l1")]

    with pytest.raises(InvalidValue, match=r"expected regularizer names to be unique, got: \['l1'\]"):
        CustomLossOutput.compose(None, terms)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"loss_total":"1","regularizers":{},"regularizer_total":0}',
        b'{"loss_total":null,"regularizers":{},"regularizer_total":0}',
        b'{"loss_total":1,"regularizers":[],"regularizer_total":0}',
        b'{"loss_total":1e999,"regularizers":{},"regularizer_total":0}',
        b'{"loss_total":1,"base_loss":{"value":1,"custom":{"a":[]}},"regularizers":{},"regularizer_total":0}',
        b'{"loss_total":1,"regularizers":{"\xff":{}},"regularizer_total":0}',
        '{"loss_total":1,"regularizers":{"\ud800":{}},"regularizer_total":0}',
        b'{"loss_total":1,"regularizers":{},"regularizer_total":0,"more":' + b"[" * 100_000,
    ],
)
def test_other_json_is_refused(text: bytes | str) -> None:
    with pytest.raises(msgspec.DecodeError):
        CustomLossOutput.from_json(text)
