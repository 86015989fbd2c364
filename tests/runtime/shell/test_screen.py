"""How tables are laid out where there is little room, and what is written where letters are missing."""

from __future__ import annotations

import io
from typing import Any

import pytest

from runtime.shell import _views
from runtime.shell._screen import Column, Screen, fitting, layout
from runtime.shell._text import cells

COLUMNS = [Column("ACTOR", how="middle"), Column("MBOX", "right"), Column("SUPERVISOR", how="end")]
ROWS = [
    ["telemetry.handlers/audit-of-orders/handler", "1,000", "telemetry.handlers/audit-of-orders"],
    ["標籤服務", "0", "e\u0301te\u0301"],
]


class Terminal(io.StringIO):
    """What looks like a terminal of this many columns."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "80")
    return Screen(Terminal(), Terminal())


def lines_of(screen: Screen) -> list[str]:
    assert isinstance(screen.out, Terminal)
    return screen.out.getvalue().splitlines()


@pytest.mark.parametrize("width", [34, 50, 70, 100, None])
def test_columns_stand_below_each_other_and_no_line_is_too_wide(width: int | None) -> None:
    lines = layout(COLUMNS, ROWS, width)

    begins = lines[0].index("MBOX") + len("MBOX")
    assert cells(lines[1][: lines[1].index("1,000")]) + len("1,000") == begins
    assert cells(lines[2][: lines[2].index("0")]) + 1 == begins
    assert max(map(cells, lines)) <= (width or 200)


def test_first_column_stays_when_there_is_no_room_for_all() -> None:
    title, first, _ = layout(COLUMNS, ROWS, 40)

    assert title.split() == ["ACTOR", "MBOX"]
    assert first.startswith("telemetry.")
    assert "…" in first
    assert first.split()[0].endswith("orders/handler")


def test_widest_columns_give_way_first() -> None:
    columns = [Column("A", how="end"), Column("B", how="end")]

    assert fitting(columns, [["a" * 12, "b" * 60]], 50) == [12, 36]
    assert fitting(columns, [["a" * 70, "b" * 60]], 50) == [24, 24]


def test_every_check_and_fix_of_doctor_is_read_whole_in_eighty_columns(screen: Screen) -> None:
    fix = "see: dead-letters a-handler-with-a-long-name; then: reattach a-handler-with-a-long-name"
    checks: list[dict[str, Any]] = [
        {"check": "node's versions", "result": "ok", "found": "gevent 26.9.0, " * 10, "fix": ""},
        {"check": "handler", "result": "fail", "found": "a-handler-with-a-long-name gave up", "fix": fix},
    ]

    _views.doctor(screen, checks)

    text = " ".join(" ".join(lines_of(screen)).split())
    assert "…" not in text
    assert "node's versions" in text
    assert f"→ {fix}" in text


def test_values_stay_beside_their_names_in_thirty_columns(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")

    screen.fields([("deepest mailbox", "telemetry.aggregator: 2,158 of 10,000")])

    assert [line[17:] for line in lines_of(screen)] == ["telemetry.agg", "regator:", "2,158 of", "10,000"]


def test_what_an_actor_tells_is_shown_line_by_line_with_durations_for_people(screen: Screen) -> None:
    mailbox = {"accepted": 6894, "handled": 6882, "sojourn_ns": 26_500_000, "dropped": {}, "a_longer_name": "x" * 20}

    _views.info(screen, {"actor": "ingest", "path": ["demo", "ingest"], "mailbox": mailbox, "crashes": []})

    assert [line.split() for line in lines_of(screen)][:5] == [
        ["actor", "ingest"],
        ["path", "demo", ">", "ingest"],
        ["mailbox"],
        ["accepted", "6894"],
        ["handled", "6882"],
    ]
    assert ["sojourn", "26.5", "ms"] in [line.split() for line in lines_of(screen)]


def test_last_lines_of_a_crash_are_no_markers(screen: Screen) -> None:
    stack = '  File "shop.py", line 7, in order\n    raise ValueError(1)\n    ^^^^^^^^^^^^^\n'
    crash = {"at": 0, "what": "crash", "who": "ingest", "reason": "no", "detail": {}, "stacktrace": stack}

    _views.crashes(screen, [crash])

    assert [line.strip() for line in lines_of(screen)[1:]] == [
        'File "shop.py", line 7, in order',
        "raise ValueError(1)",
    ]
