"""How each answer looks to people: data in, lines on the screen. Nothing here asks a node anything.

A view trusts the answer's shape, because node and shell speak the same version of the protocol, and none of its texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runtime.shell._screen import Column, Screen
from runtime.shell._text import brief, count, duration, measured, moment, outline, pairs, rate, size

Data = Any
_NAME = Column("ACTOR", how="middle")
_CARRIER = Column("CARRIER", short="CARR", spare=2)


def _number(title: str, short: str = "", spare: int = 0) -> Column:
    return Column(title, "right", short=short, spare=spare)


def status(screen: Screen, data: Data) -> None:
    """Show how a node is."""
    hub, deepest, restarts = data["hub"], data["deepest_mailbox"], data["restarts"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    lines = [
        ("node", f"{data['name']} (pid {data['pid']}), up {duration(data['uptime_ns'])}"),
        ("health", "healthy" if data["healthy"] else "unhealthy"),
        ("actors", count(data["actors"])),
        ("restarts", f"{restarts['last_minute']} in 1 m, {restarts['last_hour']} in 1 h, {restarts['total']} in all"),
        ("events/s", f"{rate(data['events_per_s'])} delivered"),
        ("handlers", f"{data['handlers']['attached']}, parked: {', '.join(data['handlers']['parked']) or 'none'}"),
        ("deepest mailbox", f"{deepest['actor']}: {_of(deepest)}" if deepest else "all are empty"),
        ("dropped", count(data["dropped"])),
        ("memory", size(data["rss_bytes"])),
        ("hub lag", duration(hub["lag_ns"]) + (f", blocked by {hub['blocked_by']}" if hub["blocked_by"] else "")),
        ("versions", versions),
    ]
    for one in data["reporters"]:
        error = f", {one['last_error']}" if one["last_error"] else ""
        told = f"{one['reporter']}: {count(one['queue'])} waiting, {count(one['dropped'])} dropped{error}"
        lines.append(("reporter", told))
    lines += [("problem", problem) for problem in data["problems"]]
    screen.fields(lines)


def _of(box: Data) -> str:
    return count(box["pending"]) + (f" of {count(box['capacity'])}" if box["capacity"] else "")


PS_COLUMNS = (
    _NAME,
    Column("STATE"),
    _CARRIER,
    _number("MBOX"),
    _number("MSG/S", spare=1),
    _number("HANDLED", "HNDLD", spare=1),
    _number("FAILED", "FAIL"),
    _number("RESTARTS", "RST"),
    _number("UPTIME", "UP", spare=1),
    Column("SUPERVISOR", how="middle", short="SUPERV", least=8, spare=3),
)
_ALSO: dict[str, tuple[Column, Callable[[Any], str]]] = {
    "busy_ns": (_number("BUSY"), duration),
    "dropped": (_number("DROPPED", "DROP"), count),
    "kind": (Column("KIND"), str),
}
"""What actors may be sorted by and have no column for otherwise."""


def ps_row(row: Data) -> list[str]:
    """Write one actor's line."""
    numbers = [count(row["mailbox"]), rate(row["messages_per_s"]), count(row["handled"]), count(row["failed"])]
    tail = [count(row["restarts"]), duration(row["uptime_ns"]), row["supervisor"] or ""]
    return [row["actor"], row["state"], row["carrier"], *numbers, *tail]


def ps(screen: Screen, data: Data, sort: str = "id") -> None:
    """Show a list of actors, and what they are sorted by."""
    columns, rows = list(PS_COLUMNS), [ps_row(row) for row in data["actors"]]
    if sort in _ALSO:
        column, written = _ALSO[sort]
        columns.insert(1, column)
        for line, row in zip(rows, data["actors"], strict=True):
            line.insert(1, written(row[sort]))
    screen.table(columns, rows, "no actor matches")
    left = data["matching"] - len(data["actors"])
    if left:
        screen.remark(f"… {left:,} more; ask for them with --limit")


def tree(screen: Screen, data: Data) -> None:
    """Show the supervision tree."""
    columns = [
        _NAME,
        Column("STATE"),
        Column("STRATEGY", spare=2),
        _number("RESTARTS"),
        _number("MBOX", spare=1),
        Column("LAST FAILURE", how="end", short="FAILURE"),
    ]
    names = _branches(data)
    screen.table(columns, [[name, *_tree_cells(line)] for name, line in zip(names, data, strict=True)], "no actor runs")
    if any("more" in line for line in data):
        screen.remark("… ask for more children of each with --children")


