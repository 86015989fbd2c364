"""The options of `attach`: what each means, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from runtime._checks import check_count, check_seconds
from runtime._mailbox import Policy
from runtime.errors import expected

OnFailure = Literal["restart", "detach"]
CARRIERS = ("thread", "green", "process", "inline")


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `attach`.

    `carrier`: where the handler runs, `thread` (may block), `green` (cooperative, on the runtime's hub), `process` (an
    interpreter of its own, which imports the handler, a function of a module's top level or "package.module:function",
    and may crash as hard as it likes: each event is handled at most once; events and config travel as msgpack, other
    objects as the text "repr: …"; context variables stay behind) or `inline` (in the emitter itself, guarded).
    `capacity`: events that may wait (default 10,000); `policy` when full: drop_newest, drop_oldest, sample, block
    (`block_s`: how long the emitter may then wait). `on_failure`: `restart` (the actor is restarted, after a pause that
    grows; more than `max_restarts` in `max_seconds` and it is parked as gave_up) or `detach` (telemetry's own rule).
    `deadline_s`: how long one event may take (None: as long as it likes); past it the incarnation is fenced and
    replaced, and when `max_abandoned` of its threads still hang the handler is parked. `fallback`: `thread` moves a
    green handler that blocks the hub, or an inline one that raises or exceeds `budget_s`, to a thread; `none` reports
    the one and parks the other. `dead_letters`: how many failed events are kept with their traceback. `owner`: detach
    when this object or actor goes.
    """

    carrier: str = "thread"
    capacity: int = 10_000
    policy: Policy = "drop_newest"
    block_s: float = 1.0
    on_failure: OnFailure = "restart"
    max_restarts: int = 10
    max_seconds: float = 60.0
    deadline_s: float | None = None
    max_abandoned: int = 8
    budget_s: float = 0.001
    fallback: Literal["none", "thread"] = "none"
    dead_letters: int = 100
    owner: Any = None


def _has_mailbox(options: HandlerOptions) -> bool:
    return options.carrier != "inline" or options.fallback == "thread"


# An option that means nothing where it is given would be a promise that nobody keeps.
_MEANINGFUL: dict[str, tuple[str, Callable[[HandlerOptions], bool]]] = {
    **dict.fromkeys(
        ("capacity", "policy", "max_restarts", "max_seconds", "deadline_s"),
        ("carrier thread, green or process", _has_mailbox),
    ),
    "block_s": ("policy='block'", lambda options: options.policy == "block"),
    "max_abandoned": ("deadline_s", lambda options: options.deadline_s is not None),
    "budget_s": ("carrier='inline'", lambda options: options.carrier == "inline"),
    "fallback": ("carrier green or inline", lambda options: options.carrier in ("green", "inline")),
}


def checked_options(options: Mapping[str, Any]) -> HandlerOptions:
    known = HandlerOptions.__struct_fields__
    for key in options:
        if key not in known:
            raise expected(f"an option of attach ({', '.join(known)})", key)
    checked = HandlerOptions(**options)
    if checked.carrier not in CARRIERS:
        raise expected(f"carrier to be one of {', '.join(CARRIERS)}", checked.carrier)
    if checked.on_failure not in ("restart", "detach"):
        raise expected("on_failure to be restart or detach", checked.on_failure)
    if checked.fallback not in ("none", "thread"):
        raise expected("fallback to be none or thread", checked.fallback)
    if checked.deadline_s is not None:
        check_seconds("deadline_s", checked.deadline_s)
    check_seconds("block_s", checked.block_s)
    check_seconds("budget_s", checked.budget_s)
    check_seconds("max_seconds", checked.max_seconds)
    for name in ("max_restarts", "dead_letters", "max_abandoned"):
        check_count(name, getattr(checked, name))
    for key, (what, means) in _MEANINGFUL.items():
        if key in options and not means(checked):
            raise expected(f"{key} only with {what}", {key: options[key], "carrier": checked.carrier})
    return checked
