"""Replies, and pykka's face: futures, proxies and self-proxies work as pykka's own."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pykka
import pytest

from actors import Actor, ActorRef, Future
from tests.runtime.meeting import PATIENCE_S, Answer, in_threads

# -- the future --------------------------------------------------------------------------------------------------------


def test_the_first_reply_counts() -> None:
    future: Future[int] = Future()

    future.set(1)
    future.set(2)
    future.fail(ValueError("late"))

    assert future.get() == 1
    assert future.done()


def test_many_who_wait_get_the_same_reply() -> None:
    future: Future[str] = Future()
    waiting = [Answer(lambda: future.get(timeout=PATIENCE_S)) for _ in range(8)]

    future.set("reply")

    assert [one.get() for one in waiting] == ["reply"] * 8


def test_of_two_replies_at_once_everybody_gets_the_same() -> None:
    for _ in range(200):
        future: Future[int] = Future()
        seen: list[Any] = []

        def give(number: int, future: Future[int] = future, seen: list[Any] = seen) -> None:
            if number % 2:
                future.set(number)
            else:
                future.fail(ValueError(number))
            try:
                seen.append(future.get())
            except ValueError as error:
                seen.append(error)

        in_threads(4, give)

        assert len(set(map(id, seen))) == 1


def test_a_reply_that_does_not_come_is_a_timeout_and_may_still_come_later() -> None:
    future: Future[int] = Future()

    with pytest.raises(pykka.Timeout, match=r"expected a reply within 0.001 s, got: none"):
        future.get(timeout=0.001)
    future.set(7)

    assert future.get() == 7


def test_an_exception_as_pykka_gives_it_is_raised() -> None:
    future: Future[int] = Future()
    try:
        raise ValueError("bad")
    except ValueError:
        future.set_exception()

    with pytest.raises(ValueError, match="bad"):
        future.get()

    other: Future[int] = Future()
    other.set_exception((KeyError, None, None))
    with pytest.raises(KeyError):
        other.get()
    assert sys.exc_info() == (None, None, None)


def test_futures_map_filter_reduce_and_join_as_pykkas() -> None:
    one: Future[Any] = Future()
    two: Future[Any] = Future()
    one.set([1, 2, 3])
    two.set(7)

    assert one.map(len).get() == 3
    assert one.filter(lambda n: n > 1).get() == [2, 3]
    assert one.reduce(lambda a, b: a + b, 10).get() == 16
    assert one.join(two).get() == [[1, 2, 3], 7]
    assert pykka.get_all([one, two]) == [[1, 2, 3], 7]


def test_a_future_can_be_awaited() -> None:
    future: Future[int] = Future()
    future.set(7)

    async def main() -> int:
        return await future

    assert asyncio.run(main()) == 7


# -- proxies -----------------------------------------------------------------------------------------------------------


class Till(Actor):
    """A till, as one would write it for pykka."""

    currency = "EUR"

    def __init__(self, amount: int = 0) -> None:
        super().__init__()
        self.amount = amount
        self.drawer = pykka.traversable(Drawer())
        self._me = self.actor_ref.proxy()

    def add(self, amount: int) -> int:
        self.amount += amount
        return self.amount

    def fail(self) -> None:
        raise ValueError("empty")

    def add_later(self, amount: int) -> Any:
        return self._me.add(amount)

    def thread(self) -> int:
        return threading.get_native_id()


class Drawer:
    """Something inside the till that a proxy may reach into."""

    def __init__(self) -> None:
        self.coins = 5

    def count(self) -> int:
        return self.coins


@pytest.fixture
def till(carrier: str) -> Any:
    return Till.options(carrier=carrier).start(10).proxy()


def test_a_proxy_calls_methods_inside_the_actor(till: Any) -> None:
    assert till.add(5).get() == 15
    assert till.thread().get() != threading.get_native_id()


def test_a_proxy_reads_and_sets_attributes(till: Any) -> None:
    till.amount = 99

    assert till.amount.get() == 99
    assert till.currency.get() == "EUR"


def test_a_proxy_reaches_into_traversable_attributes(till: Any) -> None:
    assert till.drawer.coins.get() == 5
    assert till.drawer.count().get() == 5
    till.drawer.coins = 6
    assert till.drawer.count().get() == 6


def test_a_failing_call_through_a_proxy_raises_here_and_ends_the_actor(till: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        till.fail().get()

    assert not till.actor_ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        till.add(1).get()


def test_an_unknown_attribute_is_refused_here(till: Any) -> None:
    with pytest.raises(AttributeError):
        till.no_such_thing  # noqa: B018


def test_deferred_calls_wait_for_no_reply(till: Any) -> None:
    till.add.defer(5)

    assert till.amount.get() == 15


def test_a_proxy_to_oneself_defers_work(till: Any) -> None:
    future = till.add_later(5).get()

    assert future.get(timeout=PATIENCE_S) == 15


def test_stopping_through_the_message_of_pykka_works(till: Any) -> None:
    assert till.actor_ref.stop() is True
    assert not till.actor_ref.is_alive()


def test_the_ref_is_a_pykka_ref_with_all_that_belongs_to_it(carrier: str) -> None:
    ref = Till.options(carrier=carrier).start(1)

    assert isinstance(ref, pykka.ActorRef)
    assert isinstance(ref, ActorRef)
    assert ref.actor_class is Till
    assert ref.actor_urn == f"urn:beamstalk:{ref.id}"
    assert ref.actor_stopped.is_set() is False
    assert ref.actor_stopped.wait(0.001) is False
    ref.stop()
    assert ref.actor_stopped.is_set() is True
    assert ref.actor_stopped.wait(PATIENCE_S) is True


def test_refs_are_equal_to_themselves_only_and_can_be_keys() -> None:
    one, two = Till.start(), Till.start()

    assert one == one
    assert one != two
    assert len({one, two, one}) == 2


def test_a_pykka_actor_and_ours_work_together() -> None:
    class Theirs(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message.ask("hello", timeout=PATIENCE_S)

    class Ours(Actor):
        def on_receive(self, message: Any) -> Any:
            return f"{message} from ours" if isinstance(message, str) else message.ask(self.actor_ref, block=False)

    theirs = Theirs.start()
    try:
        assert theirs.ask(Ours.start(), timeout=PATIENCE_S) == "hello from ours"
        assert Ours.start().ask(theirs).get(timeout=PATIENCE_S) == "hello from ours"
    finally:
        theirs.stop()
