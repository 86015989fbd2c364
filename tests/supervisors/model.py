"""OTP's supervisor rules as a small pure model: a state and an operation give a new state, a result and a log.

Read from OTP's own `supervisor` and its documentation, and written without looking at our supervisors: it
shares no code with them, imports nothing of ours, knows no actors and no clock (the time is part of the state, in
seconds). `replay(script)` gives the lines that `tests/supervisors/script.py` must print for the same script.
Beyond the script format it knows two things for the property tests: a child of type "supervisor" may have "children"
and flags of its own, and the operations ["advance", seconds] and ["at", supervisor_id, operation].
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
Script = dict[str, Any]
Line = dict[str, Any]
Op = list[Any]


class StartFailed(Exception):
    """A child did not start; the reason does not matter to any rule."""


@dataclass(eq=False)
class Child:
    """One entry of a supervisor's list; `status` is running, down or restarting."""

    spec: Spec
    status: str = "down"
    inner: Sup | None = None


@dataclass(eq=False)
class Sup:
    """One supervisor: flags, children in start order, stamps of restart attempts, and how it ended."""

    flags: Spec
    children: list[Child] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    exit: Any = None
    alive: bool = True

    def find(self, child_id: str) -> Child | None:
        return next((child for child in self.children if child.spec["id"] == child_id), None)


