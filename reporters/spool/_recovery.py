"""Open a spool's database whatever state it is in.

Damage never keeps a service from starting: every record that can still be read and whose checksum fits is copied into a
new file, what is damaged is set aside by renaming it (database and log under one new name, untouched, so that SQLite
still finds them together), and the new file takes its place. What is damaged: a zero-length file, a file that is no
spool, one that fails SQLite's integrity check, and a log of which SQLite would silently skip a part. What is not: a
full disk, a read-only directory; those raise, and the caller tries again later. Dead letters stay with what was set
aside: they are for people, and carry no checksum.

Only the spool's writer calls this; it may block. A crash in the middle is no harm: see `_finish_replacement`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from reporters.spool._model import RecordClass, Synchronous
from reporters.spool._store import APPLICATION_ID, SCHEMA_VERSION, Store, checksum, connect, create_schema
from reporters.spool._wal import wal_damage

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGED_AT_OPENING = _DAMAGED | {sqlite3.SQLITE_ERROR}  # such as: no such column
_HEADER = b"SQLite format 3\0"
_COPY_ROWS = 1_000
_KEEP_ASIDE = 10
"""How many damaged databases are kept for a person to look at; a bad disk must not fill up with them."""


class Opening(msgspec.Struct, frozen=True):
    """What opening a spool found. `set_aside`: the new name of what was damaged, None when nothing was."""

    damage: str = ""
    set_aside: Path | None = None
    salvaged: int = 0


class Damaged(Exception):
    """The file cannot be trusted; the reason is the argument."""


def is_damage(error: BaseException, codes: Collection[int] = _DAMAGED) -> bool:
    """Tell a damaged file from trouble of the machine (disk full, read-only, locked), which may pass."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
    # SQLite quotes a damaged schema in its message, which the sqlite3 module then cannot decode.
    return isinstance(error, Damaged | UnicodeDecodeError)


def open_store(
    path: Path,
    classes: Mapping[str, RecordClass],
    synchronous: Synchronous,
    max_dead_letters: int,
    suspect: str = "",
) -> tuple[Store, Opening]:
    """Open the database at `path`, or a new one in its place.

    `suspect` names damage that the caller has met already. Errors: OSError, sqlite3.OperationalError: try again later.
    """
    _finish_replacement(path)
    damage = suspect or _damage_on_disk(path)
    if not damage:
        try:
            return _store(path, classes, synchronous, max_dead_letters), Opening()
        except (Damaged, sqlite3.Error, UnicodeDecodeError) as error:
            if not is_damage(error, _DAMAGED_AT_OPENING):
                raise
            damage = "a damaged schema" if isinstance(error, UnicodeDecodeError) else str(error)
    replacement = _replacement(path)
    with contextlib.closing(_store(replacement, {}, synchronous, max_dead_letters)) as rescued:
        salvaged = _salvage(path, rescued)
    if _beside(replacement, "-wal").exists():
        raise OSError(f"expected {replacement} to be complete, got: a log that could not be folded in")
    aside = _set_aside(path)
    replacement.rename(path)
    _sync_directory(path.parent)
    return _store(path, classes, synchronous, max_dead_letters), Opening(damage, aside, salvaged)


def _damage_on_disk(path: Path) -> str:
    """Find damage that SQLite does not tell of: it takes an empty file for a new database and forgets a torn log."""
    log = _beside(path, "-wal")
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER) + 4)
    except FileNotFoundError:
        return "a log without its database" if log.exists() and log.stat().st_size else ""
    if not header:
        return "a zero-length file"
    # SQLite takes the file for read-only when these bytes are not what it writes there itself.
    if header[:16] != _HEADER or header[18:20] != b"\2\2":
        return "a damaged header, or a file of another kind"
    return wal_damage(log)


def _store(path: Path, classes: Mapping[str, RecordClass], synchronous: Synchronous, max_dead_letters: int) -> Store:
    connection = _open(path)
    try:
        return Store(connection, classes, synchronous, max_dead_letters)
    except BaseException:
        connection.close()
        raise


def _open(path: Path) -> sqlite3.Connection:
    is_new = not path.exists()
    if is_new:
        # SQLite would create it readable for others; its log and index take over the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = connect(path)
    try:
        if is_new:
            connection.execute("PRAGMA journal_mode=WAL")
            create_schema(connection)
            _sync_directory(path.parent)
        else:
            _check(connection)
    except BaseException:
        connection.close()
        if is_new:
            with contextlib.suppress(OSError):  # a half-made file must not pass for a damaged one next time
                path.unlink()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (kind, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise Damaged(f"a file of another kind (application {kind}, version {version})")
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(f"a failed integrity check: {verdict}")
    connection.execute("PRAGMA journal_mode=WAL")


# -- replacing a damaged file ------------------------------------------------------------------------------------------


def _finish_replacement(path: Path) -> None:
    """Bring to an end what a crash interrupted.

    While records are being copied, `path` exists and the replacement is worth nothing; once `path` has been renamed,
    the replacement is complete. A log that stayed behind in between belongs to the damaged file, and SQLite would apply
    it to whatever is called `path`.
    """
    replacement = _replacement(path)
    if not replacement.exists():
        return
    if path.exists():
        for suffix in ("", "-wal", "-shm"):
            _beside(replacement, suffix).unlink(missing_ok=True)
    else:
        _set_aside(path)
        replacement.rename(path)
        _sync_directory(path.parent)


def _replacement(path: Path) -> Path:
    return _beside(path, ".new")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _set_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = _beside(path, f".damaged-{stamp}"), 1
    while aside.exists() or _beside(aside, "-wal").exists():
        number += 1
        aside = _beside(path, f".damaged-{stamp}-{number}")
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    _beside(path, "-shm").unlink(missing_ok=True)  # an index of the log, rebuilt whenever it is missing
    kept = {one.name.removesuffix("-wal"): one.stat().st_ctime_ns for one in path.parent.glob(f"{path.name}.damaged-*")}
    for name in sorted(kept, key=kept.__getitem__)[:-_KEEP_ASIDE]:
        for suffix in ("", "-wal"):
            path.with_name(name + suffix).unlink(missing_ok=True)
    return aside


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _salvage(path: Path, store: Store) -> int:
    """Copy what can still be read and proves to be what was committed; the damaged file stays as it is."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    copied = 0
    # Read-only, so that closing it does not fold the log into the database: what is set aside is evidence.
    with contextlib.closing(connect(path, read_only=True)) as damaged:
        damaged.execute("PRAGMA writable_schema=ON")  # SQLite's word for: go on when the file is too short
        rows = _readable(damaged)
        while batch := list(islice(rows, _COPY_ROWS)):
            store.begin()
            for name, record_id, payload, created_ns, attempts in batch:
                copied += store.restore(name, record_id, payload, created_ns, attempts)
            store.commit()
    return copied


def _readable(damaged: sqlite3.Connection) -> Iterator[tuple[str, str, bytes, int, int]]:
    """Walk to the damage from both ends of the table."""
    for order in ("ASC", "DESC"):
        try:
            for row in damaged.execute(
                f"SELECT class, id, payload, created_ns, attempts, crc FROM records NOT INDEXED ORDER BY seq {order}"
            ):
                if _is_sound(row):
                    yield row[:5]
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        return


def _is_sound(row: tuple[Any, ...]) -> bool:
    name, record_id, payload, created_ns, attempts, crc = row
    return (
        isinstance(payload, bytes)
        and all(isinstance(text, str) for text in (name, record_id))
        and all(isinstance(number, int) for number in (created_ns, attempts))
        and checksum(record_id, name, payload) == crc
    )
