"""Write the documented event table, `docs/events.md`, from the declarations: `python -m app.event_table`."""

from __future__ import annotations

import sys

from app.events import PARTS
from runtime.catalogue import Catalogue

_HEAD = """# Events

Generated from the declarations by `make docs`; a test holds the code to them. Every event has a name, measurements
(numbers, with their unit) and metadata (with types; `| None` may be absent). Times are integer nanoseconds of one
monotonic clock, `system_time` those since the epoch. A span's stop and exception carry the metadata of its start; every
span event also has a `telemetry_span_context`, the same on all events of one span.
"""


def page() -> str:
    """Return the whole page.

    >>> page().startswith("# Events")
    True
    """
    return _HEAD + "".join(f"\n## {title}\n\n{Catalogue(declared).markdown()}" for title, declared in PARTS)


if __name__ == "__main__":
    sys.stdout.write(page())
