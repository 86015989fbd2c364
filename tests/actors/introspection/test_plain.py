"""Anything at all becomes plain, bounded JSON, without what looks like a secret."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from actors._introspection_plain import is_secret, masked, plain

SECRET = "hunter2"


class Bare:
    """Its repr is the default one of an object with a state that nobody should see."""

    def __init__(self) -> None:
        self.password = SECRET

    def __repr__(self) -> str:
        return f"Bare(password={self.password!r}, user='ada')"


class Evil(str):
    def __str__(self) -> str:
        raise RuntimeError("never")

    __repr__ = __str__
    __len__ = __str__  # type: ignore[assignment]


class Pair(NamedTuple):
    user: str
    api_key: str


class Struct(msgspec.Struct):
    token: str


@dataclasses.dataclass
class Data:
    client_secret: str
    hidden: str = dataclasses.field(repr=False, default=SECRET)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.binary(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(), max_size=10) | st.integers(), inner, max_size=5)
        | st.frozensets(st.integers(), max_size=5)
    ),
    max_leaves=30,
)


@given(anything)
def test_anything_can_be_written_and_read_again(value: Any) -> None:
    made = plain(value)

    assert msgspec.json.decode(msgspec.json.encode(made)) == made


@pytest.mark.parametrize(
    "value",
    [
        {"password": SECRET},
        {"deep": [{"Authorization": f"Bearer {SECRET}"}]},
        {"db_dsn": f"postgres://app:{SECRET}@db/x"},
        f"postgres://app:{SECRET}@db/x",
        f"login(password={SECRET})",
        {b"secret": SECRET},
        Bare(),
        Pair("ada", SECRET),
        Struct(SECRET),
        Data(SECRET),
        ValueError(f"token={SECRET}"),
        {"headers": [("x", 1)], "apiKey": [SECRET]},
    ],
)
def test_secrets_stay_inside(value: object) -> None:
    assert SECRET not in msgspec.json.encode(plain(value)).decode()


def test_what_is_no_secret_is_shown() -> None:
    value = {"user": "ada", "tokens_used": 7, "author": "bob", "monkey": 1, "has_password": True, "token": None}

    assert plain(value) == value


def test_broad_deep_and_endless_values_are_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    broad = [[list(range(300))] * 300] * 300

    assert len(msgspec.json.encode(plain(endless))) < 200
    assert len(msgspec.json.encode(plain(broad))) < 2_000_000
    assert plain(list(range(500)))[-1] == "… 300 more"
    assert len(plain("x" * 10_000)) == 2_000


@pytest.mark.parametrize(
    "value", [Evil("x"), {"x": Evil("x")}, [Evil("x")], {Evil("x"): 1}], ids=["bare", "value", "item", "key"]
)
def test_values_whose_own_code_fails_cost_themselves_only(value: object) -> None:
    msgspec.json.encode(plain({"before": 1, "value": value, "after": 2}))

    assert plain({"before": 1, "value": value})["before"] == 1


@given(st.text(max_size=50))
def test_masking_takes_any_text(text: str) -> None:
    assert isinstance(masked(text), str)
    assert isinstance(is_secret(text), bool)


@pytest.mark.parametrize("piece", ["x", "x-", "token ", "a://", "a://b:", "password", "password=", "'", "=", " "])
def test_masking_a_long_text_comes_to_an_end(piece: str) -> None:
    # A quadratic pattern takes ten minutes for this, and keeps the GIL meanwhile.
    for _ in range(50):
        assert len(masked(piece * 20_000)) <= 60_000
