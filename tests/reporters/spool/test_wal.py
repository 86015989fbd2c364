"""What SQLite would silently skip in a log is seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from reporters.spool._wal import wal_damage


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The log of a database that is open, with a few commits in it."""
    connection = sqlite3.connect(tmp_path / "any.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    for number in range(5):
        connection.execute("INSERT INTO t VALUES (?)", (number,))
    yield tmp_path / "any.db-wal"
    connection.close()


def test_a_whole_log_has_no_damage(log: Path) -> None:
    assert log.stat().st_size > 32
    assert wal_damage(log) == ""


def test_an_empty_or_missing_log_has_no_damage(tmp_path: Path) -> None:
    (tmp_path / "empty-wal").touch()

    assert wal_damage(tmp_path / "empty-wal") == wal_damage(tmp_path / "missing-wal") == ""


def test_every_flipped_byte_that_sqlite_would_stop_at_is_seen(log: Path, tmp_path: Path) -> None:
    content = log.read_bytes()
    frame = 24 + 4096
    copy = tmp_path / "copy-wal"
    missed = []
    for offset in [*range(32), *(32 + frame + n for n in (0, 7, 16, 23, 24, 2_000, frame - 1))]:
        copy.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        if not wal_damage(copy):
            missed.append(offset)

    assert missed == []


@pytest.mark.parametrize("length", [1, 31, 33, 32 + 24, 32 + 24 + 4096 + 10])
def test_every_torn_tail_is_seen(log: Path, length: int, tmp_path: Path) -> None:
    copy = tmp_path / "copy-wal"
    copy.write_bytes(log.read_bytes()[:length])

    assert "torn" in wal_damage(copy)
