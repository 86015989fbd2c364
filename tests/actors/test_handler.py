"""The handler actor: one event at a time from a mailbox that outlives it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from actors._handler import HandlerActor
from runtime import Event
from runtime._mailbox import Mailbox
from runtime._table import FAILURE, Attachment, table
from tests.actors.people import Obedient
from tests.runtime.meeting import PATIENCE_S, Gate, until

Routed = Callable[..., Mailbox]


@pytest.fixture
def attached(carrier: str) -> Iterator[Callable[..., Attachment]]:
    """Attach a handler while nothing routes to it: the test puts the events into its mailbox."""

    def attach(handler: Any, config: Any = None, **options: Any) -> Attachment:
        runtime.attach("log", "work.done", handler, config, carrier=carrier, **options)
        found = table.get("log")
        assert found is not None
        return found

    yield attach
    for attachment in table.all():
        runtime.detach(attachment.id)


Attached = Callable[..., Attachment]


def start(attachment: Attachment) -> Any:
    return HandlerActor.options(carrier=attachment.options.carrier, mailbox=attachment.mailbox).start(attachment)


def held_at_one(gate: Gate, seen: list[int]) -> Callable[..., None]:
    """A handler that notes what it sees, and stands at the gate with event 1."""

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen.append(measurements["n"])
        if measurements["n"] == 1:
            gate.pass_through()

    return handler


def put(attachment: Attachment, *numbers: int) -> None:
    for n in numbers:
        attachment.mailbox.put(Event("work.done", {"n": n}, {"tags": []}, n))


def test_it_calls_the_function_with_name_measurements_metadata_and_config(attached: Attached) -> None:
    seen: list[Any] = []
    attachment = attached(lambda *event: seen.append(event), {"level": 7})
    start(attachment)

    put(attachment, 1, 2)
    until(lambda: len(seen) == 2)

    assert seen == [("work.done", {"n": n}, {"tags": []}, {"level": 7}) for n in (1, 2)]
    assert attachment.state == "running"


def test_the_event_itself_cannot_be_changed_by_the_function(attached: Attached) -> None:
    def spoil(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        measurements.clear()
        metadata["tags"].append("spoilt")

    attachment = attached(spoil)
    event = Event("work.done", {"n": 1}, {"tags": []}, 0)
    start(attachment)

    attachment.mailbox.put(event)
    until(lambda: attachment.mailbox.statistics().handled == 1)

    assert (event.measurements, event.metadata) == ({"n": 1}, {"tags": []})


def test_it_runs_in_a_copy_of_the_emitters_context(attached: Attached) -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []

    def handler(*event: Any) -> None:
        seen.append(trace.get())
        trace.set("spoilt")

    attachment = attached(handler)
    trace.set("t-1")
    context = contextvars.copy_context()
    trace.set("here")
    start(attachment)

    for _ in range(2):
        attachment.mailbox.put(Event("work.done", {}, {}, 0, context))
    attachment.mailbox.put(Event("work.done", {}, {}, 0, None))
    until(lambda: len(seen) == 3)

    assert seen[:2] == ["t-1", "t-1"]
    assert (context[trace], trace.get()) == ("t-1", "here")


def test_a_failure_ends_it_and_the_next_incarnation_goes_on_with_the_next_event(
    attached: Attached, routed: Routed
) -> None:
    mail = routed(FAILURE)
    seen: list[int] = []
    error = ValueError("bad")

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        seen.append(measurements["n"])
        if measurements["n"] == 2:
            raise error

    attachment = attached(handler, {"k": "v"})
    put(attachment, 1, 2, 3)
    first = start(attachment)

    assert first.wait(PATIENCE_S) is error
    assert seen == [1, 2]
    second = start(attachment)
    until(lambda: seen == [1, 2, 3])

    until(lambda: attachment.mailbox.statistics().pending == 0)
    s = attachment.mailbox.statistics()
    assert (s.handled, s.failed) == (2, 1)
    assert (attachment.incarnations, attachment.restarts, second.info().restarts) == (2, 1, 1)
    (letter,) = runtime.dead_letters("log")
    assert letter.event.measurements == {"n": 2}
    assert "ValueError: bad" in letter.traceback
    (failure,) = mail.load
    assert failure.metadata["reason"] is error
    assert failure.metadata["handler_id"] == "log"


def test_what_was_in_its_hands_when_it_was_killed_has_failed_and_is_not_tried_again(
    attached: Attached, routed: Routed
) -> None:
    mail = routed(FAILURE)
    gate = Gate()
    seen: list[int] = []
    attachment = attached(held_at_one(gate, seen), on_failure="detach")  # which is for what it does itself
    put(attachment, 1, 2)
    first = start(attachment)
    gate.wait_reached()

    first.kill()
    first.wait(PATIENCE_S)
    start(attachment)
    until(lambda: seen == [1, 2])
    gate.open()

    until(lambda: attachment.mailbox.statistics().pending == 0)
    s = attachment.mailbox.statistics()
    assert (s.accepted, s.handled, s.failed) == (2, 1, 1)
    (failure,) = mail.load
    assert (failure.metadata["handler_id"], failure.metadata["reason"].reason) == ("log", "killed")
    (letter,) = runtime.dead_letters("log")
    assert letter.event.measurements == {"n": 1}
    assert "killed" in letter.traceback


def test_what_one_had_in_its_hands_when_the_next_took_over_has_failed_and_is_told_once(
    attached: Attached, routed: Routed
) -> None:
    mail = routed(FAILURE)
    gate = Gate()
    seen: list[int] = []
    attachment = attached(held_at_one(gate, seen))
    put(attachment, 1, 2)
    first = start(attachment)
    gate.wait_reached()

    start(attachment)  # as when its supervisor was killed, is started again, and the first has not been killed yet
    until(lambda: attachment.mailbox.statistics().pending == 0)
    first.kill()
    first.wait(PATIENCE_S)
    gate.open()

    assert seen == [1, 2]
    s = attachment.mailbox.statistics()
    assert (s.accepted, s.handled, s.failed) == (2, 1, 1)
    (failure,) = mail.load
    assert failure.metadata["reason"].reason == "killed"
    assert [letter.event.measurements for letter in runtime.dead_letters("log")] == [{"n": 1}]


def test_stopping_it_leaves_the_mail_for_the_next(attached: Attached) -> None:
    gate = Gate()
    seen: list[int] = []
    attachment = attached(held_at_one(gate, seen))
    put(attachment, 1, 2, 3)
    first = start(attachment)
    gate.wait_reached()
    stopping = first.stop(reason="shutdown", block=False)
    gate.open()

    assert stopping.get(timeout=PATIENCE_S) is True
    assert seen == [1]
    s = attachment.mailbox.statistics()
    assert (s.handled, s.failed, s.pending, s.discarded) == (1, 0, 2, 0)
    start(attachment)
    until(lambda: seen == [1, 2, 3])


def test_two_incarnations_at_once_share_no_event(attached: Attached) -> None:
    # It happens when the supervisor above is killed: the next one starts before the last has ended.
    gate = Gate()
    seen: list[int] = []

    def handler(event: str, measurements: Any, metadata: Any, config: Any) -> None:
        if measurements["n"] == 0:
            gate.pass_through()
        seen.append(measurements["n"])

    attachment = attached(handler)
    put(attachment, 0)
    first = start(attachment)
    gate.wait_reached()
    second = start(attachment)
    put(attachment, *range(1, 100))
    until(lambda: len(seen) == 99)
    gate.open()
    put(attachment, *range(100, 200))
    until(lambda: len(seen) == 200 and attachment.mailbox.statistics().pending == 0)

    assert sorted(seen) == list(range(200))
    s = attachment.mailbox.statistics()
    assert (s.accepted, s.handled, s.failed, s.pending) == (200, 199, 1, 0)
    assert first.is_alive()
    assert second.is_alive()


def test_an_owner_that_has_ended_already_lets_its_attachment_go_at_once(carrier: str) -> None:
    owner = Obedient.options(carrier=carrier).start()
    owner.stop()

    runtime.attach("log", "work.done", print, owner=owner)

    assert runtime.list_handlers() == []
