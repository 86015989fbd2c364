"""What each verb of the introspection protocol answers, and which failures are told as which.

Runs in the sessions' threads, several at once. All but `state`, `metrics` and the control verbs are answered without
asking anybody anything; those wait no longer than the shell said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic_ns
from typing import Any, TypeVar

import msgspec

from actors import _introspection_actors as of_actors
from actors import _introspection_control as control
from actors import _introspection_events as of_events
from actors import _introspection_status as of_node
from actors._introspection_crashes import Incidents
from actors._introspection_index import Index, Unknown
from actors._introspection_server import Message, Session
from actors._introspection_trace import Trace, TraceArgs
from runtime.catalogue import Catalogue
from runtime.clock import Clock
from runtime.errors import BeamstalkError, InvalidValue, NotFound, expected
from runtime.shell import protocol
from runtime.shell.protocol import Answer, End, Failure, FailureKind, NodeId, Refusal, Request

_TRACE_LIMIT = 100_000
_TRACE_S = 86_400.0
S = TypeVar("S", bound=msgspec.Struct)

Arguments = dict[str, Any]


class _None(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class _Last(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many."""

    limit: int = 20


class Answers:
    """Answer for one node. `own_id` is the introspector's process id, `where` its socket's path."""

    def __init__(
        self, node: Callable[[], NodeId], *, allow_control: bool, catalogue: Catalogue | None, where: Callable[[], str]
    ) -> None:
        self.incidents = Incidents()
        self.rate = of_node.Rate()
        self.started_ns = monotonic_ns()
        self.own_id = 0
        self._node = node
        self._where = where
        self._allow_control = allow_control
        self._catalogue = catalogue
        self._verbs: dict[str, Callable[[Arguments, float], Any]] = {
            "hello": self._hello,
            "status": self._status,
            "health": self._health,
            "ps": lambda args, _: of_actors.ps(_read(args, of_actors.PsArgs)),
            "tree": lambda args, _: of_actors.tree(_read(args, of_actors.TreeArgs)),
            "info": lambda args, _: of_actors.info(_read(args, of_actors.OfActor), self.incidents),
            "where": lambda args, _: of_actors.where(_read(args, of_actors.OfActor)),
            "state": lambda args, wait_s: of_actors.state(_read(args, of_actors.OfActor), wait_s),
            "crashes": lambda args, _: self.incidents.last(max(_read(args, _Last).limit, 1)),
            "events": lambda args, _: of_events.events(_read(args, of_events.Below), self._catalogue),
            "handlers": lambda args, _: of_events.handlers(_read(args, of_events.Below)),
            "metrics": lambda args, wait_s: of_events.metrics(_read(args, of_events.Below), wait_s),
            "reporters": lambda args, _: list(of_events.reporters(Index())),
            "dead-letters": lambda args, _: of_events.dead_letters(_read(args, of_events.OfHandler), self._catalogue),
            "stop": lambda args, wait_s: control.stop(self._allowed(args, control.Confirmed), wait_s, self.own_id),
            "restart": lambda args, wait_s: control.restart(
                self._allowed(args, control.Confirmed), wait_s, self.own_id
            ),
            "detach": lambda args, wait_s: control.detach(self._allowed(args, control.Confirmed), wait_s),
            "reattach": lambda args, wait_s: control.reattach(self._allowed(args, control.Confirmed), wait_s),
            "emit": lambda args, wait_s: control.emit(self._allowed(args, control.Emit), wait_s),
        }

    def answer(self, request: Request, session: Session) -> Iterator[Message]:
        """Yield what a request is answered with: one answer or refusal, or a stream and its end."""
        timeout_s = min(max(request.timeout_ns, 1_000_000), protocol.TIMEOUT_NS_MOST) / 1e9
        try:
            if request.verb == "trace":
                yield from self._trace(_read(request.args, TraceArgs), session)
                return
            verb = self._verbs.get(request.verb)
            if verb is None:
                raise Unknown("command", request.verb, [*self._verbs, "trace"])
            data = verb(request.args, timeout_s)
        except (BeamstalkError, msgspec.ValidationError) as error:
            yield Refusal(protocol.VERSION, Clock.system_ns(), self._node(), _failure(error))
        else:
            yield Answer(protocol.VERSION, Clock.system_ns(), self._node(), data)

    def _trace(self, args: TraceArgs, session: Session) -> Iterator[Message]:
        if not 0 < args.limit <= _TRACE_LIMIT:
            raise expected(f"limit to be a number of events within 1…{_TRACE_LIMIT:,}", args.limit)
        if not 0 < args.for_s <= _TRACE_S:
            raise expected(f"for_s to be a number of seconds, above 0 and at most {_TRACE_S:,.0f}", args.for_s)
        if not args.rate > 0:
            raise expected("rate to be a positive number of events a second", args.rate)
        trace = Trace(args, session.is_gone, self._catalogue)
        for data in trace.run():
            yield Answer(protocol.VERSION, Clock.system_ns(), self._node(), data)
        yield End(protocol.VERSION, Clock.system_ns(), self._node(), trace.end())

    def _hello(self, args: Arguments, _: float) -> dict[str, Any]:
        _read(args, _None)
        return {"control": self._allow_control, "uptime_ns": monotonic_ns() - self.started_ns}

    def _status(self, args: Arguments, wait_s: float) -> dict[str, Any]:
        _read(args, _None)
        uptime_ns = monotonic_ns() - self.started_ns
        return of_node.status(self._node().name, uptime_ns, self.rate, self.incidents, wait_s)

    def _health(self, args: Arguments, _: float) -> dict[str, Any]:
        _read(args, _None)
        return of_node.health(self._where(), self._allow_control)

    def _allowed(self, args: Arguments, shape: type[S]) -> S:
        if not self._allow_control:
            raise control.Refused("this node allows nobody to change it. Start it with Application(..., control=True)")
        read = _read(args, shape)
        if not getattr(read, "yes", False):
            raise expected("a change to be confirmed", args.get("target", ""), "Say --yes")
        return read


def _read(args: Arguments, shape: type[S]) -> S:
    """Read a verb's arguments; ValidationError says which is wrong."""
    return msgspec.convert(args, shape)


def _failure(error: Exception) -> Failure:
    kinds: tuple[tuple[type[Exception], FailureKind], ...] = (
        (NotFound, "not_found"),
        (of_actors.Late, "timeout"),
        (control.Refused, "refused"),
        (InvalidValue, "usage"),
        (msgspec.ValidationError, "usage"),
    )
    kind: FailureKind = next((kind for shape, kind in kinds if isinstance(error, shape)), "failed")
    return Failure(kind, str(error), getattr(error, "near", ()))
