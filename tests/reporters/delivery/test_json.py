"""Whatever a caller puts into metadata becomes JSON that every reader takes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from reporters.delivery._json import clean, clean_text

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.uuids()
    | st.complex_numbers()
    | st.characters(categories=["Cs"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(LEAVES, inner) | st.tuples(inner) | st.frozensets(LEAVES),
    max_leaves=10,
)


@given(VALUES)
def test_any_value_becomes_valid_json(value: Any) -> None:
    encoded = msgspec.json.encode(clean(value))

    json.loads(encoded, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))


def test_what_json_has_stays_as_it_is() -> None:
    value = {"a": [1, 2.5, True, None, "text é"], "b": {}}

    assert clean(value) == value


def test_depth_and_length_are_bounded() -> None:
    deep: list[Any] = []
    deep.append(deep)

    assert len(msgspec.json.encode(clean(deep))) < 10_000
    assert len(clean_text("x" * 1_000_000)) < 10_000


def test_a_value_that_refuses_to_become_text_is_told() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert clean({"key": Hostile()}) == {"key": "<Hostile: RuntimeError>"}
