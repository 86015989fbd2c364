"""The introspector, over its real socket: what it answers, to whom, and what a broken or hostile client costs it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

import runtime
from actors import Actor, introspector, whereis
from actors.introspector import Introspection
from runtime import _taps
from runtime.catalogue import Catalogue, Declared
from runtime.errors import InvalidValue
from runtime.metrics import counter, summary
from runtime.shell import protocol
from runtime.shell._client import NOT_FOUND, TIMEOUT, USAGE, Connection, ShellError
from supervisors import Application, ChildSpec, DynamicSupervisor, Supervisor
from tests.runtime.meeting import PATIENCE_S, Gate, in_threads, until

WAIT_S = 30.0
"""How long an answer may take before the test fails; none should take a hundredth of it."""


class Worker(Actor):
    """Does what it is told, also what it should not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.api_key = "s3cr3t"

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("no good, password='hunter2'")
        if isinstance(message, Gate):
            message.pass_through()
        if callable(message):
            message()
        self.seen += 1
        return self.seen


class Threaded(Worker):
    carrier = "thread"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as directory:
        yield Path(directory) / "sockets"


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Application]]:
    """Start an application that can be looked into; it is stopped after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Application:
            options = {"introspect": place / "node.sock", "control": True, "drain_s": 2.0} | options
            application = Application("demo", **options)
            application.start()
            stack.callback(application.stop)
            return application

        yield start


@pytest.fixture
def attach() -> Iterator[Callable[..., None]]:
    """Attach handlers that are detached after the test."""
    attached: list[str] = []

    def attach(handler_id: str, *args: Any, **options: Any) -> None:
        runtime.attach(handler_id, *args, **options)
        attached.append(handler_id)

    yield attach
    left = {info.id for info in runtime.list_handlers()}
    for handler_id in attached:
        if handler_id in left:
            runtime.detach(handler_id)


def workers(**options: Any) -> ChildSpec:
    children = [
        ChildSpec("ingest", Worker.options(name="ingest").start_link),
        ChildSpec("spare", Threaded),
    ]
    return Supervisor.child("workers", children, name="workers", **options)


def path_of(application: Application) -> Path:
    assert application.socket_path is not None
    return application.socket_path


def ask(application: Application, verb: str, **args: Any) -> Any:
    with Connection(path_of(application), WAIT_S) as connection:
        return connection.ask(verb, args)[0].data


def refused(application: Application, verb: str, timeout_s: float = WAIT_S, **args: Any) -> ShellError:
    with Connection(path_of(application), timeout_s) as connection, pytest.raises(ShellError) as caught:
        connection.ask(verb, args)
    return caught.value


def say(application: Application, *lines: bytes) -> list[dict[str, Any]]:
    """Send raw bytes and read what comes back until the node closes or has answered each line."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(WAIT_S)
        raw.connect(str(path_of(application)))
        raw.sendall(b"".join(lines))
        raw.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
    return [json.loads(line) for line in received.splitlines()]


STATUS = protocol.encode(protocol.Request(protocol.VERSION, "status"))


# -- what is answered ------------------------------------------------------------------------------------------------


def test_status_of_a_fresh_node_is_healthy(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])

    data = ask(application, "status")

    assert (data["name"], data["pid"], data["healthy"], data["problems"]) == ("demo", os.getpid(), True, [])
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

    (crash,) = ask(application, "crashes")
    line = next(line for line in ask(application, "tree") if line["actor"] == "ingest")
    assert (crash["what"], crash["who"]) == ("crash", "workers/ingest")
    assert "ValueError" in crash["reason"]
    assert "on_receive" in crash["stacktrace"]
    assert line["restarts"] == 1
    assert "ValueError" in line["last_failure"]["reason"]
    assert ask(application, "info", actor="ingest")["crashes"] == [crash]


def test_secrets_are_masked_in_state_crashes_and_tree(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    first = whereis("ingest")

    first.tell("crash")
    first.wait(PATIENCE_S)
    until(lambda: ask(application, "crashes"))

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


# -- traces ----------------------------------------------------------------------------------------------------------


def test_trace_shows_matching_events_up_to_its_limit_and_then_leaves_no_tap(start: Callable[..., Application]) -> None:
    application = start()
    args = {"event": "shop.*", "limit": 2, "for_s": 30.0, "where": {"shop": "x"}}

    with Connection(path_of(application), WAIT_S) as connection:
        stream = connection.stream("trace", args, 30.0)
        emitter = in_background(lambda: [runtime.execute("shop.order", {"n": 1}, {"shop": shop}) for shop in "xy"])
        replies = [reply for reply, _ in stream]
        emitter()

    assert [reply.data["metadata"] for reply in replies[:-1]] == [{"shop": "x"}] * 2
    assert (replies[-1].end or {})["why"] == "limit"
    assert _taps._taps == ()


def in_background(emit: Callable[[], object]) -> Callable[[], None]:
    """Do something again and again, in a thread, until what is returned is called."""
    import threading

    over = threading.Event()

    def run() -> None:
        while not over.wait(0.005):
            emit()

    thread = threading.Thread(target=run)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join(PATIENCE_S)

    return stop


def test_trace_ends_with_its_time_when_nothing_comes(start: Callable[..., Application]) -> None:
    application = start()

    with Connection(path_of(application), WAIT_S) as connection:
        replies = [reply for reply, _ in connection.stream("trace", {"event": "shop.*", "for_s": 0.1}, 0.1)]

    assert [reply.end for reply in replies] == [{"why": "time", "seen": 0, "skipped": 0}]


def test_trace_ends_when_its_client_goes(start: Callable[..., Application]) -> None:
    application = start()
    connection = Connection(path_of(application), WAIT_S)
    connection._send("trace", {"event": "*", "for_s": 600.0}, WAIT_S)
    until(lambda: _taps._taps != ())

    connection.close()

    until(lambda: _taps._taps == ())


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 10**9}, {"for_s": 0.0}, {"for_s": 1e9}, {"rate": 0.0}, {"event": "a..b"}]
)
def test_trace_without_bounds_is_refused(start: Callable[..., Application], wrong: dict[str, Any]) -> None:
    error = refused(start(), "trace", **{"event": "shop.*"} | wrong)

    assert error.code == USAGE
    assert _taps._taps == ()


