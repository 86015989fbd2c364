"""Hypothesis strategies for supervision scripts, in the format of `tests/supervisors/script.py`."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Tree = dict[str, Any]

IDS = ("a", "b", "c", "d", "e")
INNER_IDS = ("s", "t")
REASONS: list[Any] = ["normal", "shutdown", ["shutdown", "x"], "boom", "killed"]

ids = st.sampled_from(IDS)
reasons = st.sampled_from(REASONS)
# Most first starts succeed, or most scripts would be over before they begin.
outcomes = st.builds(
    lambda first, later: [first, *later],
    st.sampled_from(["ok"] * 8 + ["ignore", "error"]),
    st.lists(st.sampled_from(["ok", "error", "error", "ignore"]), max_size=4),
)
restarts = st.sampled_from(["permanent", "transient", "temporary"])
shutdowns = st.sampled_from([1000, "infinity", "brutal_kill"])
modes = st.sampled_from(["never", "never", "any_significant", "all_significant"])


@st.composite
def flags(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a supervisor's flags."""
    return {
        "strategy": draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])),
        "max_restarts": draw(st.sampled_from([0, 1, 2, 3, 5, 20])),
        "max_seconds": draw(st.sampled_from([1, 5])),
        "auto_shutdown": draw(modes),
    }


@st.composite
def children(draw: st.DrawFn, child_id: str, auto_shutdown: str) -> dict[str, Any]:
    """Draw one child of a supervisor with the given auto_shutdown; its spec is one that OTP accepts."""
    restart = draw(restarts)
    may_be_significant = auto_shutdown != "never" and restart != "permanent"
    return {
        "id": child_id,
        "restart": restart,
        "shutdown": draw(shutdowns),
        "type": draw(st.sampled_from(["worker", "worker", "supervisor"])),
        "significant": may_be_significant and draw(st.booleans()),
        "starts": draw(outcomes),
    }


@st.composite
def inner_supervisors(draw: st.DrawFn, child_id: str, auto_shutdown: str) -> dict[str, Any]:
    """Draw a child that is a supervisor with children of its own, whose ids no other supervisor uses."""
    spec = draw(children(child_id, auto_shutdown)) | draw(flags())
    names = draw(st.lists(ids, max_size=3, unique=True))
    inner = [draw(children(child_id + name, spec["auto_shutdown"])) for name in names]
    return spec | {"type": "supervisor", "children": inner}


def operations(auto_shutdown: str, own_ids: tuple[str, ...], all_ids: tuple[str, ...]) -> st.SearchStrategy[list[Any]]:
    """Draw one operation: a call to the supervisor on one of its own ids, an end of any child, or time."""
    own = st.sampled_from(own_ids)
    anyone = st.sampled_from(all_ids)
    calls = st.sampled_from(["terminate_child", "restart_child", "delete_child"])
    return st.one_of(
        st.tuples(st.just("exit"), anyone, reasons).map(list),
        st.tuples(st.just("kill"), anyone).map(list),
        st.tuples(calls, own).map(list),
        own.flatmap(lambda child_id: children(child_id, auto_shutdown)).map(lambda spec: ["start_child", spec]),
        st.sampled_from([0.5, 1.0, 3.0, 5.5]).map(lambda seconds: ["advance", seconds]),
    )


@st.composite
def supervisors(draw: st.DrawFn) -> Tree:
    """Draw a flat supervisor: a script without operations."""
    head = draw(flags())
    names = draw(st.lists(ids, max_size=4, unique=True))
    specs = [draw(children(name, head["auto_shutdown"])) for name in names]
    return {"name": "flat", **head, "children": specs}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw a supervisor some of whose children are supervisors: a script without operations."""
    head = draw(flags())
    names = draw(st.lists(st.sampled_from(IDS[:2] + INNER_IDS), min_size=1, unique=True))
    specs = [
        draw((inner_supervisors if name in INNER_IDS else children)(name, head["auto_shutdown"])) for name in names
    ]
    return {"name": "tree", **head, "children": specs}


def operations_on(tree: Tree) -> st.SearchStrategy[list[Any]]:
    """Draw one operation on a supervisor or on one of its inner ones."""
    inner = [spec for spec in tree["children"] if "children" in spec]
    theirs = {spec["id"]: tuple(child["id"] for child in spec["children"]) for spec in inner}
    everyone = (*IDS, *INNER_IDS, *(name for names in theirs.values() for name in names))
    here = operations(tree["auto_shutdown"], IDS + INNER_IDS, everyone)
    below = [
        _addressed(spec["id"], operations(spec["auto_shutdown"], (*theirs[spec["id"]], spec["id"] + "z"), everyone))
        for spec in inner
    ]
    return st.one_of(here, *below)


def _addressed(supervisor_id: str, ops: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Any]]:
    return ops.map(lambda op: op if op[0] in ("exit", "kill", "advance") else ["at", supervisor_id, op])


@st.composite
def scripts(draw: st.DrawFn, heads: st.SearchStrategy[Tree] | None = None, max_ops: int = 10) -> dict[str, Any]:
    """Draw a whole script over a flat supervisor, or over whatever `heads` draws; sometimes its parent ends it."""
    head = draw(supervisors() if heads is None else heads)
    ops = draw(st.lists(operations_on(head), max_size=max_ops))
    ops += draw(st.lists(reasons.map(lambda reason: ["parent_exit", reason]), max_size=1))
    return head | {"ops": ops}
