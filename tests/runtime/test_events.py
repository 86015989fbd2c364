"""Names are checked where they are declared; an event owns what it carries."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime._events import Event, canonical, own
from runtime.errors import BeamstalkError, InvalidValue

SEGMENT = st.text(min_size=1).filter(
    lambda s: not any(c.isspace() or c == "." or (ord(c) < 160 and not c.isprintable()) for c in s)
)


@pytest.mark.parametrize(
    ("name", "dotted"),
    [
        ("anvil", "anvil"),
        ("anvil.label.submit.stop", "anvil.label.submit.stop"),
        (("anvil", "label"), "anvil.label"),
        (["anvil", "label"], "anvil.label"),
        ("ärger.größe", "ärger.größe"),
        ("a-b.c_d.9", "a-b.c_d.9"),
    ],
)
def test_a_name_and_its_segments_mean_the_same(name: Any, dotted: str) -> None:
    assert canonical(name) == dotted


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a.b\n",
        "a\x00",
        "a\x85b",
        "a\u00a0b",
        (),
        [],
        ("a", ""),
        ("a.b", "c"),
        ("a", "b c"),
        ("a", 1),
        ("a", None),
        None,
        7,
        b"a.b",
        {"a": 1},
        {"a"},
        object,
    ],
)
def test_anything_else_is_refused_with_what_was_expected_and_what_came(name: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^expected an event name of non-empty segments .*, got: .*'domain.action"):
        canonical(name)


def test_the_error_of_a_bad_name_is_a_value_error_of_ours_and_short() -> None:
    with pytest.raises(BeamstalkError) as caught:
        canonical("x y" * 10_000)

    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 400


@given(st.lists(SEGMENT, min_size=1))
def test_segments_joined_and_split_again_are_the_same_name(segments: list[str]) -> None:
    dotted = canonical(segments)

    assert canonical(tuple(segments)) == canonical(dotted) == dotted
    assert dotted.split(".") == segments


def test_a_subclass_of_str_becomes_a_plain_string() -> None:
    class Name(str):
        __slots__ = ()

    assert type(canonical(Name("a.b"))) is str


def test_the_canonical_form_of_a_string_is_that_very_string() -> None:
    # Its hash is cached in it, and the routing table looks it up by that.
    name = "anvil.label"

    assert canonical(name) is name


CONTAINERS: list[Any] = [
    {"k": [1]},
    [[1], {"k": 1}],
    ([1], 2),
    {1, 2},
    Counter(a=1),
    OrderedDict(a=[1]),
    defaultdict(list, a=[1]),
    deque([[1]], maxlen=3),
    {"a": {"b": {"c": [{"d": [1]}]}}},
]


def _ruin(value: Any) -> None:
    """Change a container and all in it."""
    if isinstance(value, dict):
        for item in value.values():
            _ruin(item)
        value["ruined"] = True
    elif isinstance(value, list | deque):
        for item in value:
            _ruin(item)
        value.append("ruined")
    elif isinstance(value, tuple):
        for item in value:
            _ruin(item)
    elif isinstance(value, set):
        value.add("ruined")


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: type(c).__name__)
def test_what_an_event_owns_cannot_be_changed_by_who_gave_it(container: Any) -> None:
    before = repr(container)

    owned = own({"key": container}, "metadata")
    _ruin(container)

    assert type(owned["key"]) is type(container)
    assert repr(owned["key"]) == before
    assert repr(container) != before


def test_copies_of_special_containers_stay_what_they_were() -> None:
    owned = own({"d": deque([1], maxlen=2), "f": defaultdict(int)}, "metadata")

    assert owned["d"].maxlen == 2
    assert owned["f"]["missing"] == 0


def test_other_objects_are_shared_by_reference() -> None:
    class Thing:
        pass

    class MyList(list[int]):
        pass

    thing, mine = Thing(), MyList()

    owned = own({"thing": thing, "mine": mine, "text": "x"}, "metadata")

    assert owned["thing"] is thing
    assert owned["mine"] is mine


def test_a_cycle_costs_the_emitter_nothing_but_a_few_copies() -> None:
    cycle: dict[str, Any] = {}
    cycle["me"] = cycle

    owned = own(cycle, "metadata")

    assert owned["me"]["me"] is not cycle


def test_any_mapping_is_taken_and_none_means_nothing() -> None:
    assert own(MappingProxyType({"a": 1}), "metadata") == {"a": 1}
    assert own(None, "metadata") == {}


@pytest.mark.parametrize("value", [1, "a", [("a", 1)], {"a"}, object()])
def test_what_is_no_mapping_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="expected metadata to be a mapping, got: "):
        own(value, "metadata")


def test_an_event_cannot_be_changed() -> None:
    event = Event("a.b", {}, {}, 0)

    with pytest.raises(AttributeError):
        event.name = "c"  # type: ignore[misc]
    assert (event.context, event.rate) == (None, 1.0)
