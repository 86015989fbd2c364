"""Whatever has happened to the files, the service starts, nothing readable is lost, and the damage is told."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.events import DECLARED
from reporters.spool import Settlement, Spool
from reporters.spool._recovery import Damaged, open_store
from reporters.spool._wal import wal_damage
from runtime.clock import FakeClock
from runtime.testing import capture_events
from tests.reporters.spool.conftest import MakeSpool
from tests.runtime.meeting import until

PAYLOADS = [b"%06d" % number + b"x" * 300 for number in range(400)]


def abandoned(directory: Path, payloads: list[bytes] = PAYLOADS, *, folded: bool = True) -> None:
    """Leave a spool behind as a process does that is killed: committed, with or without the log folded in."""
    program = (
        "import os, sys; from reporters.spool import Spool\n"
        f"spool = Spool({str(directory)!r}); spool.start()\n"
        f"payloads = [bytes.fromhex(one) for one in sys.stdin.read().split()]\n"
        "half = len(payloads) // 2\n"
        "for one in payloads[:half]: spool.offer(one)\n"
        "assert spool.flush(30)\n"
        "for one in payloads[half:]: spool.offer(one)\n"
        "assert spool.flush(30)\n"
        f"{'assert spool.close()' if folded else ''}\n"
        "os._exit(0)\n"
    )
    text = " ".join(one.hex() for one in payloads)
    subprocess.run([sys.executable, "-c", program], input=text, text=True, check=True, timeout=60)


def readable(spool: Spool) -> list[bytes]:
    return [one.payload for one in spool.lease("default", max_rows=10_000, max_bytes=1 << 30).records]


def flip(path: Path, offset: int, length: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(length)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in old))


def set_aside(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if ".damaged-" in path.name)


def assert_works(spool: Spool) -> None:
    record_id = spool.commit(b"after the damage")
    assert record_id in [one.id for one in spool.lease("default", max_rows=10_000).records]


def until_ready(spool: Spool, clock: FakeClock) -> None:
    """Let time pass until the spool has opened its file."""
    until(lambda: (clock.advance(1), spool.statistics().state)[1] == "ready")


# -- what is no damage -------------------------------------------------------------------------------------------------


def test_a_killed_process_leaves_no_damage_and_every_committed_record(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory, folded=False)
    assert (directory / "spool.db-wal").stat().st_size > 0

    spool = make_spool()

    assert readable(spool) == PAYLOADS
    assert spool.statistics().set_aside == 0


def test_frames_left_over_from_before_the_log_was_reset_are_no_damage(make_spool: MakeSpool, directory: Path) -> None:
    first = make_spool()
    for payload in PAYLOADS * 40:
        first.offer(payload)
    assert first.flush(30)
    reader = sqlite3.connect(directory / "spool.db")
    assert reader.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    reader.close()
    for _ in range(3):
        first.commit(b"after the reset")

    assert wal_damage(directory / "spool.db-wal") == ""


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_torn_tail_of_the_log_costs_only_what_was_torn_and_is_told(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory, folded=False)
    log = directory / "spool.db-wal"
    os.truncate(log, log.stat().st_size - 100)

    spool = make_spool()

    kept = readable(spool)
    assert kept == PAYLOADS[: len(kept)]
    assert len(kept) >= len(PAYLOADS) // 2
    told = spool.statistics()
    assert (told.state, told.set_aside, told.salvaged) == ("ready", 1, len(kept))
    assert [name.endswith("-wal") for name in set_aside(directory)] == [False, True]
    assert_works(spool)


def test_a_flipped_byte_in_the_log_is_told_and_what_came_before_it_is_kept(
    make_spool: MakeSpool, directory: Path
) -> None:
    abandoned(directory, folded=False)
    log = directory / "spool.db-wal"
    flip(log, log.stat().st_size - 3_000)

    spool = make_spool()

    kept = readable(spool)
    assert kept == PAYLOADS[: len(kept)]
    assert spool.statistics().set_aside == 1


def test_the_log_that_was_set_aside_is_as_it_was_found(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory, folded=False)
    log = directory / "spool.db-wal"
    flip(log, log.stat().st_size - 3_000)
    found = log.read_bytes()

    make_spool()

    assert (directory / set_aside(directory)[1]).read_bytes() == found


def test_a_torn_database_keeps_what_can_still_be_read(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory)
    database = directory / "spool.db"
    os.truncate(database, database.stat().st_size - 5 * 4096)

    spool = make_spool()

    kept = readable(spool)
    assert set(kept) <= set(PAYLOADS)
    assert len(kept) > len(PAYLOADS) // 2
    told = spool.statistics()
    assert (told.set_aside, told.salvaged) == (1, len(kept))
    assert_works(spool)


def test_a_destroyed_page_in_the_middle_costs_its_records_and_no_others(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory)
    database = directory / "spool.db"
    middle = database.read_bytes().index(PAYLOADS[200]) // 4096 * 4096
    flip(database, middle, 16)

    spool = make_spool()

    kept = readable(spool)
    assert len(PAYLOADS) - 14 < len(kept) < len(PAYLOADS)
    assert set(kept) < set(PAYLOADS)
    assert {PAYLOADS[0], PAYLOADS[-1]} <= set(kept)
    assert spool.statistics().set_aside == 1


def test_a_flipped_byte_in_a_payload_is_never_delivered_but_kept_as_a_dead_letter(
    make_spool: MakeSpool, directory: Path
) -> None:
    abandoned(directory)
    database = directory / "spool.db"
    flip(database, database.read_bytes().index(PAYLOADS[200]) + 50)

    spool = make_spool()

    assert readable(spool) == PAYLOADS[:200] + PAYLOADS[201:]
    assert spool.statistics().classes["default"].dead_lettered == {"corrupt": 1}
    assert spool.dead_letters()[0].kind == "corrupt"


@pytest.mark.parametrize("offset", [0, 20, 100, 105])
def test_a_flipped_byte_in_the_header_does_not_keep_the_service_from_starting(
    make_spool: MakeSpool, directory: Path, offset: int
) -> None:
    abandoned(directory)
    flip(directory / "spool.db", offset)

    spool = make_spool()

    assert spool.statistics().state == "ready"
    assert_works(spool)


def test_every_flipped_byte_of_the_first_pages_leaves_a_spool_that_works(tmp_path: Path) -> None:
    original = tmp_path / "original"
    abandoned(original, PAYLOADS[:20])
    image = (original / "spool.db").read_bytes()

    for offset in range(0, min(len(image), 3 * 4096), 61):
        directory = tmp_path / str(offset)
        directory.mkdir(mode=0o700)
        (directory / "spool.db").write_bytes(image)
        (directory / "spool.db").chmod(0o600)
        flip(directory / "spool.db", offset)

        spool = Spool(directory, synchronous="NORMAL")
        spool.start()

        assert spool.statistics().state == "ready", offset
        assert set(readable(spool)) <= set(PAYLOADS[:20]), offset
        assert_works(spool)
        assert spool.close()
        assert spool.statistics().balanced


def test_a_zero_length_file_is_set_aside(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory)
    os.truncate(directory / "spool.db", 0)

    spool = make_spool()

    assert (spool.statistics().state, spool.statistics().set_aside) == ("ready", 1)
    assert [(directory / name).stat().st_size for name in set_aside(directory)] == [0]
    assert_works(spool)


@pytest.mark.parametrize("content", [b"no database at all\n" * 100, b"\0" * 8192])
def test_a_file_of_another_kind_is_set_aside_and_not_touched(
    make_spool: MakeSpool, directory: Path, content: bytes
) -> None:
    directory.mkdir(mode=0o700)
    (directory / "spool.db").write_bytes(content)

    spool = make_spool()

    assert spool.statistics().set_aside == 1
    assert (directory / set_aside(directory)[0]).read_bytes() == content
    assert_works(spool)


def test_the_database_of_another_program_is_set_aside_and_not_touched(make_spool: MakeSpool, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    with sqlite3.connect(directory / "spool.db") as foreign:
        foreign.execute("CREATE TABLE records (theirs)")
    foreign.close()
    content = (directory / "spool.db").read_bytes()

    make_spool()

    assert (directory / set_aside(directory)[0]).read_bytes() == content


def test_a_log_without_its_database_is_set_aside(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory, folded=False)
    (directory / "spool.db").unlink()

    spool = make_spool()

    assert readable(spool) == []
    assert [name.endswith("-wal") for name in set_aside(directory)] == [True]


def test_damage_that_shows_while_the_spool_runs_costs_no_readable_record(
    make_spool: MakeSpool, directory: Path
) -> None:
    abandoned(directory, PAYLOADS * 20)
    spool = make_spool()
    database = directory / "spool.db"
    flip(database, database.stat().st_size // 2 // 4096 * 4096, 64)

    kept: list[bytes] = []
    while lease := spool.lease("default", max_rows=500):
        if not lease.records:
            break
        kept += [one.payload for one in lease.records]
        spool.settle(lease, Settlement(delivered=[one.id for one in lease.records]))

    told = spool.statistics()
    assert (told.state, told.set_aside) == ("ready", 1)
    assert len(PAYLOADS) * 20 - 20 < len(kept)
    assert told.classes["default"].lost + told.classes["default"].delivered >= len(PAYLOADS) * 20
    assert told.balanced


def test_a_directory_removed_under_a_running_spool_is_noticed_and_made_anew(
    make_spool: MakeSpool, directory: Path
) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"goes with the file")
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()

    refused = spool.put(b"while it is gone")
    assert not refused.wait(30)
    assert refused.reason == "moved"
    until_ready(spool, clock)

    assert_works(spool)
    assert spool.statistics().classes["default"].lost == 1


def test_damage_is_an_event_with_the_reason_and_the_new_name(make_spool: MakeSpool, directory: Path) -> None:
    abandoned(directory)
    os.truncate(directory / "spool.db", 5 * 4096)

    with capture_events("telemetry.spool.damaged") as captured:
        spool = make_spool()

    (event,) = captured.events
    assert event.measurements == {"salvaged": spool.statistics().salvaged}
    assert event.metadata["path"] == str(directory / "spool.db")
    assert event.metadata["reason"]
    assert Path(event.metadata["set_aside"]).name in set_aside(directory)
    assert DECLARED.check(event) == []


def test_only_the_newest_damaged_files_are_kept(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for number in range(12):
        (directory / "spool.db").write_bytes(b"no database %d" % number)
        spool = Spool(directory)
        spool.start()
        assert spool.close()
        (directory / "spool.db").unlink()

    kept = {(directory / name).read_bytes() for name in set_aside(directory)}
    assert kept == {b"no database %d" % number for number in range(2, 12)}


# -- interrupted recovery ----------------------------------------------------------------------------------------------


def crash_at(step: str, directory: Path) -> None:
    """Recover in a process of its own that dies at a step of the recovery."""
    program = (
        "import os; from pathlib import Path; from reporters.spool import _recovery, RecordClass\n"
        f"_recovery.{step} = lambda *args: os._exit(9)\n"
        f"_recovery.open_store(Path({str(directory / 'spool.db')!r}), {{}}, 'FULL', 10)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 9


@pytest.mark.parametrize("step", ["_salvage", "_set_aside"])
def test_a_crash_in_the_middle_of_a_recovery_costs_nothing(make_spool: MakeSpool, directory: Path, step: str) -> None:
    abandoned(directory, folded=False)
    flip(directory / "spool.db-wal", (directory / "spool.db-wal").stat().st_size - 3_000)
    crash_at(step, directory)
    assert (directory / "spool.db.new").exists()

    spool = make_spool()

    kept = readable(spool)
    assert kept == PAYLOADS[: len(kept)]
    assert len(kept) >= len(PAYLOADS) // 2
    assert not (directory / "spool.db.new").exists()


@pytest.mark.parametrize("log_too", [False, True])
def test_a_crash_between_the_renames_of_a_recovery_costs_nothing(
    make_spool: MakeSpool, directory: Path, log_too: bool
) -> None:
    abandoned(directory, folded=False)
    flip(directory / "spool.db-wal", (directory / "spool.db-wal").stat().st_size - 3_000)
    crash_at("_set_aside", directory)
    for suffix in ("", "-wal") if log_too else ("",):
        (directory / f"spool.db{suffix}").rename(directory / f"spool.db.damaged-earlier{suffix}")

    spool = make_spool()

    kept = readable(spool)
    assert kept == PAYLOADS[: len(kept)]
    assert len(kept) >= len(PAYLOADS) // 2


# -- trouble of the machine --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(mounted)], capture_output=True, check=False
    )
    if made.returncode != 0:
        reason = f"expected to mount a small disk, got: {made.stderr.decode().strip()}"
        pytest.skip(reason)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def fill(ballast: Path) -> None:
    """Leave no room on the disk."""
    with ballast.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"\0" * 4096)
            except OSError:
                return


def test_a_full_disk_refuses_and_counts_and_is_used_again_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (600 << 10))
    spool = Spool(small_disk / "spool")
    spool.start()
    kept = spool.commit(b"before it was full")

    tickets = [spool.put(b"x" * 60_000) for _ in range(20)]
    outcomes = {ticket.wait(30) for ticket in tickets}
    reasons = {ticket.reason for ticket in tickets if ticket.outcome == "refused"}
    ballast.unlink()
    after = spool.commit(b"when there was room again", timeout_s=30)

    assert False in outcomes
    assert reasons == {"disk_full"}
    told = spool.statistics()
    assert told.balanced
    assert told.classes["default"].refused["disk_full"] == sum(one.outcome == "refused" for one in tickets)
    stored = {one.id for one in spool.lease("default", max_bytes=1 << 30).records}
    assert {kept, after} | {one.id for one in tickets if one.outcome == "committed"} == stored
    assert spool.close()


def test_what_a_full_disk_refused_is_told_once_and_the_reason_outlives_the_spool(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    spool = Spool(small_disk / "spool")
    spool.start()
    spool.commit(b"before it was full")
    fill(ballast)

    with capture_events("telemetry.spool.unavailable") as captured:
        outcomes = [spool.put(b"x" * 100_000).wait(30) for _ in range(3)]
    running = spool.statistics()
    assert spool.flush(30)  # commits nothing, and proves nothing
    assert spool.close(30)
    closed = spool.statistics()

    assert outcomes == [False, False, False]
    assert (running.state, closed.state) == ("ready", "closed")
    assert running.reason == closed.reason == "disk_full: database or disk is full"
    assert [event.metadata["reason"] for event in captured.events] == [running.reason]
    assert DECLARED.check(captured.events[0]) == []


def test_the_reason_is_gone_when_a_record_is_committed_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    spool = Spool(small_disk / "spool")
    spool.start()
    fill(ballast)
    assert not spool.put(b"x" * 100_000).wait(30)
    before = spool.statistics().reason

    ballast.unlink()
    spool.commit(b"x" * 100_000, timeout_s=30)

    assert before
    assert spool.statistics().reason == ""
    assert spool.close(30)


def test_a_disk_that_is_full_at_the_start_keeps_nobody_from_starting(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    fill(ballast)
    clock = FakeClock()
    spool = Spool(small_disk / "spool", clock=clock)

    spool.start()

    assert spool.statistics().state == "unavailable"
    assert not spool.offer(b"x")
    ballast.unlink()
    until_ready(spool, clock)
    spool.commit(b"x")
    assert spool.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that another user can get to, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


AS_SOMEBODY_ELSE = """
import os, sys, json
from reporters.spool import Spool
if os.geteuid() == 0:
    os.chown({parent!r}, 65534, 65534)
    os.setgid(65534); os.setuid(65534)
