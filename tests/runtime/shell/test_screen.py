"""How tables are laid out where there is little room, and what is written where letters are missing."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from runtime.shell import _views
from runtime.shell._screen import Column, Screen, fitting
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
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.out.getvalue()).splitlines()


def remarks_of(screen: Screen) -> str:
    assert isinstance(screen.errors, Terminal)
    return screen.errors.getvalue()


@pytest.mark.parametrize("width", [34, 50, 70, 100, None])
def test_columns_stand_below_each_other_and_no_line_is_too_wide(width: int | None) -> None:
    lines = fitting(COLUMNS, ROWS, width).lines(ROWS)

    begins = lines[0].index("MBOX") + len("MBOX")
    assert cells(lines[1][: lines[1].index("1,000")]) + len("1,000") == begins
    assert cells(lines[2][: lines[2].index("0")]) + 1 == begins
    assert max(map(cells, lines)) <= (width or 200)


def test_first_column_stays_when_there_is_no_room_for_all() -> None:
    title, first, _ = fitting(COLUMNS, ROWS, 28).lines(ROWS)

    assert title.split() == ["ACTOR", "MBOX"]
    assert first.startswith("tele")
    assert "…" in first
    assert first.split()[0].endswith("orders/handler")


def test_widest_columns_give_way_first() -> None:
    columns = [Column("A", how="end"), Column("B", how="end")]

    assert fitting(columns, [["a" * 12, "b" * 60]], 50).widths == [12, 36]
    assert fitting(columns, [["a" * 70, "b" * 60]], 50).widths == [24, 24]


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


def actors_of(*names: tuple[str, str]) -> dict[str, Any]:
    row = {"state": "waiting", "carrier": "thread", "mailbox": 12, "messages_per_s": 417.0, "handled": 11_195}
    row |= {"failed": 3, "restarts": 2, "uptime_ns": 458_000_000_000}
    rows = [{**row, "actor": actor, "supervisor": supervisor} for actor, supervisor in names]
    return {"actors": rows, "matching": len(rows)}


def test_all_columns_of_ps_are_shown_in_eighty_columns(screen: Screen) -> None:
    names = [("telemetry.handlers/ledger/handler", "telemetry.handlers/ledger"), ("ingest", "workers")]

    _views.ps(screen, actors_of(*names))

    title, handler, ingest = lines_of(screen)
    assert title.split() == ["ACTOR", "STATE", "CARR", "MBOX", "MSG/S", "HNDLD", "FAIL", "RST", "UP", "SUPERV"]
    assert " ".join(ingest.split()) == "ingest waiting thread 12 417 11,195 3 2 7 m 38 s workers"
    assert handler.split()[0].endswith("/ledger/handler")
    assert max(map(cells, lines_of(screen))) <= 80
    assert remarks_of(screen) == ""


def test_last_column_is_left_out_and_said_so_before_names_look_alike(screen: Screen) -> None:
    handlers = [f"telemetry.handlers/{name}/handler" for name in ("audit-of-orders", "billing-of-orders")]

    _views.ps(screen, actors_of(*((handler, "x" * 20) for handler in handlers)))

    title, first, second = lines_of(screen)
    assert title.split()[-1] == "UP"
    assert first.split()[0] != second.split()[0]
    assert remarks_of(screen) == "no room for SUPERVISOR: shown by a wider terminal, a pipe and --json\n"


def test_columns_that_tell_least_are_left_out_first(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")

    _views.ps(screen, actors_of(("ingest-of-all-orders", "workers")))

    assert lines_of(screen)[0].split() == ["ACTOR", "STATE", "MBOX", "MSG/S", "FAIL", "RST"]


def test_tree_keeps_its_branches_and_the_last_failure_in_eighty_columns(screen: Screen) -> None:
    supervisor = {"strategy": "rest_for_one", "restarts_in_window": 1, "max_restarts": 10, "max_seconds": 60}
    line = {"state": "waiting", "restarts": 1, "mailbox": 10_000, "last_failure": None}
    failure = {"reason": "ValueError('no good')", "ago_ns": 1_000_000_000}
    names = ["demo", "telemetry.handlers", "audit", "handler-of-all-the-orders-there-are"]
    lines = [{**line, "depth": depth, "actor": name, "supervisor": supervisor} for depth, name in enumerate(names)]
    lines[-1] |= {"state": "restarting", "last_failure": failure}

    _views.tree(screen, lines)

    *_, last = lines_of(screen)
    assert last.startswith("      └─ ha…")
    assert "ValueE" in last.split()[-1]
    assert max(map(cells, lines_of(screen))) <= 80
    assert remarks_of(screen) == ""


def test_times_of_an_event_are_written_for_people_and_other_numbers_as_they_are(screen: Screen) -> None:
    event = {"event": "shop.order.stop", "at": 0, "rate": 1.0, "metadata": {"shop": "x"}}
    measurements = {"duration": 1_500_000, "wait": 2_500, "amount": 1_500_000, "monotonic_time": -1_500}
    units = {"duration": "ns", "wait": "ms", "amount": "EUR", "monotonic_time": "ns"}

    _views.trace(screen, {**event, "measurements": measurements, "units": units})
    _views.trace(screen, {**event, "measurements": {"duration": 7}, "metadata": {}})

    first, second = lines_of(screen)
    assert first.endswith("duration=1.5 ms, wait=2.5 s, amount=1500000, monotonic_time=-1.5 µs | shop=x")
    assert second.endswith("shop.order.stop  duration=7")
