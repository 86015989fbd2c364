"""What each verb answers, over the real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import runtime
from actors import Actor, processes, whereis
from runtime.catalogue import Catalogue, Declared
from runtime.metrics import counter, summary
from runtime.shell._client import NOT_FOUND, TIMEOUT, Connection
from runtime.shell._screen import Screen
from runtime.shell._shell import Shell
from supervisors import Application, ChildSpec, DynamicSupervisor, Supervisor
from tests.actors.introspection.house import STATUS, WAIT_S, Worker, ask, crashes, path_of, refused, say, workers
from tests.runtime.meeting import PATIENCE_S, Gate, until


def test_status_of_a_fresh_node_is_healthy(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    answers: list[Any] = []

    # A busy machine may give the hub no time for a moment, and then the node says so.
    until(lambda: answers.append(ask(application, "status")) or answers[-1]["healthy"])

    data = answers[-1]
    assert (data["name"], data["pid"], data["problems"]) == ("demo", os.getpid(), [])
    assert data["actors"] == len(ask(application, "ps")["actors"])
    assert data["rss_bytes"] > 1_000_000
    assert data["restarts"] == {"last_minute": 0, "last_hour": 0, "total": 0}
    assert {"python", "gevent", "msgspec"} <= data["versions"].keys()


def test_frame_says_version_time_and_node(start: Callable[..., Application]) -> None:
    application = start()

    (frame,) = say(application, STATUS)

    assert frame.keys() == {"v", "at", "node", "data"}
    assert (frame["v"], frame["node"]) == (1, {"name": "demo", "pid": os.getpid(), "stale_ns": 0})
    assert abs(frame["at"] - time.time_ns()) < 3_600_000_000_000


def test_tree_shows_supervisors_and_children_in_their_order(start: Callable[..., Application]) -> None:
    application = start(children=[workers(strategy="one_for_all", max_restarts=7)])

    lines = ask(application, "tree")

    assert [
        (line["depth"], line["actor"]) for line in lines if line["actor"].startswith(("demo", "wor", "ing", "int"))
    ] == [
        (0, "demo"),
        (1, "introspector"),
        (1, "workers"),
        (2, "ingest"),
        (2, "workers/spare"),
    ]
    found = next(line for line in lines if line["actor"] == "workers")["supervisor"]
    assert found == {"strategy": "one_for_all", "restarts_in_window": 0, "max_restarts": 7, "max_seconds": 5}


def test_crash_is_listed_under_the_childs_name_and_restart_is_counted(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    first = whereis("ingest")

    first.tell("crash")
    first.wait(PATIENCE_S)
    until(lambda: whereis("ingest") not in (None, first))
    until(lambda: ask(application, "status")["restarts"]["last_minute"] == 1)

    until(lambda: crashed_child(application)["restarts"] == 1)

    (crash,) = crashes(application)
    line = crashed_child(application)
    assert (crash["what"], crash["who"]) == ("crash", "workers/ingest")
    assert "ValueError" in crash["reason"]
    assert "on_receive" in crash["stacktrace"]
    assert "ValueError" in line["last_failure"]["reason"]
    assert ask(application, "info", actor="ingest")["crashes"] == [crash]


def crashed_child(application: Application) -> Any:
    return next(line for line in ask(application, "tree") if line["actor"] == "ingest")


def test_secrets_are_masked_in_state_crashes_and_tree(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    first = whereis("ingest")

    first.tell("crash")
    first.wait(PATIENCE_S)
    until(lambda: crashes(application))

    with Connection(path_of(application), WAIT_S) as connection:
        said = [
            connection.ask(verb, args)[1]
            for verb, args in (("state", {"actor": "ingest"}), ("crashes", {}), ("tree", {}))
        ]
    assert all(b"hunter2" not in line and b"s3cr3t" not in line for line in said)
    assert all(b"***" in line for line in said)


def test_actor_is_found_by_id_label_and_last_part_of_its_label(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    spare = ask(application, "info", actor="workers/spare")["id"]

    found = {ask(application, "info", actor=name)["id"] for name in (str(spare), f"<{spare}>", "spare")}

    assert found == {spare}


def test_actor_with_a_name_is_found_by_whose_child_it_is_too(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    whereis("ingest").tell("crash")
    until(lambda: ask(application, "status")["restarts"]["total"])

    (crash,) = ask(application, "crashes")
    found = ask(application, "info", actor=crash["who"])

    assert (crash["who"], found["actor"]) == ("workers/ingest", "ingest")
    assert [one["number"] for one in found["crashes"]] == [crash["number"]]


def test_actor_is_found_by_the_end_of_its_label_where_only_one_has_it(start: Callable[..., Application]) -> None:
    pools = [Supervisor.child(name, [ChildSpec(("one", n), Worker) for n in (1, 2)]) for name in ("left", "right")]
    application = start(children=pools)

    found = ask(application, "info", actor="left/one/2")
    several = refused(application, "info", actor="one/2")

    assert (found["actor"], found["supervisor"]) == ("demo/left/one/2", "demo/left")
    assert str(several) == "no actor named 'one/2'; it may be 'demo/left/one/2', 'demo/right/one/2'"
    assert several.code == NOT_FOUND


def test_supervisor_tells_whose_child_it_is_and_whom_it_supervises(start: Callable[..., Application]) -> None:
    application = start(children=[workers(max_restarts=7)])

    found = ask(application, "info", actor="workers")

    assert found["supervisor"] == "demo"
    assert found["supervises"]["max_restarts"] == 7


def test_crash_below_a_supervisor_without_a_name_is_listed_under_the_childs_label(
    start: Callable[..., Application],
) -> None:
    application = start(children=[Supervisor.child("pool", [ChildSpec("ingest", Worker)])])
    first = ask(application, "info", actor="ingest")["id"]

    next(ref for ref in processes() if ref.id == first).tell("crash")
    until(lambda: ask(application, "status")["restarts"]["last_minute"] == 1)
    until(lambda: [one["who"] for one in crashes(application)] == ["demo/pool/ingest"])
    until(lambda: ask(application, "info", actor="ingest")["crashes"] == crashes(application))


def test_restarts_and_drops_of_a_handler_that_gave_up_are_counted(
    start: Callable[..., Application], attach: Callable[..., None]
) -> None:
    application = start()

    class Failing:
        def __call__(self, *_: Any) -> None:
            raise RuntimeError("no")

    attach("audit", "shop.order", Failing(), max_restarts=1, capacity=3)
    for _ in range(10):
        runtime.execute("shop.order", {"amount": 1})
    until(lambda: ask(application, "handlers")[0]["state"] == "gave_up")
    until(lambda: "handler gave up" in [one["what"] for one in crashes(application)])

    (handler,) = ask(application, "handlers")
    status = ask(application, "status")
    told = [(one["what"], one["who"]) for one in crashes(application)]
    assert told == [("handler failure", "audit")] * 2 + [("handler gave up", "audit")]
    assert handler["function"].endswith("Failing")
    assert handler["restarts"] == 1
    assert status["deepest_mailbox"] == {"actor": "audit", "pending": handler["mailbox"], "capacity": 3}
    assert status["restarts"] == {"last_minute": 1, "last_hour": 1, "total": 1}
    assert status["dropped"] == handler["dropped"] > 0


def test_id_of_a_handler_leads_to_the_actor_that_runs_it(
    start: Callable[..., Application], attach: Callable[..., None]
) -> None:
    application = start()
    gate = Gate()
    attach("audit", "shop.order", lambda *_: gate.pass_through())
    runtime.execute("shop.order", {"amount": 1})
    gate.wait_reached()

    place, info = ask(application, "where", actor="audit"), ask(application, "info", actor="audit")
    tree = ask(application, "tree", actor="audit")
    gate.open()

    assert place["actor"] == info["actor"] == "telemetry.handlers/audit/handler"
    assert "pass_through" in [frame["function"] for frame in place["stack"]]
    assert [line["actor"] for line in tree] == ["telemetry.handlers/audit", "telemetry.handlers/audit/handler"]


def test_unknown_actor_is_answered_with_the_name_that_was_meant(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])

    error = refused(application, "info", actor="ingset")

    assert (str(error), error.code) == ("no actor named 'ingset'; did you mean 'ingest'?", NOT_FOUND)


def test_where_shows_the_stack_of_a_busy_thread_and_of_a_waiting_green_actor(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    gates = {"ingest": Gate(), "spare": Gate()}
    spare = next(ref for ref in application.supervisor.which_children() if ref.id == "workers").child
    refs = {entry.id: entry.child for entry in spare.which_children()}

    for name, gate in gates.items():
        refs[name].tell(gate)
        gate.wait_reached()
    seen = {name: ask(application, "where", actor=name) for name in gates}
    for gate in gates.values():
        gate.open()

    functions = {name: [frame["function"] for frame in found["stack"]] for name, found in seen.items()}
    assert all("pass_through" in found for found in functions.values())
    assert seen["ingest"]["path"] == ["demo", "workers", "ingest"]


def test_handlers_events_and_dead_letters_tell_of_a_failing_handler(
    start: Callable[..., Application], attach: Callable[..., None]
) -> None:
    declared = Declared(
        name="shop.order", description="An order.", measurements={"amount": "EUR"}, metadata={"shop": str}
    )
    application = start(catalogue=Catalogue([declared]))

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    attach("audit", "shop.order", fail, max_restarts=0)
    runtime.execute("shop.order", {"amount": 1}, {"shop": "x", "token": "abc"})
    until(lambda: ask(application, "handlers")[0]["state"] == "gave_up")

    (handler,) = ask(application, "handlers", prefix="shop")
    (event,) = ask(application, "events", prefix="shop")
    (letter,) = ask(application, "dead-letters", handler="audit")
    status = ask(application, "status")
    assert (handler["handler"], handler["failed"], handler["dead_letters"]) == ("audit", 1, 1)
    assert (event["event"], event["declared"], event["handlers"]) == ("shop.order", True, ["audit"])
    assert event["measurements"] == {"amount": "EUR"}
    assert letter["metadata"] == {"shop": "x", "token": "***"}
    assert "RuntimeError: no" in letter["traceback"]
    assert (status["healthy"], status["handlers"]["parked"]) == (False, ["audit"])
    assert ask(application, "handlers", prefix="shopping") == []
    assert "audit" in str(refused(application, "dead-letters", handler="adit"))


def test_metrics_show_series_since_the_start(start: Callable[..., Application]) -> None:
    metrics = [counter("shop.order.count", tags=["shop"]), summary("shop.order.amount")]
    application = start(metrics=metrics)

    for amount in (1, 2, 3):
        runtime.execute("shop.order", {"amount": amount}, {"shop": "x"})
    orders, amounts = ask(application, "metrics", prefix="shop")

    assert orders["series"] == [{"tags": {"shop": "x"}, "value": 3}]
    assert (amounts["series"][0]["count"], amounts["series"][0]["sum"]) == (3, 6)


def test_hostile_names_and_values_travel_as_plain_json(start: Callable[..., Application]) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise KeyError("never")

    application = start(children=[workers()])
    values = {
        "nan": float("nan"),
        "big": 1 << 80,
        "lone": "\ud800",
        "object": Hostile(),
        7: b"x",
        "deep": [[[[[[[[[[]]]]]]]]]],
    }

    whereis("ingest").replace_state(lambda state: state | {"values": values})
    data = ask(application, "state", actor="ingest")

    assert data["values"]["nan"] == "nan"
    assert data["values"]["big"] == str(1 << 80)
    assert data["values"]["7"] == "<1 bytes>"
    assert "KeyError" in data["values"]["object"]


def test_all_ages_of_a_listing_are_of_one_moment(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    started_ns = {ref.id: ref.info().started_ns for ref in processes()}

    listed = ask(application, "ps", sort="uptime_ns")["actors"]

    assert len({row["uptime_ns"] + started_ns[row["id"]] for row in listed}) == 1
    assert [row["id"] for row in listed] == sorted(started_ns, key=lambda each: started_ns[each], reverse=True)


def test_ten_thousand_actors_are_listed(start: Callable[..., Application]) -> None:
    application = start(children=[DynamicSupervisor.child("pool", name="pool")])
    pool = whereis("pool")
    for _ in range(10_000):
        pool.start_child(ChildSpec("worker", Worker))

    data = ask(application, "ps", match="pool/", sort="id", reverse=True, limit=3)
    all_of_them = ask(application, "ps")["actors"]
    lines = ask(application, "tree", actor="pool", children=5)

    assert (data["matching"], len(data["actors"])) == (10_000, 3)
    assert len({row["actor"] for row in all_of_them}) == len(all_of_them) > 10_000
    assert lines[-1] == {"depth": 1, "more": 9_995}


def test_answers_while_the_hub_is_blocked(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    over = socket.socketpair()
    reached = socket.socketpair()

    def block() -> None:
        reached[1].send(b"x")
        over[0].recv(1)  # a call in C that gives nothing back to the hub

    try:
        whereis("ingest").tell(block)
        assert reached[0].recv(1)
        until(lambda: "ingest" in "".join(ask(application, "status")["problems"]))

        with Connection(path_of(application), WAIT_S) as connection:
            reply, _ = connection.ask("status", {})
        listed = {row["actor"]: row for row in ask(application, "ps")["actors"]}
        place = ask(application, "where", actor="ingest")
        late = refused(application, "state", 0.2, actor="ingest")
        metrics = refused(application, "metrics", 0.2)
        change = refused(application, "restart", 0.2, target="ingest", yes=True)
    finally:
        over[1].send(b"x")
        for one in (*over, *reached):
            until(lambda: whereis("ingest") is None or not whereis("ingest").info().busy_ns)
            one.close()

    assert reply.node.stale_ns > 0
    assert "the hub has been blocked" in reply.data["problems"][0]
    assert "ingest" in reply.data["problems"][0]
    assert listed["ingest"]["state"] == "running"
    assert "block" in [frame["function"] for frame in place["stack"]]
    assert "the hub has been blocked" in str(late)
    assert "the hub has been blocked" in str(metrics)
    assert [late.code, metrics.code, change.code] == [TIMEOUT] * 3


def test_state_of_a_busy_actor_says_why_it_is_late(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    gate = Gate()
    whereis("ingest").tell(gate)
    gate.wait_reached()

    error = refused(application, "state", 0.1, actor="ingest")
    gate.open()

    assert error.code == TIMEOUT
    assert "current message" in str(error)
    assert ask(application, "state", actor="ingest")["seen"] == 1


def test_chain_of_actors_longer_than_pythons_stack_is_a_tree_too(start: Callable[..., Application]) -> None:
    class Link(Actor):
        def on_receive(self, message: Any) -> Any:
            return Link.start()  # not linked: only a parent

    application = start(children=[ChildSpec("first", Link.options(name="first").start_link)])
    link = whereis("first")
    for _ in range(1_100):
        link = link.ask("longer")

    lines = ask(application, "tree", actor="first")

    assert [line["depth"] for line in lines] == list(range(1_101))


def test_session_that_the_node_has_closed_is_made_anew(start: Callable[..., Application]) -> None:
    application = start()
    shell = Shell(Screen(), connect=str(path_of(application)), timeout_s=WAIT_S)
    shell.ask("hello")
    assert application._introspection is not None

    application._introspection.close()
    application._introspection.open()
    reply, _ = shell.ask("hello")
    shell.close()

    assert reply.node.name == "demo"