os.chmod({parent!r}, 0o500)
spool = Spool({directory!r}); spool.start()
told = spool.statistics()
refused = spool.put(b"x").reason
spool.close()
closed = spool.statistics()
print(json.dumps([told.state, told.reason, refused, dict(closed.classes["default"].refused), closed.reason]))
os.chmod({parent!r}, 0o700)
"""


def test_a_read_only_directory_keeps_nobody_from_starting(reachable: Path) -> None:
    program = AS_SOMEBODY_ELSE.format(parent=str(reachable), directory=str(reachable / "spool"))

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 0, ended.stderr
    state, reason, refused, counted, reason_at_the_end = json.loads(ended.stdout)
    assert (state, counted) == ("unavailable", {"unavailable": 1})
    assert reason.startswith("read_only: ")
    assert refused == reason_at_the_end == reason


def test_a_missing_directory_that_cannot_be_made_is_told(make_spool: MakeSpool) -> None:
    spool = make_spool(Path("/proc/spool"))

    assert spool.statistics().state == "unavailable"
    assert spool.statistics().reason


def test_a_failed_attempt_to_open_is_repeated_later_and_later(make_spool: MakeSpool, directory: Path) -> None:
    clock = FakeClock()
    directory.mkdir(mode=0o755)
    spool = make_spool(clock=clock)
    assert spool.statistics().state == "unavailable"

    directory.chmod(0o700)

    until_ready(spool, clock)
    assert_works(spool)


def test_damage_is_told_apart_from_trouble_that_may_pass(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "spool.db").mkdir()

    with pytest.raises((OSError, sqlite3.OperationalError)) as raised:
        open_store(directory / "spool.db", {}, "FULL", 10)

    assert not isinstance(raised.value, Damaged)
