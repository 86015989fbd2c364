"""Look into a SQLite write-ahead log before SQLite does.

SQLite reads a log up to the first frame whose checksum does not fit and silently forgets the rest. After a crash that
is right: the rest was never committed. After a flipped byte or a truncation it loses committed records without a word.
This module only reads; it tells whether anything of the current generation would be skipped, so that the caller can
set the file aside and say so. Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = 32
_FRAME_HEADER = 24
_MAGIC = 0x377F0682  # the lowest bit says that checksums read big-endian words


def wal_damage(path: Path) -> str:
    """Name what SQLite would skip in a log; "" when it reads all of it, or when there is none.

    Blocks for the reading. Errors: OSError when the file is there and cannot be read.

    >>> wal_damage(Path("/nonexistent/spool.db-wal"))
    ''
    """
    try:
        log = path.read_bytes()
    except FileNotFoundError:
        return ""
    if not log:
        return ""
    if len(log) < _HEADER:
        return "a torn log header"
    magic, _, page_size = struct.unpack(">III", log[:12])
    if magic & ~1 != _MAGIC:
        return "a log header of another kind"
    words = ">" if magic & 1 else "<"
    checksum = _checksum(words, log[:24], (0, 0))
    if checksum != struct.unpack(">II", log[24:_HEADER]):
        return "a damaged log header"
    salt = log[16:24]
    offset, frame_size = _HEADER, _FRAME_HEADER + page_size
    while offset < len(log):
        frame = log[offset : offset + frame_size]
        if len(frame) >= 16 and frame[8:16] != salt:
            return ""  # what follows is left over from before the log was last reset
        if len(frame) < frame_size:
            return f"a torn frame at byte {offset} of the log"
        checksum = _checksum(words, frame[:8], checksum)
        checksum = _checksum(words, frame[_FRAME_HEADER:], checksum)
        if checksum != struct.unpack(">II", frame[16:_FRAME_HEADER]):
            return f"a damaged frame at byte {offset} of the log"
        offset += frame_size
    return ""


def _checksum(words: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    numbers = struct.unpack(f"{words}{len(data) // 4}I", data)
    for even, odd in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
