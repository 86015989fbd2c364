"""What the spool promises its callers, on a real file."""

from __future__ import annotations

import contextlib
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import gevent
import pytest

from reporters.spool import NotCommitted, RecordClass, Settlement, Spool, SpoolUnavailable
from reporters.spool._recovery import open_store
from runtime.clock import FakeClock
from runtime.errors import AlreadyStarted, InvalidValue
from tests.reporters.spool.conftest import MakeSpool
from tests.runtime.meeting import PATIENCE_S, until

# -- records in --------------------------------------------------------------------------------------------------------


def test_a_committed_record_is_there_after_the_spool_was_closed_and_opened_again(make_spool: MakeSpool) -> None:
    first = make_spool()
    record_id = first.commit(b"payload")
    first.close()

    second = make_spool()

    lease = second.lease("default")
    assert [(one.id, one.payload, one.attempts) for one in lease.records] == [(record_id, b"payload", 1)]
    assert second.statistics().classes["default"].recovered == 1


def test_records_come_out_in_the_order_in_which_they_were_offered(make_spool: MakeSpool) -> None:
    spool = make_spool()

    for number in range(1_000):
        assert spool.offer(b"%d" % number)
    assert spool.flush()

    lease = spool.lease("default", max_rows=1_000)
    assert [one.payload for one in lease.records] == [b"%d" % number for number in range(1_000)]
    assert [one.id for one in lease.records] == sorted(one.id for one in lease.records)


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_the_log_is_brought_to_disk_as_often_as_was_asked_for(
    directory: Path, synchronous: Literal["FULL", "NORMAL"], level: int
) -> None:
    directory.mkdir(mode=0o700)
    store, _ = open_store(directory / "spool.db", {}, synchronous, 10)

    with contextlib.closing(store):
        settings = [store._sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert settings == ["wal", level]


def test_many_threads_committing_at_once_share_transactions(make_spool: MakeSpool) -> None:
    spool = make_spool()
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda number: spool.commit(b"%d" % number), range(800)))

    told = spool.statistics()
    assert len(ids) == told.classes["default"].committed == told.classes["default"].stored == 800
    assert told.commits < 800


