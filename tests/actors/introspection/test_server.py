"""Clients, broken and hostile ones too, and how many at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from actors import introspector, whereis
from runtime.shell import protocol
from runtime.shell._client import USAGE, Connection
from supervisors import Application
from tests.actors.introspection.house import STATUS, WAIT_S, ask, path_of, refused, say, workers
from tests.runtime.meeting import in_threads, until


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
