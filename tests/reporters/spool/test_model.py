"""Any sequence of operations leaves the spool where a few lines of Python say it must be, and its books balanced."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reporters.spool import Lease, RecordClass, Settlement, Spool
from runtime.clock import FakeClock

MAX_ROWS, MAX_BYTES, MAX_AGE_S, LEASE_S = 6, 40, 100, 30
IDS = st.sampled_from(["a", "b", "c"])
PAYLOADS = st.sampled_from([b"x", b"y" * 7, b"z" * 20])


class Model:
    """What a class holds: (id, payload, created, leased until), oldest first."""

    def __init__(self, drops: bool) -> None:
        self.drops = drops
        self.rows: list[list[object]] = []
        self.dead: list[str] = []

    def find(self, record_id: str) -> list[object] | None:
        return next((row for row in self.rows if row[0] == record_id), None)

    def put(self, record_id: str, payload: bytes, now_s: float) -> str:
        twin = self.find(record_id)
        if twin is not None:
            return "duplicate" if twin[1] == payload else "refused"
        while len(self.rows) >= MAX_ROWS or sum(len(row[1]) for row in self.rows) + len(payload) > MAX_BYTES:  # type: ignore[arg-type]
            free = [row for row in self.rows if row[3] <= now_s]  # type: ignore[operator]
            if not self.drops or not free:
                return "refused"
            self.rows.remove(free[0])
        self.rows.append([record_id, payload, now_s, -1.0])
        return "committed"

    def expire(self, now_s: float) -> None:
        old = [row for row in self.rows if row[3] <= now_s and row[2] < now_s - MAX_AGE_S]  # type: ignore[operator]
        self.rows = [row for row in self.rows if row not in old]
        self.dead += [str(row[0]) for row in old]

    def lease(self, rows: int, size: int, now_s: float) -> list[str]:
        self.expire(now_s)
        taken: list[list[object]] = []
        for row in [row for row in self.rows if row[3] <= now_s][:rows]:  # type: ignore[operator]
            if taken and sum(len(one[1]) for one in [*taken, row]) > size:  # type: ignore[arg-type]
                break
            taken.append(row)
        for row in taken:
            row[3] = now_s + LEASE_S
        return [str(row[0]) for row in taken]


@settings(max_examples=60, stateful_step_count=40)
class Machine(RuleBasedStateMachine):
    """Drive a spool and its model side by side."""

    @initialize(drops=st.booleans())
    def begin(self, drops: bool) -> None:
        self.directory = Path(tempfile.mkdtemp()) / "spool"
        self.clock = FakeClock()
        self.start_ns = self.clock.monotonic_ns()
        self.drops = drops
        self.model = Model(drops)
        self.leases: list[Lease] = []
        self.spool = self.open()

    def open(self) -> Spool:
        policy = "drop_oldest" if self.drops else "refuse"
        bounds = RecordClass("c", max_rows=MAX_ROWS, max_bytes=MAX_BYTES, max_age_s=MAX_AGE_S, when_full=policy)  # type: ignore[arg-type]
        spool = Spool(self.directory, classes=[bounds], clock=self.clock, synchronous="NORMAL")
        spool.start()
        return spool

    def now_s(self) -> float:
        return (self.clock.monotonic_ns() - self.start_ns) / 1e9

    @rule(record_id=IDS, payload=PAYLOADS)
    def put(self, record_id: str, payload: bytes) -> None:
        ticket = self.spool.put(payload, id=record_id)
        ticket.wait(30)
        assert ticket.outcome == self.model.put(record_id, payload, self.now_s())

    @rule(payload=PAYLOADS)
    def put_fresh(self, payload: bytes) -> None:
        ticket = self.spool.put(payload)
        ticket.wait(30)
        assert ticket.outcome == self.model.put(ticket.id, payload, self.now_s())

    @rule(rows=st.integers(1, 4), size=st.integers(1, 30))
    def lease(self, rows: int, size: int) -> None:
        lease = self.spool.lease("c", max_rows=rows, max_bytes=size, lease_s=LEASE_S)
        assert [one.id for one in lease.records] == self.model.lease(rows, size, self.now_s())
        if lease.records:
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        ids = [one.id for one in lease.records]
        fates = {one: data.draw(st.sampled_from(["delivered", "buried", "released"])) for one in ids}
        delivered = [one for one in ids if fates[one] == "delivered"]
        buried = {one: ("rejected", "400") for one in ids if fates[one] == "buried"}
        held = [one for one in ids if self.holds(lease, one)]
        self.spool.settle(lease, Settlement(delivered=delivered, buried=buried))
        for one in ids:
            row = self.model.find(one)
            if row is not None and fates[one] == "delivered":
                self.model.rows.remove(row)
            elif row is not None and one in held:
                if fates[one] == "buried":
                    self.model.rows.remove(row)
                    self.model.dead.append(one)
                else:
                    row[3] = -1.0

    def holds(self, lease: Lease, record_id: str) -> bool:
        """Tell whether no later lease, and no other record, has taken the place of what was leased."""
        row = self.model.find(record_id)
        later = [one for one in self.leases if record_id in [record.id for record in one.records]]
        until_s = (lease.until_ns - self.clock.system_ns()) / 1e9 + self.now_s()
        return row is not None and row[3] == until_s and not [one for one in later if one.number > lease.number]

    @rule(seconds=st.sampled_from([1, LEASE_S, MAX_AGE_S + 1]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        # The writer looks for expired records by itself now and then; asked for it, it has done so in any case.
        self.spool._call(lambda store: store.expire("c", self.clock.system_ns()))
        self.model.expire(self.now_s())

    @rule()
    def reopen(self) -> None:
        assert self.spool.close(30)
        assert self.spool.statistics().balanced
        self.spool = self.open()
        self.leases.clear()
        for row in self.model.rows:
            row[3] = -1.0

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "spool"):
            return
        told = self.spool.statistics().classes["c"]
        assert told.balanced
        assert (told.backlog, told.stored) == (0, len(self.model.rows))
        assert told.stored_bytes == sum(len(row[1]) for row in self.model.rows)  # type: ignore[arg-type]
        assert told.leased == sum(row[3] != -1.0 for row in self.model.rows)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            assert self.spool.close(30)
            shutil.rmtree(self.directory.parent)


TestSpoolAgainstItsModel = Machine.TestCase