# -- changing --------------------------------------------------------------------------------------------------------


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


# -- while the application is stuck ----------------------------------------------------------------------------------


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
        until(lambda: ask(application, "status")["hub"]["lag_ns"] > 1_000_000_000)

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


# -- clients ---------------------------------------------------------------------------------------------------------


def test_malformed_request_is_answered_and_the_session_goes_on(start: Callable[..., Application]) -> None:
    application = start()

    frames = say(
        application, b"\n", b"nonsense\n", b"[]\n", b'{"v":1}\n', b"\xff\xfe\n", b'{"v":1,"verb":"stauts"}\n', STATUS
    )

    assert [frame["error"]["kind"] for frame in frames[:-1]] == ["usage"] * 4 + ["not_found"]
    assert frames[-2]["error"]["near"][0] == "status"
    assert frames[-1]["data"]["name"] == "demo"


def test_other_version_of_the_protocol_is_told_apart(start: Callable[..., Application]) -> None:
    (frame,) = say(start(), b'{"v":2,"verb":"status"}\n')

    assert frame["error"]["kind"] == "version"


def test_wrong_arguments_are_a_usage_error(start: Callable[..., Application]) -> None:
    application = start()

    codes = [
        refused(application, verb, **args).code
        for verb, args in (("ps", {"sort": "colour"}), ("info", {}), ("crashes", {"limit": "x"}), ("hello", {"a": 1}))
    ]

    assert codes == [USAGE] * 4


def test_request_that_is_too_long_ends_its_session_and_no_other(start: Callable[..., Application]) -> None:
    application = start()

    with Connection(path_of(application), WAIT_S) as bystander:
        bystander.ask("hello")
        frames = say_until_closed(application, b"x" * (protocol.REQUEST_BYTES + 100_000))
        bystander.ask("hello")

    assert [frame["error"]["kind"] for frame in frames] == ["usage"]