def _tree_cells(line: Data) -> list[str]:
    if "more" in line:
        return [""] * 5
    supervisor, failure = line.get("supervisor"), line["last_failure"]
    restarts = count(line["restarts"])
    if supervisor:
        used = f"{supervisor['restarts_in_window']}/{supervisor['max_restarts']}"
        restarts = f"{restarts}, {used} in {duration(supervisor['max_seconds'] * 1e9)}"
    told = f"{failure['reason']}, {duration(failure['ago_ns'])} ago" if failure else ""
    mailbox = "" if line.get("mailbox") is None else count(line["mailbox"])
    return [line["state"], supervisor["strategy"] if supervisor else "", restarts, mailbox, told]


def _branches(lines: list[Data]) -> list[str]:
    """Draw what leads to each line: it is the last of its brothers when none follows before its parent's next one."""
    last: list[bool] = []
    open_depths: set[int] = set()
    for line in reversed(lines):
        depth = line["depth"]
        last.append(depth not in open_depths)
        open_depths = {other for other in open_depths if other < depth} | {depth}
    names: list[str] = []
    continues: dict[int, bool] = {}
    above: dict[int, str] = {}
    for line, is_last in zip(lines, reversed(last), strict=True):
        depth = line["depth"]
        continues[depth] = not is_last
        stem = "".join("│  " if continues.get(level) else "   " for level in range(1, depth))
        branch = "" if depth == 0 else "└─ " if is_last else "├─ "
        name = above[depth] = f"… {line['more']:,} more" if "more" in line else line["actor"]
        # A label that only says whose child it is need not say it again in a tree.
        names.append(stem + branch + name.removeprefix(above.get(depth - 1, "") + "/"))
    return names


def info(screen: Screen, data: Data) -> None:
    """Show one actor."""
    screen.fields(info_fields(data))
    for one in data["crashes"]:
        screen.line()
        _incident(screen, one, verbose=False)


def info_fields(data: Data) -> Iterator[tuple[str, str]]:
    """Write what is known of an actor, but for its crashes."""
    told = {key: value for key, value in data.items() if key != "crashes"}
    if "path" in told:
        told["path"] = " > ".join(told["path"])
    return outline(told.items())


def where(screen: Screen, data: Data) -> None:
    """Show where an actor is."""
    busy = f", for {duration(data['busy_ns'])} on this message" if data["busy_ns"] else ""
    screen.fields([("actor", data["actor"]), ("path", " > ".join(data["path"])), ("doing", data["doing"] + busy)])
    for frame in data["stack"]:
        screen.line(f"  {frame['file']}:{frame['line']} in {frame['function']}")
        if frame["code"]:
            screen.line(f"      {frame['code']}")


def state(screen: Screen, data: Data) -> None:
    """Show an actor's state."""
    if isinstance(data, dict):
        screen.fields(outline(data.items()))
    else:
        screen.line(brief(data, 2_000))


def crashes(screen: Screen, data: Data, verbose: bool = False) -> None:
    """Show what went wrong."""
    if not data:
        screen.remark("nothing went wrong since the introspector was started")
    for number, one in enumerate(data):
        if number:
            screen.line()
        _incident(screen, one, verbose)


def _incident(screen: Screen, one: Data, verbose: bool) -> None:
    screen.line(f"{moment(one['at'])}  {one['what']}: {one['who']}: {one['reason']}")
    for key, value in one["detail"].items():
        screen.line(f"    {key}: {value}")
    lines = one["stacktrace"].rstrip().split("\n") if one["stacktrace"] else []
    for line in lines if verbose else [line for line in lines if line.strip(" ^~")][-2:]:
        screen.line(f"    {line}")


def events(screen: Screen, data: Data) -> None:
    """Show the events."""
    columns = [
        Column("EVENT", how="middle", least=40),
        Column("MEASUREMENTS", how="end", least=16, spare=1),
        Column("METADATA", how="end", least=16, spare=2),
        Column("HEARD BY", how="end", least=16),
        Column("WHAT IT TELLS", how="end", least=16),
    ]
    rows = [
        [
            one["event"],
            ", ".join(f"{key} ({unit})" for key, unit in one["measurements"].items()),
            ", ".join(f"{key}: {kind}" for key, kind in one["metadata"].items()),
            ", ".join([*one["handlers"], *one["sinks"]]),
            one["description"] if one["declared"] else "(not declared)",
        ]
        for one in data
    ]
    screen.table(columns, rows, "no event is declared or heard there")


