"""The documented event table is the declared one."""

from __future__ import annotations

from pathlib import Path

from app.event_table import page

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def test_the_documented_event_table_is_the_declared_one() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run `make docs`"
