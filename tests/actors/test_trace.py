"""Traces of one actor: bounded, and gone when they end."""

from __future__ import annotations

import pykka
import pytest

from actors import Actor
from runtime.errors import InvalidValue
from runtime.testing import fake_clock
from tests.runtime.meeting import PATIENCE_S


class Echo(Actor):
    answer_and_live_on = True

    def on_receive(self, message: object) -> object:
        if message == "fail":
            raise ValueError(message)
        return message


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_trace_shows_the_next_messages_and_ends_by_itself() -> None:
    echo = Echo.start()
    trace = echo.trace(limit=3)

    echo.ask("one")
    with pytest.raises(ValueError, match="fail"):
        echo.ask("fail")
    echo.ask("x" * 10_000)
    echo.ask("four")

    assert trace.done
    first, second, third = trace.wait(PATIENCE_S)
    assert (first.message, first.failed) == ("Ask('one')", False)
    assert (second.message, second.failed) == ("Ask('fail')", True)
    assert len(third.message) <= 500
    assert first.duration_ns >= 0
    assert echo._actor._tracer is None


def test_a_message_that_cannot_be_shown_does_not_hurt_the_actor() -> None:
    echo = Echo.start()
    trace = echo.trace(limit=1)

    echo.tell(Hostile())

    assert "repr raised RuntimeError" in trace.wait(PATIENCE_S)[0].message
    assert echo.ask("still here") == "still here"


def test_a_trace_ends_when_its_time_is_over() -> None:
    with fake_clock() as clock:
        trace = Echo.start().trace(limit=5, for_s=10)

        clock.advance(9)
        assert not trace.done
        clock.advance(1)

        assert trace.done
        assert trace.wait(PATIENCE_S) == []


@pytest.mark.parametrize("bounds", [{"limit": 0}, {"limit": True}, {"for_s": 0}])
def test_a_trace_without_bounds_is_refused(bounds: dict[str, int]) -> None:
    echo = Echo.start()

    with pytest.raises(InvalidValue, match="to be a positive number"):
        echo.trace(**bounds)

    echo.stop()
    with pytest.raises(pykka.ActorDeadError):
        echo.ask("anybody?")


def test_an_actor_that_has_ended_cannot_be_traced() -> None:
    echo = Echo.start()
    echo.stop()

    with pytest.raises(pykka.ActorDeadError, match="expected Echo <.*> to be alive, got: ended"):
        echo.trace()
