"""The process carrier: handlers that may crash as hard as they like, and events that are accounted for exactly."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import os
import signal
import subprocess
import sys
import termios
import textwrap
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from gevent import monkey

import runtime
from actors import processes
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime.clock import FakeClock
from runtime.errors import InvalidValue
from runtime.testing import capture_events
from supervisors import Application
from tests.actors import process_handlers
from tests.runtime.meeting import PATIENCE_S, Answer, until

HANDLERS = "tests.actors.process_handlers"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def app() -> Iterator[Application]:
    """A running application; every handler is detached after the test."""
    with Application("processes").running() as app:
        yield app
        for attachment in table.all():
            runtime.detach(attachment.id)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the handlers report to."""
    return tmp_path / "log"


def lines(log: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def attach(handler: Any, log: Path, **options: Any) -> None:
    runtime.attach("h", "a.b", handler, {"log": str(log)}, carrier="process", **options)


def emit(numbers: Any, **metadata: Any) -> None:
    for n in numbers:
        runtime.execute("a.b", {"n": n}, metadata)


def begin_a_batch(numbers: Any, log: Path, do: str) -> None:
    """Emit events that travel together, after event 0, and return when the handler has begun with the first of them."""
    emit([0], do="wait for mine")
    until(lambda: lines(log) == [0])
    emit(numbers, do=do)
    Path(f"{log}.0").touch()
    until(lambda: lines(log) == [0, numbers[0]])


def statistics() -> Any:
    attachment = table.get("h")
    assert attachment is not None
    return attachment.mailbox.statistics()


def the_actor() -> Any:
    """The actor of the only process handler."""
    (actor,) = [ref._actor for ref in processes() if ref.info().carrier == "process"]
    return actor


def child_pid() -> int:
    actor = the_actor()
    until(lambda: actor._child is not None)
    return int(actor._child._pid)


def waiting_bytes(child: Any) -> int:
    """How much a process has been sent that it has not read yet."""
    found = fcntl.ioctl(child._fds["out"], termios.FIONREAD, bytes(4))
    return len(child._outgoing) + int.from_bytes(found, sys.byteorder)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def open_files(pid: int) -> list[int]:
    """The inodes of all files and pipes that a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)
    return found


def says(text: str, reason: str) -> bool:
    """Tell whether a text says how a process ended.

    In a patched host gevent's loop, which collects every child, may have been faster than we are, and alone knows.
    """
    is_collected = monkey.is_module_patched("os") and "it has collected our child" in text
    return reason in text or (is_collected and reason.startswith("process ended"))


def files_and_threads() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


# -- what it does ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler",
    [f"{HANDLERS}:record", process_handlers.record, process_handlers.Scorer.record, f"{HANDLERS}:Scorer.record"],
)
def test_a_handler_gets_every_event_in_order_in_another_process(app: Application, log: Path, handler: Any) -> None:
    attach(handler, log)

    emit(range(1000))

    assert app.drain(PATIENCE_S)
    assert lines(log) == list(range(1000))
    assert (statistics().handled, statistics().failed, statistics().pending) == (1000, 0, 0)


def test_what_was_attached_before_the_start_goes_live_with_it(log: Path) -> None:
    attach(process_handlers.record, log)

    with Application("later").running() as app:
        emit(range(3))
        assert app.drain(PATIENCE_S)
        runtime.detach("h")

    assert lines(log) == [0, 1, 2]


def test_it_is_listed_as_a_process_under_what_was_attached(app: Application, log: Path) -> None:
    attach(process_handlers.record, log)

    (listed,) = runtime.list_handlers("a.b")
    assert (listed.carrier, listed.handler) == ("process", process_handlers.record)
    assert [ref.info().carrier for ref in processes() if "ProcessHandler" in str(ref)] == ["process"]


def test_the_process_has_a_session_of_its_own_no_file_of_the_host_and_nothing_of_ours(
    app: Application, log: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "host's file", "w") as file:
        os.set_inheritable(file.fileno(), True)
        attach(process_handlers.about_me, log)
        emit([0])
        assert app.drain(PATIENCE_S)

    (told,) = lines(log)
    assert told["session"] == told["pid"] == child_pid()
    assert len(told["files"]) == 5  # the three of every process, and its two pipes
    assert told["ours"] == []


def test_many_large_events_and_a_very_large_one_arrive(app: Application, log: Path) -> None:
    attach(process_handlers.record, log)

    emit(range(5000), text="x" * 10_000)
    emit([5000], text="x" * 20_000_000)

    assert app.drain(PATIENCE_S)
    assert lines(log) == list(range(5001))


class Opaque:
    def __repr__(self) -> str:
        return "<opaque \ud800>"


class Hostile:
    def __repr__(self) -> str:
        raise SystemExit("gotcha")


class Number(int):
    pass


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ([None, True, -1, 1.5, "ä", {"a": [1]}], [None, True, -1, 1.5, "ä", {"a": [1]}]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({4}, [4]),
        (deque([5]), [5]),
        (MappingProxyType({"a": 6}), {"a": 6}),
        (Number(7), 7),
        (Text("eight"), "eight"),
        (2**63, 2**63),
        (2**64, "repr: 18446744073709551616"),
        ([{"deep": -(2**64)}], [{"deep": "repr: -18446744073709551616"}]),
        ("\ud800", "repr: '\\ud800'"),
        (ValueError("x"), "repr: ValueError('x')"),
        (Opaque(), "repr: <opaque \\ud800>"),
        (Hostile(), "repr: <Hostile, whose repr raised SystemExit>"),
        (datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), "2024-01-02T00:00:00Z"),  # and JSON, for the log
        ({1: "one", Opaque: 2}, {"1": "one", "repr: <class 'tests.actors.test_process.Opaque'>": 2}),
    ],
)
def test_what_msgpack_cannot_carry_arrives_as_its_repr(app: Application, log: Path, sent: Any, arrives: Any) -> None:
    attach(process_handlers.echo, log)

    runtime.execute("a.b", {"n": 1}, {"sent": sent})

    assert app.drain(PATIENCE_S)
    assert lines(log) == [["a.b", {"n": 1}, {"sent": arrives}, {"log": str(log)}]]


def test_a_cycle_arrives_cut_off(app: Application, log: Path) -> None:
    attach(process_handlers.record, log)
    cycle: list[Any] = []
    cycle.append(cycle)

    runtime.execute("a.b", {"n": 1}, {"cycle": cycle})

    assert app.drain(PATIENCE_S)
    assert lines(log) == [1]


# -- what it refuses ---------------------------------------------------------------------------------------------------


def nested() -> Callable[..., object]:
    def inner(*event: object) -> None:
        """Not importable."""

    return inner


class CallMe:
    def __call__(self, *event: object) -> None:
        """Callable, and not importable."""


@pytest.mark.parametrize(
    "handler",
    [
        lambda *event: None,
        nested(),
        CallMe(),
        functools.partial(process_handlers.record),
        process_handlers.Scorer().score,
        None,
        7,
        "record",
        "tests.actors.process_handlers.record",
        f"{HANDLERS}:",
        f"{HANDLERS}:nothing_of_that_name",
        f"{HANDLERS}:Scorer.nothing",
        f"{HANDLERS}:os.path.sep",
        "there.is.no.such.module:record",
        "tests.actors.no_such_module:record",
        "json.tool:no_such_function",
        "../etc:passwd",
    ],
)
def test_a_handler_that_cannot_be_imported_is_refused_at_attach(handler: Any) -> None:
    with pytest.raises(InvalidValue, match="expected a handler that another interpreter can import, got: "):
        attach(handler, Path("log"))

    assert table.all() == []


def test_an_import_string_is_checked_without_running_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "boxes" / "heavy.py").write_text("raise RuntimeError('imported')\ndef score(*event): ...")

    attach("boxes.heavy:score", Path("log"))
    runtime.detach("h")

    with pytest.raises(InvalidValue, match=r"Module boxes\.heavy does not mention scroe"):
        attach("boxes.heavy:scroe", Path("log"))


@pytest.mark.parametrize("config", [object(), {"a": {object: 1}}, 2**64, lambda: None, "\ud800"])
def test_a_config_that_cannot_travel_is_refused_at_attach(config: Any) -> None:
    with pytest.raises(InvalidValue, match="expected a config that msgpack can carry to the handler's process"):
        runtime.attach("h", "a.b", process_handlers.record, config, carrier="process")

    assert table.all() == []


def test_an_import_string_is_for_processes_only() -> None:
    with pytest.raises(InvalidValue, match="expected handler to be callable"):
        runtime.attach("h", "a.b", f"{HANDLERS}:record")


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "kind", "reason"),
    [
        ("raise", "error", "ValueError: no good"),
        ("sys.exit", "exit", "SystemExit: 4"),
        ("exit", "exit", "process ended with exit code 3"),
        ("be killed", "exit", "process ended by signal SIGKILL"),
        ("segfault", "exit", "process ended by signal SIGSEGV"),
    ],
)
def test_of_a_batch_that_kills_its_process_only_the_guilty_event_fails(
    app: Application, log: Path, do: str, kind: str, reason: str
) -> None:
    with capture_events() as captured:
        attach(process_handlers.act, log)
        emit([0], do="wait")  # the others gather meanwhile, so that they travel in one batch
        emit(range(1, 20))
        emit([20], do=do)
        emit(range(21, 40))
        Path(f"{log}.go").touch()
        assert app.drain(PATIENCE_S)

    assert lines(log) == list(range(40))
    s = statistics()
    assert (s.accepted, s.handled, s.failed, s.pending, s.discarded) == (40, 39, 1, 0, 0)
    (letter,) = runtime.dead_letters("h")
    assert letter.event.measurements == {"n": 20}
    assert says(letter.traceback, reason)
    (failure,) = captured.failures
    assert (failure.metadata["event_name"], failure.metadata["handler_id"]) == ("a.b", "h")
    assert failure.metadata["kind"] == kind
    assert says(str(failure.metadata["reason"]), reason)
    assert captured.count("actors.crash") == 1


def test_the_traceback_of_the_other_process_is_in_the_dead_letter_and_in_the_failure(
    app: Application, log: Path
) -> None:
    with capture_events() as captured:
        attach(process_handlers.act, log)
        emit([0], do="raise")
        until(lambda: captured.failures)  # after it is drained, and after the letter is kept

    (letter,) = runtime.dead_letters("h")
    assert 'process_handlers.py", line' in letter.traceback
    assert 'raise ValueError("no good")' in letter.traceback
    stack = captured.failures[0].metadata["stacktrace"]
    assert 'raise ValueError("no good")' in str(stack)
    assert stack.places().endswith(" act")


def test_every_sort_of_crash_in_a_row_is_accounted_for_exactly(app: Application, log: Path) -> None:
    what = ["raise", "segfault", "", "exit", "be killed", "sys.exit", "", ""] * 3
    before = files_and_threads()
    attach(process_handlers.act, log, max_restarts=100, max_seconds=0.001, dead_letters=5)

    for n, do in enumerate(what):
        emit([n], do=do)

    assert app.drain(PATIENCE_S)
    assert lines(log) == list(range(24))
    assert (statistics().handled, statistics().failed) == (9, 15)
    assert [letter.event.measurements["n"] for letter in runtime.dead_letters("h")] == [16, 17, 19, 20, 21]
    runtime.detach("h")
    until(lambda: all(now <= then for now, then in zip(files_and_threads(), before, strict=True)))


def test_a_process_that_dies_idle_is_replaced_at_once_and_fails_no_event(app: Application, log: Path) -> None:
    with capture_events("actors.crash") as captured:
        attach(process_handlers.record, log)
        emit([0])
        assert app.drain(PATIENCE_S)
        first = child_pid()

        os.kill(first, signal.SIGKILL)
        captured.wait_for("actors.crash", timeout_s=PATIENCE_S)

    emit([1])
    assert app.drain(PATIENCE_S)
    assert child_pid() != first
    assert lines(log) == [0, 1]
    assert (statistics().handled, statistics().failed) == (2, 0)
    assert says(str(captured.events[0].metadata["reason"]), "process ended by signal SIGKILL")


def test_an_event_that_a_dying_process_has_not_begun_is_handled_by_the_next_one(app: Application, log: Path) -> None:
    attach(process_handlers.record, log)
    emit([0])
    assert app.drain(PATIENCE_S)
    first, actor = child_pid(), the_actor()

    os.kill(first, signal.SIGSTOP)
    emit([1])
    until(lambda: actor._ahead)  # it is on its way to a process that will never read it
    os.kill(first, signal.SIGKILL)

    assert app.drain(PATIENCE_S)
    assert lines(log) == [0, 1]
    assert (statistics().handled, statistics().failed) == (2, 0)
    assert runtime.dead_letters("h") == []


def test_a_process_whose_pipes_a_grandchild_holds_open_is_found_dead_all_the_same(app: Application, log: Path) -> None:
    attach(process_handlers.act, log)
    emit([0], do="fork")
    first = child_pid()

    emit([1])

    assert app.drain(PATIENCE_S)
    assert (statistics().handled, statistics().failed) == (1, 1)
    os.killpg(first, signal.SIGKILL)  # the grandchild


def test_a_hung_handler_is_killed_at_its_deadline_and_the_next_one_goes_on(
    clock: FakeClock, app: Application, log: Path
) -> None:
    # By a clock of the test's own: on a busy machine, an event that does not hang might take as long as well.
    clock.advance(1)
    with capture_events() as captured:
        attach(process_handlers.act, log, deadline_s=60)
        emit([0, 1])
        emit([2], do="hang on")
        emit([3])
        until(lambda: lines(log) == [0, 1, 2] and statistics().handled == 2)
        assert captured.failures == []

        until(lambda: clock.advance(61) or captured.failures)
        until(lambda: clock.advance(0.1) or runtime.list_handlers("a.b")[0].restarts == 1)  # the pause before it
        assert app.drain(PATIENCE_S)

    assert lines(log) == [0, 1, 2, 3]
    assert (statistics().handled, statistics().failed) == (3, 1)
    (failure,) = captured.failures
    assert type(failure.metadata["reason"]).__name__ == "DeadlineExceeded"
    assert "expected the handler to return within 60 s, got: still running" in runtime.dead_letters("h")[0].traceback


def test_a_module_that_fails_to_import_costs_no_event_and_is_given_up(
    app: Application, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_box.py").write_text("def score(*event): ...\nraise RuntimeError('not here')")
    with capture_events() as captured:
        attach("broken_box:score", log, max_restarts=1)
        emit([0])
        captured.wait_for("telemetry.handler.gave_up", timeout_s=PATIENCE_S)

    assert "RuntimeError: not here" in str(captured.of("actors.crash")[0].metadata["reason"])
    assert captured.failures == []
    assert (statistics().pending, statistics().failed) == (1, 0)

    (tmp_path / "broken_box.py").write_text(
        f"from {HANDLERS} import record as score"
    )  # repaired: nothing else need change
    runtime.reattach("h")
    assert app.drain(PATIENCE_S)
    assert lines(log) == [0]


def test_a_handler_that_keeps_crashing_is_given_up_and_keeps_what_waits(app: Application, log: Path) -> None:
    with capture_events() as captured:
        attach(process_handlers.act, log, max_restarts=2)
        emit(range(5), do="segfault")
        captured.wait_for("telemetry.handler.gave_up", timeout_s=PATIENCE_S)

    assert lines(log) == [0, 1, 2]
    assert (statistics().failed, statistics().pending) == (3, 2)
    assert [info.state for info in runtime.list_handlers("a.b")] == ["gave_up"]


def test_on_failure_detach_takes_it_off_after_the_first_failure(app: Application, log: Path) -> None:
    with capture_events() as captured:
        attach(process_handlers.act, log, on_failure="detach")
        attachment = table.get("h")
        assert attachment is not None
        emit([0], do="wait")
        emit([1], do="raise")
        emit([2])
        Path(f"{log}.go").touch()
        captured.wait_for("telemetry.handler.failure", timeout_s=PATIENCE_S)
        until(lambda: attachment.mailbox.statistics().pending == 0)

    s = attachment.mailbox.statistics()
    assert runtime.list_handlers("a.b") == []
    assert lines(log) == [0, 1]
    assert (s.handled, s.failed, s.discarded) == (1, 1, 1)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_detach_lets_the_current_event_finish_and_discards_the_rest(app: Application, log: Path) -> None:
    attach(process_handlers.act, log)
    attachment = table.get("h")
    assert attachment is not None
    begin_a_batch(range(1, 100), log, do="wait")
    pid, child = child_pid(), the_actor()._child
    told_by = os.fstat(child._fds["out"]).st_ino

    detaching = Answer(lambda: runtime.detach("h"))
    until(lambda: told_by not in open_files(pid))  # it knows that it is to stop, and only then is let go on
    Path(f"{log}.go").touch()
    detaching.get()

    s = attachment.mailbox.statistics()
    assert lines(log) == list(range(s.handled))
    assert 2 <= s.handled < 65  # not the whole batch that the process had
    assert (s.accepted, s.handled + s.discarded, s.failed, s.pending) == (100, 100, 0, 0)
    assert not is_alive(pid)


@pytest.mark.parametrize("do", ["hang", "hang on"])
def test_detach_ends_a_process_that_does_not_want_to(app: Application, log: Path, do: str) -> None:
    attach(process_handlers.act, log)
    attachment = table.get("h")
    assert attachment is not None
    emit(range(100), do=do)
    until(lambda: lines(log) == [0])
    pid = child_pid()

    runtime.detach("h")

    s = attachment.mailbox.statistics()
    assert (s.handled, s.failed, s.discarded, s.pending) == (0, 1, 99, 0)
    assert not is_alive(pid)
    assert lines(log) == [0]


def test_killing_the_actor_kills_its_process_and_the_next_one_goes_on(app: Application, log: Path) -> None:
    attach(process_handlers.act, log)
    emit(range(10))
    emit([10], do="hang on")
    emit(range(11, 20))
    until(lambda: 10 in lines(log))
    pid = child_pid()
    actor = the_actor().actor_ref

    actor.kill()

    assert actor.wait(PATIENCE_S) == "killed"
    assert not is_alive(pid)
    assert says(runtime.dead_letters("h")[0].traceback, "process ended by signal SIGKILL")
    assert app.drain(PATIENCE_S)
    assert lines(log) == list(range(20))
    assert (statistics().handled, statistics().failed) == (19, 1)


def test_an_application_that_stops_takes_its_hung_processes_along(log: Path) -> None:
    with Application("hung", drain_s=1.0).running():
        attach(process_handlers.act, log)
        emit([0], do="hang on")
        until(lambda: lines(log) == [0])
        pid = child_pid()

    until(lambda: not is_alive(pid))
    assert (statistics().handled, statistics().failed, statistics().pending) == (0, 1, 0)
    runtime.detach("h")


def test_a_suspended_handler_stops_after_its_current_event_until_it_is_resumed(app: Application, log: Path) -> None:
    attach(process_handlers.act, log)
    begin_a_batch(range(1, 20), log, do="wait for mine")
    actor = the_actor()
    suspending = actor._control_ask("_suspend")
    Path(f"{log}.1").touch()
    suspending.get(timeout=PATIENCE_S)
    until(lambda: waiting_bytes(actor._child) == 0)  # the process has read that it is to stop

    def has_stopped() -> bool:
        return b"returned" in actor._child._incoming

    for n in range(2, 20):
        Path(f"{log}.{n}").touch()
        until(lambda: has_stopped() or lines(log)[-1] > n)  # noqa: B023  # called in this very round
        if has_stopped():
            break
    seen = lines(log)
    for n in range(20):
        Path(f"{log}.{n}").touch()
    actor.actor_ref.resume()

    assert len(seen) < 19
    assert app.drain(PATIENCE_S)
    assert lines(log) == list(range(20))
    assert statistics().handled == 20


# -- hosts -------------------------------------------------------------------------------------------------------------


def script(tmp_path: Path, text: str, name: str = "host.py") -> list[str]:
    """Write a program; returns the command that runs it."""
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return [sys.executable, str(path)]


@contextlib.contextmanager
def host(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program with the checkout on its path, and leave none of it behind."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


HOST = """
    import os, sys
    import runtime
    from supervisors import Application
    from tests.actors import process_handlers

    app = Application("host")
    app.start()
    runtime.attach("h", "a.b", process_handlers.act, {"log": sys.argv[1]}, carrier="process")
"""


@pytest.mark.parametrize("do", ["", "hang", "hang on"])
def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path, log: Path, do: str) -> None:
    emits = f'\n    runtime.execute("a.b", {{"n": 0}}, {{"do": {do!r}}})\n    sys.stdin.read()'
    with host([*script(tmp_path, HOST + emits), str(log)], stdin=subprocess.PIPE) as parent:
        until(lambda: lines(log) == [0])

        parent.kill()

        # The child inherits the parent's output, which ends when the last of them has.
        assert parent.stdout is not None
        assert parent.stdout.read() == ""


def test_a_process_ends_with_its_parent_though_the_parent_has_forked(tmp_path: Path, log: Path) -> None:
    forks = """
    import time
    runtime.execute("a.b", {"n": 0}, {})
    app.drain(60)
    (pid,) = [ref._actor._child._pid for ref in __import__("actors").processes() if ref.info().carrier == "process"]
    if os.fork():
        print(pid, flush=True)
    time.sleep(60)
    """
    with host([*script(tmp_path, HOST + forks), str(log)]) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())

        parent.kill()  # and not the forked one

        until(lambda: not is_alive(pid))


def test_ctrl_c_in_the_terminal_is_the_parents_to_decide_about(tmp_path: Path, log: Path) -> None:
    interrupted = """
    import signal
    signal.signal(signal.SIGINT, lambda *_: None)
    runtime.execute("a.b", {"n": 0}, {})
    assert app.drain(60)
    os.killpg(0, signal.SIGINT)
    runtime.execute("a.b", {"n": 1}, {})
    assert app.drain(60)
    (info,) = runtime.list_handlers("a.b")
    print(info.restarts, info.mailbox.handled, info.mailbox.failed)
    app.stop()
    """
    with host([*script(tmp_path, HOST + interrupted), str(log)]) as parent:
        assert parent.communicate(timeout=PATIENCE_S)[0] == "0 2 0\n"


@pytest.mark.parametrize("patched", ["before", "after"])
def test_it_works_in_a_gevent_patched_host_that_has_children_of_its_own(
    tmp_path: Path, log: Path, patched: str
) -> None:
    patch = "\n    from gevent import monkey; monkey.patch_all()\n"
    works = """
    import gevent, subprocess
    ticks = []
    def tick():
        while True:
            ticks.append(1)
            gevent.sleep(0.001)
    gevent.spawn(tick)
    def own_child(): return subprocess.run(["sh", "-c", "exit 5"]).returncode
    open(sys.argv[1], "a").close()  # the children begin to write when they have started
    codes = [own_child()]
    for n, do in enumerate(["", "raise", "exit", "segfault", "", "hang"]):
        runtime.execute("a.b", {"n": n}, {"do": do})
        codes.append(own_child())
    assert set(codes) == {5}, codes
    while len(open(sys.argv[1]).readlines()) < 6: gevent.sleep(0.01)
    assert len(ticks) > 10
    (info,) = runtime.list_handlers("a.b")
    for letter in runtime.dead_letters("h"): print(letter.event.metadata["do"], letter.traceback.splitlines()[0])
    print(app.stop(1.0))
    """
    text = patch + HOST + works if patched == "before" else HOST + patch + works
    with host([*script(tmp_path, text), str(log)]) as parent:
        told = parent.communicate(timeout=PATIENCE_S)[0].splitlines()

    assert lines(log) == list(range(6))
    assert [line.split()[0] for line in told[:3]] == ["raise", "exit", "segfault"]
    assert told[0].endswith("ValueError: no good")
    # gevent's loop collects every child there is; when it is faster than we are, it alone knows how the process ended.
    assert told[1].endswith(("process ended with exit code 3", "it has collected our child"))
    assert told[2].endswith(("process ended by signal SIGSEGV", "it has collected our child"))


MAIN = """
    import sys
    import runtime
    from supervisors import Application
    from tests.actors.process_handlers import write

    def score(event, measurements, metadata, config):
        write(config, measurements["n"])

    {guard}
        with Application("main").running() as app, __import__("runtime.testing").testing.capture_events() as captured:
            runtime.attach("h", "a.b", score, {{"log": sys.argv[1]}}, carrier="process", max_restarts=0)
            runtime.execute("a.b", {{"n": 1}})
            {then}
"""


def test_a_function_of_the_program_itself_is_found_when_its_start_is_guarded(tmp_path: Path, log: Path) -> None:
    text = MAIN.format(guard='if __name__ == "__main__":', then="print(app.drain(60))")
    with host([*script(tmp_path, text), str(log)]) as parent:
        assert parent.communicate(timeout=PATIENCE_S)[0] == "True\n"

    assert lines(log) == [1]


def test_a_program_that_would_start_itself_in_its_handlers_process_is_told_to_guard_its_start(
    tmp_path: Path, log: Path
) -> None:
    then = 'captured.wait_for("telemetry.handler.gave_up", timeout_s=60)'
    then += '; print(captured.of("actors.crash")[0].metadata["reason"])'
    text = MAIN.format(guard="if True:", then=then)
    with host([*script(tmp_path, text), str(log)]) as parent:
        told = parent.communicate(timeout=PATIENCE_S)[0]

    assert "expected process handlers to be attached by the service itself" in told
    assert "Put what starts the service under `if __name__ == '__main__':`" in told


def test_a_function_typed_in_cannot_be_imported(tmp_path: Path) -> None:
    program = """
import runtime
def score(event, measurements, metadata, config): ...
try:
    runtime.attach("h", "a.b", score, carrier="process")
except runtime.errors.InvalidValue as error:
    print(error)
"""
    with host([sys.executable, "-c", program], cwd=tmp_path) as parent:
        told = parent.communicate(timeout=PATIENCE_S)[0]

    assert "expected a handler that another interpreter can import, got: <function score" in told
    assert "Move it from the script into a module of its own" in told


# -- exactness under everything at once --------------------------------------------------------------------------------


def test_counts_stay_exact_while_processes_die_and_actors_are_killed(app: Application, log: Path) -> None:
    attach(process_handlers.act, log, max_restarts=1000, max_seconds=0.001)
    what = ["", "", "", "", "", "", "raise", "", "", "be killed"]

    for n in range(100):
        emit([n], do=what[n % 10])
        if n % 25 == 24:
            for ref in processes():
                if ref.info().carrier == "process":
                    ref.kill()

    assert app.drain(PATIENCE_S)
    s = statistics()
    assert s.accepted == 100 == s.handled + s.failed
    assert [n for n, times in Counter(lines(log)).items() if times > 1] == []
    assert s.failed >= 20
    assert s.handled <= len(lines(log)) <= 100


class Consumer:
    """Somebody who empties a mailbox."""

    def _wake(self) -> None:
        """Is never woken here."""


def test_what_is_lent_stays_with_its_consumer_when_the_mailbox_closes_and_is_discarded_with_its_end() -> None:
    box, consumer = Mailbox(), Consumer()
    box.adopt(consumer)
    for n in range(70):
        box.put(n)

    lent = box.lend(consumer)
    discarded = box.close()
    taken = box.take(consumer)
    box.settle(consumer)
    s = box.statistics()
    box.release(consumer)

    assert (lent, discarded, taken) == (list(range(64)), list(range(64, 70)), 0)
    assert (s.accepted, s.handled, s.pending, s.discarded) == (70, 1, 63, 6)
    assert (box.statistics().pending, box.statistics().discarded) == (0, 69)


def test_what_was_lent_and_not_taken_is_lent_to_the_next_consumer() -> None:
    box, first, second = Mailbox(), Consumer(), Consumer()
    box.adopt(first)
    for n in range(5):
        box.put(n)
    box.lend(first)
    box.take(first)
    box.release(first)

    box.adopt(second)

    assert box.lend(first) == []
    assert box.lend(second) == [1, 2, 3, 4]
    assert box.statistics().failed == 1
