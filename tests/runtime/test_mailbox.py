"""The mailbox: bounded, ordered, counted exactly, never asleep while there is mail."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime import _native
from runtime._events import Event
from runtime._mailbox import EMPTY, SAMPLE_EVERY, Mailbox
from runtime._waiting import ThreadWaiter
from runtime.errors import InvalidValue
from tests.runtime.meeting import PATIENCE_S, Answer, OwnThread, in_a_hub, in_threads, until


class Sleeper:
    """A consumer that parks between batches, and counts how often it was woken."""

    def __init__(self) -> None:
        self.gate = ThreadWaiter()
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1
        self.gate.wake()


def event(number: int = 0) -> Event:
    return Event("a.b", {"n": number}, {}, number)


def take_everything(box: Mailbox, consumer: Any = None) -> list[Any]:
    taken = []
    while (message := box.take(consumer)) is not EMPTY:
        taken.append(message)
        box.settle(consumer)
    return taken


def assert_adds_up(box: Mailbox) -> None:
    s = box.statistics()
    assert s.accepted == s.handled + s.failed + s.discarded + s.pending
    assert s.offered == s.accepted + sum(s.dropped.values())


# -- order and bounds --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers()), st.integers(1, 300))
def test_messages_come_out_in_the_order_they_went_in(messages: list[int], capacity: int) -> None:
    box = Mailbox(capacity)

    accepted = [m for m in messages if box.put(m)]

    assert accepted == messages[:capacity]
    assert take_everything(box) == accepted


def test_none_is_a_message_like_any_other() -> None:
    box = Mailbox()
    box.put(None)

    assert box.take() is None
    assert box.settle(None)
    assert box.take() is EMPTY


@pytest.mark.parametrize("capacity", [1, 2, 15, 16, 17, 1000])
def test_a_full_mailbox_holds_its_capacity_to_the_message(capacity: int) -> None:
    box = Mailbox(capacity)

    accepted = sum(box.put(n) for n in range(capacity + 5))

    assert accepted == capacity
    assert box.statistics().pending == capacity
    assert box.statistics().dropped == {"full": 5}


def test_drop_newest_keeps_the_oldest() -> None:
    box = Mailbox(3, "drop_newest")

    answers = [box.put(n) for n in range(5)]

    assert answers == [True, True, True, False, False]
    assert take_everything(box) == [0, 1, 2]
    assert box.statistics().dropped == {"full": 2}


def test_who_finds_no_room_drops_its_message_without_waiting_for_the_consumer() -> None:
    box = Mailbox(1)
    box.put(1)

    with box._lock:  # as a consumer has it that was taken off its core in the middle of a take
        dropped = [OwnThread(lambda n=number: box.put(n)).get() for number in (2, 3)]

    assert dropped == [False, False]
    assert [box.statistics().dropped for _ in range(2)] == [{"full": 2}, {"full": 2}]


def test_drop_oldest_keeps_the_newest() -> None:
    box = Mailbox(3, "drop_oldest")

    answers = [box.put(n) for n in range(5)]

    assert answers == [True] * 5
    assert take_everything(box) == [2, 3, 4]
    statistics = box.statistics()
    assert (statistics.offered, statistics.accepted, statistics.dropped) == (5, 3, {"oldest": 2})


def test_sample_keeps_one_in_ten_above_half_and_says_so_in_the_rate() -> None:
    box = Mailbox(20, "sample")

    for n in range(10 + 10 * SAMPLE_EVERY):
        box.put(event(n))

    rates = [e.rate for e in take_everything(box)]
    assert rates == [1.0] * 10 + [1 / SAMPLE_EVERY] * 10
    assert sum(1 / rate for rate in rates) == pytest.approx(10 + 10 * SAMPLE_EVERY)
    assert box.statistics().dropped == {"sampled": 9 * 10}


def test_sample_drops_what_even_a_sample_has_no_room_for() -> None:
    box = Mailbox(4, "sample")

    for n in range(2 + 10 * SAMPLE_EVERY):
        box.put(event(n))

    assert len(box.load) == 4
    assert box.statistics().dropped == {"sampled": 90, "full": 8}
    assert_adds_up(box)


def test_a_rate_that_an_event_had_before_is_multiplied() -> None:
    box = Mailbox(2, "sample")
    box.put(event())

    for _ in range(SAMPLE_EVERY):
        box.put(Event("a.b", {}, {}, 0, None, 0.5))

    box.take()
    box.settle(None)
    assert box.take().rate == pytest.approx(0.5 / SAMPLE_EVERY)


def test_block_waits_until_the_consumer_has_made_room() -> None:
    box = Mailbox(1, "block", block_s=PATIENCE_S)
    box.put("first")

    second = Answer(lambda: box.put("second"))
    until(lambda: box._room)
    first = box.take()
    box.settle(None)

    assert first == "first"
    assert second.get() is True
    assert take_everything(box) == ["second"]
    assert box.statistics().dropped == {}


def test_block_drops_what_finds_no_room_in_its_time_and_keeps_nothing_of_it() -> None:
    box = Mailbox(1, "block", block_s=0.001)
    box.put("first")

    answers = [box.put(n) for n in range(5)]

    assert answers == [False] * 5
    assert box.statistics().dropped == {"full": 5}
    assert not box._room
    assert_adds_up(box)


def test_block_ends_at_once_when_the_mailbox_is_closed() -> None:
    box = Mailbox(1, "block", block_s=PATIENCE_S)
    box.put("first")

    waiting = Answer(lambda: box.put("second"))
    until(lambda: box._room)
    box.close()

    assert waiting.get() is False
    assert box.statistics().dropped == {"closed": 1}


def test_block_does_not_hold_the_loop_of_a_gevent_host() -> None:
    # An emission from a callback of the loop cannot wait: it drops at once.
    box = Mailbox(1, "block", block_s=PATIENCE_S)
    box.put("first")
    answers: list[bool] = []

    def work() -> None:
        gevent.get_hub().loop.run_callback(lambda: answers.append(box.put("second")))
        gevent.sleep(0)

    in_a_hub(work)

    assert answers == [False]
    assert box.statistics().dropped == {"full": 1}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"capacity": 0}, "expected capacity to be a positive number of messages or None, got: 0"),
        ({"capacity": -1}, "expected capacity to be a positive number of messages or None, got: -1"),
        ({"capacity": True}, "expected capacity to be a positive number of messages or None, got: True"),
        ({"capacity": 1.5}, "expected capacity to be a positive number of messages or None, got: 1.5"),
        ({"capacity": "9"}, "expected capacity to be a positive number of messages or None, got: '9'"),
        ({"policy": "drop"}, "expected policy to be one of drop_newest, drop_oldest, sample, block, got: 'drop'"),
        ({"block_s": 0}, "expected block_s to be a positive number of seconds, got: 0"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Mailbox(**options)

    assert str(caught.value) == sentence


# -- closing -----------------------------------------------------------------------------------------------------------


def test_close_hands_out_what_waits_and_counts_it_as_discarded() -> None:
    box = Mailbox()
    for n in range(200):
        box.put(n)
    box.take()

    left = box.close()
    refused = box.put("late")

    assert left == list(range(1, 200))
    assert refused is False
    statistics = box.statistics()
    assert (statistics.discarded, statistics.pending, statistics.dropped) == (199, 1, {"closed": 1})
    box.settle(None)
    assert_adds_up(box)


def test_what_an_emitter_was_just_about_to_append_when_the_mailbox_closed_counts_as_discarded() -> None:
    box = Mailbox()
    box.close()
    box.load.append("late")  # the second half of a put that began before

    statistics = box.statistics()

    assert (statistics.accepted, statistics.discarded, statistics.pending) == (1, 1, 0)
    assert box.pending() == 0


def test_a_closed_mailbox_can_be_opened_again() -> None:
    box = Mailbox(2)
    box.close()
    box.open()

    assert box.put(1)
    assert not box.closed


def test_pending_counts_what_is_in_the_consumers_hands() -> None:
    box = Mailbox()
    for n in range(3):
        box.put(n)
    box.take()

    assert box.pending() == 3
    box.settle(None)
    assert box.pending() == 2


def test_oldest_shows_the_next_message_and_takes_nothing() -> None:
    box = Mailbox()
    assert box.oldest() is EMPTY

    for n in range(3):
        box.put(n)
    assert box.oldest() == 0
    box.take()
    assert box.oldest() == 1
    assert box.pending() == 3


# -- one consumer after another ----------------------------------------------------------------------------------------


def test_the_next_consumer_goes_on_with_the_next_message() -> None:
    box, first, second = Mailbox(), Sleeper(), Sleeper()
    for n in range(100):
        box.put(n)

    box.adopt(first)
    assert box.take(first) == 0
    box.release(first)
    box.adopt(second)

    assert take_everything(box, second) == list(range(1, 100))
    statistics = box.statistics()
    assert (statistics.handled, statistics.failed) == (99, 1)


def test_a_consumer_that_was_replaced_gets_nothing_more_and_settles_nothing() -> None:
    box, fenced, second = Mailbox(), Sleeper(), Sleeper()
    for n in range(3):
        box.put(n)
    box.adopt(fenced)
    box.take(fenced)

    box.adopt(second)

    assert box.take(fenced) is EMPTY
    assert box.take_all(10, fenced) == []
    assert box.settle(fenced) is False
    assert box.statistics().failed == 1
    assert take_everything(box, second) == [1, 2]
    assert_adds_up(box)


def test_a_consumer_that_was_replaced_cannot_send_the_next_one_to_sleep_for_ever() -> None:
    box, fenced, second = Mailbox(), Sleeper(), Sleeper()
    box.adopt(fenced)
    box.adopt(second)
    assert box.park(second)

    box.load.append("mail")  # the first half of a put ...
    box.park(fenced)
    if box.idle:  # ... and its second half
        box.wake()

    assert second.woken == 1


def test_releasing_somebody_elses_mailbox_changes_nothing() -> None:
    box, first, second = Mailbox(), Sleeper(), Sleeper()
    box.adopt(first)
    box.put(1)
    box.take(first)

    box.release(second)

    assert box.settle(first) is True


def test_settle_counts_a_message_once() -> None:
    box = Mailbox()
    box.put(1)
    box.take()

    assert [box.settle(None), box.settle(None)] == [True, False]
    assert box.statistics().handled == 1


def test_take_all_takes_a_batch_and_is_settled_with_its_number() -> None:
    box = Mailbox()
    for n in range(100):
        box.put(n)
    first = box.take()
    box.settle(None)

    batches = []
    while batch := box.take_all(30):
        batches.append(batch)
        box.settle(None, count=len(batch))

    assert [first, *itertools.chain(*batches)] == list(range(100))
    assert box.statistics().handled == 100


# -- waking ------------------------------------------------------------------------------------------------------------


def test_a_parked_consumer_is_woken_once_for_many_messages() -> None:
    box, sleeper = Mailbox(), Sleeper()
    box.adopt(sleeper)
    assert box.park(sleeper)

    for n in range(10):
        box.put(n)

    assert sleeper.woken == 1


def test_a_wake_up_that_was_cut_short_is_made_good_by_the_next_message() -> None:
    class Interrupted(Sleeper):
        def _wake(self) -> None:
            super()._wake()
            if self.woken == 1:
                raise KeyboardInterrupt

    box, sleeper = Mailbox(), Interrupted()
    box.adopt(sleeper)
    box.park(sleeper)

    with pytest.raises(KeyboardInterrupt):
        box.put("a")
    box.put("b")

    assert sleeper.woken == 2
    assert box.take_all(5, sleeper) == ["a", "b"]


def test_a_consumer_cannot_park_while_there_is_mail() -> None:
    box, sleeper = Mailbox(), Sleeper()
    box.adopt(sleeper)
    box.put(1)

    assert box.park(sleeper) is False
    assert box.idle is False


def test_a_lazy_mailbox_wakes_its_consumer_when_more_than_so_many_wait() -> None:
    box, sleeper = Mailbox(10, lazy=3), Sleeper()
    box.adopt(sleeper)
    box.park(sleeper)

    woken = []
    for n in range(5):
        box.put(n)
        woken.append(sleeper.woken)

    assert woken == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("policy", ["drop_oldest", "sample"])
def test_a_full_mailbox_still_wakes_its_consumer(policy: Any) -> None:
    box, sleeper = Mailbox(2, policy), Sleeper()
    box.adopt(sleeper)
    for n in range(2 * SAMPLE_EVERY):
        box.put(event(n))
    box.idle = True

    for n in range(SAMPLE_EVERY):
        box.put(event(n))

    assert sleeper.woken == (1 if policy == "drop_oldest" else 0)


@pytest.mark.parametrize("capacity", [None, 10_000_000])
def test_no_wake_up_is_lost_between_many_producers_and_a_consumer_that_parks(capacity: int | None) -> None:
    box, sleeper = Mailbox(capacity), Sleeper()
    box.adopt(sleeper)
    each, producers = 3_000, 4
    taken: list[tuple[int, int]] = []

    def consume() -> None:
        while len(taken) < each * producers:
            message = box.take(sleeper)
            if message is not EMPTY:
                taken.append(message)
                box.settle(sleeper)
            elif box.park(sleeper):
                assert sleeper.gate.wait(PATIENCE_S), f"slept through mail: {box.statistics()}"

    def produce(number: int) -> None:
        for n in range(each):
            box.put((number, n))
            if n % 100 == 0:
                _native.sleep(0)  # let the consumer come to rest now and then, or it would never park

    consumer = OwnThread(consume)
    in_threads(producers, produce)
    consumer.get()

    for number in range(producers):
        assert [n for who, n in taken if who == number] == list(range(each))
    assert box.statistics().handled == each * producers


# -- accounting under fire ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "sample", "block"])
def test_every_offer_is_accounted_for_from_eight_threads(policy: Any) -> None:
    box = Mailbox(50, policy, block_s=0.001)
    each, threads = 400, 8
    answers: Counter[bool] = Counter()
    done = threading.Event()
    taken = [0]

    def consume() -> None:
        while not done.is_set() or box.load:
            if box.take() is EMPTY:
                _native.sleep(0)
            else:
                taken[0] += 1
                box.settle(None, failed=taken[0] % 7 == 0)

    def produce(number: int) -> None:
        for n in range(each):
            answers[box.put(event(n))] += 1

    consumer = OwnThread(consume)
    in_threads(threads, produce)
    done.set()
    consumer.get()
    take_everything(box)

    s = box.statistics()
    assert s.offered == each * threads == sum(answers.values())
    assert s.pending == 0
    assert_adds_up(box)
    if policy != "drop_oldest":
        assert s.accepted == answers[True]
        assert sum(s.dropped.values()) == answers[False]


def test_consumers_replaced_under_fire_lose_no_message_and_handle_none_twice() -> None:
    # Each consumer runs in a thread of its own and is replaced at any moment, as by a kill.
    box = Mailbox()
    each, threads = 2_000, 4
    taken: list[Any] = []
    over = threading.Event()

    def consume(consumer: Sleeper) -> None:
        while not over.is_set() and box.consumer is consumer:
            message = box.take(consumer)
            if message is not EMPTY:
                taken.append(message)
                box.settle(consumer)

    def replace() -> list[Answer]:
        incarnations = []
        while not over.is_set():
            consumer = Sleeper()
            box.adopt(consumer)
            incarnations.append(OwnThread(lambda consumer=consumer: consume(consumer)))
            time.sleep(0.0005)
            box.release(consumer)
        return incarnations

    replacing = Answer(replace)
    in_threads(threads, lambda number: [box.put((number, n)) for n in range(each)])
    until(lambda: not box.load)
    over.set()
    for incarnation in replacing.get():  # type: ignore[attr-defined]
        incarnation.get()
    rest = Sleeper()
    box.adopt(rest)
    taken += take_everything(box, rest)

    assert sorted(taken) == [(number, n) for number in range(threads) for n in range(each)]
    s = box.statistics()
    assert (s.accepted, s.pending, s.discarded) == (each * threads, 0, 0)
    assert s.handled + s.failed == each * threads


class Accounts(RuleBasedStateMachine):
    """One mailbox against a model that knows where every message is."""

    @initialize(
        capacity=st.one_of(st.none(), st.integers(1, 40)),
        policy=st.sampled_from(["drop_newest", "drop_oldest", "block"]),
    )
    def open(self, capacity: int | None, policy: Any) -> None:
        self.box = Mailbox(capacity, policy, block_s=0.000_001)
        self.consumer: Sleeper | None = None
        self.waiting: list[int] = []
        self.in_hands: int | None = None
        self.offered = self.handled = self.failed = self.discarded = 0

    @rule(count=st.integers(1, 30))
    def put(self, count: int) -> None:
        for _ in range(count):
            self.offered += 1
            room = self.box.limit == -1 or len(self.box.load) < self.box.limit
            accepted = self.box.put(self.offered)
            if accepted:
                if not room:
                    self.waiting.remove(self.box_oldest_waiting)
                self.waiting.append(self.offered)

    @property
    def box_oldest_waiting(self) -> int:
        # What the consumer has fetched as a batch is not dropped any more.
        fetched = len(self.box._batch or ())
        return self.waiting[fetched]

    @precondition(lambda self: self.in_hands is None)
    @rule()
    def take(self) -> None:
        message = self.box.take(self.consumer)
        if message is EMPTY:
            assert not self.waiting
        else:
            assert message == self.waiting.pop(0)
            self.in_hands = message

    @precondition(lambda self: self.in_hands is not None)
    @rule(failed=st.booleans())
    def settle(self, failed: bool) -> None:
        assert self.box.settle(self.consumer, failed=failed)
        self.in_hands = None
        self.handled += not failed
        self.failed += failed

    @rule()
    def replace_consumer(self) -> None:
        self.consumer = Sleeper()
        self.box.adopt(self.consumer)
        self.failed += self.in_hands is not None
        self.in_hands = None

    @precondition(lambda self: self.consumer is not None)
    @rule()
    def crash(self) -> None:
        assert self.consumer is not None
        self.box.release(self.consumer)
        self.consumer = None
        self.failed += self.in_hands is not None
        self.in_hands = None

    @rule()
    def close_and_open(self) -> None:
        left = self.box.close()
        assert left == self.waiting
        self.discarded += len(left)
        self.waiting = []
        self.box.open()

    @invariant()
    def accounts_are_exact(self) -> None:
        if not hasattr(self, "box"):
            return
        s = self.box.statistics()
        assert s.offered == self.offered
        assert (s.handled, s.failed, s.discarded) == (self.handled, self.failed, self.discarded)
        assert s.pending == len(self.waiting) + (self.in_hands is not None)
        assert s.accepted == s.handled + s.failed + s.discarded + s.pending


TestAccounts = Accounts.TestCase


def test_a_long_backlog_is_not_moved_for_every_few_messages() -> None:
    box = Mailbox()
    for n in range(200_000):
        box.put(n)
    lengths = set()

    for n in range(200_000):
        assert box.take() == n
        box.settle(None)
        lengths.add(len(box.load))

    assert len(lengths) < 1_000
