"""The actors of the process as the shell names them, in one look at the process table.

Nothing here waits for an actor: refs tell what is known of them (`info`), supervisors whom they supervise. An index is
made for one request and forgotten; with many actors it gives the GIL away now and then, so that nobody's emission waits
for somebody's look.

An actor's label is its registered name; otherwise its supervisor's label and its id there (`telemetry.handlers/audit`),
with its process id where that is not unique; otherwise its class and process id.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeVar

from actors._actor import Actor
from actors._introspection_plain import clean
from runtime import _native, _process_table, _scheduler
from runtime._process_table import ProcessInfo
from runtime._scheduler import Scheduler
from runtime._table import table
from runtime.errors import NotFound

T = TypeVar("T")
HANDLERS = "telemetry.handlers"
"""The name of what supervises handlers, a floor above."""
_LOOK_AT_TIME_EVERY = 16
_YIELD_NS = 300_000


class Child(NamedTuple):
    """A line of a supervisor's list: `label` is unique, `state` running, restarting or down, `rule` when restarted."""

    label: str
    id: Any
    ref: Any
    state: str
    restarts: int
    rule: str
    supervisor: Any


class Unknown(NotFound):
    """No actor has this name; `near` are names that may have been meant."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.near = tuple(difflib.get_close_matches(name, list(known), n=3, cutoff=0.6))
        meant = hint or (f"; did you mean {self.near[0]!r}?" if self.near else "")
        super().__init__(f"no {what} named {name!r}{meant}")


def gently(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, and the GIL to other threads every 300 µs.

    The scheduler does so every 100 µs, but a look is rare, and each time costs it as long as the others have the GIL.
    """
    yield_at_ns = perf_counter_ns() + _YIELD_NS
    for number, item in enumerate(items):
        if number % _LOOK_AT_TIME_EVERY == 0 and perf_counter_ns() > yield_at_ns:
            _native.sleep(0)
            yield_at_ns = perf_counter_ns() + _YIELD_NS
        yield item


def running_scheduler() -> Scheduler:
    """Return the scheduler that runs; raises NotFound when there is none (asking for one would start it)."""
    found = _scheduler._scheduler
    if found is None:
        raise NotFound("the runtime of this node has just been stopped")
    return found


def describe(ref: Any) -> dict[str, Any]:
    """Return what an actor's kind knows of itself; {} when that fails, which must not cost the whole answer."""
    actor = ref._actor
    return {} if type(actor)._describe is Actor._describe else guarded(actor._describe, {})


def guarded(call: Callable[[], T], otherwise: T) -> T:
    """Call code of a subclass, from a thread that it was not written for."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - it reads what another thread is changing; the next look will do
        return otherwise


def child_name(child_id: object) -> str:
    """Name a child by its id in its supervisor's list."""
    return clean("/".join(map(str, child_id)) if isinstance(child_id, tuple) else str(child_id), 100)


def name_of(ref: Any) -> str:
    """Name one actor as an index of all would, but for numbers; looks only at its ancestors and their lists."""
    steps: list[str] = []
    while ref is not None and not ref.name:
        known = [entry[0] for entry in _listed(ref.parent) if entry[1] is ref]
        if not known:
            break
        steps.append(child_name(known[0]))
        ref = ref.parent
    top = "?" if ref is None else clean(ref.name, 200) if ref.name else f"{type(ref._actor).__name__}<{ref.id}>"
    return "/".join([top, *steps[::-1]])


def _listed(supervisor: Any) -> list[Any]:
    if supervisor is None:
        return []
    nothing: list[Any] = []
    return guarded(lambda: list(gently(supervisor._actor._describe_children())), nothing)


