"""Ids are UUIDs of version 7 that increase, whatever the clock does."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from reporters.spool import IdSource
from runtime.clock import FakeClock


def test_ids_increase_strictly_within_one_millisecond() -> None:
    ids = IdSource(FakeClock().system_ns)

    drawn = [ids.next() for _ in range(10_000)]

    assert drawn == sorted(set(drawn))


def test_an_id_carries_the_millisecond_the_version_and_the_variant() -> None:
    clock = FakeClock(system_ns=1_700_000_000_123_456_789)

    drawn = uuid.UUID(IdSource(clock.system_ns).next())

    assert drawn.int >> 80 == 1_700_000_000_123
    assert (drawn.version, drawn.variant) == (7, uuid.RFC_4122)


def test_ids_increase_when_the_clock_is_set_back() -> None:
    now_ns = [2_000_000_000_000_000_000]
    ids = IdSource(lambda: now_ns[0])
    before = ids.next()

    now_ns[0] -= 3_600_000_000_000

    assert ids.next() > before


def test_ids_drawn_by_many_threads_are_all_different() -> None:
    ids = IdSource()
    with ThreadPoolExecutor(8) as pool:
        drawn = [one for many in pool.map(lambda _: [ids.next() for _ in range(1_000)], range(8)) for one in many]

    assert len(set(drawn)) == 8_000