def say_until_closed(application: Application, data: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(WAIT_S)
        raw.connect(str(path_of(application)))
        received = b""
        with contextlib.suppress(BrokenPipeError):  # the node may have seen enough already
            raw.sendall(data)
        try:
            while chunk := raw.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass  # it had not read everything that we sent
    return [json.loads(line) for line in received.splitlines()]


def test_any_bytes_at_all_leave_the_node_in_order(start: Callable[..., Application]) -> None:
    application = start(children=[workers()], control=True)
    before = whereis("ingest")
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
    verbs = st.sampled_from(
        ["status", "ps", "tree", "info", "where", "state", "crashes", "metrics", "stop", "emit", "x"]
    )
    keys = st.sampled_from(["actor", "limit", "sort", "prefix", "target", "event", "yes", "children", "match"])
    request = st.fixed_dictionaries(
        {"v": st.just(1) | values, "verb": verbs | values, "args": st.dictionaries(keys, values, max_size=3) | values}
    )
    frames = st.lists(st.binary(max_size=300) | request.map(lambda one: json.dumps(one).encode()), max_size=5)

    @hypothesis.given(frames)
    @hypothesis.settings(max_examples=60)
    def fuzz(lines: list[bytes]) -> None:
        for frame in say(application, *[line + b"\n" for line in lines]):
            assert frame["v"] == 1
            assert ("data" in frame) != ("error" in frame)
            assert frame.get("error", {}).get("kind") != "failed", frame

    fuzz()

    assert say(application, STATUS)[0]["data"]["name"] == "demo"
    assert whereis("ingest") is before


def test_fifty_clients_are_served_at_a_time(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    names: list[str] = []

    def client(_: int) -> None:
        with Connection(path_of(application), WAIT_S) as connection:
            for verb in ("status", "ps", "tree", "crashes") * 3:
                names.append(connection.ask(verb)[0].node.name)

    in_threads(50, client)

    assert names == ["demo"] * 600


def test_one_shell_too_many_is_told_so_and_served_when_another_has_left(start: Callable[..., Application]) -> None:
    application = start()
    with ExitStack() as stack:
        for _ in range(protocol.SESSIONS):
            stack.enter_context(Connection(path_of(application), WAIT_S)).ask("hello")
        with socket.socket(socket.AF_UNIX) as one_more:
            one_more.settimeout(WAIT_S)
            one_more.connect(str(path_of(application)))
            told = json.loads(one_more.makefile().readline())

    assert told["error"]["kind"] == "busy"
    until(lambda: whereis(introspector.NAME).get_state()["sessions"] == 0)
    assert ask(application, "hello")["control"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused(start: Callable[..., Application]) -> None:
    application = start()
    path = path_of(application)
    # Open what keeps others out, so that only the check of the peer is left.
    path.parent.chmod(0o711)
    path.chmod(0o666)
    path.parent.parent.chmod(0o711)

    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as raw:
                raw.settimeout(WAIT_S)
                raw.connect(str(path))
                try:
                    raw.sendall(STATUS)
                    answer = raw.recv(1)
                except (BrokenPipeError, ConnectionResetError):
                    answer = b""
            os._exit(0 if answer == b"" else 1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert ask(application, "hello")["control"] is True


# -- the socket ------------------------------------------------------------------------------------------------------


def test_socket_is_for_its_owner_alone(start: Callable[..., Application], place: Path) -> None:
    before = os.umask(0)
    try:
        application = start()
    finally:
        after = os.umask(before)

    modes = [stat.S_IMODE(os.lstat(path).st_mode) for path in (path_of(application), place)]

    assert (modes, after) == ([0o600, 0o700], 0)


def test_socket_is_gone_with_the_application(start: Callable[..., Application], place: Path) -> None:
    application = start()

    assert application.stop()

    assert list(place.iterdir()) == []
    assert application.socket_path is None


@pytest.mark.parametrize("make", ["open", "link", "file"])
def test_unsafe_directory_is_not_used_and_the_service_runs_all_the_same(
    start: Callable[..., Application], place: Path, make: str
) -> None:
    elsewhere = place.parent / "elsewhere"
    elsewhere.mkdir(0o700)
    if make == "open":
        place.mkdir()
        place.chmod(0o755)
    elif make == "link":
        place.symlink_to(elsewhere)
    else:
        place.touch(0o600)

    application = start()

    problem = whereis(introspector.NAME).get_state()["problem"]
    assert (application.is_running, application.socket_path, list(elsewhere.iterdir())) == (True, None, [])
    assert str(place) in problem


def test_socket_of_a_dead_node_is_replaced_and_that_of_a_living_one_is_not(
    start: Callable[..., Application], place: Path
) -> None:
    place.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "node.sock"))
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(place / "other.sock"))
        living.listen()
        theirs = os.lstat(place / "other.sock").st_ino

        application = start()
        other = Introspection("other", path=place / "other.sock")
        other.open()

        assert ask(application, "hello")["control"] is True
        assert "something is there already" in other.problem
        assert os.lstat(place / "other.sock").st_ino == theirs


def test_file_in_the_way_is_left_alone(start: Callable[..., Application], place: Path) -> None:
    place.mkdir(0o700)
    (place / "node.sock").write_text("precious")

    application = start()

    assert application.socket_path is None
    assert (place / "node.sock").read_text() == "precious"


def test_socket_that_was_cleaned_away_comes_back(start: Callable[..., Application]) -> None:
    application = start()
    path = path_of(application)
    path.unlink()

    assert application._introspection is not None
    application._introspection.open()

    assert ask(application, "hello")["control"] is True


def test_killed_introspector_comes_back_with_what_it_knew(start: Callable[..., Application]) -> None:
    application = start(children=[workers()])
    ingest = whereis("ingest")
    ingest.tell("crash")
    ingest.wait(PATIENCE_S)
    until(lambda: ask(application, "crashes"))
    first = whereis(introspector.NAME)

    first.kill()
    first.wait(PATIENCE_S)
    until(lambda: whereis(introspector.NAME) not in (None, first))

    until(lambda: path_of(application).exists())
    assert next(one["what"] for one in ask(application, "crashes")) == "crash"


def test_forked_child_does_not_hold_the_parents_socket(start: Callable[..., Application]) -> None:
    application = start()
    path = path_of(application)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = [
                os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and fd_is(fd)
            ]
            os.write(writer, json.dumps([one for one in held if one.startswith("socket:")]).encode() or b"[]")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        held = json.loads(answer.read())
    os.waitpid(child, 0)

    assert held == []
    assert path.exists()
    assert ask(application, "hello")["control"] is True


def fd_is(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_path_that_is_too_long_is_told(place: Path) -> None:
    declared = Introspection("demo", path=place / ("x" * 120))

    declared.open()

    assert "at most" in declared.problem


def test_relative_path_is_refused_at_once() -> None:
    with pytest.raises(InvalidValue, match="absolute"):
        Introspection("demo", path="node.sock")


def test_application_without_introspection_has_no_socket() -> None:
    with Application("demo").running() as application:
        assert application.socket_path is None
        assert whereis(introspector.NAME) is None
