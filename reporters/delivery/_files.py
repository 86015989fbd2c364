"""Deliver batches of lines to a file, for machines without an endpoint and for people who like to look.

The courier's thread calls `send`, one batch at a time. A batch is on disk (fsync) before it counts as delivered; one
that is cut short by a crash or a full disk is taken back and comes again, so that the file holds whole lines only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from reporters.delivery._decision import Answer, Verdict

_TAIL = 64 << 10


class FileTransport:
    """Append bodies that end with a line break to a file, created with mode 0600 where it does not exist.

    >>> FileTransport("/var/log/foundation.jsonl")
    FileTransport('/var/log/foundation.jsonl')
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"FileTransport({str(self)!r})"

    def __str__(self) -> str:
        return str(self._path)

    def send(self, body: bytes, key: str) -> Answer:
        """Append a body; blocks on the disk, never raises for it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._append(descriptor, body)
            finally:
                os.close(descriptor)
        except OSError as error:
            return Answer(Verdict.RETRY, f"{type(error).__name__}: {error}")
        return Answer(Verdict.DELIVERED, "written")

    def cut(self) -> None:
        """Do nothing: a write to disk cannot be hurried."""

    def _append(self, descriptor: int, body: bytes) -> None:
        end = _end_of_lines(descriptor)
        if end is not None:
            os.ftruncate(descriptor, end)
        start = os.fstat(descriptor).st_size
        try:
            view = memoryview(body)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # the first failure is the one to report
                os.ftruncate(descriptor, start)
            raise


def _end_of_lines(descriptor: int) -> int | None:
    """Find where the last whole line ends if what follows it is torn: no line break and no JSON. None: nothing torn."""
    size = os.fstat(descriptor).st_size
    tail = b""
    while size > len(tail) and b"\n" not in tail:
        start = max(size - len(tail) - _TAIL, 0)
        tail = os.pread(descriptor, size - start - len(tail), start) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return None
    try:
        msgspec.json.decode(torn)
    except msgspec.DecodeError:
        return size - len(torn)
    os.write(descriptor, b"\n")
    return None
