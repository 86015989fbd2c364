"""JSON for other people's readers, made of values that nobody vouches for.

Metadata holds whatever a caller put there: halves of surrogate pairs, NaN, bytes, objects. Here it becomes JSON that
every reader takes, or its text; nothing raises, nothing is called but `str`, and nothing goes deeper than it should.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 16
_MAX_TEXT = 4_096


def clean_text(value: object) -> str:
    """Return the text of a value, valid in UTF-8 and of bounded length.

    >>> clean_text("caf\\ud83d"), clean_text(3)
    ('caf?', '3')
    """
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - a hostile __str__ costs its text and nothing else
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def clean(value: Any, depth: int = 0) -> Any:
    """Return a value of JSON's own kinds that says the same.

    >>> clean({"n": float("nan"), 1: b"raw", "when": datetime.date(2026, 1, 2), "deep": [1, (2,)]})
    {'n': None, '1': "b'raw'", 'when': '2026-01-02', 'deep': [1, [2]]}
    """
    if value is None or isinstance(value, bool | str):
        return clean_text(value) if isinstance(value, str) else value
    if isinstance(value, int):
        # Readers hold numbers in 64 bits; a larger one is told as text rather than as another number.
        return int(value) if -(1 << 63) <= value < 1 << 64 else clean_text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID) or depth >= _MAX_DEPTH:
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(key): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, depth + 1) for item in value]
    return clean_text(value)


def instant(system_ns: int) -> datetime.datetime:
    """Return a moment as JSON's readers expect it: UTC, whole microseconds.

    >>> instant(1_700_000_000_123_456_789).isoformat()
    '2023-11-14T22:13:20.123456+00:00'
    """
    # By integer arithmetic: a float of ns since the epoch has lost the microseconds already.
    return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=system_ns // 1000)
