"""The introspector and its socket: where it is, whom it is for, and what it outlives."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import introspector, whereis
from actors.introspector import Introspection
from runtime.errors import InvalidValue
from supervisors import Application
from tests.actors.introspection.house import ask, crashes, path_of, workers
from tests.runtime.meeting import PATIENCE_S, until


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
    until(lambda: crashes(application))
    first = whereis(introspector.NAME)

    first.kill()
    first.wait(PATIENCE_S)
    until(lambda: whereis(introspector.NAME) not in (None, first))

    until(lambda: path_of(application).exists())
    assert crashes(application)[0]["what"] == "crash"


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