@dataclass
class State:
    """Everything that a script may touch."""

    root: Sup
    now: float = 0.0
    starts: dict[str, int] = field(default_factory=dict)
    retries: list[tuple[Sup, Child]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def replay(script: Script) -> Iterator[Line]:
    """Play a whole script: one line after the start and one after each operation, until the supervisor is dead."""
    state, line = begin(script)
    yield line
    for number, op in enumerate(script["ops"], start=1):
        if not state.root.alive:
            return
        state, line = step(state, script["name"], number, op)
        yield line


def begin(script: Script) -> tuple[State, Line]:
    """Start the supervisor of a script."""
    state = State(root=Sup(flags=script))
    result = "ok"
    try:
        start_sup(state, state.root, script["children"])
    except StartFailed:
        state.root.alive, state.root.exit, result = False, "start_failed", "error:start_failed"
    return state, line_of(state, script["name"], 0, result)


def step(state: State, name: str, number: int, op: Op) -> tuple[State, Line]:
    """Apply one operation and let the supervisors come to rest; the given state is left as it was."""
    state = copy.deepcopy(state)
    state.log.clear()
    result = apply(state, state.root, op)
    while state.retries and state.root.alive:
        sup, child = state.retries.pop(0)
        if sup.alive and child.status == "restarting" and child in sup.children:
            restart(state, sup, child)
    return state, line_of(state, name, number, result)


def line_of(state: State, name: str, number: int, result: str) -> Line:
    root = state.root
    children = root.children if root.alive else []
    kinds = [child.spec["type"] for child in children]
    counts = [
        len(children),
        sum(child.status == "running" for child in children),
        kinds.count("supervisor"),
        kinds.count("worker"),
    ]
    return {
        "name": name,
        "op": number,
        "result": result,
        "alive": root.alive,
        "exit": root.exit,
        "children": [[child.spec["id"], child.status] for child in children],
        "counts": counts if root.alive else [],
        "log": list(state.log),
    }


# --- operations -----------------------------------------------------------------------------------------------------


def apply(state: State, sup: Sup, op: Op) -> str:
    kind, *args = op
    match kind:
        case "advance":
            state.now += args[0]
            return "ok"
        case "at":
            inner = next((s for s in all_sups(state.root) if s.flags.get("id") == args[0]), None)
            return apply(state, inner, args[1]) if inner else "none"
        case "parent_exit":
            end_sup(state, sup, args[0])
            return "ok"
        case "exit" | "kill":
            return exit_child(state, *op)
        case "start_child":
            return start_child(state, sup, args[0])
    child = sup.find(args[0])
    if child is None:
        return "error:not_found"
    if kind == "terminate_child":
        stop_child(state, child)
        retire(sup, child)
        return "ok"
    if child.status != "down":
        return f"error:{child.status}"
    if kind == "delete_child":
        sup.children.remove(child)
        return "ok"
    assert kind == "restart_child", kind
    try:
        return "ok" if start_one(state, child) else "ok:ignored"
    except StartFailed:
        return "error:start_failed"


def refused(spec: Spec, flags: Spec) -> bool:
    return bool(spec["significant"]) and (spec["restart"] == "permanent" or flags["auto_shutdown"] == "never")


def start_child(state: State, sup: Sup, spec: Spec) -> str:
    if refused(spec, sup.flags):
        return "error:start_failed"
    known = sup.find(spec["id"])
    if known:
        return "error:already_started" if known.status == "running" else "error:already_present"
    child = Child(spec)
    try:
        started = start_one(state, child)
    except StartFailed:
        return "error:start_failed"
    if started or spec["restart"] != "temporary":
        sup.children.append(child)
    return "ok" if started else "ok:ignored"


def exit_child(state: State, kind: str, child_id: str, reason: Any = "killed") -> str:
    """A child ends by itself or is killed from outside; its supervisor hears of it."""
    for sup in all_sups(state.root):
        child = sup.find(child_id)
        if child is not None and child.status == "running":
            if child.inner is not None and kind == "exit":
                end_sup(state, child.inner, reason)
                return "ok"
            if child.inner is not None:
                child.inner.alive = False  # its own children die with it, and nobody stops them
            handle_exit(state, sup, child, reason)
            return "ok"
    return "none"


def all_sups(sup: Sup) -> Iterator[Sup]:
    yield sup
    for child in sup.children:
        if child.inner is not None and child.status == "running":
            yield from all_sups(child.inner)


# --- one child ------------------------------------------------------------------------------------------------------


def start_one(state: State, child: Child) -> bool:
    """Start a child: True if it runs, False if it said ignore; its n-th start has its n-th outcome."""
    child_id: str = child.spec["id"]
    outcomes: list[str] = child.spec["starts"]
    state.starts[child_id] = number = state.starts.get(child_id, 0) + 1
    outcome = outcomes[min(number, len(outcomes)) - 1]
    if outcome == "ok" and "children" in child.spec:
        inner = Sup(flags=child.spec)
        try:
            start_sup(state, inner, child.spec["children"])
        except StartFailed:
            outcome = "error"
        else:
            child.inner = inner
    state.log.append({"ok": "start:", "ignore": "ignore:", "error": "fail:"}[outcome] + child_id)
    if outcome == "error":
        raise StartFailed
    child.status = "running" if outcome == "ok" else "down"
    return outcome == "ok"


def stop_child(state: State, child: Child) -> None:
    """Stop a child on behalf of its supervisor; a brutal_kill gives an inner supervisor no time for its own."""
    if child.status == "running":
        if child.inner is not None:
            child.inner.alive = False
            if child.spec["shutdown"] != "brutal_kill":
                stop_all(state, child.inner)
        state.log.append(f"stop:{child.spec['id']}")
    child.status, child.inner = "down", None


def retire(sup: Sup, child: Child) -> None:
    """A child stays down: a temporary one is forgotten, the spec of any other is kept."""
    child.status, child.inner = "down", None
    if child.spec["restart"] == "temporary":
        sup.children.remove(child)


# --- a supervisor ---------------------------------------------------------------------------------------------------


def start_sup(state: State, sup: Sup, specs: list[Spec]) -> None:
    if any(refused(spec, sup.flags) for spec in specs) or len({spec["id"] for spec in specs}) < len(specs):
        raise StartFailed
    sup.children = [Child(spec) for spec in specs]
    if start_all(state, sup, list(sup.children)) is not None:
        stop_all(state, sup)
        raise StartFailed


def start_all(state: State, sup: Sup, children: list[Child]) -> Child | None:
    """Start children in order up to the first that fails, and return that one."""
    for child in children:
        try:
            started = start_one(state, child)
        except StartFailed:
            return child
        if not started:
            retire(sup, child)
    return None


def stop_all(state: State, sup: Sup) -> None:
    for child in reversed(sup.children):
        stop_child(state, child)


def end_sup(state: State, sup: Sup, reason: Any) -> None:
    """A supervisor stops its children and exits; its parent, if it has one, hears of it."""
    stop_all(state, sup)
    sup.alive, sup.exit = False, reason
    for parent in all_sups(state.root):
        for child in parent.children:
            if child.inner is sup:
                handle_exit(state, parent, child, reason)
                return


def is_normal(reason: Any) -> bool:
    if isinstance(reason, list):
        return len(reason) == 2 and bool(reason[0] == "shutdown")
    return reason in ("normal", "shutdown")


def handle_exit(state: State, sup: Sup, child: Child, reason: Any) -> None:
    kind = child.spec["restart"]
    if kind == "permanent" or (kind == "transient" and not is_normal(reason)):
        restart(state, sup, child)
        return
    retire(sup, child)
    if not child.spec["significant"]:
        return
    others = any(other.spec["significant"] and other.status != "down" for other in sup.children)
    if sup.flags["auto_shutdown"] == "any_significant" or not others:
        end_sup(state, sup, "shutdown")


def restart(state: State, sup: Sup, child: Child) -> None:
    window = sup.flags["max_seconds"]
    sup.stamps = [stamp for stamp in sup.stamps if stamp >= state.now - window] + [state.now]
    child.status, child.inner = "down", None
    if len(sup.stamps) > sup.flags["max_restarts"]:
        end_sup(state, sup, "shutdown")
        return
    match sup.flags["strategy"]:
        case "one_for_one":
            group = [child]
        case "rest_for_one":
            group = sup.children[sup.children.index(child) :]
        case _:
            group = list(sup.children)
    for other in reversed(group):
        if other is not child:
            stop_child(state, other)
            retire(sup, other)
    failed = start_all(state, sup, [other for other in group if other in sup.children])
    if failed is not None:
        failed.status = "restarting"
        state.retries.append((sup, failed))
