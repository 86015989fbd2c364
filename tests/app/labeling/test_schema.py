import datetime
from typing import Any

import pytest

from app.labeling.schema import Field, FieldError, Schema
from runtime.errors import InvalidValue


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ({"type": "text"}, None, "is required"),
        ({"type": "text"}, 1, "must be text"),
        ({"type": "text", "pattern": "^[a-z]+$"}, "A", "does not match required pattern"),
        ({"type": "select", "options": ("a", "b")}, "c", "must be one of: a, b"),
        ({"type": "select", "options": ("a", "b")}, 1, "must be a string"),
        ({"type": "multiselect", "options": ("a", "b")}, ["a", "x", "y"], "invalid options: x, y"),
        ({"type": "multiselect", "options": ("a", "b")}, "a", "must be a list"),
        ({"type": "range", "min": 1, "max": 5}, 0, "must be at least 1"),
        ({"type": "range", "min": 1, "max": 5}, 6, "must be at most 5"),
        ({"type": "range"}, 1.0, "must be an integer"),
        ({"type": "range"}, True, "must be an integer"),
        ({"type": "number", "min": 0.5}, 0.25, "must be at least 0.5"),
        ({"type": "number", "max": 2}, 3, "must be at most 2"),
        ({"type": "number"}, "1", "must be a number"),
        ({"type": "number"}, float("nan"), "must be a number"),
        ({"type": "boolean"}, 1, "must be true or false"),
        ({"type": "date"}, "2025-02-30", "must be a valid date (YYYY-MM-DD)"),
        ({"type": "date"}, "20250228", "must be a valid date (YYYY-MM-DD)"),
        ({"type": "date"}, datetime.datetime(2025, 1, 1), "must be a date"),
        ({"type": "datetime"}, "yesterday", "must be a valid datetime (ISO8601)"),
        ({"type": "datetime"}, "2025-01-01T10:00:00", "must be a valid datetime (ISO8601)"),
        ({"type": "datetime"}, 1735725600, "must be a datetime"),
    ],
)
def test_a_value_that_does_not_fit_is_answered_with_its_sentence(
    field: dict[str, Any], value: Any, message: str
) -> None:
    schema = Schema("v1", (Field(name="f", **field),))

    assert schema.validate({"f": value}) == [FieldError("f", message)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "text"}, ""),
        ({"type": "text", "pattern": "b"}, "abc"),
        ({"type": "select", "options": ("a", "b")}, "b"),
        ({"type": "multiselect", "options": ("a", "b")}, []),
        ({"type": "multiselect", "options": ("a", "b")}, ["b", "a"]),
        ({"type": "range", "min": 1, "max": 5}, 1),
        ({"type": "range", "min": 1, "max": 5}, 5),
        ({"type": "number"}, -0.5),
        ({"type": "boolean"}, False),
        ({"type": "date"}, "2024-02-29"),
        ({"type": "date"}, datetime.date(2025, 1, 1)),
        ({"type": "datetime"}, "2025-01-01T10:00:00Z"),
        ({"type": "datetime"}, datetime.datetime(2025, 1, 1)),
        ({"type": "text", "required": False}, None),
    ],
)
def test_a_value_that_fits_has_no_errors(field: dict[str, Any], value: Any) -> None:
    assert Schema("v1", (Field(name="f", **field),)).validate({"f": value}) == []


def test_an_absent_value_counts_as_none() -> None:
    schema = Schema("v1", (Field(name="a", type="text"), Field(name="b", type="text", required=False)))

    assert schema.validate({}) == [FieldError("a", "is required")]


def test_every_error_is_told_in_the_order_of_the_fields_and_strangers_last() -> None:
    schema = Schema("v1", (Field(name="a", type="text"), Field(name="b", type="range", min=1)))

    errors = schema.validate({"typo": 1, "b": 0})

    assert [(error.field, error.message) for error in errors] == [
        ("a", "is required"),
        ("b", "must be at least 1"),
        ("typo", "is not a field of this schema"),
    ]


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ({"name": "", "type": "text"}, "a field name that is not empty"),
        ({"name": "f", "type": "emoji"}, "the type of field 'f' to be one of text, select"),
        ({"name": "f", "type": "select"}, "field 'f' of type select to have options"),
        ({"name": "f", "type": "range", "min": 2, "max": 1}, "min of field 'f' to be at most its max"),
        ({"name": "f", "type": "text", "pattern": "("}, "pattern of field 'f' to be a regular expression"),
        ({"name": "f", "type": "text", "scale": "interval"}, "the scale of field 'f' of type text"),
    ],
)
def test_a_bad_field_definition_is_refused(definition: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=f"expected {sentence}"):
        Field(**definition)


def test_a_schema_without_fields_or_with_a_name_twice_is_refused() -> None:
    field = Field(name="f", type="text")

    with pytest.raises(InvalidValue, match="at least one field"):
        Schema("v1", ())
    with pytest.raises(InvalidValue, match="the field names of schema 'v1' to differ"):
        Schema("v1", (field, field))


def test_the_definition_hash_is_that_of_the_questions_and_not_of_the_version() -> None:
    one, other = Field(name="f", type="text"), Field(name="f", type="number")

    assert Schema("v1", (one,)).definition_hash() == Schema("v2", (one,)).definition_hash()
    assert Schema("v1", (one,)).definition_hash() != Schema("v1", (other,)).definition_hash()