def test_the_same_id_and_payload_offered_twice_is_one_record(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.commit(b"payload", id="export-1")

    again = spool.put(b"payload", id="export-1")

    assert again.wait(PATIENCE_S)
    assert again.outcome == "duplicate"
    assert spool.statistics().classes["default"].stored == 1


def test_another_payload_under_an_id_that_waits_is_refused(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.commit(b"payload", id="export-1")

    with pytest.raises(NotCommitted, match="id_conflict"):
        spool.commit(b"another", id="export-1")

    assert [one.payload for one in spool.lease("default").records] == [b"payload"]


def test_a_green_greenlet_of_the_host_waits_for_a_commit_without_holding_up_the_others(make_spool: MakeSpool) -> None:
    spool = make_spool()
    committed, turns_between_commits = 0, 0

    def commit() -> None:
        nonlocal committed
        while committed < 20 or (not turns_between_commits and committed < 10_000):
            spool.commit(b"payload")
            committed += 1

    def other() -> None:
        nonlocal turns_between_commits
        while not committing.dead:
            turns_between_commits += committed > 0
            gevent.sleep(0.0005)

    committing = gevent.spawn(commit)
    gevent.joinall([committing, gevent.spawn(other)], raise_error=True)
    gevent.get_hub().destroy()

    assert turns_between_commits > 0


def test_a_record_that_is_too_large_is_refused_and_counted(make_spool: MakeSpool) -> None:
    spool = make_spool(max_record_bytes=10)

    assert not spool.offer(b"x" * 11)
    assert spool.put(b"x" * 11).reason == "too_large"

    assert spool.statistics().classes["default"].refused == {"too_large": 2}


def test_a_backlog_beyond_its_bound_is_refused_without_waiting(make_spool: MakeSpool) -> None:
    spool = make_spool(max_backlog_rows=1, max_backlog_bytes=1 << 20)
    reached, leave = threading.Event(), threading.Event()
    spool.subscribe(lambda: (reached.set(), leave.wait(30)))  # type: ignore[arg-type,return-value]
    spool.offer(b"holds the writer after its commit")
    assert reached.wait(30)

    outcomes = [spool.offer(b"waits"), spool.offer(b"no room")]
    leave.set()

    assert outcomes == [True, False]
    assert spool.flush()
    assert spool.statistics().classes["default"].refused == {"backlog": 1}


def test_a_closed_spool_refuses_and_counts(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.close()

    assert not spool.offer(b"late")
    assert spool.put(b"late").reason == "closed"
    with pytest.raises(SpoolUnavailable, match="closed"):
        spool.lease("default")

    assert spool.statistics().classes["default"].refused == {"closed": 2}


def test_closing_commits_what_was_offered_before(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for number in range(5_000):
        spool.offer(b"%d" % number)

    assert spool.close(30)

    assert spool.statistics().classes["default"].committed == 5_000


def test_offers_that_race_with_the_end_are_committed_or_refused_and_never_forgotten(make_spool: MakeSpool) -> None:
    for _ in range(20):
        spool = make_spool()
        tickets = []
        barrier = threading.Barrier(2)

        def offer(spool: Spool = spool, tickets: list[object] = tickets, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            tickets.extend(spool.put(b"%d" % number) for number in range(300))

        thread = threading.Thread(target=offer)
        thread.start()
        barrier.wait()
        spool.close()
        thread.join()

        assert all(ticket.wait(PATIENCE_S) or ticket.outcome == "refused" for ticket in tickets)  # type: ignore[attr-defined]
        assert spool.statistics().classes["default"].backlog == 0
        assert spool.statistics().balanced


def test_a_listener_that_fails_costs_nobody_anything(make_spool: MakeSpool) -> None:
    spool = make_spool()

    def fail() -> None:
        raise RuntimeError("a defect")

    spool.subscribe(fail)

    spool.commit(b"1")
    spool.commit(b"2")

    assert spool.statistics().classes["default"].committed == 2
    assert spool.statistics().failed_commits == 0


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_class_refuses_by_rows(make_spool: MakeSpool) -> None:
    spool = make_spool(classes=[RecordClass("default", max_rows=2)])

    outcomes = [spool.put(b"x") for _ in range(3)]

    assert [one.wait(PATIENCE_S) for one in outcomes] == [True, True, False]
    assert outcomes[2].reason == "full_rows"


def test_a_full_class_refuses_by_bytes(make_spool: MakeSpool) -> None:
    spool = make_spool(classes=[RecordClass("default", max_bytes=10)])

    outcomes = [spool.put(b"x" * 6), spool.put(b"x" * 6), spool.put(b"x" * 4), spool.put(b"x" * 11)]

    assert [one.wait(PATIENCE_S) for one in outcomes] == [True, False, True, False]
    assert [one.reason for one in outcomes] == ["", "full_bytes", "", "too_large"]


def test_a_class_may_give_up_its_oldest_for_the_newest_but_not_what_is_being_delivered(make_spool: MakeSpool) -> None:
    spool = make_spool(classes=[RecordClass("default", max_rows=3, when_full="drop_oldest")])
    for payload in (b"1", b"2", b"3"):
        spool.commit(payload)
    held = spool.lease("default", max_rows=1)

    spool.commit(b"4")

    rest = spool.lease("default")
    assert [one.payload for one in held.records + rest.records] == [b"1", b"3", b"4"]
    assert spool.statistics().classes["default"].evicted == 1
    assert not spool.offer(b"5") or spool.flush()
    assert spool.statistics().classes["default"].refused == {"full_rows": 1}


def test_classes_have_bounds_of_their_own(make_spool: MakeSpool) -> None:
    spool = make_spool(classes=[RecordClass("metrics", max_rows=1), RecordClass("lineage", max_rows=2)])

    outcomes = [spool.put(b"x", record_class=name) for name in ("metrics", "metrics", "lineage", "lineage")]

    assert [one.wait(PATIENCE_S) for one in outcomes] == [True, False, True, True]
    assert [one.payload for one in spool.lease("metrics").records] == [b"x"]


def test_records_of_a_class_that_is_no_longer_declared_are_kept_and_counted(make_spool: MakeSpool) -> None:
    first = make_spool(classes=[RecordClass("old")])
    first.commit(b"x")
    first.close()

    second = make_spool(classes=[RecordClass("new")])

    assert second.statistics().classes["old"].stored == 1
    assert len(second.lease("old").records) == 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("dead_letter", ({"expired": 1}, 0, ["expired"])), ("discard", ({}, 1, []))],
)
def test_what_grows_too_old_goes_where_the_policy_says(
    make_spool: MakeSpool, policy: str, expected: tuple[dict[str, int], int, list[str]]
) -> None:
    clock = FakeClock()
    spool = make_spool(classes=[RecordClass("default", max_age_s=60, when_expired=policy)], clock=clock)  # type: ignore[arg-type]
    spool.commit(b"old")
    clock.advance(59)
    spool.commit(b"young")
    clock.advance(2)

    lease = spool.lease("default")

    told = spool.statistics().classes["default"]
    assert [one.payload for one in lease.records] == [b"young"]
    assert (told.dead_lettered, told.expired, [one.kind for one in spool.dead_letters()]) == expected


def test_what_grows_too_old_goes_although_nobody_asks_for_records(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(classes=[RecordClass("default", max_age_s=60)], clock=clock)
    spool.commit(b"old")

    clock.advance(61)

    until(lambda: spool.statistics().classes["default"].dead_lettered == {"expired": 1})


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_leased_record_is_given_to_nobody_else_until_the_lease_runs_out(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"x")

    first = spool.lease("default", lease_s=60)
    meanwhile = spool.lease("default", lease_s=60)
    clock.advance(60)
    afterwards = spool.lease("default", lease_s=60)

    assert [len(one.records) for one in (first, meanwhile, afterwards)] == [1, 0, 1]
    assert afterwards.records[0].attempts == 2


def test_a_late_acknowledgement_counts_and_a_late_return_does_not_disturb_the_new_holder(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    first_id, second_id = spool.commit(b"1"), spool.commit(b"2")
    late = spool.lease("default", lease_s=60)
    clock.advance(61)
    holder = spool.lease("default", lease_s=60)

    spool.settle(late, Settlement(delivered=[first_id], buried={second_id: ("rejected", "late")}))

    told = spool.statistics().classes["default"]
    assert (told.delivered, told.dead_lettered, told.stored, told.leased) == (1, {}, 1, 1)
    spool.settle(holder, Settlement(delivered=[first_id, second_id]))
    assert spool.statistics().classes["default"].delivered == 2


def test_a_lease_holds_no_more_bytes_than_asked_for_but_at_least_one_record(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for size in (50, 6, 5, 1):
        spool.commit(b"x" * size)

    sizes = [[len(one.payload) for one in spool.lease("default", max_bytes=11).records] for _ in range(3)]

    assert sizes == [[50], [6, 5], [1]]


def test_leases_end_with_their_process(make_spool: MakeSpool) -> None:
    first = make_spool()
    first.commit(b"x")
    first.lease("default", lease_s=86_400)
    first.close()

    lease = make_spool().lease("default")

    assert [one.attempts for one in lease.records] == [2]


def test_settling_sends_each_record_where_it_belongs(make_spool: MakeSpool) -> None:
    spool = make_spool()
    ids = [spool.commit(b"%d" % number) for number in range(4)]
    lease = spool.lease("default")

    spool.settle(lease, Settlement(delivered=ids[:2], buried={ids[2]: ("rejected", "404 Not Found")}))

    told = spool.statistics().classes["default"]
    assert (told.delivered, told.dead_lettered, told.stored, told.leased) == (2, {"rejected": 1}, 1, 0)
    assert [one.id for one in spool.lease("default").records] == ids[3:]
    letter = spool.dead_letters()[0]
    assert (letter.id, letter.payload, letter.kind, letter.reason) == (ids[2], b"2", "rejected", "404 Not Found")


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_dead_letters_can_be_given_another_life(make_spool: MakeSpool) -> None:
    spool = make_spool()
    record_id = spool.commit(b"x")
    spool.settle(spool.lease("default"), Settlement(buried={record_id: ("rejected", "401")}))

    assert spool.revive("default") == 1

    lease = spool.lease("default")
    assert [(one.id, one.payload, one.attempts) for one in lease.records] == [(record_id, b"x", 1)]
    assert spool.dead_letters() == []


def test_dead_letters_are_bounded_and_the_oldest_go_first(make_spool: MakeSpool) -> None:
    spool = make_spool(max_dead_letters=2)
    ids = [spool.commit(b"%d" % number) for number in range(3)]

    spool.settle(spool.lease("default"), Settlement(buried=dict.fromkeys(ids, ("rejected", "400"))))

    assert [one.payload for one in spool.dead_letters()] == [b"2", b"1"]
    told = spool.statistics()
    assert (told.dead_letters, told.dead_discarded) == (2, 1)


# -- files and ownership -----------------------------------------------------------------------------------------------


def test_the_directory_is_0700_and_every_file_in_it_0600(make_spool: MakeSpool, directory: Path) -> None:
    spool = make_spool()
    spool.commit(b"x")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(("spool.db", "spool.db-wal", "spool.db-shm", "spool.lock"), 0o600)


def test_a_directory_that_others_may_enter_is_refused_with_the_reason(make_spool: MakeSpool, directory: Path) -> None:
    directory.mkdir(mode=0o755)

    spool = make_spool()

    told = spool.statistics()
    assert told.state == "unavailable"
    assert "mode 0700" in told.reason
    assert not spool.offer(b"x")


def test_a_spool_of_the_same_owner_takes_over_from_a_killed_incarnation(make_spool: MakeSpool) -> None:
    killed = make_spool(owner="foundation")
    killed.commit(b"x")

    successor = make_spool(owner="foundation")

    assert killed.statistics().state == "closed"
    assert not killed.offer(b"late")
    assert len(successor.lease("default").records) == 1


def test_a_spool_of_another_owner_in_the_same_process_is_a_second_owner(make_spool: MakeSpool) -> None:
    make_spool(owner="foundation")

    second = make_spool(owner="aitrace")

    told = second.statistics()
    assert told.state == "unavailable"
    assert told.reason.startswith("second_owner")


# -- misuse ------------------------------------------------------------------------------------------------------------


def test_misuse_is_an_error_at_the_call(directory: Path, make_spool: MakeSpool) -> None:
    with pytest.raises(InvalidValue, match="expected at least one record class, got: \\[\\]"):
        Spool(directory, classes=[])
    with pytest.raises(InvalidValue, match="expected synchronous to be 'FULL' or 'NORMAL', got: 'OFF'"):
        Spool(directory, synchronous="OFF")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="expected max_backlog_rows to be a positive number, got: 0"):
        Spool(directory, max_backlog_rows=0)
    spool = make_spool()
    with pytest.raises(InvalidValue, match="expected record_class to be one of default, got: 'metrics'"):
        spool.offer(b"x", record_class="metrics")
    with pytest.raises(InvalidValue, match="expected payload to be bytes, got: 'text'"):
        spool.offer("text")  # type: ignore[arg-type]
    with pytest.raises(AlreadyStarted):
        spool.start()
    assert spool.statistics().classes["default"].offered == 0