def handlers(screen: Screen, data: Data) -> None:
    """Show the handlers."""
    columns = [Column("HANDLER", how="middle"), Column("STATE"), _CARRIER, _number("MBOX")]
    columns += [_number("HANDLED", "HNDLD"), _number("FAILED", "FAIL"), _number("DROPPED", "DROP"), _number("DEAD")]
    columns += [_number("RESTARTS", "RST"), Column("EVENTS", how="end", least=16, spare=3)]
    columns += [Column("FUNCTION", how="middle", least=16, spare=4)]
    rows = [
        [
            one["handler"],
            one["state"],
            one["carrier"],
            *(count(one[key]) for key in ("mailbox", "handled", "failed", "dropped", "dead_letters", "restarts")),
            ", ".join(one["events"]),
            one["function"],
        ]
        for one in data
    ]
    screen.table(columns, rows, "no handler is attached there")


def trace(screen: Screen, data: Data) -> None:
    """Show one event."""
    at = moment(data["at"]).partition(" ")[2] + f".{data['at'] // 1_000_000 % 1000:03d}"
    sampled = "" if data["rate"] == 1 else f"  (1 of {1 / data['rate']:g})"
    screen.line(f"{at}  {_event(data)}{sampled}")


def _event(data: Data) -> str:
    metadata = f"| {pairs(data['metadata'])}" if data["metadata"] else ""
    return f"{data['event']}  {measured(data['measurements'], data.get('units', {}))} {metadata}".rstrip()


def metrics(screen: Screen, data: Data) -> None:
    """Show metrics and their series."""
    columns = [Column("METRIC", how="middle"), Column("TAGS", how="end"), _number("VALUE"), Column("UNIT", spare=1)]
    columns += [Column("KIND", spare=2)]
    rows = []
    for metric in data:
        name, tail = metric["metric"], [metric["unit"], metric["kind"]]
        for series in metric["series"]:
            rows.append([name, pairs(series["tags"]), _series(series), *tail])
        if not metric["series"]:
            rows.append([name, "", "–", *tail])
        left = metric["series_in_all"] - len(metric["series"])
        if left:
            rows.append([name, f"… {left:,} more series", "", *tail])
    screen.table(columns, rows, "no metric is defined there")


def _series(series: Data) -> str:
    if "value" in series:
        return count(series["value"])
    told = " ".join(f"{key}={count(series[key])}" for key in ("p50", "p95", "p99") if key in series)
    return f"{count(series['count'])}x {told}".rstrip()


def reporters(screen: Screen, data: Data) -> None:
    """Show the reporters."""
    columns = [Column("REPORTER", how="middle"), Column("STATE"), _number("MBOX"), _number("QUEUE")]
    columns += [_number("DROPPED", "DROP"), Column("LAST ERROR", how="wrap", least=24)]
    columns += [Column("STATISTICS", how="end", least=16, spare=1)]
    rows = [
        [
            one["reporter"],
            one["state"],
            *(count(one[key]) for key in ("mailbox", "queue", "dropped")),
            one["last_error"],
            brief(one["statistics"], 500),
        ]
        for one in data
    ]
    screen.table(columns, rows, "no reporter runs")


def dead_letters(screen: Screen, data: Data) -> None:
    """Show the events that a handler failed on."""
    if not data:
        screen.remark("no dead letters")
    for number, one in enumerate(data):
        if number:
            screen.line()
        screen.line(f"{moment(one['at'])}  {_event(one)}")
        for line in one["traceback"].rstrip().split("\n"):
            screen.line(f"    {line}")


def changed(screen: Screen, data: Data) -> None:
    """Show what a control verb did."""
    if "event" in data:
        heard = "" if data["heard"] else " (nobody hears it)"
        screen.line(f"emitted {data['event']}{heard}")
    else:
        screen.line(f"{data.get('actor') or data.get('handler')}: {data['was']} → {data['is']}")


def doctor(screen: Screen, data: Data) -> None:
    """Show what was checked, and below it what to do."""
    rows = []
    for one in data:
        rows.append([one["result"], one["check"], one["found"]])
        if one["fix"]:
            rows.append(["", "", f"→ {one['fix']}"])
    screen.table([Column("RESULT"), Column("CHECK"), Column("FOUND", how="wrap")], rows)


View = Callable[[Screen, Data], None]
