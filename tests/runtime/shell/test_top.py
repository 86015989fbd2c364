"""What `top` shows and what each key does to it, without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.shell._top import Top, over_window
from runtime.shell.protocol import NodeId, Reply

SECOND_NS = 1_000_000_000


def row(id: int, actor: str, handled: int = 0, **more: Any) -> dict[str, Any]:
    known = {
        "id": id, "actor": actor, "kind": "Worker", "state": "waiting", "carrier": "green", "mailbox": 0, "capacity":
        None, "messages_per_s": float(id), "handled": handled, "failed": 0, "dropped": 0, "restarts": 0, "uptime_ns":
        SECOND_NS, "busy_ns": 0, "supervisor": "demo",
    }  # fmt: skip
    return known | more


def answer(at_s: int, *rows: dict[str, Any], stale_ns: int = 0) -> Reply:
    data = {"actors": list(rows), "matching": len(rows), "total": 9}
    return Reply(1, at_s * SECOND_NS, NodeId("demo", 7, stale_ns), data)


@pytest.fixture
def top() -> Top:
    top = Top()
    top.take(answer(0, row(1, "a", 10), row(2, "b", 10), row(3, "demo", 0, supervisor=None)))
    top.take(answer(2, row(1, "a", 30), row(2, "b", 12), row(3, "demo", 0, supervisor=None)))
    return top


def shown(top: Top) -> list[str]:
    return [one["actor"] for one in top.rows()]


def press(top: Top, *keys: str) -> None:
    for key in keys:
        assert top.key(key)


def test_rates_are_over_the_window_and_w_shows_the_mean(top: Top) -> None:
    windowed = {one["actor"]: one["messages_per_s"] for one in top.rows()}
    press(top, "w")
    absolute = {one["actor"]: one["messages_per_s"] for one in top.rows()}

    assert windowed == {"a": 10.0, "b": 1.0, "demo": 0.0}
    assert absolute == {"a": 1.0, "b": 2.0, "demo": 3.0}


def test_actor_that_was_restarted_counts_from_nothing() -> None:
    before, after = answer(0, row(1, "a", 100)), answer(1, row(1, "a", 5))

    over_window(before, after)

    assert after.data["actors"][0]["messages_per_s"] == 0


def test_keys_choose_column_and_direction(top: Top) -> None:
    assert shown(top) == ["a", "b", "demo"]

    press(top, "I")
    assert shown(top) == ["demo", "b", "a"]
    press(top, "1")
    assert (top.sort, shown(top)) == ("actor", ["a", "b", "demo"])
    press(top, "6")
    assert (top.sort, shown(top)) == ("handled", ["a", "b", "demo"])
    press(top, "s")
    assert top.sort == "failed"


def test_every_column_can_be_sorted_by(top: Top) -> None:
    seen = set()
    for _ in range(10):
        press(top, "s")
        seen.add(top.sort)
        assert len(shown(top)) == 3

    assert len(seen) == 10


def test_filter_is_typed_applied_and_taken_back(top: Top) -> None:
    press(top, "/", "x", "\x7f", "q", "\x7f", "b")
    assert shown(top) == ["a", "b", "demo"]
    press(top, "\r")
    assert shown(top) == ["b"]
    press(top, "/", "z", "escape")
    assert shown(top) == ["b"]
    press(top, "escape")

    assert shown(top) == ["a", "b", "demo"]


def test_tree_puts_actors_below_their_supervisors(top: Top) -> None:
    press(top, "t")

    assert [(one["actor"], one["depth"]) for one in top.rows()] == [("demo", 0), ("a", 1), ("b", 1)]


def test_tree_does_not_repeat_whose_child_it_is() -> None:
    top = Top()
    top.take(
        answer(0, row(1, "demo", supervisor=None), row(2, "demo/pool"), row(3, "demo/pool/w", supervisor="demo/pool"))
    )

    press(top, "t")

    assert [line[2:].partition("  waiting")[0].rstrip() for line in top.lines(120, 6)[2:5]] == [
        "demo",
        "  pool",
        "    w",
    ]


def test_head_counts_what_the_filter_leaves(top: Top) -> None:
    press(top, "/", "b", "\r")

    assert "1 of 9 actors" in top.lines(120, 6)[0]


def test_names_can_be_told_apart_in_eighty_columns(top: Top) -> None:
    labels = [f"telemetry.handlers/{name}/handler" for name in ("audit-of-orders", "billing-of-orders")]
    top.take(answer(3, *(row(n, label, 1_000_000, supervisor=label) for n, label in enumerate(labels, 1))))

    names = {line.split()[0] for line in (line[2:] for line in top.lines(80, 6)[2:4])}

    assert len(names) == 2


def test_enter_looks_at_the_marked_actor_and_escape_leaves(top: Top) -> None:
    press(top, "down", "\r")
    assert top.looking_at == 2
    top.looked = ["all about b"]
    assert "all about b" in top.lines(80, 10)
    press(top, "escape")

    assert top.looking_at is None
    assert any(line.startswith("> b") for line in top.lines(80, 10))


def test_what_is_known_of_an_actor_is_scrolled_to_its_end_and_back(top: Top) -> None:
    press(top, "\r")
    top.looked = [f"line {n}" for n in range(10)]

    press(top, *["down"] * 50)
    assert top.lines(80, 6)[1:5] == ["line 6", "line 7", "line 8", "line 9"]
    press(top, *["up"] * 50)

    assert top.lines(80, 6)[1] == "line 0"


def test_mark_stays_on_the_list_and_is_always_seen(top: Top) -> None:
    top.take(answer(3, *(row(n, f"actor{n}") for n in range(101, 201))))

    press(top, *["down"] * 150)
    lines = top.lines(100, 12)

    assert any(line.startswith("> actor101 ") for line in lines)
    press(top, *["up"] * 150)
    assert any(line.startswith("> actor200 ") for line in top.lines(100, 12))


def test_space_and_question_mark_and_q(top: Top) -> None:
    press(top, " ", "?")
    assert "PAUSED" in top.lines(40, 10)[0]
    assert any("Space pause" in line for line in top.lines(200, 10))
    press(top, " ", "?")

    assert "PAUSED" not in top.lines(200, 10)[0]
    assert top.key("q") is False


@pytest.mark.parametrize("size", [(10, 3), (40, 5), (80, 24), (200, 60)])
def test_screen_is_filled_and_never_overflows(top: Top, size: tuple[int, int]) -> None:
    width, height = size
    for keys in ((), ("?",), ("?", "t")):
        press(top, *keys)
        lines = top.lines(width, height)

        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_footer_fits_eighty_columns_and_names_every_key(top: Top) -> None:
    footer = top.lines(80, 10)[-1]

    assert all(key in footer for key in ("q ", "? ", "/ ", "s ", "I ", "t ", "Space", "Enter", "Esc", "w", "1-9"))


def test_stale_answer_says_so(top: Top) -> None:
    top.take(answer(3, row(1, "a"), stale_ns=4_200_000_000))

    assert "STALE 4.2 s" in top.lines(120, 5)[0]


def test_names_cannot_write_to_the_terminal(top: Top) -> None:
    top.take(answer(3, row(1, "a\x1b[2J\x9b1m")))

    assert not any("\x1b" in line or "\x9b" in line for line in top.lines(120, 5))


def test_no_actor_at_all_is_no_trouble() -> None:
    top = Top()
    top.take(answer(0))

    press(top, "\r", "down", "s", "t")

    assert len(top.lines(80, 5)) == 5


def test_trouble_and_columns_without_room_are_said_above_and_the_keys_stay_below(top: Top) -> None:
    labels = [f"telemetry.handlers/{name}/handler" for name in ("audit-of-orders", "billing-of-orders")]
    top.take(answer(3, *(row(n, label, 1_000_000, supervisor=label) for n, label in enumerate(labels, 1))))
    left_out = top.lines(80, 10)[0]
    top.trouble = "no answer within 2 s"
    first, *_, last = top.lines(80, 10)

    assert left_out.endswith("no room for SUPERVISOR")
    assert first.startswith("no answer within 2 s")
    assert last.startswith("q quit")
