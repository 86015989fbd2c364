"""The handler table: what is attached to what, while nothing runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import runtime
from runtime import _handlers
from runtime._handler_options import HandlerOptions
from runtime._mailbox import Mailbox
from runtime._table import Table, table
from runtime.errors import AlreadyExists, InvalidValue, NotFound
from tests.runtime.meeting import in_threads


def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def table_is_empty_again() -> Iterator[None]:
    assert table.all() == []
    yield
    for attachment in table.all():
        runtime.detach(attachment.id)
    for sink in table.sinks():
        runtime.unsubscribe(sink)


def listed(prefix: Any = "") -> list[tuple[str, str]]:
    return [(info.id, info.event) for info in runtime.list_handlers(prefix)]


# -- attach and detach -------------------------------------------------------------------------------------------------


def test_an_attached_handler_is_listed_with_all_one_wants_to_know() -> None:
    runtime.attach("log", "shop.order.placed", handler, {"level": "info"}, carrier="green", capacity=7)

    (info,) = runtime.list_handlers()

    assert (info.id, info.event, info.handler, info.config) == ("log", "shop.order.placed", handler, {"level": "info"})
    assert (info.carrier, info.state, info.restarts, info.mailbox.capacity) == ("green", "waiting", 0, 7)


def test_attaching_and_detaching_while_nothing_runs_answers_none() -> None:
    assert runtime.attach("log", "a.b", handler) is None
    assert runtime.attach_many("more", ["a.b", "a.c"], handler) is None
    assert runtime.detach("log") is None
    assert listed() == [("more", "a.b"), ("more", "a.c")]


def test_an_id_is_unique_across_all_events() -> None:
    runtime.attach("log", "a.b", handler)

    with pytest.raises(
        AlreadyExists, match="expected a handler id that is not attached yet, got: 'log'. Detach it first"
    ):
        runtime.attach("log", "c.d", handler)
    with pytest.raises(AlreadyExists):
        runtime.attach_many("log", ["c.d", "e.f"], handler)

    assert listed() == [("log", "a.b")]


def test_an_unknown_id_is_not_found() -> None:
    for call in (runtime.detach, runtime.reattach, runtime.dead_letters):
        with pytest.raises(NotFound, match="expected the id of an attached handler, got: 'nobody'"):
            call("nobody")


def test_a_detached_id_is_free_again() -> None:
    runtime.attach("log", "a.b", handler)
    runtime.detach("log")
    runtime.attach("log", "c.d", handler)

    assert listed() == [("log", "c.d")]
    with pytest.raises(NotFound):
        runtime.detach("other")


def test_one_detach_removes_a_handler_from_all_its_events() -> None:
    runtime.attach_many("log", ["a", "b", "c"], handler)

    runtime.detach("log")

    assert listed() == []
    assert dict(table.snapshot()) == {}


def test_names_given_twice_are_one() -> None:
    runtime.attach_many("log", ["a.b", ("a", "b"), ["a", "b"], "a.c"], handler)

    assert listed() == [("log", "a.b"), ("log", "a.c")]


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([], "expected at least one event name, got: []"),
        ("a.b", "expected a list of event names, got: 'a.b'. For one event, use attach"),
        (["a.b", "a..b"], "expected an event name of non-empty segments"),
    ],
)
def test_bad_lists_of_names_are_refused_and_nothing_is_attached(events: Any, sentence: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        runtime.attach_many("log", events, handler)

    assert str(caught.value).startswith(sentence)
    assert listed() == []


@pytest.mark.parametrize("name", ["", "a..b", "a b", (), ("a", ""), 7, None])
def test_names_are_checked_in_full_where_they_are_attached(name: Any) -> None:
    with pytest.raises(InvalidValue, match="expected an event name"):
        runtime.attach("log", name, handler)

    assert listed() == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"handler_id": ""}, "expected handler_id to be a non-empty string, got: ''"),
        ({"handler_id": 7}, "expected handler_id to be a non-empty string, got: 7"),
        (
            {"handler": "print"},
            "expected handler to be callable as handler(event, measurements, metadata, config), got: 'print'",
        ),
        ({"carrier": "fiber"}, "expected carrier to be one of thread, green, process, inline, got: 'fiber'"),
        ({"capacity": 0}, "expected capacity to be a positive number of messages or None, got: 0"),
        ({"capacity": "many"}, "expected capacity to be a positive number of messages or None, got: 'many'"),
        ({"policy": "drop"}, "expected policy to be one of drop_newest, drop_oldest, sample, block, got: 'drop'"),
        ({"block_s": -1}, "expected block_s to be a positive number of seconds, got: -1"),
        ({"on_failure": "ignore"}, "expected on_failure to be restart or detach, got: 'ignore'"),
        ({"fallback": "process"}, "expected fallback to be none or thread, got: 'process'"),
        ({"max_restarts": -1}, "expected max_restarts to be a whole number from 0 up, got: -1"),
        ({"max_seconds": 0}, "expected max_seconds to be a positive number of seconds, got: 0"),
        ({"deadline_s": 0}, "expected deadline_s to be a positive number of seconds, got: 0"),
        ({"budget_s": -1}, "expected budget_s to be a positive number of seconds, got: -1"),
        ({"dead_letters": 1.5}, "expected dead_letters to be a whole number from 0 up, got: 1.5"),
        ({"owner": 7}, "expected owner to be an actor or an object that weak references can point to, got: 7"),
        ({"retries": 3}, "expected an option of attach (carrier, capacity, policy, "),
    ],
)
def test_misuse_is_one_sentence_at_the_call_and_nothing_is_attached(change: dict[str, Any], sentence: str) -> None:
    arguments: dict[str, Any] = {"handler_id": "log", "event": "a.b", "handler": handler, **change}

    with pytest.raises(InvalidValue) as caught:
        runtime.attach(arguments.pop("handler_id"), arguments.pop("event"), arguments.pop("handler"), **arguments)

    assert str(caught.value).startswith(sentence)
    assert listed() == []
    assert dict(table.snapshot()) == {}


@pytest.mark.parametrize("option", ["deadline_s", "budget_s", "block_s", "max_seconds"])
@pytest.mark.parametrize("value", ["soon", None, True, float("nan")])
def test_a_number_of_seconds_is_a_number(option: str, value: Any) -> None:
    if option == "deadline_s" and value is None:
        return  # no deadline

    with pytest.raises(InvalidValue, match=f"expected {option} to be a positive number"):
        runtime.attach("log", "a.b", handler, **{option: value})

    assert listed() == []


def test_the_options_of_attach_are_documented_each() -> None:
    doc = HandlerOptions.__doc__ or ""

    assert [name for name in HandlerOptions.__struct_fields__ if f"`{name}`" not in doc] == []


# -- listing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["shop.order.placed", "shop.order", "shop", "shopping.cart"]),
        ((), ["shop.order.placed", "shop.order", "shop", "shopping.cart"]),
        ("shop", ["shop.order.placed", "shop.order", "shop"]),
        (("shop", "order"), ["shop.order.placed", "shop.order"]),
        ("shop.order.placed", ["shop.order.placed"]),
        ("shop.ord", []),
        ("nothing", []),
    ],
)
def test_listing_is_by_prefix_of_whole_segments(prefix: Any, found: list[str]) -> None:
    runtime.attach_many("log", ["shop.order.placed", "shop.order", "shop", "shopping.cart"], handler)

    assert [event for _, event in listed(prefix)] == found


def test_listing_a_bad_prefix_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected an event name"):
        runtime.list_handlers("a..b")


# -- owners ------------------------------------------------------------------------------------------------------------


class Service:
    """Something that may own an attachment."""


def test_an_attachment_goes_when_its_owner_is_collected() -> None:
    service = Service()
    runtime.attach("log", "a.b", handler, owner=service)
    runtime.attach("stays", "a.b", handler, owner=Service)

    assert listed() == [("log", "a.b"), ("stays", "a.b")]
    del service
    gc.collect()

    assert listed() == [("stays", "a.b")]


def test_an_owner_that_only_looks_like_an_actor_is_an_object_like_any_other() -> None:
    service = Service()
    service.call_at_end = 5  # type: ignore[attr-defined]

    runtime.attach("log", "a.b", handler, owner=service)

    assert listed() == [("log", "a.b")]
    del service
    gc.collect()
    assert listed() == []


def test_an_id_that_was_taken_again_does_not_go_with_the_first_owner() -> None:
    first = Service()
    runtime.attach("log", "a.b", handler, owner=first)
    runtime.detach("log")
    runtime.attach("log", "a.b", handler)

    del first
    gc.collect()

    assert listed() == [("log", "a.b")]


# -- sinks and the snapshot --------------------------------------------------------------------------------------------


def test_the_snapshot_routes_to_handlers_and_sinks_in_order_of_attachment() -> None:
    sink = Mailbox()
    runtime.attach("one", "a", handler)
    runtime.subscribe("sink", ["a", "b"], sink)
    runtime.attach("two", "a", handler)

    snapshot = table.snapshot()

    assert snapshot["a"] == (table.get("one").mailbox, sink, table.get("two").mailbox)  # type: ignore[union-attr]
    assert snapshot["b"] == (sink,)
    assert set(snapshot) == {"a", "b"}


def test_a_snapshot_once_given_does_not_change() -> None:
    runtime.attach("one", "a", handler)
    before = table.snapshot()

    runtime.attach("two", "b", handler)
    runtime.detach("one")

    assert set(before) == {"a"}
    assert set(table.snapshot()) == {"b"}


def test_subscribing_again_replaces_and_unsubscribing_twice_is_harmless() -> None:
    sink = Mailbox()
    runtime.subscribe("sink", ["a", "b"], sink)
    runtime.subscribe("sink", ["b", "c"], sink)
    assert set(table.snapshot()) == {"b", "c"}

    runtime.unsubscribe("sink")
    runtime.unsubscribe("sink")

    assert dict(table.snapshot()) == {}


def test_a_handler_that_is_parked_is_routed_nothing_and_stays_listed() -> None:
    runtime.attach("log", "a", handler)
    attachment = table.get("log")
    assert attachment is not None

    table.park(attachment)
    assert dict(table.snapshot()) == {}
    assert [info.state for info in runtime.list_handlers()] == ["gave_up"]
    runtime.reattach("log")

    assert set(table.snapshot()) == {"a"}
    assert [info.state for info in runtime.list_handlers()] == ["waiting"]


def test_what_waits_for_a_detached_handler_is_discarded_and_counted() -> None:
    runtime.attach("log", "a", handler)
    attachment = table.get("log")
    assert attachment is not None
    for _ in range(3):
        attachment.mailbox.put("event")

    runtime.detach("log")

    statistics = attachment.mailbox.statistics()
    assert (statistics.discarded, statistics.pending) == (3, 0)
    assert attachment.mailbox.put("late") is False


def test_many_threads_attach_and_detach_and_none_gets_in_the_others_way() -> None:
    def work(number: int) -> None:
        for n in range(50):
            runtime.attach_many(f"{number}-{n}", ["shared", f"own.{number}"], handler)
            table.snapshot()
            if n % 2:
                runtime.detach(f"{number}-{n}")

    in_threads(8, work)

    assert len(table.all()) == 8 * 25
    assert len(table.snapshot()["shared"]) == 8 * 25
    assert all(len(table.snapshot()[f"own.{number}"]) == 25 for number in range(8))


def test_of_many_who_attach_the_same_id_one_gets_it() -> None:
    outcomes: list[str] = []

    def work(number: int) -> None:
        try:
            runtime.attach("log", f"event.{number}", handler)
            outcomes.append("attached")
        except AlreadyExists:
            outcomes.append("refused")

    in_threads(8, work)

    assert sorted(outcomes) == ["attached"] + ["refused"] * 7
    assert len(table.snapshot()) == 1


class TableAgainstModel(RuleBasedStateMachine):
    """The table against a plain dict of what is attached."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.model: dict[str, tuple[str, ...]] = {}
        self.parked: set[str] = set()

    ids = st.sampled_from(["one", "two", "three", "four"])
    events = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True)

    @rule(id=ids, events=events)
    def attach(self, id: str, events: list[str]) -> None:
        attachment = _handlers.Attachment(id, tuple(events), handler, None, HandlerOptions())
        if id in self.model:
            with pytest.raises(AlreadyExists):
                self.table.add(attachment)
        else:
            self.table.add(attachment)
            self.model[id] = tuple(events)

    @rule(id=ids)
    def detach(self, id: str) -> None:
        if id in self.model:
            self.table.remove(id)
            del self.model[id]
            self.parked.discard(id)
        else:
            with pytest.raises(NotFound):
                self.table.remove(id)

    @rule(id=ids)
    def park_or_unpark(self, id: str) -> None:
        attachment = self.table.get(id)
        if attachment is None:
            return
        if id in self.parked:
            self.table.unpark(attachment)
            self.parked.remove(id)
        else:
            self.table.park(attachment)
            self.parked.add(id)

    @invariant()
    def snapshot_is_what_is_attached(self) -> None:
        expected: dict[str, set[Any]] = {}
        for id, events in self.model.items():
            for event in events:
                if id not in self.parked:
                    expected.setdefault(event, set()).add(id)
        ids = {id: self.table.get(id) for id in self.model}
        found = {
            event: {id for id, one in ids.items() if one is not None and one.mailbox in boxes}
            for event, boxes in self.table.snapshot().items()
        }
        assert found == expected


TestTableAgainstModel = TableAgainstModel.TestCase


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"carrier": "inline", "deadline_s": 1}, "expected deadline_s only with carrier thread, green or process"),
        ({"carrier": "inline", "capacity": 5}, "expected capacity only with carrier thread, green or process"),
        ({"block_s": 1}, "expected block_s only with policy='block'"),
        ({"max_abandoned": 3}, "expected max_abandoned only with deadline_s"),
        ({"budget_s": 1}, "expected budget_s only with carrier='inline'"),
        ({"fallback": "thread"}, "expected fallback only with carrier green or inline"),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        runtime.attach("log", "a.b", handler, **options)

    assert runtime.list_handlers() == []
