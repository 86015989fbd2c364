"""How values look to people: durations, sizes, rates, and text that a terminal may safely be sent.

Pure functions. Whatever comes from a node is hostile until `printable` has seen it: a name may hold escape sequences.
"""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from typing import Any

# Control characters, and what changes how neighbouring text is shown: separators, bidirectional marks, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_UNITS = ((86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"))
_NOTHING = "–"


def printable(value: object) -> str:
    r"""Escape what a terminal would obey instead of show.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    return _UNSAFE.sub(_escaped, str(value))


def safe_json(line: bytes) -> str:
    r"""Escape the same characters in a JSON text, where they can only stand inside strings.

    >>> safe_json('{"a":"\u009b1m"}'.encode())
    '{"a":"\\u009b1m"}'
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode(errors="replace"))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def duration(ns: int | float | None) -> str:
    """Say how long something took, in the two units that matter.

    >>> [duration(ns) for ns in (0, 1_500, 42_000_000, 4_200_000_000, 192_000_000_000, 90_061_000_000_000)]
    ['0 s', '1.5 µs', '42 ms', '4.2 s', '3 m 12 s', '1 d 1 h']
    """
    if ns is None:
        return _NOTHING
    if ns < 60_000_000_000:
        for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
            if ns >= size:
                return f"{_short(ns / size)} {unit}"
        return f"{ns:.0f} ns" if ns else "0 s"
    for (size, unit), (smaller, smaller_unit) in itertools.pairwise(_UNITS):
        if ns >= size:
            return f"{ns // size:.0f} {unit} {ns % size // smaller:.0f} {smaller_unit}"
    return _NOTHING


def _short(number: float) -> str:
    """Three digits at most, and no zeros at the end."""
    text = f"{number:.0f}" if number >= 99.95 else f"{number:.1f}"
    return text.removesuffix(".0")


def count(number: int | float | None) -> str:
    """Group digits; nothing for None.

    >>> count(1234567), count(None), count(0.25)
    ('1,234,567', '–', '0.25')
    """
    if number is None:
        return _NOTHING
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}" if abs(number) < 1000 else f"{number:,.0f}"


def rate(per_s: float | None) -> str:
    """Say how often something happens, per second.

    >>> rate(0.0), rate(0.25), rate(1234.5)
    ('0', '0.2', '1,234')
    """
    if per_s is None:
        return _NOTHING
    return f"{per_s:,.0f}" if per_s >= 100 or per_s == 0 else f"{per_s:.1f}"


def size(number: int | None) -> str:
    """Say how many bytes.

    >>> size(512), size(63_100_000)
    ('512 B', '63.1 MB')
    """
    if number is None:
        return _NOTHING
    left = float(number)
    for unit in ("B", "kB", "MB", "GB"):  # noqa: B007  # read after the loop
        if left < 1000:
            break
        left /= 1000
    else:
        unit = "TB"
    return f"{_short(left)} {unit}"


def moment(at_ns: int | None) -> str:
    """Say when, in local time."""
    if at_ns is None:
        return _NOTHING
    return datetime.fromtimestamp(at_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def pairs(mapping: dict[str, Any]) -> str:
    """Write a small mapping as k=v, k=v.

    >>> pairs({"amount": 12.5, "currency": "EUR"})
    'amount=12.5, currency=EUR'
    """
    return ", ".join(f"{key}={brief(value)}" for key, value in mapping.items())


def brief(value: object, longest: int = 120) -> str:
    """Write a value of an answer on one line, cut.

    >>> brief({"a": [1, None]})
    '{a: [1, –]}'
    """
    text = _brief(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _brief(value: object) -> str:
    match value:
        case None:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case dict():
            return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_brief, value)) + "]"
        case float():
            return f"{value:g}"
    return printable(value)
