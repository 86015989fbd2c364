"""What a shell may change, and what it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import runtime
from actors import whereis
from runtime.shell._client import USAGE
from supervisors import Application, ChildSpec, DynamicSupervisor
from tests.actors.introspection.house import Worker, ask, refused, workers
from tests.runtime.meeting import until


@pytest.mark.parametrize("verb", ["stop", "restart", "detach", "reattach", "emit"])
def test_control_is_refused_unless_the_node_allows_it(start: Callable[..., Application], verb: str) -> None:
    application = start(control=False, children=[workers()])
    before = whereis("ingest")

    error = refused(application, verb, target="ingest", yes=True)

    assert "control=True" in str(error)
    assert whereis("ingest") is before


def test_control_is_refused_unless_it_is_confirmed(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])

    error = refused(application, "stop", target="ingest")

    assert (error.code, "--yes" in str(error), whereis("ingest") is None) == (USAGE, True, False)


def test_stopped_child_stays_down_until_it_is_restarted(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])

    stopped = ask(application, "stop", target="ingest", yes=True)
    down = next(line for line in ask(application, "tree") if line["actor"] == "workers/ingest")
    restarted = ask(application, "restart", target="ingest", yes=True)

    assert (stopped["is"], down["state"], restarted["is"]) == ("down", "down", "running")
    assert whereis("ingest").is_alive()


def test_restart_makes_a_new_actor_and_uses_up_no_restart(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    before = whereis("ingest")

    ask(application, "restart", target="ingest", yes=True)

    assert whereis("ingest").id != before.id
    assert ask(application, "status")["restarts"]["total"] == 0


def test_child_of_a_dynamic_supervisor_is_restarted_by_its_rule(start: Callable[..., Application]) -> None:
    application = start(children=[DynamicSupervisor.child("pool", name="pool")])
    once = whereis("pool").start_child(ChildSpec("once", Worker, restart="temporary"))
    always = whereis("pool").start_child(ChildSpec("always", Worker))

    answer = ask(application, "restart", target=str(always.id), yes=True)
    error = refused(application, "restart", target=str(once.id), yes=True)

    assert answer["is"] == "restarting"
    until(lambda: [c.child.is_alive() for c in whereis("pool").which_children() if c.id == "always"] == [True])
    assert "temporary" in str(error)
    assert once.is_alive()


@pytest.mark.parametrize("target", ["demo", "introspector"])
def test_what_holds_or_answers_the_shell_is_not_stopped(start: Callable[..., Application], target: str) -> None:
    application = start()

    refused(application, "stop", target=target, yes=True)

    assert application.is_running
    assert ask(application, "hello")["control"] is True


def test_parked_handler_is_reattached_and_detached(
    start: Callable[..., Application], attach: Callable[..., None]
) -> None:
    application = start()
    failing = [True]

    def handle(*_: Any) -> None:
        if failing:
            raise RuntimeError("no")

    attach("audit", "shop.order", handle, max_restarts=0)
    runtime.execute("shop.order")
    until(lambda: ask(application, "handlers")[0]["state"] == "gave_up")
    failing.clear()

    back = ask(application, "reattach", target="audit", yes=True)
    runtime.execute("shop.order")
    until(lambda: ask(application, "handlers")[0]["handled"] == 1)
    gone = ask(application, "detach", target="audit", yes=True)

    assert (back["was"], gone["is"], ask(application, "handlers")) == ("gave_up", "detached", [])


def test_emitted_event_is_heard(start: Callable[..., Application], attach: Callable[..., None]) -> None:
    application = start()
    heard: list[Any] = []
    attach("audit", "shop.order", lambda *event: heard.append(event[:3]))

    answer = ask(application, "emit", event="shop.order", measurements={"n": 2}, metadata={"shop": "x"}, yes=True)

    until(lambda: heard == [("shop.order", {"n": 2}, {"shop": "x"})])
    assert answer["heard"] is True
