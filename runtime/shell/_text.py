"""How values look to people: durations, sizes, rates, and text that a terminal may safely be sent.

Pure functions. Whatever comes from a node is hostile until `printable` has seen it: a name may hold escape sequences.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

# Control characters, and what changes how neighbouring text is shown: separators, bidirectional marks, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_UNITS = ((86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"))
_TIMES = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_END_OF_TIME = 1 << 63
_BRANCHES = "│├└─ "
_NOTHING = "–"
_OUTLINED = 4
_LONGEST = 2_000


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


_PLAINER = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "…": "~", "–": "-", "→": ">", "µ": "u", "▏": "_"})


def plainer(text: str, encoding: str | None) -> str:
    r"""Write a text with what a terminal's encoding has; what stands for nothing in it is escaped.

    >>> plainer("└─ café", "ascii"), plainer("└─ café", "utf-8")
    ('`- caf\\xe9', '└─ café')
    """
    if text.isascii():
        return text
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAINER).encode(encoding, "backslashreplace").decode(encoding)
    return text


def cells(text: str) -> int:
    """Count the columns that a text takes in a terminal.

    >>> cells("label"), cells("標籤"), cells("e\u0301")
    (5, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(_cells(letter) for letter in text)


def _cells(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, room: int, *, middle: bool = False) -> str:
    """Cut a text to so many columns of a terminal: at its end, or in its middle, since the end of a name tells most.

    >>> cut("telemetry.aggregator", 12), cut("telemetry.aggregator", 12, middle=True), cut("標籤標籤", 5)
    ('telemetry.a…', 'te…ggregator', '標籤…')
    """
    if cells(text) <= room:
        return text
    if room <= 1:
        return "…"[:room]
    stem = len(text) - len(text.lstrip(_BRANCHES)) if middle else 0
    if 0 < stem < room // 2:  # a tree's branches stay as they are
        return text[:stem] + cut(text[stem:], room - stem, middle=True)
    head = (room - 1) // 5 if middle else room - 1
    tail = room - 1 - head
    return _first(text, head) + "…" + (_first(text[::-1], tail)[::-1] if tail else "")


def _first(text: str, room: int) -> str:
    taken = 0
    for number, letter in enumerate(text):
        taken += _cells(letter)
        if taken > room:
            return text[:number]
    return text


def duration(ns: int | float | None) -> str:
    """Say how long something took, in the two units that matter.

    >>> [duration(ns) for ns in (0, 1_500, 42_000_000, 4_200_000_000, 60_000_000_000, 192_000_000_000)]
    ['0 s', '1.5 µs', '42 ms', '4.2 s', '1 m', '3 m 12 s']
    """
    if ns is None:
        return _NOTHING
    if ns < 0:
        return f"-{duration(-ns)}"
    if ns < 60_000_000_000:
        for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
            if ns >= size:
                return f"{_short(ns / size)} {unit}"
        return f"{ns:.0f} ns" if ns else "0 s"
    for (size, unit), (smaller, smaller_unit) in itertools.pairwise(_UNITS):
        if ns >= size:
            rest = f" {ns % size // smaller:.0f} {smaller_unit}" if ns % size >= smaller else ""
            return f"{ns // size:.0f} {unit}{rest}"
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

    >>> brief({"a": [1, None], "lag_ns": 1_500})
    '{a: [1, –], lag: 1.5 µs}'
    """
    return cut(_brief(value), longest)


def measured(measurements: dict[str, Any], units: dict[str, str]) -> str:
    """Write what an event has measured; what is a time by its unit is written for people, the rest as it is.

    >>> measured({"duration": 1_500_000, "wait": 2, "amount": 1_500_000}, {"duration": "ns", "wait": "s"})
    'duration=1.5 ms, wait=2 s, amount=1500000'
    """
    return pairs({key: _in_time(key, value, units.get(key, "")) for key, value in measurements.items()})


def _in_time(key: str, value: Any, unit: str) -> Any:
    factor = _TIMES.get(unit)
    if factor is None or not isinstance(value, int | float) or isinstance(value, bool):
        return value
    ns = value * factor
    # Of what a span measures, this alone is a date.
    return moment(int(ns)) if key == "system_time" and 0 <= ns < _END_OF_TIME else duration(ns)


def told(key: str, value: object) -> tuple[str, object]:
    """Make a duration of what is one by its name; what else there is stays as it is.

    >>> told("uptime_ns", 1_500), told("uptime", 1_500)
    (('uptime', '1.5 µs'), ('uptime', 1500))
    """
    if key.endswith("_ns") and isinstance(value, int | float) and not isinstance(value, bool):
        return key.removesuffix("_ns"), duration(value)
    return key, value


def outline(pairs: Iterable[tuple[str, object]], width: int = 60, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Write nested values as names and texts, what is too broad for one line below its name.

    >>> list(outline([("queues", [{"id": "vader-lexicon", "open": 1}, {"id": "toxicity", "open": 2}])], width=40))
    [('queues', ''), ('  1', '{id: vader-lexicon, open: 1}'), ('  2', '{id: toxicity, open: 2}')]
    """
    for name, value in itertools.starmap(told, pairs):
        whole = _brief(value)
        name = "  " * depth + name
        if len(whole) <= width or depth >= _OUTLINED or not isinstance(value, dict | list):
            yield name, cut(whole, _LONGEST)
            continue
        yield name, ""
        below = value.items() if isinstance(value, dict) else ((str(n), one) for n, one in enumerate(value, 1))
        yield from outline(below, width, depth + 1)


def _brief(value: object) -> str:
    match value:
        case None:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case dict():
            shown = itertools.starmap(told, value.items())
            return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in shown) + "}"
        case list():
            return "[" + ", ".join(map(_brief, value)) + "]"
        case float():
            return f"{value:g}"
    return printable(value)
