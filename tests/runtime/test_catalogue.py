"""Declared events: their names, their checks, their table."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from runtime import Event
from runtime.catalogue import Catalogue, Declared
from runtime.errors import AlreadyExists, InvalidValue

ORDER = Declared(
    name="shop.order",
    description="An order is placed.",
    is_span=True,
    measurements={"lines": "lines"},
    metadata={"shop": str, "async": bool},
    stop={"result": Literal["paid", "open"] | None},
)


def event(name: str, measurements: dict[str, object] | None = None, **metadata: object) -> Event:
    return Event(name, measurements or {}, metadata, 0)


def test_a_sound_event_has_no_problems() -> None:
    catalogue = Catalogue([ORDER])
    sound = {"shop": "s1", "async": True, "telemetry_span_context": 7}

    assert catalogue.check(event("shop.order.start", {"monotonic_time": 1, "system_time": 2}, **sound)) == []
    assert catalogue.check(event("shop.order.stop", {"duration": 1, "lines": 2.5}, result="paid", **sound)) == []
    assert catalogue.check(event("shop.order.stop", {}, result=None, **sound)) == []


def test_an_exception_event_carries_what_the_span_adds_about_the_error() -> None:
    told = event(
        "shop.order.exception", {}, shop="s1", **{"async": False}, kind="error", reason=ValueError(), stacktrace=""
    )

    assert Catalogue([ORDER]).check(told) == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (event("shop.order.start", {}, shop=7, **{"async": True}), "metadata shop: Expected `str`, got `int`"),
        (event("shop.order.start", {}, shop="s"), "metadata async: missing"),
        (
            event("shop.order.start", {}, shop="s", **{"async": True}, shp=1),
            "metadata shp: not declared, did you mean shop?",
        ),
        (
            event("shop.order.stop", {"lines": "2"}, shop="s", **{"async": True}),
            "measurement lines: expected a number, got: '2'",
        ),
        (
            event("shop.order.stop", {"lines": True}, shop="s", **{"async": True}),
            "measurement lines: expected a number, got: True",
        ),
        (
            event("shop.order.stop", {"line": 2}, shop="s", **{"async": True}),
            "measurement line: not declared, did you mean lines?",
        ),
        (
            event("shop.order.stop", {}, shop="s", **{"async": True}, result="lost"),
            "metadata result: Invalid enum value 'lost'",
        ),
    ],
)
def test_each_fault_is_named_with_its_field(told: Event, problem: str) -> None:
    assert problem in Catalogue([ORDER]).check(told)


def test_an_undeclared_event_is_nobodys_business() -> None:
    assert Catalogue([ORDER]).check(event("shop.cart.filled", {"n": "x"})) == []


def test_a_name_that_two_declarations_claim_is_refused() -> None:
    with pytest.raises(AlreadyExists, match=r"declared once, got twice: 'shop.order.stop'"):
        Catalogue([ORDER, Declared(name="shop.order.stop", description="")])


def test_stop_metadata_without_a_span_is_refused() -> None:
    with pytest.raises(InvalidValue, match="is_span=True"):
        Declared(name="shop.order", description="", stop={"result": str})


def test_the_table_lists_every_name_with_units_and_types() -> None:
    table = Catalogue([ORDER]).markdown()

    assert "| `shop.order.start` | monotonic_time (ns), system_time (ns) | shop: str, async: bool | An order" in table
    assert "lines (lines)" in table
    assert table.count("\n") == 2 + 3


def test_span_prefixes_and_names_are_those_of_the_declarations() -> None:
    catalogue = Catalogue([ORDER, Declared(name="shop.cart.filled", description="")])

    assert catalogue.span_prefixes == {"shop.order"}
    assert catalogue.names == ("shop.order.start", "shop.order.stop", "shop.order.exception", "shop.cart.filled")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"measurements": ["lines"]}, r"expected measurements of shop.order to map keys to units, got: \['lines'\]"),
        (
            {"measurements": {"lines": 1}},
            r"expected measurements of shop.order to map keys to units, got: {'lines': 1}",
        ),
        ({"metadata": {"shop": "str"}}, r"expected metadata of shop.order to map keys to types, got: {'shop': 'str'}"),
        ({"description": None}, "expected description of shop.order to be of type str, got: None"),
        ({"is_span": "yes"}, "expected is_span of shop.order to be of type bool, got: 'yes'"),
        ({"version": True}, "expected version of shop.order to be of type int, got: True"),
        (
            {"is_span": True, "measurements": {"duration": "ms"}},
            r"expected measurements of the span shop.order without those that every span has, got: \['duration'\]",
        ),
        ({"metadata": {"": str}}, r"expected metadata of shop.order to map keys to types, got: {''"),
        (
            {"is_span": True, "stop": {"result": 5}},
            r"expected stop of shop.order to map keys to types, got: {'result': 5}",
        ),
    ],
)
def test_a_declaration_that_nothing_could_be_checked_against_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Declared(**{"name": "shop.order", "description": "", **fields})


@pytest.mark.parametrize("declared", [3, [3], ["shop.order"], None])
def test_a_catalogue_is_made_of_declarations(declared: Any) -> None:
    with pytest.raises(InvalidValue, match="expected a list of Declared, got: "):
        Catalogue(declared)


def test_a_name_may_be_given_in_segments() -> None:
    assert Catalogue([Declared(name=["shop", "order"], description="")]).names == ("shop.order",)  # type: ignore[arg-type]


def test_a_description_of_several_lines_stays_in_its_row() -> None:
    table = Catalogue([Declared(name="shop.order", description="One |\n  two.")]).markdown()

    assert table.splitlines()[-1] == "| `shop.order` | – | – | One \\| two. |"


def test_the_context_of_spans_may_be_declared() -> None:
    catalogue = Catalogue([Declared(name="a.b", description="", metadata={"telemetry_span_context": str})])

    assert catalogue.check(event("a.b", {}, telemetry_span_context="x")) == []


def test_what_a_span_adds_may_be_declared_as_none() -> None:
    catalogue = Catalogue([Declared(name="shop.order", description="", is_span=True, stop={"result": None})])
    failed = event("shop.order.exception", {}, kind="error", reason=ValueError(), stacktrace="")

    assert catalogue.check(failed) == []


class _Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_measurement_that_cannot_be_shown_is_a_fault_like_any_other() -> None:
    problems = Catalogue([ORDER]).check(event("shop.order.start", {"system_time": _Unspeakable()}, shop="s"))

    assert problems[0].startswith("measurement system_time: expected a number, got: <_Unspeakable")
