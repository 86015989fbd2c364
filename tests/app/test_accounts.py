import pytest

import runtime
from actors import Actor, whereis
from actors.aggregator import NAME as AGGREGATOR
from app.accounts import Account, accounts, restarts, settle, total
from runtime._mailbox import Mailbox
from runtime.metrics import counter
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S

ACCOUNT = Account(listener="a", emitted=10, handled=4, failed=1, dropped=2, discarded=0, waiting=3)


def test_an_account_adds_up_when_every_event_is_accounted_for() -> None:
    short = Account(listener="a", emitted=11, handled=4, failed=1, dropped=2, discarded=0, waiting=3)

    assert (ACCOUNT.adds_up, short.adds_up) == (True, False)


def test_an_account_in_words_is_a_sum_that_always_tells_what_was_dropped() -> None:
    nothing = Account(listener="a", emitted=0, handled=0, failed=0, dropped=0, discarded=0, waiting=0)

    assert ACCOUNT.in_words() == "10 emitted = 4 handled + 2 dropped + 1 failed + 3 still waiting"
    assert nothing.in_words() == "0 emitted = 0 handled + 0 dropped"


def test_accounts_are_added_column_by_column() -> None:
    summed = total([ACCOUNT, ACCOUNT])

    assert (summed.emitted, summed.handled, summed.failed, summed.dropped, summed.waiting) == (20, 8, 2, 4, 6)
    assert total([]).emitted == 0


def test_handlers_and_the_aggregator_account_for_what_was_emitted() -> None:
    def fail(*event: object) -> None:
        raise ValueError("as it should")

    application = Application("shop", metrics=[counter("shop.order.count")])
    runtime.attach_many("good", ["shop.order", "shop.refund"], lambda *event: None)
    runtime.attach("bad", "shop.order", fail)
    with application.running():
        aggregator = whereis(AGGREGATOR)
        assert aggregator is not None
        for _ in range(3):
            runtime.execute("shop.order", {}, {})
        runtime.execute("shop.refund", {}, {})
        application.drain(PATIENCE_S)
        restarted = restarts(application.supervisor)
    found = {one.listener: one for one in accounts([aggregator], gave_up={"bad"})}
    for handler_id in ("good", "bad"):
        runtime.detach(handler_id)

    assert all(one.adds_up for one in found.values())
    assert (found["good"].emitted, found["good"].handled) == (4, 4)
    assert (found["bad"].emitted, found["bad"].failed, found["bad"].gave_up) == (3, 3, True)
    assert (found[AGGREGATOR].emitted, found[AGGREGATOR].handled) == (3, 3)
    assert restarted in (2, 3)  # the last failure's restart may still be under way


def test_who_sleeps_on_a_little_mail_is_woken_until_none_waits() -> None:
    sleeper = Actor.options(mailbox=Mailbox(lazy=100)).start()
    heard: list[object] = []
    sleeper._actor.on_receive = heard.append  # type: ignore[method-assign]
    for number in range(50):
        sleeper.tell(number)

    before = sleeper.info().mailbox.pending
    settled = settle(sleeper)

    assert (before, settled, heard) == (50, True, list(range(50)))
    sleeper.stop()


def test_who_has_ended_settles_nothing() -> None:
    sleeper = Actor.options(mailbox=Mailbox(lazy=100)).start()
    sleeper.tell("unread")
    sleeper.kill()
    sleeper.wait(PATIENCE_S)

    assert not settle(sleeper)


@pytest.mark.parametrize("handlers", [0, 1])
def test_without_failures_nothing_was_restarted(handlers: int) -> None:
    with Application("shop").running() as application:
        if handlers:
            runtime.attach("good", "shop.order", lambda *event: None)
        counted = restarts(application.supervisor)
        if handlers:
            runtime.detach("good")

    assert counted == 0