class Index:
    """Refs by id, labels by id, and who supervises whom."""

    def __init__(self) -> None:
        self.refs: dict[int, Any] = {ref.id: ref for ref in _process_table.processes()}
        self.children: dict[int, list[Child]] = {}
        self._as_child: dict[int, Child] = {}
        self._labels: dict[int, str] = {}
        # Parents are older than their children, so their labels are there when the children's are made.
        for ref in gently(sorted(self.refs.values(), key=lambda ref: ref.id)):
            found = ref._actor._describe_children()
            if found != ():
                self._add_children(ref, found)

    def _add_children(self, supervisor: Any, found: Iterable[Any]) -> None:
        listed: list[Any] = guarded(lambda: list(gently(found)), [])
        own = self.label(supervisor)
        counts = Counter(entry[0] for entry in listed)
        children = self.children[supervisor.id] = []
        for child_id, ref, state, restarts, rule in gently(listed):
            is_unique = ref is None or counts[child_id] == 1
            label = f"{own}/{child_name(child_id)}" if is_unique else f"{own}/{child_name(child_id)}<{ref.id}>"
            child = Child(label, child_id, ref, state, restarts, rule, supervisor)
            children.append(child)
            if ref is not None:
                self._as_child[ref.id] = child

    def label(self, ref: Any) -> str:
        """Name an actor."""
        found = self._labels.get(ref.id)
        if found is None:
            child = self._as_child.get(ref.id)
            kind = type(ref._actor).__name__
            found = clean(ref.name, 200) if ref.name else child.label if child is not None else f"{kind}<{ref.id}>"
            self._labels[ref.id] = found
        return found

    def child(self, ref: Any) -> Child | None:
        """Return an actor's entry in its supervisor's list."""
        return self._as_child.get(ref.id)

    def supervisor_label(self, ref: Any) -> str | None:
        """Name the supervisor of an actor, or else who started it."""
        child = self._as_child.get(ref.id)
        parent = child.supervisor if child is not None else ref.parent
        return None if parent is None else self.label(parent)

    def path(self, ref: Any) -> list[str]:
        """Name an actor's ancestors, the oldest first, and itself."""
        found = [self.label(ref)]
        parent = ref.parent
        while parent is not None:
            found.append(self.label(parent))
            parent = parent.parent
        return found[::-1]

    def roots(self) -> list[Any]:
        """Return the actors that nobody living has started."""
        return [ref for ref in self.refs.values() if ref.parent is None or ref.parent.id not in self.refs]

    def find(self, name: str, *, as_tree: bool = False) -> Any:
        """Return the ref of the living actor of this label or id. Raises Unknown."""
        return self.find_child(name, living=True, as_tree=as_tree).ref

    def find_child(self, name: str, *, living: bool = False, as_tree: bool = False) -> Child:
        """Return the actor of this label or id, or (unless `living`) a child of this label that is down.

        One that nobody supervises is returned as a child of None. A handler's id means the actor that runs it, or
        (`as_tree`) that one's supervisor. Raises Unknown.
        """
        number = name.strip("<>")
        if number.isascii() and number.isdigit() and int(number) in self.refs:
            return self._entry(self.refs[int(number)])
        named = _process_table.whereis(name)
        if named is not None:
            return self._entry(named)
        labels = {self.label(ref): ref for ref in self.refs.values()}
        if name in labels:
            return self._entry(labels[name])
        for child in (child for children in self.children.values() for child in children):
            if child.ref is None and not living and name in (child.label, str(child.id)):
                return child
            if child.ref is not None and name == child.label:
                return child  # it has a name of its own, but whose child it is says as well whom is meant
        handler = table.get(name)
        runs_it = labels.get(f"{HANDLERS}/{name}/handler") if handler is not None else None
        if runs_it is not None and not as_tree:
            return self._entry(runs_it)
        # The end of a label will do where only one has it.
        ends = [label for label in labels if name and label.endswith("/" + name)]
        if len(ends) == 1:
            return self._entry(labels[ends[0]])
        if ends:
            meant = f"; it may be {', '.join(map(repr, ends[:3]))}" + (f" or {len(ends) - 3} more" if ends[3:] else "")
            raise Unknown("actor", name, ends, meant)
        down = [] if living else [child.label for children in self.children.values() for child in children]
        short = [label.rpartition("/")[2] for label in labels]
        hint = f", but a handler ({handler.state}). See: handlers, dead-letters {name}" if handler is not None else ""
        raise Unknown("actor", name, dict.fromkeys([*ends, *labels, *short, *down]), hint)

    def _entry(self, ref: Any) -> Child:
        found = self._as_child.get(ref.id)
        return found or Child(self.label(ref), None, ref, "running", ref._actor.restarts, "", None)

    def infos(self) -> Iterator[tuple[Any, ProcessInfo]]:
        """Yield every actor with what is known of it."""
        for ref in gently(self.refs.values()):
            yield ref, ref.info()
